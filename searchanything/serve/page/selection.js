// What of the open image is asked with: what a click means, and how that is shown.

import { levelChoices } from "./choices.js";
import { clicked, decode } from "./masks.js";
import { byId, make, toast } from "./parts.js";
import { asks, PAGE } from "./question.js";
import { anchor } from "./stage.js";

export class Selection {
  /** `image` is an OpenImage; `on` has go(parts), goOnly(parts), question(). */
  constructor(image, on) {
    this.image = image;
    this.on = on;
    this.click = null; // the last single click, and its levels: a click within them is the next level
  }

  /** The next click begins anew. */
  forget() {
    this.click = null;
  }

  /** A click on the stage, in image pixels. */
  pointed(x, y, { add, remove }) {
    const place = [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
    if (remove) return this.#takeAway(place);
    if (add) return this.on.go({ ...this.#spelled(), fg: [...this.#spelled().fg, place], level: this.on.question().level });
    this.click = clicked(this.image.map, this.click, place);
    return this.#selectLevel(this.click.step);
  }

  /** Show what is selected, of this answer or of none yet. */
  draw(answer) {
    const text = byId("selection-text"), levels = byId("levels"), had = levels.contains(document.activeElement);
    const question = this.on.question(), { map } = this.image;
    levels.hidden = true;
    if (!question.image) return;
    const points = [...question.fg.map(([x, y]) => ({ x, y, good: true })), ...question.bg.map(([x, y]) => ({ x, y, good: false }))];
    const chosen = question.region !== null && map ? map.byNumber(question.region) : null;
    const selection = answer?.selection;
    const shown = chosen ? [chosen.bitmap] : selection?.kind === "region" ? [decode(selection.mask)] : [];
    const offered = selection?.kind === "none" ? selection.runners_up.slice(0, 3).map((one) => decode(one.mask)) : [];
    this.image.stage.mark({ regions: shown, points, box: question.box, offered });
    byId("clear").disabled = !asks(question);
    byId("whole").setAttribute("aria-pressed", String(question.whole));
    if (!map) text.replaceChildren();
    else if (!asks(question)) text.replaceChildren(map.regions.length ? "Point at a thing: what lights up is what will be searched." : "Nothing lights up here: this image has no regions.");
    else if (question.whole) text.replaceChildren("The whole image.");
    else if (chosen) text.replaceChildren(make("b", {}, `Region ${chosen.region}`), `, ${map.describe(chosen)}`);
    else if (selection) text.replaceChildren(selection.kind === "none" ? "Nothing is selected." : `Selected: ${selection.reason}.`);
    else text.replaceChildren(byId("progress").hidden ? "" : "Selecting…");
    this.#drawLevels(chosen);
    if (had) levels.querySelector(":checked")?.focus();
  }

  #selectLevel(step) {
    const { click } = this;
    click.step = step;
    const chosen = click.levels[step];
    if (chosen && chosen.region.region !== null) return this.on.goOnly({ region: chosen.region.region });
    return this.on.goOnly({ fg: [click.place], level: chosen ? chosen.level : "part" });
  }

  /** The selection as points, which more can be added to: of a stored region, where it was clicked. */
  #spelled() {
    const question = this.on.question(), { click } = this, { map } = this.image;
    const chosen = question.region === null || !map ? null : map.byNumber(question.region);
    const points = chosen ? [click?.levels.some((one) => one.region === chosen) ? click.place : anchor(map, chosen)] : question.fg;
    const level = chosen && click ? click.levels[click.step]?.level || null : question.level;
    return { fg: points, bg: question.bg, region: null, whole: false, level: question.box || question.text ? null : level, limit: PAGE };
  }

  #takeAway(place) {
    const parts = this.#spelled(), question = this.on.question();
    if (!parts.fg.length && !question.box && !question.text) return toast("First select something, then take away from it");
    return this.on.go({ ...parts, bg: [...parts.bg, place] });
  }

  #drawLevels(chosen) {
    const question = this.on.question(), { map, stage } = this.image;
    if (chosen && !this.click?.levels.some((one) => one.region === chosen)) {
      const place = anchor(map, chosen);
      const found = map.levels(...place);
      const step = found.findIndex((one) => one.region === chosen);
      if (step >= 0) this.click = { place, levels: found, step };
    }
    const { click } = this;
    if (!click || click.levels.length < 2 || question.box || question.text || question.whole || question.fg.length > 1) return;
    if (!chosen && question.fg.length !== 1) return;
    const levels = byId("levels");
    levels.hidden = false;
    levels.replaceChildren(...levelChoices(click, { choose: (step) => this.#selectLevel(step), show: (region) => stage.show(region) }));
  }
}
