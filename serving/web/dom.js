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

/** Return a class name for people: `crackling_fire` becomes `crackling fire`. */
export function readable(name) {
  return name.replaceAll("_", " ");
}

/** Return a file name of at most 40 characters, with its beginning and its end. */
export function shorten(name) {
  return name.length > 40 ? `${name.slice(0, 24)}…${name.slice(-15)}` : name;
}

/** Return a share from 0 to 1 as a percentage. */
export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

/** Return a time in seconds as `m:ss.s`, or as `12.5 s` below one minute. */
export function time(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  const minutes = Math.floor(rounded / 60) % 60;
  const rest = String(rounded % 60).padStart(2, "0");
  const hours = Math.floor(rounded / 3600);
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
