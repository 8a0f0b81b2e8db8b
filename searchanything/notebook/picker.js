// The picker in a notebook: the page's stage, a field for words, and the answer as the kernel draws it.

import { clicked, decode, RegionMap } from "../serve/page/masks.js";
import { Stage } from "../serve/page/stage.js";

const HINT = "Point at a thing: what lights up is what will be searched. Click again for the next level, drag a box, Shift and click adds, Alt and click takes away.";
const NOTHING = { foreground: [], background: [], granularity: null, boxes: [], text: "", whole: false };
const asks = ({ foreground, boxes, text, whole }) => whole || foreground.length > 0 || boxes.length > 0 || text !== "";

function made(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

class Picker {
  constructor(model, root) {
    this.model = model;
    this.click = null; // the last single click, and its levels
    this.waiting = null; // what is asked when the question under way has its answer
    this.canvas = made("canvas", { tabIndex: 0, role: "application", ariaLabel: "The image to point at. Arrow keys move a cross, Enter selects, Shift Enter adds, Alt Enter takes away, B begins and ends a box, plus and minus zoom, Escape clears." });
    this.tip = made("div", { className: "tip", hidden: true });
    this.words = made("input", { type: "text", placeholder: "Words for a thing in this image", ariaLabel: "Words for a thing in this image", maxLength: 500 });
    this.whole = made("button", { type: "button", textContent: "Whole image", onclick: () => this.#only({ whole: true }) });
    this.clear = made("button", { type: "button", textContent: "Clear", onclick: () => this.#only({}) });
    this.text = made("p", { role: "status" });
    this.answer = made("div", { className: "answer" });
    this.words.addEventListener("keydown", (event) => event.key === "Enter" && !event.isComposing && this.#with({ text: this.words.value.trim(), whole: false }));
    const bar = made("div", { className: "bar" }, this.words, this.whole, this.clear);
    root.classList.add("searchanything-picker");
    for (const one of [this.canvas, this.words, this.whole, this.clear]) one.dataset.lmSuppressShortcuts = "true"; // else Jupyter's: B would insert a cell
    root.append(made("div", { className: "frame" }, made("div", { className: "sheet" }, this.canvas), this.tip), bar, this.text, this.answer);
    root.addEventListener("keydown", (event) => event.key === "Escape" && asks(this.#question()) && this.#only({}));
    this.stage = new Stage(this.canvas, this.tip, { point: (x, y, how) => this.#point([x, y].map(Math.round), how), box: (box) => this.#with({ boxes: [box.map(Math.round)], whole: false, granularity: null }), hover() {}, zoomed() {} });
    this.changes = { "change:picture": () => this.#open(), "change:question": () => this.#draw(), "change:answer": () => this.#answered() };
    for (const [event, act] of Object.entries(this.changes)) model.on(event, act);
    this.#open();
  }

  remove() {
    for (const [event, act] of Object.entries(this.changes)) this.model.off(event, act);
    this.stage.close();
  }

  async #open() {
    const address = URL.createObjectURL(new Blob([this.model.get("picture")]));
    this.click = this.waiting = null;
    try {
      await this.stage.open(address);
    } finally {
      URL.revokeObjectURL(address);
    }
    this.map = new RegionMap(this.model.get("segments"));
    this.stage.regions(this.map);
    this.#draw();
  }

  /** What was asked last, also where it still waits for its turn. */
  #question() {
    return this.waiting || { ...NOTHING, ...this.model.get("question") };
  }

  #isBusy() {
    const { number } = this.model.get("question");
    return number !== undefined && this.model.get("answer").number !== number;
  }

  #only(parts) {
    if (!parts.foreground) this.click = null;
    this.#ask({ ...NOTHING, ...parts });
  }

  #with(parts) {
    this.#ask({ ...this.#question(), ...parts });
  }

  /** One question at a time, and then the newest: the kernel would answer all that were overtaken. */
  #ask(question) {
    if (this.#isBusy()) this.waiting = question;
    else {
      this.waiting = null;
      this.model.set("question", { ...question, asks: asks(question), number: (this.model.get("question").number || 0) + 1 });
      this.model.save_changes();
    }
    this.#draw();
  }

  #answered() {
    if (this.waiting && !this.#isBusy()) this.#ask(this.waiting);
    this.#draw();
  }

  #point(place, { add, remove }) {
    const { foreground, background, boxes, text } = this.#question();
    if (remove) {
      if (asks(this.#question())) this.#with({ background: [...background, place], whole: false });
      else this.text.textContent = "First select something, then take away from it.";
    } else if (add || boxes.length || text) this.#with({ foreground: [...foreground, place], whole: false });
    else {
      this.click = clicked(this.map, this.click, place);
      this.#only({ foreground: [this.click.place], granularity: this.click.levels[this.click.step]?.level || "part" });
    }
  }

  #draw() {
    const question = this.#question(), busy = this.#isBusy(), answer = busy ? {} : this.model.get("answer");
    const points = [...question.foreground.map(([x, y]) => ({ x, y, good: true })), ...question.background.map(([x, y]) => ({ x, y, good: false }))];
    this.stage.mark({ regions: (answer.selected || []).map(decode), points, box: question.boxes[0] || null, offered: (answer.offered || []).map(decode) });
    if (document.activeElement !== this.words) this.words.value = question.text;
    this.clear.disabled = !asks(question);
    this.text.textContent = busy ? "Searching…" : answer.problem || (answer.kind === "none" ? `Nothing is selected: ${answer.reason}.` : answer.reason ? `Selected: ${answer.reason}.` : HINT);
    this.text.classList.toggle("problem", Boolean(answer.problem));
    this.answer.setAttribute("aria-busy", String(busy));
    if (!busy) this.answer.innerHTML = answer.html || ""; // drawn by the kernel, which escapes all names
  }
}

export default {
  render({ model, el }) {
    const picker = new Picker(model, el);
    return () => picker.remove();
  },
};
