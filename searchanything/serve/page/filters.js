// The filters beside the answers.

import { filterCount, SIZES } from "./question.js";
import { byId, make } from "./parts.js";

export class Filters {
  /** `change(parts)` is called with the parts of the question that change. */
  constructor(form, change) {
    this.form = form;
    this.change = change;
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
    if (this.form.contains(document.activeElement)) {
      this.clearButton.disabled = !number;
      return; // nothing is taken from under a hand that types
    }
    this.clearButton = make("button", { type: "button", class: "button quiet", disabled: !number, onclick: () => this.clear() }, "Clear filters");
    this.form.replaceChildren(
      this.#text("Name begins with", "prefix", question.prefix, "2024/holiday/"),
      this.#sizes(question),
      this.#dates(question),
      this.#metadata(question),
      this.clearButton,
    );
  }

  clear() {
    document.activeElement?.blur();
    this.change({ prefix: "", size: "", meta: [], from: "", to: "" });
  }

  #text(label, part, value, placeholder) {
    const input = make("input", { type: "text", id: `filter-${part}`, placeholder, autocomplete: "off", onchange: () => this.change({ [part]: input.value.trim() }) });
    input.value = value;
    return make("div", { class: "filter" }, make("label", { for: input.id }, label), input);
  }

  #sizes(question) {
    const choice = (value, label) => {
      const input = make("input", { type: "radio", name: "size", value, onchange: () => this.change({ size: value }) });
      input.checked = question.size === value;
      return make("label", { class: "segment" }, input, make("span", {}, label));
    };
    return make("fieldset", { class: "filter" }, make("legend", {}, "Size of the region"), make("div", { class: "segments" }, choice("", "Any"), ...SIZES.map((size) => choice(size, size[0].toUpperCase() + size.slice(1)))));
  }

  #dates(question) {
    const date = (part, label) => {
      const input = make("input", { type: "date", "aria-label": label, onchange: () => this.change({ [part]: input.value }) });
      input.value = question[part];
      return input;
    };
    return make("fieldset", { class: "filter" }, make("legend", {}, "Indexed"), make("div", { class: "pair" }, date("from", "Indexed from"), make("span", { "aria-hidden": "true" }, "–"), date("to", "Indexed until")));
  }

  #metadata(question) {
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
        input.blur();
        this.change({ meta: [...question.meta, entry] });
      },
    });
    const chips = question.meta.map((entry) =>
      make("button", { type: "button", class: "chip", "aria-label": `Remove ${entry}`, onclick: () => this.change({ meta: question.meta.filter((other) => other !== entry) }) }, `${entry} ✕`),
    );
    return make("div", { class: "filter" }, make("label", { for: input.id }, "Metadata"), input, chips.length ? make("div", { class: "chips" }, ...chips) : null);
  }
}
