/** The page: a sound is sent to the endpoint, and its answer and explanation are shown. */

import { curlCommand, fetchModel, RequestError, send } from "./api.js";
import { byId, element, readable, shorten } from "./dom.js";
import { showFeatureMaps } from "./feature_maps.js";
import { History } from "./history.js";
import { listenToInput } from "./input.js";
import { askForKey } from "./key_dialog.js";
import { Player } from "./player.js";
import { isLong, markEvent, sentence, showAnswer } from "./predictions.js";
import { Spectrogram } from "./spectrogram.js";
import { announce, hideError, hideProgress, showError, showProgress, startStatus } from "./status.js";
import { startTheme } from "./theme.js";

const OPTIONS = { top_k: 5, events: true };

startTheme(byId("theme"));
const player = new Player(byId("waveform"), byId("audio"), lookAt);
const spectrogram = new Spectrogram(byId("spectrogram"));
const history = new History((entry) => showEntry(entry, begin()));
let model = null;
let current = null; // {sound: {blob, name}, answer, at, explanations, view: {window, class}} that is shown
let action = new AbortController(); // of the latest action; the next one aborts it: no answer replaces a newer one

/** Start an action of the user, which ends the one before. Return its signal. */
function begin() {
  action.abort();
  action = new AbortController();
  hideError();
  settle();
  return action.signal;
}

/** End the display of a request: show no spectrogram or maps of a sound before, and no class without its overlay. */
function settle() {
  hideProgress();
  for (const id of ["result", "maps-part", "history-part"]) byId(id).inert = false;
  for (const id of ["spectrogram", "maps-part"]) byId(id).ariaBusy = "false";
  if (current?.view) showControls(current.view.window.start, current.view.class);
  else byId("maps-part").hidden = true;
}

/** Classify a sound, whose content `read` returns as a Blob, and show everything about it. */
async function analyze(name, read) {
  const signal = begin();
  for (const id of ["result", "maps-part", "history-part"]) byId(id).inert = true; // of the sound before
  try {
    const sound = { name, blob: await read() };
    if (model && sound.blob.size > model.limits.bytes) throw new Error(tooLarge(sound));
    const answer = await request("/classify", sound, OPTIONS, `Classifying ${shorten(name)}`, signal);
    await checkModel(answer.model);
    if (signal.aborted) return;
    settle();
    const entry = { sound, answer, at: new Date(), explanations: new Map(), view: null };
    history.add(entry);
    await showEntry(entry, signal);
  } catch (error) {
    if (error instanceof RequestError && !error.mayPass) error.message = `${shorten(name)}: ${error.message}`;
    fail(error, signal, () => analyze(name, read));
  }
}

async function showEntry(entry, signal) {
  current = entry;
  const { sound, answer, view } = entry;
  byId("result").hidden = false;
  announce(sentence(answer));
  showAnswer(answer, (event) => explain(entry, event.start, event.class, begin()).then((shown) => shown && player.seek(event.start)));
  byId("sound-note").textContent =
    `${sound.name}: ${answer.clip.seconds.toFixed(1)} s, ${(answer.clip.rate / 1000).toFixed(1)} kHz, ` +
    (answer.clip.channels === 1 ? "mono" : `${answer.clip.channels} channels`) +
    (isLong(answer) ? ". Green marks events, yellow the part that is shown below; click elsewhere to look there." : "");
  byId("curl").textContent = curlCommand(sound.name, OPTIONS);
  byId("copy").textContent = "Copy";
  byId("start-label").hidden = !isLong(answer);
  byId("start").max = latestStart(answer);
  byId("audio-note").hidden = true;
  const [start, name] = view ? [view.window.start, view.class] : firstView(answer);
  if (!view) spectrogram.clear(() => explain(entry, start, name, begin()));
  byId("prediction-title").focus({ preventScroll: true });
  byId("prediction-title").scrollIntoView({ block: "nearest" });
  const explanation = explain(entry, start, name, signal);
  const plays = await player.show(sound.blob);
  if (plays === null) return; // another sound was chosen meanwhile
  byId("audio-note").hidden = plays;
  const waveform = (await explanation)?.waveform;
  if (!plays && waveform && entry === current) await player.showEnvelope(waveform, answer.clip.seconds);
  if (plays && start > 0) player.seek(start);
}

