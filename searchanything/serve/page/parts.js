// Small builders that the other modules share: elements, icons, pictures with outlines, messages.

import { picture, picturePath } from "./api.js";
import { decode, outline } from "./masks.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12M20 20l-4.200-4.200",
  right: "m5 12.500 4.500 4.500L19 7.500",
  wrong: "m6.500 6.500 11 11m0-11-11 11",
  why: "M9 9.200a3 3 0 1 1 4.300 2.700c-.900.450-1.300 1-1.300 2.100M12 17.600v.100",
  open: "M4 8V6a2 2 0 0 1 2-2h2M16 4h2a2 2 0 0 1 2 2v2M20 16v2a2 2 0 0 1-2 2h-2M8 20H6a2 2 0 0 1-2-2v-2",
};

/** An element: `make("button", { class: "x", onclick }, "text", child)`. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const REST_MS = 1000; // so long nothing else was asked for
const AGAIN_MS = 5000, AGAIN_MOST_MS = 30_000; // after so long, and ever longer, what did not come is fetched again
const PASSING = new Set([0, 429, 502, 503, 504]); // a server that is away or busy
const unseen = new Set(); // pictures that were not asked for yet
const gone = new Set(); // pictures that did not come
let resting = 0, isBringing = false, again = 0, pause = AGAIN_MS;

/** Fetch a picture; whether it came. One that did not is fetched again when it comes in view again, or after a while. */
async function bring(target) {
  unseen.delete(target);
  try {
    target.src = await picture(target.dataset.path);
    target.addEventListener("load", () => target.classList.add("there"), { once: true });
    target.classList.remove("gone");
    gone.delete(target);
    pause = AGAIN_MS;
    waiting.unobserve(target);
    return true;
  } catch (problem) {
    target.classList.add("gone");
    gone.add(target);
    if (PASSING.has(problem.status) && !again) {
      again = setTimeout(bringAgain, pause);
      pause = Math.min(2 * pause, AGAIN_MOST_MS);
    }
    return false;
  }
}

/** Fetch what did not come, as far as it is in view: an observer says of what it begins to observe whether it is. */
export function bringAgain() {
  clearTimeout(again);
  again = 0;
  for (const target of gone) {
    waiting.unobserve(target);
    if (target.isConnected) waiting.observe(target);
  }
  gone.clear();
}

/** What is out of view, one after the other: a page is printed whole, and no print waits for what is fetched then. */
async function bringTheRest() {
  if (isBringing || navigator.connection?.saveData) return;
  isBringing = true;
  let goesOn = true;
  for (const target of unseen) {
    if (!target.isConnected) unseen.delete(target);
    else if (goesOn) goesOn = await bring(target);
  }
  isBringing = false;
}

function restSoon() {
  clearTimeout(resting);
  resting = setTimeout(bringTheRest, REST_MS);
}

const waiting = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) bring(target);
  restSoon();
}, { rootMargin: "300px" });

/** An <img> whose picture is fetched when it comes near the window, or when there is nothing else to do. */
export function lazyImage(image, side, { alt, box } = {}) {
  const element = make("img", { alt: alt ?? "", decoding: "async", "data-path": picturePath(image, side, box) });
  unseen.add(element);
  waiting.observe(element);
  return element;
}

/** A region's outline over a picture of its image: dark and bright, so that it reads on any background. */
export function outlineOf(mask, className) {
  const bitmap = decode(mask);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${bitmap.width} ${bitmap.height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", className);
  for (const part of ["halo", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", outline(bitmap));
    path.setAttribute("class", part);
    path.setAttribute("vector-effect", "non-scaling-stroke");
    svg.append(path);
  }
  return svg;
}

export const byId = (id) => document.getElementById(id);
const figures = new Intl.NumberFormat("en"); // toLocaleString makes one for each call
export const count = (number, noun) => `${figures.format(number)} ${noun}${number === 1 ? "" : "s"}`;
/** A false-match rate for people: 1 in 2,000. */
export function chance(rate) {
  if (rate > 0.5) return "most";
  if (rate < 1e-6) return "< 1 in 1 M";
  const times = 1 / rate, step = 10 ** Math.max(0, Math.floor(Math.log10(times)) - 1);
  return `1 in ${figures.format(Math.round(times / step) * step)}`;
}

export const baseName = (key) => key.slice(key.lastIndexOf("/") + 1);

/** An image's picture that fills a square: of a long or tall image the side that is cut off is drawn as well. */
export const coverSide = ({ width, height }, side) => Math.round(Math.min(1280, side * Math.max(1, width / height / 2, height / width / 2)));

/** For screen readers: beside an open dialog nothing is heard, so it has a place of its own. */
export function say(text) {
  byId(byId("dialog").open ? "dialog-say" : "say").textContent = text;
}

/** What the server says, as a sentence; an address stays as it is. */
export const sentence = (text) => `${/^\w+:\/\//.test(text) ? text[0] : text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;

let toastTimer = 0;
/** A message that goes away by itself, or `stays` until the next one; an empty one takes it away. */
export function toast(text, stays = false) {
  const element = byId("toast");
  element.textContent = text;
  element.classList.toggle("shown", text !== "");
  clearTimeout(toastTimer);
  if (!stays) toastTimer = setTimeout(() => element.classList.remove("shown"), Math.max(2600, 80 * text.length)); // as long as it takes to read
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { class: "sr", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** Show a dialog; what had the focus gets it back. */
export function dialog(title, ...content) {
  const element = byId("dialog");
  byId("dialog-title").textContent = title;
  byId("dialog-body").replaceChildren(...content);
  if (!element.open) element.showModal();
  else if (!element.contains(document.activeElement)) byId("dialog-close").focus(); // what had it is gone
  return element;
}
