/** The page: a sound is sent to the endpoint, and its answer and explanation are shown. */

import { curlCommand, fetchModel, RequestError, send } from "./api.js";
import { byId, element } from "./dom.js";
import { formatClass, shortenFileName } from "./format.js";
import { showFeatureMaps } from "./feature_maps.js";
import { SoundHistory } from "./history.js";
import { listenToInput } from "./input.js";
import { askForKey } from "./key_dialog.js";
import { Player } from "./player.js";
import { describeAnswer, isLong, markEvent, showAnswer } from "./predictions.js";
import { Spectrogram } from "./spectrogram.js";
import { announce, hideError, hideProgress, showError, showProgress, startStatus } from "./status.js";
import { startTheme } from "./theme.js";

const OPTIONS = { top_k: 5, events: true };

startTheme(byId("theme"));
const player = new Player(byId("waveform"), byId("audio"), showWindowAt);
const spectrogram = new Spectrogram(byId("spectrogram"));
const soundHistory = new SoundHistory((entry) => showEntry(entry, startAction()));
let model = null;
let current = null; // {sound: {blob, name}, answer, at, explanations, view: {window, class}} that is shown
let controller = new AbortController(); // of the latest action; the next action aborts it: no answer replaces a newer one

/** Abort the previous action of the user, and start one. Return its signal. */
function startAction() {
  controller.abort();
  controller = new AbortController();
  hideError();
  endLoading();
  return controller.signal;
}

/** Hide the progress of a request, and set the controls to the explanation that is shown; without one, hide the maps. */
function endLoading() {
  hideProgress();
  setInert(false);
  setBusy(false);
  if (current?.view) showControls(current.view.window.start, current.view.class);
  else byId("maps-part").hidden = true;
}

/** Disable everything about the previous sound, or enable it again. */
function setInert(inert) {
  for (const id of ["result", "maps-part", "history-part"]) byId(id).inert = inert;
}

/** Set whether assistive technology shall wait for a new explanation. */
function setBusy(busy) {
  for (const id of ["spectrogram", "maps-part"]) byId(id).ariaBusy = String(busy);
}

/** Classify a sound, whose content `read` returns as a Blob, and show everything about it. */
async function analyze(name, read) {
  const signal = startAction();
  setInert(true);
  try {
    const sound = { name, blob: await read() };
    if (model && sound.blob.size > model.limits.bytes) throw new Error(tooLarge(sound));
    const answer = await request("/classify", sound, OPTIONS, `Classifying ${shortenFileName(name)}`, signal);
    await checkModel(answer.model);
    if (signal.aborted) return;
    endLoading();
    const entry = { sound, answer, at: new Date(), explanations: new Map(), view: null };
    soundHistory.add(entry);
    await showEntry(entry, signal);
  } catch (error) {
    if (error instanceof RequestError && !error.isRetryable) error.message = `${shortenFileName(name)}: ${error.message}`;
    handleError(error, signal, () => analyze(name, read));
  }
}

async function showEntry(entry, signal) {
  current = entry;
  const { sound, answer, view } = entry;
  byId("result").hidden = false;
  announce(describeAnswer(answer));
  showAnswer(answer, async (event) => {
    if (await explain(entry, event.start, event.class, startAction())) player.seek(event.start);
  });
  byId("sound-note").textContent =
    `${sound.name}: ${answer.clip.seconds.toFixed(1)} s, ${(answer.clip.rate / 1000).toFixed(1)} kHz, ` +
    (answer.clip.channels === 1 ? "mono" : `${answer.clip.channels} channels`) +
    (isLong(answer) ? ". Green marks events, yellow the part that is shown below; click elsewhere to look there." : "");
  byId("curl").textContent = curlCommand(sound.name, OPTIONS);
  byId("copy").textContent = "Copy";
  byId("start-label").hidden = !isLong(answer);
  byId("start").max = maxStart(answer);
  byId("audio-note").hidden = true;
  const [start, name] = view ? [view.window.start, view.class] : initialView(answer);
  if (!view) spectrogram.showLoadButton(() => explain(entry, start, name, startAction()));
  byId("prediction-title").focus({ preventScroll: true });
  byId("prediction-title").scrollIntoView({ block: "nearest" });
  const explanation = explain(entry, start, name, signal);
  const canPlay = await player.show(sound.blob);
  if (canPlay === null) return; // another sound was chosen meanwhile
  byId("audio-note").hidden = canPlay;
  const waveform = (await explanation)?.waveform;
  if (!canPlay && waveform && entry === current) await player.showEnvelope(waveform, answer.clip.seconds);
  if (canPlay && start > 0) player.seek(start);
}

/** Return start and class of the first explanation: of the most probable event, or 0 and the most probable class. */
function initialView(answer) {
  const top = answer.predictions[0].class;
  if (!isLong(answer) || !answer.events.length) return [0, top];
  const event = answer.events.reduce((best, other) => (other.confidence > best.confidence ? other : best));
  return [event.start, event.class];
}

function maxStart({ clip, window }) {
  return Math.max(0, clip.seconds - window.seconds).toFixed(2);
}

/** Show the window of a long recording at a time in s, unless it is shown already. */
function showWindowAt(seconds) {
  const { window, class: name } = current?.view ?? {};
  if (!window || !isLong(current.answer)) return;
  if (seconds < window.start || seconds > window.start + window.seconds) explain(current, seconds, name, startAction());
}

