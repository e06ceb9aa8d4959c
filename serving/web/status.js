/** What the page is doing and what went wrong: at the bottom of the window, so that it is seen from every part of the page. */

import { byId } from "./dom.js";

let tryAgain = null;

/** Show what is being done. `share` is that of the bytes that were sent, 0 to 1, or null. */
export function showProgress(title, share = null) {
  byId("progress").hidden = false;
  byId("progress-text").textContent = share === null ? title : `${title}: ${Math.round(100 * share)} % sent`;
  if (share === null) byId("progress-bar").removeAttribute("value");
  else byId("progress-bar").value = share;
}

export function hideProgress() {
  byId("progress").hidden = true;
}

/** Show an error; with the button "Try again" if a function for it is given. */
export function showError(message, again = null) {
  tryAgain = again;
  byId("error-text").textContent = message;
  byId("again").hidden = again === null;
  byId("error").hidden = false;
}

export function hideError() {
  byId("error").hidden = true;
}

/** Let screen readers say a text. */
export function announce(text) {
  byId("announcement").textContent = text;
}

export function startStatus(onCancel) {
  byId("cancel").addEventListener("click", onCancel);
  byId("again").addEventListener("click", () => tryAgain());
  byId("error-close").addEventListener("click", hideError);
}
