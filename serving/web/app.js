/** The page: a sound is sent to the endpoint, and its answer and explanation are shown. */

import { curlCommand, fetchModel, RequestError, send } from "./api.js";
import { byId, element, readable } from "./dom.js";
import { showFeatureMaps } from "./feature_maps.js";
import { History } from "./history.js";
import { askForKey } from "./key_dialog.js";
import { Player } from "./player.js";
import { isLong, showAnswer } from "./predictions.js";
import { Recorder } from "./recorder.js";
import { Spectrogram } from "./spectrogram.js";
import { startTheme } from "./theme.js";

const OPTIONS = { top_k: 5, events: true };
const EXAMPLES = [
  ["rain.ogg", "rain"],
  ["chirping_birds.ogg", "chirping birds"],
  ["church_bells.ogg", "church bells"],
  ["siren.ogg", "siren"],
  ["street.ogg", "18 s with three sounds"],
];

startTheme(byId("theme"));
const player = new Player(byId("waveform"), byId("audio"));
const spectrogram = new Spectrogram(byId("spectrogram"));
const history = new History(showEntry);
const recorder = new Recorder(showRecording);
let model = null;
let current = null; // {sound: {blob, name}, answer, at, explanations} of the sound that is shown
let running = null; // AbortController of the request in progress

/** Classify a sound and show everything about it. */
async function analyze(sound) {
  const answer = await request("/classify", sound, OPTIONS, `Classifying ${sound.name}`);
  if (!answer) return;
  const entry = { sound, answer, at: new Date(), explanations: new Map() };
  checkModel(answer.model);
  history.add(entry);
  await showEntry(entry);
}

async function showEntry(entry) {
  current = entry;
  const { sound, answer } = entry;
  byId("result").hidden = false;
  showAnswer(answer, (event) => explain(event.start, event.class));
  byId("sound-note").textContent =
    `${sound.name}: ${answer.clip.seconds.toFixed(1)} s, ${(answer.clip.rate / 1000).toFixed(1)} kHz, ` +
    (answer.clip.channels === 1 ? "mono" : `${answer.clip.channels} channels`);
  byId("curl").textContent = curlCommand(sound.name, OPTIONS);
  const classes = model.classes.map((name) => element("option", { value: name, text: readable(name) }));
  byId("class").replaceChildren(...classes);
  const [explanation, plays] = [explain(...firstView(answer)), await player.show(sound.blob)];
  byId("audio-note").hidden = plays;
  byId("audio-note").textContent = "Your browser cannot play this format.";
  const shown = await explanation;
  if (!plays && shown) await player.showEnvelope(shown.waveform);
  if (shown) markSound(entry, shown.window);
}

/** Return start and class of what is shown first: the most probable event, or the beginning and the most probable class. */
function firstView(answer) {
  const top = answer.predictions[0].class;
  if (!isLong(answer) || !answer.events.length) return [0, top];
  const event = answer.events.reduce((best, other) => (other.confidence > best.confidence ? other : best));
  return [event.start, event.class];
}

/** Mark the events and the window in the waveform of a recording that is longer than the window. */
function markSound({ answer }, window) {
  if (isLong(answer)) player.mark(answer.events, window);
}

/** Show the spectrogram of the window that starts at `start`, the response to a class, and the feature maps. */
async function explain(start, name) {
  const entry = current;
  const { sound, answer, explanations } = entry;
  const latest = Math.max(0, answer.clip.seconds - answer.window.seconds);
  const options = { start: Math.min(start, latest).toFixed(2), class: name };
  const key = `${options.start} ${name}`;
  if (!explanations.has(key)) {
    const explanation = await request("/explain", sound, options, `Looking at the response to ${readable(name)}`);
    if (!explanation) return null;
    explanations.set(key, explanation);
  }
  if (entry !== current) return null; // another sound was chosen meanwhile
  const explanation = explanations.get(key);
  const events = isLong(answer) ? answer.events : [];
  byId("class").value = explanation.class;
  spectrogram.show(explanation, events);
  spectrogram.setStrength(byId("strength").value);
  byId("spectrogram-note").textContent =
    `The log-mel spectrogram that the network is given. The green overlay marks what speaks for ${readable(explanation.class)}.`;
  showFeatureMaps(explanation.layers);
  byId("maps-part").hidden = false;
  markSound(entry, explanation.window);
  if (explanation.window.start > 0) player.seek(explanation.window.start);
  entry.view = { start: explanation.window.start, name: explanation.class };
  return explanation;
}