/** Show the window that starts at `start` with the response to a class, and the feature maps. Return the explanation, or null. */
async function explain(entry, start, name, signal) {
  const options = { start: Math.min(Math.max(start, 0), maxStart(entry.answer)).toFixed(2), class: name };
  const key = `${options.start} ${name}`;
  showControls(Number(options.start), name);
  setBusy(true);
  try {
    if (!entry.explanations.has(key)) {
      const title = `Looking at the response to ${formatClass(name)}`;
      entry.explanations.set(key, await request("/explain", entry.sound, options, title, signal));
    }
    const explanation = entry.explanations.get(key);
    await checkModel(explanation.model);
    if (signal.aborted) return null;
    showExplanation(entry, explanation);
    return explanation;
  } catch (error) {
    handleError(error, signal, () => explain(entry, start, name, startAction()));
    return null;
  }
}

function showExplanation(entry, explanation) {
  const { answer } = entry;
  const { window, class: name, layers } = explanation;
  const first = entry.view === null;
  entry.view = { window, class: name };
  const events = isLong(answer) ? answer.events : [];
  spectrogram.show(explanation, events);
  spectrogram.setOverlayOpacity(byId("strength").value);
  spectrogram.setTime(byId("audio").currentTime);
  byId("spectrogram-note").textContent =
    `The log-mel spectrogram is the input of the network. The turquoise overlay shows where it responds to ${formatClass(name)}.` +
    (explanation.model.version === answer.model.version ? "" :
      ` This is the response of version ${explanation.model.version}; the prediction is of version ${answer.model.version}.`);
  showFeatureMaps(layers);
  byId("maps-part").hidden = false;
  if (isLong(answer)) player.mark(events, window);
  if (!first && byId("audio").hidden) player.showEnvelope(explanation.waveform, answer.clip.seconds);
  const starts = ({ start }) => start >= window.start - 0.01 && start < window.start + window.seconds;
  markEvent(events.find((event) => event.class === name && starts(event)));
  endLoading();
  if (!first) byId("spectrogram").scrollIntoView({ block: "nearest" });
}

function showControls(start, name) {
  byId("class").value = name;
  byId("start").value = start.toFixed(1);
}

/** Send a request, with its progress and a dialog where it needs a key. Return the answer. */
async function request(path, sound, options, title, signal) {
  signal.throwIfAborted();
  showProgress(title);
  const onUpload = (fraction) => signal.aborted || showProgress(title, fraction < 1 ? fraction : null);
  try {
    return await send(path, sound.blob, options, onUpload, signal);
  } catch (error) {
    if (signal.aborted || !error.needsKey || !(await askForKey(error.message))) throw error;
    return await request(path, sound, options, title, signal);
  }
}

/** Show why an action failed, unless a newer one aborted it. */
function handleError(error, signal, retry) {
  if (signal.aborted) return;
  endLoading();
  showError(error.message, error instanceof RequestError && error.isRetryable ? retry : null);
}

function tooLarge({ name, blob }) {
  const megabytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
  return `${shortenFileName(name)} has ${megabytes(blob.size)} MB; the endpoint accepts up to ${megabytes(model.limits.bytes)} MB. ` +
    "Send a shorter part, or a compressed format such as Ogg.";
}

async function loadModel() {
  model = await fetchModel();
  const parts = [element("span", { class: "version", text: `${model.name} version ${model.version}` }),
    element("span", { text: `${model.classes.length} classes` })];
  if (model.links?.model) parts.push(link(model.links.model, "model page"));
  if (model.links?.report) parts.push(link(model.links.report, "evaluation"));
  byId("model").replaceChildren(...parts);
  const names = model.classes.toSorted((one, other) => one.localeCompare(other));
  byId("class").replaceChildren(...names.map((value) => element("option", { value, text: formatClass(value) })));
  const megabytes = Math.floor(model.limits.bytes / 2 ** 20);
  byId("limits").textContent = `${model.limits.formats.join(", ")}; up to ${megabytes} MB and ${Math.round(model.limits.seconds / 60)} min`;
}

/** Load the description of the model again if another version answered. */
async function checkModel({ version }) {
  if (model?.version !== version) await loadModel().catch((error) => showError(error.message));
}

function link(address, text) {
  return element("a", { href: address, target: "_blank", rel: "noopener", text });
}

function listenToResult() {
  byId("class").addEventListener("change", (event) => {
    if (current.view) explain(current, current.view.window.start, event.target.value, startAction());
  });
  byId("start").addEventListener("change", (event) => {
    if (current.view) explain(current, Number(event.target.value), current.view.class, startAction());
  });
  byId("strength").addEventListener("input", (event) => spectrogram.setOverlayOpacity(event.target.value));
  byId("audio").addEventListener("timeupdate", (event) => spectrogram.setTime(event.target.currentTime));
  byId("maps-close").addEventListener("click", () => byId("maps-dialog").close());
  byId("copy").hidden = !isSecureContext; // the clipboard is only available there
  byId("copy").addEventListener("click", async (event) => {
    await navigator.clipboard.writeText(byId("curl").textContent);
    event.target.textContent = "Copied";
    announce("Copied");
  });
}

startStatus(() => {
  startAction();
  announce("Cancelled");
});
listenToInput(analyze);
listenToResult();
loadModel().catch((error) => showError(error.message));
