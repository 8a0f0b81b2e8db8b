// Standing queries: questions that are kept, and asked of every image that is indexed from then on.

import { act, get, post } from "./api.js";
import { addressOf, pictured } from "./hits.js";
import { problemNotice } from "./messages.js";
import { baseName, byId, chance, dialog, lazyImage, make, say, sentence, toast } from "./parts.js";
import { empty } from "./question.js";

const RATES = [["Sure", 1e-5], ["Usual", 1e-4], ["Wide", 1e-3]];
const SHOWN = 24; // matches of one query; the others come when these are seen

let mayName = false; // a webhook
let ask = () => {}; // for another key
let isOffered = false;

/** Show what there is, if this server and key offer it; `offers` is what the server said, `askKey(problem)` is for a key that is refused. */
export function offered(offers, askKey) {
  mayName = offers.webhooks;
  ask = askKey;
  isOffered = offers.standing;
  for (const id of ["keep", "standing-button"]) byId(id).hidden = !offers.standing;
  countNew();
}

/** What is new, beside the bell: whoever opens the list hears what is wrong. */
function countNew() {
  if (isOffered && !document.hidden) look().then(badge, () => {});
}

document.addEventListener("visibilitychange", countNew); // it was seen in another tab, or is new since this one was left

/** Ask for a name and keep a question. `asked` is what the server is asked, `thing` what it is called until it has a name. */
export function keepAsking(asked, thing) {
  const { indexed_at_ms: dates, ...filter } = asked.filter;
  const question = { image: asked.image, prompt: asked.prompt, text: asked.text, filter };
  const name = make("input", { id: "standing-name", required: true, maxlength: "100", autocomplete: "off" });
  name.value = thing.slice(0, 100);
  const webhook = make("input", { id: "standing-webhook", type: "url", placeholder: "https://… (optional)", autocomplete: "off" });
  const means = make("p", { class: "faint-text", id: "standing-rate", "aria-live": "polite" });
  const mean = (rate) => (means.textContent = `Of unrelated regions, ${chance(rate)} is as near as the farthest match.`);
  const rates = RATES.map(([word, rate]) => make("label", { class: "segment" }, make("input", { type: "radio", name: "rate", value: String(rate), checked: word === "Usual", onchange: () => mean(rate) }), make("span", {}, word)));
  mean(RATES[1][1]);
  const wrong = make("p", { class: "wrong", role: "alert" });
  const button = make("button", { class: "button primary" }, "Keep asking");
  const form = make(
    "form",
    { class: "key-form", onsubmit: (event) => (event.preventDefault(), keep()) },
    make("p", { class: "faint-text" }, `It is asked of every image that is indexed from now on.${dates ? " The dates of the filters do not count." : ""}`),
    make("label", { for: "standing-name" }, "Name"),
    name,
    make("fieldset", {}, make("legend", {}, "How near a match has to be"), make("span", { class: "segments" }, ...rates), means),
    ...(mayName ? [make("label", { for: "standing-webhook" }, "Send matches to"), webhook] : []),
    wrong,
    button,
  );
  async function keep() {
    button.disabled = true;
    wrong.textContent = "";
    const max_false_match = Number(form.querySelector("[name=rate]:checked").value);
    try {
      await post("/v1/standing", { ...question, name: name.value.trim(), max_false_match, webhook: webhook.value.trim() || null });
    } catch (problem) {
      if (problem.status === 401) return ask(problem);
      wrong.textContent = sentence(problem.message || problem.title);
      button.disabled = false;
      return;
    }
    const done = `${name.value.trim()} is asked of all that comes in`;
    if (!shown(form)) return toast(done);
    await standing();
    say(done);
  }
  dialog("Keep asking", form);
  name.focus();
  name.select();
}

/** Whether it is shown: the dialog may be closed, or show another thing, by the time that the server answers. */
const shown = (element) => element.isConnected && byId("dialog").open;

/** The list of standing queries, with what is new; `wrong` is what went wrong before. */
export async function standing(wrong = "") {
  const waits = make("p", { class: "faint-text" }, "Looking at what is new…");
  dialog("Standing queries", waits);
  let found;
  try {
    found = await look();
  } catch (problem) {
    if (!shown(waits)) return;
    if (problem.status === 401) return ask(problem);
    dialog("Standing queries", problemNotice(problem, () => standing()));
    return say(`${problem.title}. ${sentence(problem.message)}`);
  }
  badge(found);
  if (!shown(waits)) return;
  const last = found.complete ? Infinity : found.queries.findLastIndex((one) => found.matches.has(one.id));
  const rows = found.queries.map((query, place) => row(query, found, Math.sign(place - last)));
  const none = make("p", {}, "None yet. Search for a thing, then ", make("b", {}, "Keep asking"), ": it is asked of every image that comes in.");
  dialog("Standing queries", make("p", { class: "wrong", role: "alert" }, wrong), rows.length ? make("ul", { class: "standing" }, ...rows) : none);
  say(rows.length ? `${rows.length === 1 ? "1 standing query" : `${rows.length} standing queries`}, ${matchesOf(total(found), !found.complete)}` : "None yet");
}

