// Puts the page together: the address is the state, everything else follows from it.

import * as api from "./api.js";
import { Browse } from "./browse.js";
import { askKey, chooseExpected, explain, help, onClosing } from "./dialogs.js";
import { Filters } from "./filters.js";
import { watchFingers } from "./fingers.js";
import { headed, refocus } from "./focus.js";
import { Hits } from "./hits.js";
import { letterKeys } from "./letter_keys.js";
import { drawLike } from "./like.js";
import { drawMarks, marked } from "./marks.js";
import { OpenImage } from "./open_image.js";
import { bringAgain, byId, copy, count, say, toast } from "./parts.js";
import { address, asks, empty, meant, NO_MARKS, PAGE, parse, refs, request } from "./question.js";
import { Selection } from "./selection.js";
import { CLOSER } from "./stage.js";
import { headline, tell, tellProblem } from "./messages.js";
import { keepAsking, offered, standing } from "./standing.js";
import { stopUpload, onImage } from "./uploads.js";

let question = empty();
let answer = null;
let offers = { words: true, refine: true }, known = false; // what the server offers, and whether it has said
let asking = null;
let answered = ""; // what the answer's selection was of
let returning = null; // the question whose place is still to be scrolled to

const browse = new Browse(failed);
const image = new OpenImage({
  point: (x, y, how) => selection.pointed(x, y, how),
  box: (box) => go({ box, region: null, whole: false, level: null }),
  stored: (region) => (selection.forget(), goOnly({ region })),
});
const selection = new Selection(image, { go, goOnly, question: () => question });
const hits = new Hits(byId("hits"), { mark, why: (hit) => explain(refined(), hit, failed) });
const filters = new Filters(byId("filters"), (parts) => go({ ...parts, limit: PAGE }));

const asked = () => request(question, image.facts?.bucket === undefined ? null : { bucket: image.facts.bucket, key: image.facts.key });
const refined = () => (question.refined ? { ...asked(), right: refs(question.right), wrong: refs(question.wrong) } : asked());

/** Change the question: a new address, and what follows from it. */
function go(parts, { replace = false } = {}) {
  question = { ...question, ...parts };
  if (replace) history.replaceState(history.state, "", address(question));
  else enter(address(question));
  return follow();
}

/** Ask with this part of the image and nothing else; the filters stay. */
function goOnly(parts) {
  return go({ ...empty(), image: question.image, ...filterParts(), ...parts });
}

/** A new place in the history; the same question again is none, or Back would seem to do nothing. */
function enter(to) {
  if (to === address(parse(location.search))) return;
  keepPlace();
  history.pushState(null, "", to);
}

/** How far the page is scrolled belongs to its place in the history: what is shown comes after the browser would scroll. */
const keepPlace = () => question === returning || history.replaceState({ top: scrollY }, "");

/** What the address says, where it was left. */
async function comeBack(event) {
  const left = question, mine = parse(location.search);
  if (event && address(mine) === address(left)) return; // to a place within the page: what is being asked goes on
  question = returning = mine;
  selection.forget();
  if (event) byId("dialog").close(); // it was about what is left
  const top = history.state?.top || 0;
  await follow({ back: true });
  if (mine !== question) return;
  returning = null;
  scrollTo({ top });
  if (event) refocus(left, image.facts);
}

async function follow({ back = false } = {}) {
  const mine = question;
  stopUpload();
  if (!known) learn();
  document.body.dataset.view = question.image || asks(question) ? "ask" : "browse";
  document.body.classList.toggle("no-image", !question.image);
  document.body.classList.toggle("unasked", !asks(question));
  const words = byId("words-text");
  if (document.activeElement !== words || question.text !== (words.dataset.asked ?? "")) words.value = question.text; // what is being typed stays
  words.dataset.asked = question.text;
  hintWords();
  byId("group").checked = question.group;
  filters.show(question);
  try {
    if (document.body.dataset.view === "browse") {
      document.title = "Search Anything";
      image.close();
      answer = null;
      asking?.abort();
      busy(false);
      await browse.open({ keep: back });
      return;
    }
    await openImage();
    if (mine !== question) return; // whoever asked something else meanwhile goes on
    if (meant(question) !== answered) answer = null;
    busy(asks(question));
    selection.draw(answer);
    await ask();
  } catch (problem) {
    if (problem.name !== "AbortError" && mine === question) await failed(problem);
  }
}

/** What the server offers: asked again with the next question where it could not say. */
function learn() {
  api.get("/v1/status").then(
    (status) => {
      known = true;
      offers = status.offers;
      hintWords();
      showMarks();
      offered(offers, failed);
    },
    () => {}, // whoever asks next hears what is wrong
  );
}

