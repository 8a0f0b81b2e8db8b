// Puts the page together: the address is the state, everything else follows from it.

import * as api from "./api.js";
import { Browse } from "./browse.js";
import { levelChoices, regionList } from "./choices.js";
import { askKey, chooseExpected, explain, help, onClosing } from "./dialogs.js";
import { Filters } from "./filters.js";
import { headed, refocus } from "./focus.js";
import { Hits } from "./hits.js";
import { letterKeys } from "./letter_keys.js";
import { drawLike } from "./like.js";
import { drawMarks, marked } from "./marks.js";
import { decode, RegionMap } from "./masks.js";
import { baseName, byId, copy, count, make, say, toast } from "./parts.js";
import { address, asks, empty, meant, NO_MARKS, PAGE, parse, refs, request } from "./question.js";
import { anchor, CLOSER, CLOSEST, Stage } from "./stage.js";
import { headline, tell, tellProblem } from "./messages.js";
import { keepAsking, offered, standing } from "./standing.js";
import { stopUpload, onImage } from "./uploads.js";

const SIDE = 1280; // of the picture on the stage

let question = empty();
let opened = null; // the image on the stage: { id | upload, bucket, key, width, height }
let map = null;
let answer = null;
let offers = { words: true, refine: true }, known = false; // what the server offers, and whether it has said
let asking = null;
let answered = ""; // what the answer's selection was of
let returning = null; // the question whose place is still to be scrolled to
let click = null; // the last single click, and its levels: a click within them is the next level

const browse = new Browse(failed);
const stage = new Stage(byId("canvas"), byId("tip"), {
  point: pointed,
  box: (box) => go({ box, region: null, whole: false, level: null }),
  zoomed,
  hover: (region) => region && document.activeElement === byId("canvas") && say(map.describe(region)),
});
const hits = new Hits(byId("hits"), { mark, why: (hit) => explain(refined(), hit, failed) });
const filters = new Filters(byId("filters"), (parts) => go({ ...parts, limit: PAGE }));

const asked = () => request(question, opened?.bucket === undefined ? null : { bucket: opened.bucket, key: opened.key });
const refined = () => (question.refined ? { ...asked(), right: refs(question.right), wrong: refs(question.wrong) } : asked());

/** Change the question: a new address, and what follows from it. */
function go(parts, { replace = false } = {}) {
  question = { ...question, ...parts };
  if (replace) history.replaceState(history.state, "", address(question));
  else enter(address(question));
  return follow();
}

/** Ask with this part of the image and nothing else; the filters stay. */
const goOnly = (parts) => go({ ...empty(), image: question.image, ...filterParts(), ...parts });

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
  click = null;
  if (event) byId("dialog").close(); // it was about what is left
  const top = history.state?.top || 0;
  await follow({ back: true });
  if (mine !== question) return;
  returning = null;
  scrollTo({ top });
  if (event) refocus(left, opened);
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
      opened = map = answer = null;
      asking?.abort();
      busy(false);
      await browse.open({ keep: back });
      return;
    }
    await openImage();
    if (mine !== question) return; // whoever asked something else meanwhile goes on
    if (meant(question) !== answered) answer = null;
    busy(asks(question));
    drawSelection();
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

const same = (image) => opened && image && (image.upload ? opened.upload === image.upload : opened.id === image.id);