async function look() {
  const { queries } = await get("/v1/standing");
  const fetchable = queries.some((one) => !one.webhook);
  const { matches, failed, taken, complete } = fetchable ? await get("/v1/standing/matches?limit=500") : { matches: [], failed: {}, taken: {}, complete: true };
  return { queries, matches: new Map(matches.map((one) => [one.query_id, one.matches])), failed, taken, complete };
}

const matchesOf = (number, more = false) => (number === 0 ? "nothing new" : `${number === 1 ? "1 new match" : `${number} new matches`}${more ? " or more" : ""}`);
const total = ({ matches }) => [...matches.values()].reduce((sum, some) => sum + some.length, 0);

function badge(found) {
  const number = total(found);
  byId("standing-badge").hidden = !number;
  byId("standing-badge").textContent = number > 99 ? "99+" : String(number);
  byId("standing-button").setAttribute("aria-label", number ? `Standing queries, ${number} new` : "Standing queries");
}

/** `place`: 0 for the last query of an answer that is not all, 1 for those behind it. */
function row(query, found, place) {
  const fresh = found.matches.get(query.id) || [];
  const what = query.kind === "words" ? `“${query.prompt.text}”` : `${query.kind === "images" ? "whole image" : "region"}${query.image ? ` of ${baseName(query.image)}` : ""}`;
  const facts = [what, `by chance ${chance(query.max_false_match)}`, query.webhook ? `sent to ${query.webhook}` : null, query.added_by ? `by ${query.added_by}` : null].filter(Boolean).join(", ");
  const error = query.error || found.failed[query.id] || (!query.webhook && Object.hasOwn(found.failed, query.name) && found.failed[query.name]) || "";
  const remove = make("button", { type: "button", class: "button quiet", "aria-label": `Remove ${query.name}`, onclick: (event) => (!remove.dataset.sure ? sure(remove, query) : event.detail < 2 && removed(remove, query)) }, "Remove");
  const state = query.webhook ? "" : place > 0 ? "not looked at yet" : matchesOf(fresh.length, place === 0);
  return make(
    "li",
    {},
    query.kind === "words" ? make("span", { class: "standing-picture" }) : make("span", { class: "standing-picture" }, lazyImage({ standing: query.id }, 96)),
    make("div", { class: "standing-text" }, make("b", { dir: "auto" }, query.name), make("p", { class: "faint-text" }, facts), error ? make("p", { class: "wrong" }, sentence(error)) : ""),
    make("div", { class: "standing-state" }, make("span", { class: fresh.length ? "fresh" : "faint-text" }, state), remove),
    fresh.length ? news(query, fresh, found.taken[query.id]) : "",
  );
}

/** What is new for one query, and the button that says it was seen. */
function news(query, fresh, taken) {
  const tiles = fresh.slice(0, SHOWN).map((hit) =>
    make("li", {}, make("a", { href: addressOf(hit, empty()), "data-go": true, title: hit.key, "aria-label": `${hit.key}: search with this region`, onclick: () => byId("dialog").close() }, pictured(hit, { mask: hit.mask, box: hit.box_xyxy, alt: "" }))),
  );
  const text = fresh.length > SHOWN ? `All ${fresh.length} seen` : "Seen";
  const seen = make("button", { type: "button", class: "button", "aria-label": `${text}: ${query.name}`, onclick: () => noted(seen, query, taken) }, text);
  return make("div", { class: "news" }, make("ul", { class: "tiles small" }, ...tiles), seen);
}

/** A second click removes it, but not that of a double click. */
function sure(button, query) {
  button.dataset.sure = "yes";
  button.textContent = "Really remove";
  button.setAttribute("aria-label", `Really remove ${query.name}`);
  say(`Press again to really remove ${query.name}`);
}

const removed = (button, query) => change(button, () => act("DELETE", `/v1/standing/${query.id}`));
const noted = (button, query, taken) => change(button, () => act("POST", "/v1/standing/matches/taken", { taken: { [query.id]: taken } }));

/** Do what a button says, once, and show the list as it is then. */
async function change(button, doing) {
  button.disabled = true;
  let wrong = "";
  try {
    await doing();
  } catch (problem) {
    wrong = sentence(problem.message || problem.title);
  }
  if (shown(button)) await standing(wrong);
  else if (wrong) toast(wrong);
}