/** What words are good for here. */
function hintWords() {
  byId("words-text").placeholder = question.image ? "Words for a thing in this image" : offers.words ? "Find by words, in all images" : "Open an image to find things in it by words";
}

async function openImage() {
  const wanted = question.image;
  if (!wanted) {
    image.close();
    byId("asked-title").textContent = question.text || `Like ${count(question.like.length, "region")}`;
    document.title = `${byId("asked-title").textContent} – Search Anything`;
    return;
  }
  if (image.is(wanted)) return;
  selection.forget();
  answer = null;
  hits.clear();
  byId("hits-more").hidden = byId("notice").hidden = true;
  byId("stage-name").textContent = "";
  byId("answers-title").replaceChildren("Answers");
  byId("levels").hidden = byId("start").hidden = byId("whole").disabled = true;
  for (const id of ["region-list", "selection-text"]) byId(id).replaceChildren();
  busy(true);
  if (wanted.upload) {
    byId("selection-text").textContent = "Looking for the things in your image. It can be pointed at when they are found.";
    say(byId("selection-text").textContent);
  }
  if (!(await image.open(wanted))) return;
  const { name, facts } = image;
  byId("stage-name").textContent = name;
  byId("stage-name").title = facts.upload ? "" : `${facts.bucket}/${facts.key}`;
  document.title = `${name} – Search Anything`;
  byId("canvas").setAttribute("aria-label", `The query image, ${name}`);
  byId("whole").disabled = false;
  busy(false);
  say(`${name} is open, ${count(image.map.regions.length, "region")}`);
}

const filterParts = () => ({ prefix: question.prefix, size: question.size, meta: question.meta, from: question.from, to: question.to, group: question.group });

async function ask() {
  asking?.abort();
  byId("start").hidden = asks(question);
  if (!asks(question)) {
    answer = null;
    hits.clear();
    byId("hits-more").hidden = byId("notice").hidden = true;
    byId("answers-title").replaceChildren("Answers");
    showMarks();
    return busy(false);
  }
  asking = new AbortController();
  const mine = asking;
  drawLike(question);
  const found = await api.post(question.refined ? "/v1/refine" : "/v1/query", refined(), mine.signal);
  if (image.isOld(found, question.region)) await image.renew(mine.signal);
  if (mine !== asking) return;
  answer = found;
  answered = meant(question);
  busy(false);
  selection.draw(answer);
  const had = document.activeElement;
  tell(found, question, () => filters.clear());
  hits.show(found, question);
  byId("hits-more").hidden = found.hits.length < question.limit || question.limit >= 192;
  showMarks();
  headed(had);
  say([byId("selection-text").textContent.replace(/\.$/, ""), byId("answers-title").textContent, byId("notice").hidden ? "" : byId("notice").querySelector("strong").textContent].filter(Boolean).join(". "));
}

function mark(hit, kind) {
  if (hit.region === null) return toast("Marks are of regions: search with a thing, not with the whole image");
  Object.assign(question, marked(question, kind, hit));
  hits.marked(question);
  showMarks();
  say(byId("refine-text").textContent);
  history.replaceState(history.state, "", address(question));
}

const showMarks = () => drawMarks(question, question.refined && answer ? answer.probe : null, offers.refine);

async function failed(problem) {
  busy(false);
  if (problem.status === 401) {
    byId("tiles").replaceChildren(); // of another key
    if (await askKey(Boolean(api.key.get()))) return start();
    problem = new api.Problem(401, { title: "A key is needed", detail: "This server answers nobody without one" });
  }
  say(problem.title);
  if (document.body.dataset.view === "browse") return tellProblem(byId("browse-notice"), problem, () => follow());
  answer = null;
  hits.clear();
  byId("hits-more").hidden = true;
  if (question.image && !image.facts) {
    byId("canvas").width = 0; // no other image beside the message
    byId("stage-name").textContent = "No image";
  }
  byId("answers-title").replaceChildren(headline(problem));
  tellProblem(byId("notice"), problem, () => follow(), wayOut(problem));
  selection.draw(answer);
}

/** What else can be asked where the same again would always fail: it is of what is not there, or of no use. */
function wayOut({ status }) {
  if (![404, 422].includes(status)) return null;
  if (question.refined) return { label: "Forget marks", act: () => go({ ...NO_MARKS }) };
  if (image.facts) return { label: "Point again", act: pointAgain };
  return { label: "All images", act: () => openLink("/") };
}