async function openImage() {
  if (!question.image) {
    opened = map = null;
    byId("asked-title").textContent = question.text || `Like ${count(question.like.length, "region")}`;
    document.title = `${byId("asked-title").textContent} – Search Anything`;
    return;
  }
  if (same(question.image)) return;
  opened = click = map = answer = null;
  stage.close();
  byId("canvas-box").setAttribute("aria-busy", "true"); // the last image, pale
  hits.clear();
  byId("hits-more").hidden = byId("notice").hidden = true;
  byId("stage-name").textContent = "";
  byId("answers-title").replaceChildren("Answers");
  byId("levels").hidden = byId("start").hidden = byId("whole").disabled = true;
  for (const id of ["region-list", "selection-text"]) byId(id).replaceChildren();
  busy(true);
  const image = question.image, path = `/v1/images/${encodeURIComponent(image.id)}`;
  if (image.upload) {
    byId("selection-text").textContent = "Looking for the things in your image. It can be pointed at when they are found.";
    say(byId("selection-text").textContent);
  }
  const [facts, regions] = await Promise.all([
    image.upload ? { upload: image.upload, key: "Your image" } : api.get(path),
    image.upload ? api.post("/v1/segment", { image }) : api.get(`${path}/regions`),
    showPicture(image),
  ]);
  if (question.image !== image) return;
  opened = facts;
  byId("stage-name").textContent = baseName(facts.key);
  byId("stage-name").title = facts.upload ? "" : `${facts.bucket}/${facts.key}`;
  document.title = `${baseName(facts.key)} – Search Anything`;
  byId("canvas").setAttribute("aria-label", `The query image, ${baseName(facts.key)}`);
  byId("whole").disabled = false;
  mapped(regions);
  busy(false);
  say(`${baseName(facts.key)} is open, ${count(map.regions.length, "region")}`);
}

function mapped(regions) {
  map = new RegionMap(regions);
  stage.regions(map);
  document.body.classList.toggle("no-regions", !map.regions.length);
  listRegions();
}

/** Whether a stored region is another than it was when the image was opened: the index was made anew. */
const isOther = ({ box_xyxy }) => question.region !== null && String(box_xyxy) !== String(map.byNumber(question.region)?.box_xyxy);

async function showPicture(image) {
  const address = await api.picture(api.picturePath(image, SIDE));
  if (question.image !== image) return;
  await stage.open(address);
  if (question.image === image) byId("canvas-box").setAttribute("aria-busy", "false");
}

/** A zoomed image is drawn from more pixels, if it has them; two fingers zoom the page. */
async function zoomed(zoom) {
  byId("zoom-in").disabled = zoom >= CLOSEST;
  byId("zoom-out").disabled = zoom <= 1;
  if (zoom * visualViewport.scale <= 1 || !map || Math.max(map.width, map.height) <= SIDE) return;
  const address = await api.picture(api.picturePath(question.image, 2048)).catch(() => null);
  if (address) await stage.sharpen(address, map);
}

