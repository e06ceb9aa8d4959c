/** Record the microphone as a WAV file. */

import { encodeWav } from "./wav.js";

export class Recorder {
  /** @param {(seconds: number, level: number) => void} onProgress called while it records; level from 0 to 1 */
  constructor(onProgress) {
    this.onProgress = onProgress;
    this.recorder = null;
    this.isActive = false; // from the question for the microphone to the WAV file
    this.maxSeconds = 120;
  }

  /** Ask for the microphone and record until `stop` is called. Return a Blob of type audio/wav. */
  async record() {
    this.isActive = true;
    try {
      return await this.#record();
    } finally {
      this.isActive = false;
    }
  }

  stop() {
    this.recorder?.stop();
  }

  async #record() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The browser allows recording only on https:// pages and on this machine (localhost).");
    }
    // The browser's filters for speech would remove the sounds to be classified.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      const reasons = {
        NotAllowedError: "The microphone is blocked. Allow it in the settings of this page in your browser.",
        NotFoundError: "No microphone was found. Connect one, then try again.",
      };
      throw new Error(reasons[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    const context = new AudioContext();
    try {
      const encoded = await this.#recordStream(stream, context);
      const sound = await context.decodeAudioData(await encoded.arrayBuffer());
      return encodeWav(sound.getChannelData(0), sound.sampleRate);
    } finally {
      stream.getTracks().forEach((track) => track.stop());
      await context.close();
    }
  }

  #recordStream(stream, context) {
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const parts = [];
    const started = performance.now();
    this.recorder = new MediaRecorder(stream);
    const timer = setInterval(() => {
      const seconds = (performance.now() - started) / 1000;
      analyser.getFloatTimeDomainData(samples);
      this.onProgress(seconds, Math.max(...samples.map(Math.abs)));
      if (seconds > this.maxSeconds) this.stop();
    }, 100);
    return new Promise((resolve, reject) => {
      this.recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
      this.recorder.addEventListener("error", (event) => reject(event.error));
      this.recorder.addEventListener("stop", () => resolve(new Blob(parts)));
      this.recorder.start();
    }).finally(() => {
      clearInterval(timer);
      this.recorder = null;
    });
  }
}