/** The image as it is now, with the regions that it has now. */
function pointAgain() {
  byId("canvas").focus();
  image.close();
  return clearSelection();
}

function busy(is) {
  byId("progress").hidden = !is;
  byId("hits").setAttribute("aria-busy", String(is));
}

function start() {
  known = false;
  bringAgain(); // with another key
  return comeBack();
}

function clearSelection() {
  if (document.activeElement === byId("clear")) byId("canvas").focus(); // the button is of no use now
  selection.forget();
  return goOnly({});
}

function keepOn() {
  if (!answer) return toast("There is no answer yet");
  if (question.refined || question.like.length) return toast("Marks and several regions cannot be kept: search with one region, then keep that");
  const what = question.region === null ? "" : `region ${question.region} of `;
  keepAsking(asked(), question.text || `${what}${image.name}`);
}

function openLink(to) {
  const left = question;
  enter(to);
  question = parse(location.search);
  selection.forget();
  window.scrollTo({ top: 0 });
  follow().then(() => (to === "/" || !image.facts ? refocus(left, image.facts) : byId("stage-name").focus({ preventScroll: true })));
}

function wire() {
  let scrolled = 0;
  history.scrollRestoration = "manual";
  addEventListener("popstate", comeBack);
  addEventListener("scroll", () => (clearTimeout(scrolled), (scrolled = setTimeout(keepPlace, 150))));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-go], [data-home]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openLink(link.dataset.home === undefined ? link.getAttribute("href") : "/");
  });
  byId("words").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("words-text").value.trim();
    if (text || question.text) go({ text, region: null, whole: false, level: null, like: [], limit: PAGE, ...NO_MARKS });
  });
  byId("group").addEventListener("change", () => go({ group: byId("group").checked }));
  byId("whole").addEventListener("click", () => (question.whole ? clearSelection() : goOnly({ whole: true })));
  byId("clear").addEventListener("click", clearSelection);
  byId("hits-more").addEventListener("click", async () => {
    const before = byId("hits").childElementCount;
    await go({ limit: Math.min(question.limit + PAGE, 192) }, { replace: true });
    byId("hits").children[before]?.querySelector(".hit-link").focus();
  });
  byId("zoom-in").addEventListener("click", () => image.stage.scale(CLOSER));
  byId("zoom-out").addEventListener("click", () => image.stage.scale(1 / CLOSER));
  byId("modes").addEventListener("change", (event) => (image.stage.mode = byId("canvas-box").dataset.mode = event.target.value));
  byId("refine-clear").addEventListener("click", () => go({ ...NO_MARKS }));
  byId("refine-button").addEventListener("click", () => go({ refined: true }));
  byId("refine-like").addEventListener("click", () => (selection.forget(), go({ ...empty(), ...filterParts(), like: question.right })));
  byId("refine-probe").addEventListener("click", async () => {
    await copy(JSON.stringify(answer.probe.saved, null, 1));
    toast("Probe copied: searchanything query --probe takes it");
  });
  byId("receipt").addEventListener("click", async () => {
    if (!answer) return toast("There is no answer yet");
    if (!answer.receipt) return toast("A refined answer has no receipt: copy its probe");
    await copy(JSON.stringify(answer.receipt, null, 1));
    toast("Receipt copied: searchanything replay takes it");
  });
  byId("missing").addEventListener("click", () => (!answer ? toast("There is no answer yet") : chooseExpected((image) => explain(refined(), image, failed), failed)));
  byId("keep").addEventListener("click", keepOn);
  byId("standing-button").addEventListener("click", () => standing());
  byId("help-button").addEventListener("click", help);
  onClosing(byId("dialog"), () => byId("dialog").close());
  onImage({
    begun: () => busy(true),
    open: (upload) => (byId("dialog").close(), go({ ...empty(), image: { upload } })),
    failed: (problem) => (busy(false), problem && failed(problem)),
  });
  addEventListener("keydown", shortcut);
  letterKeys.show();
  watchFingers();
}

function shortcut(event) {
  if (event.target.closest("input, textarea") || byId("dialog").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const asking = document.body.dataset.view === "ask";
  if (event.key === "Escape" && question.image && asks(question)) clearSelection();
  else if (!letterKeys.on()) return;
  else if (event.key === "/") byId("words-text").focus();
  else if (event.key === "?") help();
  else if (event.key === "f" && asking) say(filters.toggle() ? "Filters are open" : "Filters are closed");
  else if (event.key === "g" && asking) byId("group").click();
  else return;
  event.preventDefault();
}

wire();
start();
