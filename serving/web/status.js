/** What the page is doing and what went wrong: at the bottom of the window, so that it is seen from every part of the page. */

import { byId } from "./dom.js";

let onRetry = null;

/** Show what is being done. `fraction` is that of the bytes that were sent, 0 to 1, or null. */
export function showProgress(title, fraction = null) {
  byId("progress").hidden = false;
  byId("progress-text").textContent = fraction === null ? title : `${title}: ${Math.round(100 * fraction)} % sent`;
  if (fraction === null) byId("progress-bar").removeAttribute("value");
  else byId("progress-bar").value = fraction;
}

export function hideProgress() {
  byId("progress").hidden = true;
}

/** Show an error; with the button "Try again" if a function for it is given. */
export function showError(message, retry = null) {
  onRetry = retry;
  byId("error-text").textContent = message;
  byId("again").hidden = retry === null;
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
  byId("again").addEventListener("click", () => onRetry());
  byId("error-close").addEventListener("click", hideError);
}
