// The filters beside the answers. The form is made once: what is typed and the focus stay while answers come.

import { filterCount, SIZES } from "./question.js";
import { byId, make } from "./parts.js";

export class Filters {
  /** `change(parts)` is called with the parts of the question that change. */
  constructor(form, change) {
    this.form = form;
    this.change = change;
    this.meta = [];
    this.fields = { prefix: this.#text("prefix", "2024/holiday/"), from: this.#date("from", "Indexed from"), to: this.#date("to", "Indexed until") };
    this.sizes = ["", ...SIZES].map((size) => make("input", { type: "radio", name: "size", value: size, onchange: () => change({ size }) }));
    this.entry = this.#entry();
    this.chips = make("div", { class: "chips" });
    this.clearButton = make("button", { type: "button", class: "button quiet", onclick: () => this.clear() }, "Clear filters");
    const { prefix, from, to } = this.fields;
    const choices = this.sizes.map((input) => make("label", { class: "segment" }, input, make("span", {}, input.value ? input.value[0].toUpperCase() + input.value.slice(1) : "Any")));
    form.replaceChildren(
      make("div", { class: "filter" }, make("label", { for: prefix.id }, "Name begins with"), prefix),
      make("fieldset", { class: "filter" }, make("legend", {}, "Size of the region"), make("div", { class: "segments" }, ...choices)),
      make("fieldset", { class: "filter" }, make("legend", {}, "Indexed"), make("div", { class: "pair" }, make("span", { "aria-hidden": "true" }, "from"), from, make("span", { "aria-hidden": "true" }, "until"), to)),
      make("div", { class: "filter" }, make("label", { for: this.entry.id }, "Metadata"), this.entry, this.chips),
      this.clearButton,
    );
    form.addEventListener("submit", (event) => event.preventDefault());
    byId("filters-button").addEventListener("click", () => this.toggle());
  }

  toggle(open = this.form.hidden) {
    this.form.hidden = !open;
    byId("filters-button").setAttribute("aria-expanded", String(open));
    return open;
  }

  show(question) {
    const badge = byId("filters-badge"), number = filterCount(question);
    badge.hidden = !number;
    badge.textContent = number;
    if (number) this.toggle(true);
    this.meta = question.meta;
    for (const [part, input] of Object.entries(this.fields)) if (input !== document.activeElement) input.value = question[part];
    for (const input of this.sizes) input.checked = input.value === question.size;
    if (this.chips.contains(document.activeElement) || document.activeElement === this.clearButton) this.entry.focus(); // what had the focus goes
    this.chips.replaceChildren(...question.meta.map((entry) => this.#chip(entry)));
    this.clearButton.disabled = !number;
  }

  clear() {
    for (const input of [...Object.values(this.fields), this.entry]) input.value = "";
    this.change({ prefix: "", size: "", meta: [], from: "", to: "" });
  }

  #text(part, placeholder) {
    return make("input", { type: "text", id: `filter-${part}`, placeholder, autocomplete: "off", onchange: (event) => this.change({ [part]: event.target.value.trim() }) });
  }

  #date(part, label) {
    return make("input", { type: "date", "aria-label": label, onchange: (event) => this.change({ [part]: event.target.value }) });
  }

  #entry() {
    const input = make("input", {
      type: "text",
      id: "filter-meta",
      placeholder: "album=sea or year:=2024",
      autocomplete: "off",
      oninput: () => input.setCustomValidity(""),
      onchange: () => {
        const entry = input.value.trim();
        input.setCustomValidity(entry && entry.indexOf("=") < 1 ? "A name, = and a value: album=sea" : "");
        if (!entry || !input.reportValidity()) return;
        input.value = "";
        this.change({ meta: [...this.meta.filter((other) => other !== entry), entry] });
      },
    });
    return input;
  }

  #chip(entry) {
    const remove = () => this.change({ meta: this.meta.filter((other) => other !== entry) });
    return make("button", { type: "button", class: "chip", "aria-label": `Remove ${entry}`, onclick: remove }, `${entry} ✕`);
  }
}
