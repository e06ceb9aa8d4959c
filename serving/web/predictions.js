/** The answer of the endpoint: the label, the most probable classes, and the events. */

import { byId, element } from "./dom.js";
import { formatClass, formatPercent, formatTime } from "./format.js";

const MAX_LABEL_CLASSES = 5; // in the label of a long recording

/** Return whether a sound was analyzed in several windows. */
export function isLong(answer) {
  return answer.clip.seconds > answer.window.seconds * 1.01;
}

/** Return the label for people: of a long recording, the classes of its events. */
export function labelText(answer) {
  const names = classesOfEvents(answer);
  const more = names.length > MAX_LABEL_CLASSES ? ` and ${names.length - MAX_LABEL_CLASSES} more` : "";
  return names.slice(0, MAX_LABEL_CLASSES).join(", ") + more || formatClass(answer.label);
}

/** Return the probability of the label; empty where it has none: of `unknown` and of several events. */
export function labelProbability(answer) {
  const { class: name, probability } = answer.predictions[0];
  return labelText(answer) === formatClass(name) ? formatPercent(probability) : "";
}

/** Return an answer as a sentence. */
export function describeAnswer(answer) {
  return `Prediction: ${labelText(answer)} ${labelProbability(answer)}`.trim();
}

function classesOfEvents(answer) {
  return isLong(answer) ? [...new Set(answer.events.map((event) => formatClass(event.class)))] : [];
}

/** Show an answer. `onEvent` is called with an event that is chosen. */
export function showAnswer(answer, onEvent) {
  const unknown = labelText(answer) === "unknown";
  byId("label").textContent = labelText(answer);
  byId("label").classList.toggle("is-list", classesOfEvents(answer).length > 1);
  byId("label").classList.toggle("is-unknown", unknown);
  byId("remark").textContent = remark(answer, unknown);
  byId("predictions").replaceChildren(...answer.predictions.map((item) => bar(item, unknown)));
  showEvents(answer, onEvent);
}

function remark(answer, unknown) {
  const sentences = [];
  if (unknown) sentences.push("No class is probable enough. The nearest are:");
  else if (!answer.calibrated) sentences.push("This model was not calibrated, so it always names a class.");
  const { seconds } = answer.clip;
  if (answer.analyzed_seconds < seconds - 0.05) {
    const silent = answer.silent_seconds > 0 ? `, ${formatTime(answer.silent_seconds)} are silent` : "";
    sentences.push(`${formatTime(answer.analyzed_seconds)} of ${formatTime(seconds)} were analyzed${silent}.`);
  }
  if (isLong(answer)) sentences.push("Over the whole recording:");
  return sentences.join(" ");
}

function bar({ class: name, probability }, unknown) {
  const fill = element("span", { class: "fill" });
  fill.style.width = `${100 * probability}%`;
  return element("li", { class: unknown ? "is-unknown" : null },
    element("span", { class: "name", text: formatClass(name) }),
    element("span", { class: "value", text: formatPercent(probability) }),
    element("span", { class: "track", "aria-hidden": "true" }, fill));
}

function showEvents(answer, onEvent) {
  const { events } = answer;
  byId("events-part").hidden = !isLong(answer);
  byId("events-note").textContent = events.length ? "Choose one to look at it." : "No class is probable enough anywhere.";
  byId("events").replaceChildren(...events.map((event) =>
    element("li", {}, element("button", { type: "button", id: eventId(event), on: { click: () => onEvent(event) } },
      element("span", { class: "name", text: formatClass(event.class) }),
      element("span", { class: "times", text: `${formatTime(event.start)} to ${formatTime(event.end)}` }),
      element("span", { class: "value", text: formatPercent(event.confidence) })))));
}

/** Mark the event that the spectrogram shows in the list of events; none if it is undefined. */
export function markEvent(event) {
  byId("events").querySelector("[aria-current]")?.removeAttribute("aria-current");
  if (!event) return;
  const [list, chosen] = [byId("events"), byId(eventId(event))];
  chosen.setAttribute("aria-current", "true");
  const top = chosen.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top + chosen.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top;
}

function eventId(event) {
  return `event-${event.start}-${event.class}`;
}
