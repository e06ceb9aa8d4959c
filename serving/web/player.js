/** The sound: an audio player, with the waveform, the events and the window that the spectrogram shows. */

import { formatClass } from "./format.js";
import RegionsPlugin from "./vendor/wavesurfer/regions.esm.js";
import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";

const MIN_NAMED_FRACTION = 0.1; // of the duration: the name of a shorter event does not fit

export class Player {
  /**
   * @param {HTMLElement} container of the waveform
   * @param {HTMLAudioElement} audio the player, whose controls work by keyboard
   * @param {(seconds: number) => void} onSeek called with the time at which the waveform was clicked
   */
  constructor(container, audio, onSeek) {
    this.audio = audio;
    this.blob = null;
    this.marks = [];
    this.loading = Promise.resolve();
    this.regions = RegionsPlugin.create();
    this.surfer = WaveSurfer.create({
      container,
      media: audio,
      cspNonce: document.querySelector('meta[name="csp-nonce"]').content,
      height: 88,
      plugins: [this.regions],
      ...colors(),
    });
    this.surfer.on("interaction", onSeek);
    document.addEventListener("themechange", () => {
      this.surfer.setOptions(colors());
      this.#draw();
    });
  }

  /**
   * Show a sound.
   * @returns {Promise<boolean | null>} whether the browser can play it; null if another sound was shown meanwhile
   */
  show(blob) {
    this.blob = blob;
    this.marks = [];
    this.audio.pause();
    this.regions.clearRegions();
    // One after the other: a sound that takes longer to decode would replace a newer one.
    this.loading = this.loading.then(() => this.#load(blob));
    return this.loading;
  }

  /** Show the waveform that the endpoint decoded, of a sound of `duration` s that the browser cannot play. */
  async showEnvelope({ start = 0, seconds, min, max }, duration) {
    const before = Math.round((start / seconds) * max.length);
    const peaks = new Array(2 * Math.max(Math.round((duration / seconds) * max.length), before + max.length)).fill(0);
    max.forEach((value, index) => peaks.splice(2 * (before + index), 2, value, min[index]));
    await this.surfer.load("", [peaks], duration);
    this.#draw();
  }

  /** Mark the events, and the window that the spectrogram shows. */
  mark(events, window) {
    const end = window.start + window.seconds;
    this.marks = [...events.map((event) => ({ ...event, kind: "event" })), { ...window, end, kind: "window" }];
    this.#draw();
  }

  /** Move to a time in s. */
  seek(seconds) {
    this.audio.currentTime = seconds;
  }

  async #load(blob) {
    if (blob !== this.blob) return null;
    // loadBlob() does not end where the browser cannot play the format.
    const failure = new Promise((_, reject) => this.audio.addEventListener("error", reject, { once: true }));
    let canPlay = true;
    try {
      await Promise.race([this.surfer.loadBlob(blob), failure]);
    } catch {
      canPlay = false;
    }
    if (blob !== this.blob) return null;
    this.audio.hidden = !canPlay;
    if (canPlay) this.#draw();
    return canPlay;
  }

  #draw() {
    this.regions.clearRegions();
    const duration = this.surfer.getDuration();
    if (!duration) return; // drawn when the sound is loaded
    for (const { start, end, kind, class: name } of this.marks) {
      const color = getComputedStyle(document.documentElement).getPropertyValue(`--region-${kind}`);
      const content = name && (end - start) / duration > MIN_NAMED_FRACTION ? formatClass(name) : null;
      this.regions.addRegion({ start, end, content, color, drag: false, resize: false });
    }
  }
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  return { waveColor: color("--wave"), progressColor: color("--accent"), cursorColor: color("--text") };
}
