/** The sounds of this visit. They are kept until the page is closed. */

import { byId, element, shorten } from "./dom.js";
import { certainty, describe } from "./predictions.js";

const LENGTH = 20; // sounds; older ones are dropped, because each keeps its file in memory

export class History {
  /** @param {(entry: Object) => void} onChoose called with an entry that is to be shown again */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.entries = [];
  }

  /** Add {sound, answer, at}. */
  add(entry) {
    this.entries = [entry, ...this.entries].slice(0, LENGTH);
    byId("history-part").hidden = false;
    byId("history").replaceChildren(...this.entries.map((item) => this.#row(item)));
  }

  #row(entry) {
    const { sound, answer, at } = entry;
    const name = element("button", { type: "button", class: "link", text: shorten(sound.name), title: sound.name, on: { click: () => this.onChoose(entry) } });
    return element("tr", {},
      element("td", {}, name),
      element("td", { text: describe(answer) }),
      element("td", { text: certainty(answer) }),
      element("td", { text: `version ${answer.model.version}` }),
      element("td", { text: at.toLocaleTimeString() }));
  }
}