/** Return start and class of what is shown first: the most probable event, or the beginning and the most probable class. */
function firstView(answer) {
  const top = answer.predictions[0].class;
  if (!isLong(answer) || !answer.events.length) return [0, top];
  const event = answer.events.reduce((best, other) => (other.confidence > best.confidence ? other : best));
  return [event.start, event.class];
}

function latestStart({ clip, window }) {
  return Math.max(0, clip.seconds - window.seconds).toFixed(2);
}

/** Show the window of a long recording at a time in s, unless it is shown already. */
function lookAt(seconds) {
  const { window, class: name } = current?.view ?? {};
  if (!window || !isLong(current.answer)) return;
  if (seconds < window.start || seconds > window.start + window.seconds) explain(current, seconds, name, begin());
}

/** Show the window that starts at `start` with the response to a class, and the feature maps. Return the explanation, or null. */
async function explain(entry, start, name, signal) {
  const options = { start: Math.min(Math.max(start, 0), latestStart(entry.answer)).toFixed(2), class: name };
  const key = `${options.start} ${name}`;
  showControls(Number(options.start), name);
  for (const id of ["spectrogram", "maps-part"]) byId(id).ariaBusy = "true";
  try {
    if (!entry.explanations.has(key)) {
      const title = `Looking at the response to ${readable(name)}`;
      entry.explanations.set(key, await request("/explain", entry.sound, options, title, signal));
    }
    const explanation = entry.explanations.get(key);
    await checkModel(explanation.model);
    if (signal.aborted) return null;
    showExplanation(entry, explanation);
    return explanation;
  } catch (error) {
    fail(error, signal, () => explain(entry, start, name, begin()));
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
  spectrogram.setStrength(byId("strength").value);
  spectrogram.setTime(byId("audio").currentTime);
  byId("spectrogram-note").textContent =
    `The log-mel spectrogram is the input of the network. The turquoise overlay shows where it responds to ${readable(name)}.` +
    (explanation.model.version === answer.model.version ? "" :
      ` This is the response of version ${explanation.model.version}; the prediction is of version ${answer.model.version}.`);
  showFeatureMaps(layers);
  byId("maps-part").hidden = false;
  if (isLong(answer)) player.mark(events, window);
  if (!first && byId("audio").hidden) player.showEnvelope(explanation.waveform, answer.clip.seconds);
  markEvent(events.find((event) => event.class === name && event.start >= window.start - 0.01 && event.start < window.start + window.seconds));
  settle();
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
  const onUpload = (share) => signal.aborted || showProgress(title, share < 1 ? share : null);
  try {
    return await send(path, sound.blob, options, onUpload, signal);
  } catch (error) {
    if (signal.aborted || !error.needsKey || !(await askForKey(error.message))) throw error;
    return await request(path, sound, options, title, signal);
  }
}

/** Show why an action failed, unless a newer one ended it. */
function fail(error, signal, again) {
  if (signal.aborted) return;
  settle();
  showError(error.message, error instanceof RequestError && error.mayPass ? again : null);
}

function tooLarge({ name, blob }) {
  const megabytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
  return `${shorten(name)} has ${megabytes(blob.size)} MB; the endpoint accepts up to ${megabytes(model.limits.bytes)} MB. ` +
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
  byId("class").replaceChildren(...names.map((value) => element("option", { value, text: readable(value) })));
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
    if (current.view) explain(current, current.view.window.start, event.target.value, begin());
  });
  byId("start").addEventListener("change", (event) => {
    if (current.view) explain(current, Number(event.target.value), current.view.class, begin());
  });
  byId("strength").addEventListener("input", (event) => spectrogram.setStrength(event.target.value));
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
  begin();
  announce("Cancelled");
});
listenToInput(analyze);
listenToResult();
loadModel().catch((error) => showError(error.message));
