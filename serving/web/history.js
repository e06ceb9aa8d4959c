/** The table of the sounds that were classified since the page was opened. */

import { byId, element } from "./dom.js";
import { shortenFileName } from "./format.js";
import { labelProbability, labelText } from "./predictions.js";

const MAX_ENTRIES = 20; // older ones are dropped, because each keeps its file in memory

export class SoundHistory {
  /** @param {(entry: Object) => void} onChoose called with an entry that is to be shown again */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.entries = [];
  }

  /** Add {sound, answer, at}. */
  add(entry) {
    this.entries = [entry, ...this.entries].slice(0, MAX_ENTRIES);
    byId("history-part").hidden = false;
    byId("history").replaceChildren(...this.entries.map((item) => this.#row(item)));
  }

  #row(entry) {
    const { sound, answer, at } = entry;
    const name = element("button", {
      type: "button",
      class: "link",
      text: shortenFileName(sound.name),
      title: sound.name,
      on: { click: () => this.onChoose(entry) },
    });
    return element("tr", {},
      element("td", {}, name),
      element("td", { text: labelText(answer) }),
      element("td", { text: labelProbability(answer) }),
      element("td", { text: `version ${answer.model.version}` }),
      element("td", { text: at.toLocaleTimeString() }));
  }
}
