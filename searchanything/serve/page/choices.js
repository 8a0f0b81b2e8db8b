// Ways to choose a region without pointing at it: how much is meant, and the list of all.

import { make } from "./parts.js";
import { anchor } from "./stage.js";

/** Radio buttons for part, object, whole. `on` has choose(step), show(region or null). */
export function levelChoices({ levels, step }, on) {
  return levels.map(({ level, region }, its) => {
    const input = make("input", { type: "radio", name: "level", value: level, onchange: () => on.choose(its) });
    input.checked = its === step;
    const label = make("label", { class: "segment" }, input, make("span", {}, level[0].toUpperCase() + level.slice(1)));
    label.addEventListener("pointerenter", () => on.show(region));
    label.addEventListener("pointerleave", () => on.show(null));
    return label;
  });
}

/** All regions as buttons, the largest first. `on` has stored(number), at(x, y) for a region without a number, show(region or null). */
export function regionList(map, on) {
  return [...map.regions].reverse().map((region) => {
    const stored = region.region !== null;
    const act = () => (stored ? on.stored(region.region) : on.at(...anchor(map, region)));
    const button = make("button", { type: "button", class: "link", onclick: act }, `Region${stored ? ` ${region.region}` : ""}, ${map.describe(region)}`);
    for (const [event, shown] of [["pointerenter", region], ["focus", region], ["pointerleave", null], ["blur", null]]) button.addEventListener(event, () => on.show(shown));
    return make("li", {}, button);
  });
}
