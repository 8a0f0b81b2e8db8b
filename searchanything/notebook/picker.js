// The picker in a notebook: the page's stage, a field for words, and the answer as the kernel draws it.

import { clicked, decode, RegionMap } from "../serve/page/masks.js";
import { Stage } from "../serve/page/stage.js";

const HINT = "Point at a thing: what lights up is what will be searched. Click again for the next level, drag a box, Shift and click adds, Alt and click takes away.";
const LATE = "Still searching. Where the kernel was restarted, run the cell again.", LATE_MS = 10_000;
const NOTHING = { foreground: [], background: [], granularity: null, boxes: [], text: "", whole: false };
const asks = ({ foreground, boxes, text, whole }) => whole || foreground.length > 0 || boxes.length > 0 || text !== "";

function made(name, settings, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

class Picker {
  constructor(model, root) {
    this.model = model;
    this.click = null; // the last single click, and its levels
    this.waiting = null; // what is asked when the question under way has its answer
    this.canvas = made("canvas", { tabIndex: 0, role: "application", "aria-label": "The image to point at. Arrow keys move a cross, Enter selects, Shift Enter adds, Alt Enter takes away, B begins and ends a box, plus and minus zoom, Escape clears." });
    this.tip = made("div", { className: "tip", hidden: true });
    this.words = made("input", { type: "text", placeholder: "Words for a thing in this image", "aria-label": "Words for a thing in this image", maxLength: 500 });
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
    this.stage = new Stage(this.canvas, this.tip, { point: (x, y, how) => this.#point([x, y].map(Math.round), how), box: (box) => this.#with({ boxes: [box.map(Math.round)], whole: false, granularity: null }), hover: (region) => this.#say(region && this.stage.cross ? this.map.describe(region) : this.#status()), zoomed() {} });
    this.stage.least = 420; // a notebook's frame may be as high as what is in it, which would shrink it
    this.changes = { "change:image_number": () => this.#open(), "change:question": () => this.#draw(), "change:answer": () => this.#answered() };
    for (const [event, act] of Object.entries(this.changes)) model.on(event, act);
    this.#open();
  }

  remove() {
    for (const [event, act] of Object.entries(this.changes)) this.model.off(event, act);
    this.stage.leave();
  }

  async #open() {
    const address = URL.createObjectURL(new Blob([this.model.get("picture")]));
    this.image = this.model.get("image_number");
    this.click = this.waiting = this.late = null;
    try {
      await this.stage.open(address);
    } finally {
      URL.revokeObjectURL(address);
    }
    if (!this.stage.picture) return; // closed or opened again meanwhile
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
  #ask(parts) {
    const number = (this.model.get("question").number || 0) + 1, question = { ...parts, asks: asks(parts), number, image_number: this.image };
    if (this.#isBusy()) this.waiting = question;
    else {
      this.waiting = null;
      this.model.set("question", question);
      this.model.save_changes();
      setTimeout(() => ((this.late = number), this.#say(this.#status())), LATE_MS);
    }
    this.#draw();
  }

  #answered() {
    if (this.waiting?.image_number === this.model.get("image_number") && !this.#isBusy()) this.#ask(this.waiting);
    this.#draw();
  }

  #point(place, { add, remove }) {
    const { foreground, background, boxes, text } = this.#question();
    if (remove) {
      if (asks({ ...this.#question(), whole: false })) this.#with({ background: [...background, place], whole: false });
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
    if (!this.words.matches(":focus") || question.text !== this.spoken) this.words.value = question.text; // what is being typed stays
    this.spoken = question.text;
    this.clear.disabled = !asks(question);
    this.#say(this.#status());
    this.text.classList.toggle("problem", Boolean(answer.problem));
    this.answer.setAttribute("aria-busy", String(busy));
    if (!busy) this.answer.innerHTML = answer.html || ""; // drawn by the kernel, which escapes all names
  }

  #status() {
    if (this.#isBusy()) return this.late === this.model.get("question").number ? LATE : "Searching…";
    const { problem, kind, reason } = this.model.get("answer");
    if (problem || !reason) return problem || HINT;
    return kind === "none" ? `Nothing is selected: ${reason}.` : `Selected: ${reason}.`;
  }

  #say(words) {
    if (this.text.textContent !== words) this.text.textContent = words; // else it is read aloud again
  }
}

export default {
  render({ model, el }) {
    const picker = new Picker(model, el);
    return () => picker.remove();
  },
};
