// Dialogs: the key, help, and why an image is (not) among the hits.

import { key, post } from "./api.js";
import { images } from "./browse.js";
import { hovers, touches } from "./fingers.js";
import { pictured } from "./hits.js";
import { letterKeys } from "./letter_keys.js";
import { problemNotice, tellProblem } from "./messages.js";
import { baseName, byId, count, coverSide, dialog, lazyImage, make, say, sentence } from "./parts.js";

const FINGERS = [
  ["Tap", "Select what lies under the finger, and search"],
  ["Tap again", "Part, object, whole: the next level"],
  ["Add, Take away, Box", "Below the image: what a tap does, or a finger that draws"],
  ["Two fingers", "Larger, smaller"],
];
const MOUSE = [
  ["Click", "Select what lies under the pointer, and search"],
  ["Click again", "Part, object, whole: the next level"],
  ["Shift + click", "Add another place"],
  ["Alt + click", "Take away: not this; so does the right button"],
  ["Drag", "Draw a box around the thing"],
];
const KEYS = [
  ["/", "Words for the thing"],
  ["Arrows, Enter", "On the image: move a cross, select; Shift adds, Alt takes away"],
  ["B", "On the image: begin and end a box at the cross"],
  ["+ − 0", "On the image: larger, smaller, all of it; so does the wheel with Ctrl"],
  ["Arrows", "On the answers: move; Enter searches with one, R right, W wrong, Y why"],
  ["Esc", "Clear the selection"],
  ["G", "One answer per image, or all"],
  ["F", "Filters"],
  ["?", "This help"],
];

function table(...groups) {
  const row = ([keys, text]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, keys)), make("td", {}, text));
  return make("table", { class: "keys" }, make("tbody", {}, ...groups.flat().map(row)));
}

/** What can be done with what is there: fingers, a mouse, and keys, which a screen without a mouse has seldom. */
export function help() {
  const single = make("input", { type: "checkbox", id: "letter-keys", onchange: () => letterKeys.set(single.checked) });
  single.checked = letterKeys.on();
  const letters = make("label", { class: "toggle" }, single, make("span", {}, "Single keys: / ? F G, and R W Y on the answers"));
  const pointing = [...(touches() ? FINGERS : []), ...(hovers() ? MOUSE : [])];
  const programs = make("p", { class: "faint-text" }, "Programs use the same server: ", make("a", { href: "/docs" }, "REST reference"), ".");
  const rows = hovers() ? [table(pointing, KEYS), letters] : [table(pointing), make("details", {}, make("summary", {}, "With a keyboard"), table(KEYS), letters)];
  dialog("Pointing and keys", ...rows, programs);
}

/** ✕, and a click that begins and ends beside the dialog: one that marks words may end there. Firefox 140 lacks `closedby`. */
export function onClosing(element, close) {
  const isBeside = ({ target, clientX: x, clientY: y }) => {
    const { left, right, top, bottom } = element.getBoundingClientRect();
    return target === element && (x < left || x > right || y < top || y > bottom);
  };
  let begun = false;
  element.addEventListener("pointerdown", (event) => (begun = isBeside(event)));
  element.addEventListener("click", (event) => begun && isBeside(event) && close());
  byId("dialog-close").addEventListener("click", close);
}

/** Ask for a key; resolves once there is one to try. */
export function askKey(refused) {
  return new Promise((resolve) => {
    const input = make("input", { type: "password", id: "key-input", autocomplete: "off", required: true, spellcheck: "false", placeholder: "sa_…" });
    const form = make(
      "form",
      {
        class: "key-form",
        onsubmit: (event) => {
          event.preventDefault();
          key.set(input.value.trim());
          element.removeEventListener("close", unanswered);
          element.close();
          resolve(true);
        },
      },
      make("p", {}, refused ? "That key is not valid (any more)." : "This server demands a key. It stays in this tab and is forgotten when the tab is closed."),
      make("label", { for: "key-input" }, "Key"),
      input,
      make("button", { class: "button primary" }, "Use this key"),
    );
    const unanswered = () => resolve(false);
    const element = dialog("Key", form);
    element.addEventListener("close", unanswered, { once: true });
    input.focus();
  });
}

/** Why this image is where it is, or is not; `ask` is the question as the server takes it, `refused(problem)` asks for another key. */
export async function explain(ask, image, refused) {
  const looking = make("p", { class: "faint-text" }, `Looking at ${baseName(image.key)} step by step…`);
  const element = dialog("Why?", looking);
  const left = () => !element.open || !looking.isConnected;
  say("Looking at it step by step");
  let why;
  try {
    const box = image.region == null ? null : image.box_xyxy; // of a hit: that very region is meant
    why = await post("/v1/explain", { ...ask, expect: { bucket: image.bucket, key: image.key }, expect_box_xyxy: box });
  } catch (problem) {
    if (left()) return;
    if (problem.status === 401) return refused(problem);
    dialog("Why?", problemNotice(problem, () => explain(ask, image, refused)));
    say(`${problem.title}. ${sentence(problem.message)}`);
    return;
  }
  if (left()) return;
  const plain = (text) => text.replace(/--limit (\d+) would show it/, "showing $1 would include it");
  why.sentence = plain(why.sentence);
  const steps = why.steps.map((step) =>
    make("li", { class: step.passed ? "passed" : "stopped" }, make("b", {}, step.name.replace(/_/g, " ")), make("span", {}, plain(step.sentence))),
  );
  const region = why.region, verdict = `${why.sentence[0].toUpperCase()}${why.sentence.slice(1)}.`;
  dialog(
    why.verdict === "hit" ? "Why it is here" : "Why it is not here",
    make(
      "div",
      { class: "why" },
      make("figure", {}, pictured(image, { mask: region?.mask, box: region?.box_xyxy, alt: image.key, className: why.verdict === "hit" ? "" : "missed" }), make("figcaption", {}, image.key)),
      make("div", {}, make("p", { class: `verdict ${why.verdict === "hit" ? "good" : "bad"}` }, verdict), make("ol", { class: "steps" }, ...steps)),
    ),
  );
  say(verdict);
}

/** Choose the image that was expected; `refused(problem)` asks for another key. */
export function chooseExpected(choose, refused) {
  const list = make("ul", { class: "tiles small" }), wrong = make("div", { hidden: true });
  const input = make("input", { type: "search", id: "expected", placeholder: "Part of its name", autocomplete: "off" });
  let asked = 0;
  const find = async () => {
    const mine = ++asked;
    const found = await images(input.value.trim(), null, 24).catch((problem) => ({ problem, images: [] }));
    if (mine !== asked || !list.isConnected) return;
    if (wrong.contains(document.activeElement)) input.focus(); // the button goes
    wrong.hidden = true;
    if (found.problem?.status === 401) return refused(found.problem);
    if (found.problem) {
      list.replaceChildren();
      tellProblem(wrong, found.problem, find);
      return say(found.problem.title);
    }
    say(`${count(found.images.length, "image")} to choose from`);
    list.replaceChildren(
      ...found.images.map((image) =>
        make("li", {}, make("button", { type: "button", class: "image-tile", title: image.key, "aria-label": `Why not ${image.key}?`, onclick: () => choose(image) }, lazyImage(image, coverSide(image, 160)), make("span", { class: "image-name", dir: "auto" }, baseName(image.key)))),
      ),
    );
  };
  let timer = 0;
  input.addEventListener("input", () => (clearTimeout(timer), (timer = setTimeout(find, 180))));
  dialog("Which image did you expect?", make("label", { class: "field" }, make("span", { class: "sr" }, "Part of its name"), input), wrong, list);
  input.focus();
  find();
}
