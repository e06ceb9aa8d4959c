/** Requests to the gateway. */

const STORAGE_KEY = "audiocnn.key"; // in the session storage, which ends with the tab

/** A request that was refused or not answered. `message` is a sentence for people. */
export class RequestError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  /** Whether the endpoint wants another key. */
  get needsKey() {
    return this.status === 401 || this.status === 403;
  }

  /** Whether the same request may be answered later, or with another key. */
  get isRetryable() {
    return this.needsKey || this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

function getKey() {
  return sessionStorage.getItem(STORAGE_KEY) ?? "";
}

export function setKey(key) {
  sessionStorage.setItem(STORAGE_KEY, key);
}

/** Return what the gateway serves: name, version, classes, window, links and limits. */
export async function fetchModel() {
  let response;
  try {
    response = await fetch("/model", { cache: "no-store" });
  } catch {
    throw new RequestError("The endpoint does not answer. Check that it runs, then load this page again.");
  }
  if (!response.ok) throw new RequestError(errorMessage(response.status, await response.json().catch(() => null)), response.status);
  return response.json();
}

/**
 * Send a sound.
 * @param {string} path `/classify` or `/explain`
 * @param {Blob} sound
 * @param {Object} options of the query
 * @param {(fraction: number) => void} onUpload called with the fraction of the bytes that were sent, 0 to 1
 * @param {AbortSignal} signal
 */
export function send(path, sound, options, onUpload, signal) {
  // XMLHttpRequest, because fetch() does not report the progress of an upload.
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    request.open("POST", `${path}?${new URLSearchParams(options)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (getKey()) request.setRequestHeader("Authorization", `Bearer ${getKey()}`);
    request.upload.addEventListener("progress", (event) => onUpload(event.loaded / Math.max(event.total, 1)));
    request.responseType = "json"; // null if it is something else, such as the page of a proxy
    request.addEventListener("load", () => {
      if (request.status === 200 && request.response) resolve(request.response);
      else reject(new RequestError(errorMessage(request.status, request.response), request.status));
    });
    request.addEventListener("error", () =>
      reject(new RequestError("The endpoint does not answer. Check your connection, then try again.")));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(sound);
  });
}

/** Return the shell command that sends the same request. */
export function curlCommand(fileName, options) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const url = `${location.origin}/classify?${new URLSearchParams(options)}`;
  const key = getKey() ? '-H "Authorization: Bearer $AUDIOCNN_KEY" ' : "";
  return `curl -sSg ${key}-T ${quote(fileName)} -X POST ${quote(url)}`; // -g: brackets in a name mean themselves
}

/** Return the sentence of an error response, with what to do. */
function errorMessage(status, body) {
  const detail = body?.detail ?? "";
  const advice = {
    401: "Enter a key of this endpoint.",
    403: "Enter another key.",
    413: "Send a shorter or smaller file.",
    429: "Wait a moment, then try again.",
    502: "Try again in a moment.",
    503: "Try again in a moment.",
    504: "Try again in a moment.",
  }[status] ?? "";
  const sentence = detail ? detail[0].toUpperCase() + detail.slice(1) : `The endpoint refused the request (HTTP ${status})`;
  return `${sentence.replace(/[.]$/, "")}. ${advice}`.trim();
}
