// The grid of hits: each an image with its region outlined, how near it is, and what can be done with it.

import { letterKeys } from "./letter_keys.js";
import { address, empty, NO_MARKS, PAGE } from "./question.js";
import { baseName, chance, count, icon, lazyImage, make, outlineOf } from "./parts.js";

const TILE = 4 / 3;
const SMALL_SHARE = 0.05; // of the image: below it, a loupe shows the region larger
const name = (hit) => `${hit.bucket}\n${hit.key}\n${hit.region}`;

/** The address of a question by a hit. */
export function addressOf(hit, question) {
  const next = { ...empty(), image: { id: hit.id }, region: hit.region, whole: hit.region === null };
  for (const kept of ["prefix", "size", "meta", "from", "to", "group"]) next[kept] = question[kept];
  return address(next);
}

/** A picture of an image in a tile, its region outlined. */
export function pictured(image, { mask, box, alt, className = "" }) {
  const { width, height } = image.image || image;
  const frame = make("span", { class: `frame ${width / height > TILE ? "wide" : "tall"}` });
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.append(lazyImage(image, 320, { alt }));
  if (mask) frame.append(outlineOf(mask, `outline ${className}`));
  const tile = make("span", { class: "tile" }, frame);
  if (mask && box && isSmall(box, width, height)) tile.append(loupe(image, box, width, height));
  return tile;
}

function isSmall([x1, y1, x2, y2], width, height) {
  return (x2 - x1) * (y2 - y1) < SMALL_SHARE * width * height;
}

function loupe(image, [x1, y1, x2, y2], width, height) {
  const side = Math.min(Math.max(x2 - x1, y2 - y1) * 1.5, width, height);
  const left = Math.min(Math.max((x1 + x2 - side) / 2, 0), width - side);
  const top = Math.min(Math.max((y1 + y2 - side) / 2, 0), height - side);
  const onLeft = (x1 + x2) / 2 > width / 2, onTop = (y1 + y2) / 2 > height / 2;
  return make("span", { class: `loupe ${onLeft ? "on-left" : ""} ${onTop ? "on-top" : ""}` }, lazyImage(image, 160, { box: [left, top, left + side, top + side] }));
}

/** What a card says of a hit: by how rare it is where the index knows, else by its bits; a text has a similarity. */
function strength(hit) {
  if (!hit.confidence) {
    const similarity = hit.similarity === null ? "" : hit.similarity.toFixed(2);
    const share = Math.min(1, Math.max(0, (hit.similarity ?? 0) * 2));
    return { word: "by words", near: `similarity to the words ${similarity}`, facts: [similarity], share, hint: "Similarity to the words, from −1 to 1" };
  }
  const { word, value, calibrated } = hit.confidence, bits = `${hit.distance_bits} bits`;
  const rare = calibrated ? chance(hit.false_match) : value.toFixed(2);
  const hint = calibrated ? `By chance: ${rare} unrelated regions of this index is as near; ${bits} differ` : `Agreement ${rare} of 1; ${bits} differ`;
  const near = `${word === "none" ? "no" : word} match, ${calibrated ? `by chance ${rare}` : rare}, ${count(hit.distance_bits, "bit")}`;
  return { word, near, facts: [rare, bits], share: value, hint };
}

export class Hits {
  /** `on` has mark(hit, "right" | "wrong"), why(hit). */
  constructor(list, on) {
    this.list = list;
    this.on = on;
    list.addEventListener("keydown", (event) => this.#key(event));
  }

  clear() {
    this.list.replaceChildren();
    this.asked = null;
  }

  /** More of the same answer is put below what is there: nothing that is seen blinks. */
  show(answer, question) {
    const shown = answer.hits.map((hit) => JSON.stringify([hit.id, hit.region, hit.distance_bits, hit.similarity, hit.confidence]));
    const asked = address({ ...question, ...NO_MARKS, refined: question.refined, limit: PAGE });
    const kept = asked === this.asked && this.shown.every((one, place) => one === shown[place]) ? this.shown.length : 0;
    if (!kept) this.list.replaceChildren();
    this.list.append(...answer.hits.slice(kept).map((hit, n) => this.#card(hit, kept + n, question)));
    Object.assign(this, { hits: answer.hits, asked, shown });
    this.list.classList.toggle("faint", answer.hits.length > 0 && !answer.good_match);
    this.marked(question);
  }

  /** Show which hits are marked. */
  marked(question) {
    const right = new Set(question.right.map(name)), wrong = new Set(question.wrong.map(name));
    [...this.list.children].forEach((card, place) => {
      const its = name(this.hits[place]);
      const state = right.has(its) ? "right" : wrong.has(its) ? "wrong" : "";
      card.dataset.mark = state;
      card.querySelector(".mark-right").setAttribute("aria-pressed", state === "right");
      card.querySelector(".mark-wrong").setAttribute("aria-pressed", state === "wrong");
    });
  }

  #card(hit, place, question) {
    const { word, near, facts, share, hint } = strength(hit);
    const where = hit.region === null ? "the whole image" : `region ${hit.region}`;
    const link = make(
      "a",
      { class: "hit-link", href: addressOf(hit, question), "data-go": true, title: "Search with this region", "aria-label": `${place + 1}. ${hit.key}, ${where}: ${near}. Search with this region` },
      pictured(hit, { mask: hit.mask, box: hit.box_xyxy, alt: "" }),
      make("span", { class: "hit-go" }, icon("search"), "Search with this"),
    );
    const meter = make("span", { class: "meter", "aria-hidden": "true" }, make("i"));
    meter.firstChild.style.width = `${Math.round(share * 100)}%`;
    const button = (kind, label, act) => // its name says which answer: an image can have several
      make("button", { type: "button", class: `icon-button mark-${kind}`, "aria-label": `${label}: ${place + 1}. ${baseName(hit.key)}`, title: label, onclick: act }, icon(kind));
    return make(
      "li",
      { class: "hit", "data-word": word },
      link,
      make("div", { class: "hit-name", dir: "auto", title: `${hit.bucket}/${hit.key}` }, baseName(hit.key)),
      make(
        "div",
        { class: "hit-row" },
        make("span", { class: "hit-match", title: hint }, make("b", {}, word === "none" ? "no match" : word), meter, ...facts.map((fact, place) => make("span", { class: place ? "figure faint-text" : "figure" }, fact))),
        make("span", { class: "hit-actions" }, button("right", "Right", () => this.on.mark(hit, "right")), button("wrong", "Wrong", () => this.on.mark(hit, "wrong")), button("why", "Why is it here?", () => this.on.why(hit))),
      ),
    );
  }

  #key(event) {
    const cards = [...this.list.children];
    const at = cards.findIndex((card) => card.contains(document.activeElement));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step) cards[Math.min(cards.length - 1, Math.max(0, at + step))].querySelector(".hit-link").focus();
    else if (!letterKeys.on()) return;
    else if (event.key === "r") this.on.mark(this.hits[at], "right");
    else if (event.key === "w") this.on.mark(this.hits[at], "wrong");
    else if (event.key === "y") this.on.why(this.hits[at]);
    else return;
    event.preventDefault();
  }
}