/** Send a request, with its progress. Return the answer; null if it was refused or cancelled, which is shown. */
async function request(path, sound, options, title) {
  running?.abort();
  const control = new AbortController();
  running = control;
  showError("");
  showProgress(title, null);
  const onUpload = (share) => showProgress(share < 1 ? `${title}: sending` : title, share < 1 ? share : null);
  try {
    return await send(path, sound.blob, options, onUpload, control.signal);
  } catch (error) {
    if (error.name === "AbortError") return null;
    if (error instanceof RequestError && error.needsKey && (await askForKey(error.message))) {
      return await request(path, sound, options, title);
    }
    showError(error.message);
    return null;
  } finally {
    if (running === control) {
      running = null;
      byId("progress").hidden = true;
    }
  }
}

function showProgress(text, share) {
  byId("progress").hidden = false;
  byId("progress-text").textContent = text;
  if (share === null) byId("progress-bar").removeAttribute("value");
  else byId("progress-bar").value = share;
}

function showError(message) {
  byId("error").hidden = message === "";
  byId("error").textContent = message;
}

async function loadModel() {
  model = await fetchModel();
  const parts = [element("span", { class: "version", text: `${model.name} version ${model.version}` }),
    element("span", { text: `${model.classes.length} classes` })];
  if (model.links?.model) parts.push(link(model.links.model, "model page"));
  if (model.links?.report) parts.push(link(model.links.report, "evaluation"));
  byId("model").replaceChildren(...parts);
  const megabytes = Math.floor(model.limits.bytes / 2 ** 20);
  byId("limits").textContent = `${model.limits.formats.join(", ")}; up to ${megabytes} MB and ${Math.round(model.limits.seconds / 60)} min`;
}

/** Load the description of the model again if another version answers now. */
function checkModel(answered) {
  if (model && answered.version === model.version) return;
  loadModel().catch((error) => showError(error.message));
}

function link(address, text) {
  return element("a", { href: address, target: "_blank", rel: "noopener", text });
}

function open(file) {
  if (model && file.size > model.limits.bytes) {
    showError(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MB; the endpoint accepts up to ` +
      `${Math.floor(model.limits.bytes / 2 ** 20)} MB. Send a shorter part, or a compressed format such as Ogg.`);
  } else {
    analyze({ blob: file, name: file.name });
  }
}

async function openExample(name) {
  const response = await fetch(`/static/examples/${name}`);
  if (response.ok) await analyze({ blob: await response.blob(), name });
  else showError(`The example ${name} cannot be loaded (HTTP ${response.status}).`);
}

async function toggleRecording() {
  if (recorder.isRecording) {
    recorder.stop();
    return;
  }
  showError("");
  try {
    const blob = await recorder.record();
    await analyze({ blob, name: `recording ${new Date().toLocaleTimeString()}.wav` });
  } catch (error) {
    showError(error.message);
  } finally {
    byId("recording").hidden = true;
    byId("record").textContent = "Record";
  }
}

function showRecording(seconds, level) {
  byId("recording").hidden = false;
  byId("record").textContent = "Stop and classify";
  byId("recorded").textContent = `Recording: ${seconds.toFixed(0)} s`;
  byId("level").value = level;
}

function listen() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length) open(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("record").addEventListener("click", toggleRecording);
  byId("cancel").addEventListener("click", () => running?.abort());
  byId("class").addEventListener("change", (event) => explain(current.view?.start ?? 0, event.target.value));
  byId("strength").addEventListener("input", (event) => spectrogram.setStrength(event.target.value));
  byId("copy").addEventListener("click", async (event) => {
    await navigator.clipboard.writeText(byId("curl").textContent);
    event.target.textContent = "Copied";
  });
  byId("maps-close").addEventListener("click", () => byId("maps-dialog").close());
  byId("audio").addEventListener("timeupdate", (event) => spectrogram.setTime(event.target.currentTime));
  const drop = byId("drop");
  // Everywhere, so that a file beside the area does not replace the page.
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
}

byId("examples").append(...EXAMPLES.map(([name, text]) =>
  element("li", {}, element("button", { type: "button", class: "chip", text, on: { click: () => openExample(name) } }))));
listen();
loadModel().catch((error) => showError(error.message));
