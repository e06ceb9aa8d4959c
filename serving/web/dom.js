/** Create DOM elements. Texts are set as text, never as markup. */

/** Return the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Create an element.
 * @param {string} tag
 * @param {Object} attributes `text` is its text, `on` maps events to handlers; false and null leave an attribute out.
 * @param {...Node} children
 */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") created.textContent = value;
    else if (name === "on") for (const [type, handler] of Object.entries(value)) created.addEventListener(type, handler);
    else if (value !== false && value !== null) created.setAttribute(name, value === true ? "" : value);
  }
  created.append(...children);
  return created;
}
