/** Choose a sound: a file, an example, or a recording of the microphone. */

import { byId, element } from "./dom.js";
import { shortenFileName } from "./format.js";
import { Recorder } from "./recorder.js";
import { announce, hideError, showError } from "./status.js";

const EXAMPLES = [
  ["rain.ogg", "rain"],
  ["chirping_birds.ogg", "chirping birds"],
  ["church_bells.ogg", "church bells"],
  ["siren.ogg", "siren"],
  ["street.ogg", "18 s with three sounds"],
];

/** Listen to the controls. `onSound` is called with a name and a function that returns the content as a Blob. */
export function listenToInput(onSound) {
  const openFiles = (files) => {
    if (files.length === 1) onSound(files[0].name, () => readFile(files[0]));
    else if (files.length > 1) {
      showError(`${files.length} files were dropped, and none was sent. Drop one at a time, ` +
        "or classify a whole folder with the command audiocnn classify.");
    }
  };
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", (event) => {
    openFiles([...event.target.files]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("examples").append(...EXAMPLES.map(([file, text]) =>
    element("li", {}, element("button", {
      type: "button", class: "chip", text, on: { click: () => onSound(file, () => readExample(file)) },
    }))));
  listenToDrops(openFiles);
  listenToMicrophone(onSound);
}

function listenToDrops(openFiles) {
  const drop = byId("drop");
  // Everywhere, so that a file beside the area does not replace the page.
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    openFiles([...event.dataTransfer.files]);
  });
}

function listenToMicrophone(onSound) {
  const recorder = new Recorder((seconds, level) => {
    byId("recording").hidden = false;
    byId("recorded").textContent = `Recording: ${seconds.toFixed(0)} s of at most ${recorder.maxSeconds} s`;
    byId("level").value = level;
    if (byId("record").textContent === "Record") announce("Recording");
    byId("record").textContent = "Stop and classify";
  });
  byId("record").addEventListener("click", async () => {
    if (recorder.isActive) {
      recorder.stop();
      return;
    }
    hideError();
    try {
      const blob = await recorder.record();
      onSound(`recording ${new Date().toLocaleTimeString()}.wav`, () => blob);
    } catch (error) {
      showError(error.message);
    } finally {
      byId("recording").hidden = true;
      byId("record").textContent = "Record";
    }
  });
}

/** Read a file into memory: it may change or be removed later in the visit. */
async function readFile(file) {
  try {
    return new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    throw new Error(`${shortenFileName(file.name)} cannot be read. Choose a file, not a folder, that you may read.`);
  }
}

async function readExample(file) {
  const response = await fetch(`/static/examples/${file}`).catch(() => null);
  if (response?.ok) return response.blob();
  throw new Error(`The example ${file} cannot be loaded. Check that the endpoint runs, then choose it again.`);
}
