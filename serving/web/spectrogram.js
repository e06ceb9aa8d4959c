/** The spectrogram with its axes and color scale, the events, and the response of the network as an overlay. */

import { drawMap, drawOverlay, drawScale } from "./colors.js";
import { element } from "./dom.js";
import { formatClass, formatTime } from "./format.js";

const FREQUENCIES = [125, 250, 500, 1000, 2000, 4000, 8000, 16000]; // Hz, of the ticks
const MIN_TICK_DISTANCE = 0.08; // of the height, so that labels do not touch
const SCALE_STEP = 20; // dB between ticks of the color scale

export class Spectrogram {
  /** @param {HTMLElement} container */
  constructor(container) {
    this.container = container;
    this.overlay = element("canvas", { "aria-hidden": "true" });
    this.cursor = element("div", { class: "cursor", hidden: true });
    this.window = { start: 0, seconds: 1 };
  }

  /** Show an explanation, and those of the events that are within its window. */
  show(explanation, events) {
    const { spectrogram, window, activation, class: name } = explanation;
    this.window = window;
    const image = element("canvas", {
      role: "img",
      "aria-label": `Spectrogram from ${window.start.toFixed(1)} to ${(window.start + window.seconds).toFixed(1)} s, ` +
        `with the response of the network to ${formatClass(name)}`,
    });
    drawMap(image, spectrogram);
    drawOverlay(this.overlay, activation);
    const picture = element("div", { class: "picture" }, image, this.overlay, this.cursor);
    this.container.replaceChildren(
      element("div", { class: "corner low", text: "Hz" }),
      eventBars(events, window),
      element("div", { class: "corner high", text: "dB" }),
      frequencyAxis(spectrogram.hz),
      picture,
      colorScale(spectrogram.min, spectrogram.max),
      element("div", {}),
      timeAxis(window),
    );
  }

  /** Show a button that loads the spectrogram; hidden while it is loaded. */
  showLoadButton(onLoad) {
    const button = element("button", { type: "button", text: "Show the spectrogram", on: { click: onLoad } });
    this.container.replaceChildren(element("p", { class: "missing" }, button));
  }

  /** Set the opacity of the overlay, 0 to 1. */
  setOverlayOpacity(opacity) {
    this.overlay.style.opacity = opacity;
  }

  /** Move the line at the time that is played. */
  setTime(seconds) {
    const position = (seconds - this.window.start) / this.window.seconds;
    this.cursor.hidden = position <= 0 || position > 1;
    this.cursor.style.left = `${100 * position}%`;
  }
}

function eventBars(events, window) {
  const end = window.start + window.seconds;
  const bars = events.filter((event) => event.start < end && event.end > window.start).map((event) => {
    const bar = element("span", { class: "event-bar", text: formatClass(event.class) });
    const from = Math.max(event.start, window.start);
    place(bar, "left", (from - window.start) / window.seconds);
    place(bar, "width", (Math.min(event.end, end) - from) / window.seconds);
    return bar;
  });
  return element("div", { class: "event-bars", "aria-hidden": "true" }, ...bars);
}

function frequencyAxis(bands) {
  const ticks = [];
  let last = -1;
  for (const hertz of FREQUENCIES.filter((each) => each >= bands[0] && each <= bands.at(-1))) {
    const above = bands.findIndex((band) => band >= hertz);
    const below = Math.max(above - 1, 0);
    const between = above === below ? 0 : (hertz - bands[below]) / (bands[above] - bands[below]);
    const height = (below + between + 0.5) / bands.length;
    if (height - last < MIN_TICK_DISTANCE) continue;
    last = height;
    ticks.push(tick("bottom", height, hertz < 1000 ? `${hertz}` : `${hertz / 1000}k`));
  }
  return element("div", { class: "axis vertical", "aria-hidden": "true" }, ...ticks);
}

function timeAxis({ start, seconds }) {
  const isLate = start >= 60; // such times need more room
  const step = (seconds > 3 ? 1 : 0.5) * (isLate ? 2 : 1);
  const ticks = [];
  for (let at = Math.ceil(start / step) * step; at <= start + seconds + 1e-6; at += step) {
    const text = isLate ? formatTime(at) : `${at.toFixed(step < 1 ? 1 : 0)} s`; // as in the list of events
    ticks.push(tick("left", (at - start) / seconds, text));
  }
  return element("div", { class: "axis horizontal", "aria-hidden": "true" }, ...ticks);
}

function colorScale(min, max) {
  const canvas = element("canvas");
  drawScale(canvas);
  const ticks = [];
  for (let at = Math.ceil(min / SCALE_STEP) * SCALE_STEP; at <= max; at += SCALE_STEP) {
    ticks.push(tick("bottom", (at - min) / (max - min), `${at}`));
  }
  return element("div", { class: "axis scale", "aria-hidden": "true" }, canvas, ...ticks);
}

function tick(side, fraction, text) {
  const label = element("span", { class: "tick", text });
  place(label, side, fraction);
  return label;
}

function place(node, property, fraction) {
  node.style[property] = `${100 * fraction}%`;
}
