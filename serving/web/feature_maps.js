/** The outputs of every stage and block of the network. */

import { drawMap } from "./colors.js";
import { byId, element } from "./dom.js";

const SHOWN = 8; // maps of a block in the overview

/** Show the overview: a section for each stage, a row for each block. */
export function showFeatureMaps(layers) {
  const stages = Map.groupBy(layers, (layer) => layer.stage);
  byId("maps").replaceChildren(...[...stages].map(([stage, blocks]) => {
    const [height, width] = blocks[0].size;
    return element("section", { class: "stage" },
      element("h3", { text: stageTitle(stage) }),
      element("p", { class: "note", text: `${blocks[0].channels} channels of ${height} × ${width} values` }),
      ...blocks.map((layer) => blockRow(layer, layerTitle(layer))));
  }));
}

function layerTitle(layer) {
  return layer.block === null ? stageTitle(layer.stage) : `${stageTitle(layer.stage)}, block ${layer.block + 1}`;
}

/** `stage2` becomes `Stage 2`, `stem` becomes `Stem`. */
function stageTitle(stage) {
  return stage.replace(/^stage/, "Stage ").replace(/^stem/, "Stem");
}

function blockRow(layer, title) {
  const button = element("button", {
    type: "button",
    class: "block",
    "aria-label": `${title}: open its feature maps`,
    on: { click: () => openBlock(layer, title) },
  }, element("span", { class: "block-name", text: layer.block === null ? "" : `${layer.block + 1}` }));
  button.append(...layer.maps.slice(0, SHOWN).map((map) => canvasOf(map)));
  return button;
}

function openBlock(layer, title) {
  const [height, width] = layer.size;
  byId("maps-dialog-title").textContent = title;
  byId("maps-dialog-note").textContent =
    (layer.maps.length < layer.channels ? `The ${layer.maps.length} of ${layer.channels} channels with the strongest response` :
      `All ${layer.channels} channels`) + `, ${height} × ${width} values each. ` +
    "Every map has its own range, dark to bright.";
  byId("maps-dialog-grid").replaceChildren(...layer.maps.map((map) =>
    element("figure", {}, canvasOf(map, `Feature map of channel ${map.channel}`),
      element("figcaption", { text: `channel ${map.channel}: ${map.min.toFixed(2)} to ${map.max.toFixed(2)}` }))));
  byId("maps-dialog").showModal();
}

function canvasOf(map, label = null) {
  const canvas = element("canvas", label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" });
  drawMap(canvas, map);
  return canvas;
}
