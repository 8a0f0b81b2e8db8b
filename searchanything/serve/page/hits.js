// The grid of hits: each an image with its region outlined, how near it is, and what can be done with it.

import { address, empty } from "./question.js";
import { baseName, byId, count, icon, lazyImage, make, outlineOf } from "./parts.js";

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

export class Hits {
  /** `on` has mark(hit, "right" | "wrong"), why(hit). */
  constructor(list, on) {
    this.list = list;
    this.on = on;
    list.addEventListener("keydown", (event) => this.#key(event));
  }

  clear() {
    this.list.replaceChildren();
  }

  show(answer, question) {
    this.hits = answer.hits;
    this.list.classList.toggle("faint", answer.hits.length > 0 && !answer.good_match);
    this.list.replaceChildren(...answer.hits.map((hit, place) => this.#card(hit, place, question)));
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
    const { word, value } = hit.confidence;
    const where = hit.region === null ? "the whole image" : `region ${hit.region}`;
    const near = `${word === "none" ? "no" : word} match, ${value.toFixed(2)}, ${count(hit.distance_bits, "bit")}`;
    const link = make(
      "a",
      { class: "hit-link", href: addressOf(hit, question), "data-go": true, title: "Search with this region", "aria-label": `${place + 1}. ${hit.key}, ${where}: ${near}. Search with this region` },
      pictured(hit, { mask: hit.mask, box: hit.box_xyxy, alt: "" }),
      make("span", { class: "hit-go" }, icon("search"), "Search with this"),
    );
    const meter = make("span", { class: "meter", "aria-hidden": "true" }, make("i"));
    meter.firstChild.style.width = `${Math.round(value * 100)}%`;
    const button = (kind, label, act) =>
      make("button", { type: "button", class: `icon-button mark-${kind}`, "aria-label": `${label}: ${baseName(hit.key)}`, title: label, onclick: act }, icon(kind));
    return make(
      "li",
      { class: "hit", "data-word": word },
      link,
      make("div", { class: "hit-name", title: `${hit.bucket}/${hit.key}` }, baseName(hit.key)),
      make(
        "div",
        { class: "hit-row" },
        make("span", { class: "hit-match" }, make("b", {}, word === "none" ? "no match" : word), meter, make("span", { class: "figure" }, value.toFixed(2)), make("span", { class: "figure faint-text" }, `${hit.distance_bits} bits`)),
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
    else if (event.key === "r") this.on.mark(this.hits[at], "right");
    else if (event.key === "w") this.on.mark(this.hits[at], "wrong");
    else if (event.key === "y") this.on.why(this.hits[at]);
    else return;
    event.preventDefault();
  }
}

/** The headline and the notice above the hits: many, none, or none that is good. */
export function tell(answer, question, onClearFilters) {
  const title = byId("answers-title"), notice = byId("notice");
  const things = question.whole ? "image" : "region";
  notice.hidden = true;
  notice.className = "notice";
  const total = Object.values(answer.timings_ms).reduce((sum, ms) => sum + ms, 0);
  const facts = `${Math.round(total)} ms${answer.exact ? "" : ", approximate"}`;
  if (answer.selection.kind === "none") {
    title.replaceChildren("Nothing is selected there");
    show("nothing", "No region lies under the point", "The segmenter found nothing there. Dashed outlines show the nearest regions; a box around the thing is searched as it is.");
  } else if (!answer.hits.length) {
    title.replaceChildren("No answers");
    show("nothing", "No image passes the filters", "The index holds nothing that the filters let through.", make("button", { type: "button", class: "button", onclick: onClearFilters }, "Clear filters"));
  } else if (!answer.good_match) {
    title.replaceChildren("No good match");
    show("weak", "Probably not in the index", `Below are the nearest ${things}s, but even the first agrees little more than chance would: ${answer.hits[0].distance_bits} of ${answer.bits} bits differ.`);
  } else {
    const good = answer.hits.filter((hit) => !["weak", "none"].includes(hit.confidence.word)).length;
    const rest = answer.hits.length - good;
    title.replaceChildren(good === 1 ? "1 good match" : `${good} good matches`, make("small", {}, rest ? `and ${rest} weaker, ${facts}` : facts));
  }
  const match = answer.selection.text_match;
  if (match && match.confidence !== "clear" && notice.hidden) {
    show("weak", match.confidence === "weak" ? "Perhaps there is no such thing in this image" : "It may be something else", `${match.better} of ${match.words} everyday words name the selected region better than yours.`);
  }

  function show(kind, head, text, action) {
    notice.hidden = false;
    notice.classList.add(kind);
    notice.replaceChildren(make("div", {}, make("strong", {}, head), make("p", {}, text)), action || "");
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** What went wrong, with a way to try again. */
export function tellProblem(problem, again) {
  const notice = byId("notice");
  byId("answers-title").replaceChildren(problem.status === 429 ? "The server is busy" : problem.status === 501 ? "Not offered here" : "No answer");
  notice.hidden = false;
  notice.className = `notice ${problem.status === 501 ? "nothing" : "problem"}`;
  const detail = [sentence(problem.message), problem.request ? `Request ${problem.request}.` : ""].join(" ");
  const button = problem.status === 501 ? "" : make("button", { type: "button", class: "button", onclick: again }, problem.retryAfter ? `Try again in ${problem.retryAfter} s` : "Try again");
  notice.replaceChildren(make("div", {}, make("strong", {}, problem.title), make("p", {}, detail)), button);
}
