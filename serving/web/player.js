/** The sound: an audio player, with the waveform, the events and the window that is looked at. */

import { readable } from "./dom.js";
import RegionsPlugin from "./vendor/wavesurfer/regions.esm.js";
import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";

export class Player {
  /**
   * @param {HTMLElement} container of the waveform
   * @param {HTMLAudioElement} audio the player, whose controls work by keyboard
   */
  constructor(container, audio) {
    this.audio = audio;
    this.regions = RegionsPlugin.create();
    this.surfer = WaveSurfer.create({
      container,
      media: audio,
      cspNonce: document.querySelector('meta[name="csp-nonce"]').content,
      height: 88,
      plugins: [this.regions],
      ...colors(),
    });
    document.addEventListener("themechange", () => this.surfer.setOptions(colors()));
  }

  /**
   * Show a sound.
   * @returns {Promise<boolean>} whether the browser can play it
   */
  async show(blob) {
    this.audio.pause();
    this.regions.clearRegions();
    // loadBlob() does not end where the browser cannot play the format.
    const failure = new Promise((_, reject) => this.audio.addEventListener("error", reject, { once: true }));
    try {
      await Promise.race([this.surfer.loadBlob(blob), failure]);
      this.audio.hidden = false;
    } catch {
      this.audio.hidden = true;
    }
    return !this.audio.hidden;
  }

  /** Show the waveform that the endpoint decoded, of a sound that the browser cannot play. */
  async showEnvelope({ min, max, seconds }) {
    await this.surfer.load("", [max.flatMap((value, index) => [value, min[index]])], seconds);
  }

  /** Mark the events, and the window that the spectrogram shows. */
  mark(events, window) {
    this.regions.clearRegions();
    for (const event of events) this.#region(event.start, event.end, "event", readable(event.class));
    this.#region(window.start, window.start + window.seconds, "window", null);
  }

  /** Move to a time in s. */
  seek(seconds) {
    this.audio.currentTime = seconds;
  }

  #region(start, end, kind, content) {
    const color = getComputedStyle(document.documentElement).getPropertyValue(`--region-${kind}`);
    this.regions.addRegion({ start, end, content, color, drag: false, resize: false });
  }
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  return { waveColor: color("--wave"), progressColor: color("--accent"), cursorColor: color("--text") };
}