/** A click on the stage, in image pixels. */
function pointed(x, y, { add, remove }) {
  const place = [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
  if (remove) return takeAway(place);
  if (add) return go({ ...spelled(), fg: [...spelled().fg, place], level: question.level });
  const levels = map.levels(x, y);
  const within = click && levels.length === click.levels.length && levels.every((one, i) => one.region === click.levels[i].region);
  const step = within && levels.length ? (click.step + 1) % levels.length : 0;
  click = { place: within ? click.place : place, levels, step };
  return selectLevel(step);
}

function selectLevel(step) {
  click.step = step;
  const chosen = click.levels[step];
  if (chosen && chosen.region.region !== null) return goOnly({ region: chosen.region.region });
  return goOnly({ fg: [click.place], level: chosen ? chosen.level : "part" });
}

/** The selection as points, which more can be added to: of a stored region, where it was clicked. */
function spelled() {
  const chosen = question.region === null || !map ? null : map.byNumber(question.region);
  const points = chosen ? [click?.levels.some((one) => one.region === chosen) ? click.place : anchor(map, chosen)] : question.fg;
  const level = chosen && click ? click.levels[click.step]?.level || null : question.level;
  return { fg: points, bg: question.bg, region: null, whole: false, level: question.box || question.text ? null : level, limit: PAGE };
}

function takeAway(place) {
  const parts = spelled();
  if (!parts.fg.length && !question.box && !question.text) return toast("First select something, then take away from it");
  return go({ ...parts, bg: [...parts.bg, place] });
}

function drawSelection() {
  const text = byId("selection-text"), levels = byId("levels"), had = levels.contains(document.activeElement);
  levels.hidden = true;
  if (!question.image) return;
  const points = [...question.fg.map(([x, y]) => ({ x, y, good: true })), ...question.bg.map(([x, y]) => ({ x, y, good: false }))];
  const chosen = question.region !== null && map ? map.byNumber(question.region) : null;
  const selection = answer?.selection;
  const shown = chosen ? [chosen.bitmap] : selection?.kind === "region" ? [decode(selection.mask)] : [];
  const offered = selection?.kind === "none" ? selection.runners_up.slice(0, 3).map((one) => decode(one.mask)) : [];
  stage.mark({ regions: shown, points, box: question.box, offered });
  byId("clear").disabled = !asks(question);
  byId("whole").setAttribute("aria-pressed", String(question.whole));
  if (!map) text.replaceChildren();
  else if (!asks(question)) text.replaceChildren(map.regions.length ? "Point at a thing: what lights up is what will be searched." : "Nothing lights up here: this image has no regions.");
  else if (question.whole) text.replaceChildren("The whole image.");
  else if (chosen) text.replaceChildren(make("b", {}, `Region ${chosen.region}`), `, ${map.describe(chosen)}`);
  else if (selection) text.replaceChildren(selection.kind === "none" ? "Nothing is selected." : `Selected: ${selection.reason}.`);
  else text.replaceChildren(byId("progress").hidden ? "" : "Selecting…");
  drawLevels(chosen);
  if (had) levels.querySelector(":checked")?.focus();
}

function drawLevels(chosen) {
  if (chosen && !click?.levels.some((one) => one.region === chosen)) {
    const place = anchor(map, chosen);
    const found = map.levels(...place);
    const step = found.findIndex((one) => one.region === chosen);
    if (step >= 0) click = { place, levels: found, step };
  }
  if (!click || click.levels.length < 2 || question.box || question.text || question.whole || question.fg.length > 1) return;
  if (!chosen && question.fg.length !== 1) return;
  const levels = byId("levels");
  levels.hidden = false;
  levels.replaceChildren(...levelChoices(click, { choose: selectLevel, show: (region) => stage.show(region) }));
}

function listRegions() {
  const stored = (region) => ((click = null), goOnly({ region }));
  const on = { stored, at: (x, y) => pointed(x, y, {}), show: (region) => stage.show(region) };
  byId("region-list").replaceChildren(...regionList(map, on));
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
  if (map && isOther(found.selection)) mapped(await api.get(`/v1/images/${encodeURIComponent(opened.id)}/regions`, mine.signal));
  if (mine !== asking) return;
  answer = found;
  answered = meant(question);
  busy(false);
  drawSelection();
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
  if (question.image && !opened) {
    byId("canvas").width = 0; // no other image beside the message
    byId("stage-name").textContent = "No image";
  }
  byId("answers-title").replaceChildren(headline(problem));
  tellProblem(byId("notice"), problem, () => follow());
  drawSelection();
}

function busy(is) {
  byId("progress").hidden = !is;
  byId("hits").setAttribute("aria-busy", String(is));
}

function start() {
  known = false;
  return comeBack();
}

function clearSelection() {
  if (document.activeElement === byId("clear")) byId("canvas").focus(); // the button is of no use now
  click = null;
  return goOnly({});
}

function keepOn() {
  if (!answer) return toast("There is no answer yet");
  if (question.refined || question.like.length) return toast("Marks and several regions cannot be kept: search with one region, then keep that");
  const where = opened && baseName(opened.key), what = question.region === null ? "" : `region ${question.region} of `;
  keepAsking(asked(), question.text || `${what}${where}`);
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
    const left = question, home = link.dataset.home !== undefined;
    enter(home ? "/" : link.getAttribute("href"));
    question = parse(location.search);
    click = null;
    window.scrollTo({ top: 0 });
    follow().then(() => (home || !opened ? refocus(left, opened) : byId("stage-name").focus({ preventScroll: true })));
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
  byId("zoom-in").addEventListener("click", () => stage.scale(CLOSER));
  byId("zoom-out").addEventListener("click", () => stage.scale(1 / CLOSER));
  byId("modes").addEventListener("change", (event) => (stage.mode = byId("canvas-box").dataset.mode = event.target.value));
  byId("refine-clear").addEventListener("click", () => go({ ...NO_MARKS }));
  byId("refine-button").addEventListener("click", () => go({ refined: true }));
  byId("refine-like").addEventListener("click", () => ((click = null), go({ ...empty(), ...filterParts(), like: question.right })));
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
