/** Ask for the key of the endpoint. */

import { setKey } from "./api.js";
import { byId } from "./dom.js";

/** Show the dialog. Return whether a key was entered; it is in the session storage then. */
export function askForKey(reason) {
  const dialog = byId("key-dialog");
  byId("key-reason").textContent = reason;
  byId("key").value = "";
  byId("key-cancel").onclick = () => dialog.close("cancel");
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const entered = dialog.returnValue === "ok" && byId("key").value.trim() !== "";
      if (entered) setKey(byId("key").value.trim());
      resolve(entered);
    }, { once: true });
  });
}
