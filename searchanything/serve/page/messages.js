// What is said above the hits: many, none, none that is good, or what went wrong.

import { byId, chance, count, make, sentence } from "./parts.js";
import { filterCount } from "./question.js";

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
  } else if (answer.matching?.verdict) {
    title.replaceChildren("No good match");
    show("weak", "Probably not in the index", sentence(answer.matching.verdict.replace("no good match: ", "")));
  } else if (!answer.hits.length && !filterCount(question)) {
    title.replaceChildren("No answers");
    show("nothing", "There is nothing to compare with", `The index holds no ${things} that you may see.`);
  } else if (!answer.hits.length) {
    title.replaceChildren("No answers");
    show("nothing", "No image passes the filters", answer.hint ? sentence(typed(answer.hint)) : "The index holds nothing that the filters let through.", make("button", { type: "button", class: "button", onclick: onClearFilters }, "Clear filters"));
  } else if (!answer.good_match) {
    title.replaceChildren("No good match");
    show("weak", "Probably not in the index", `Below are the nearest ${things}s, but ${weakness(answer)}.`);
  } else if (!answer.hits[0].confidence) {
    title.replaceChildren(count(answer.hits.length, "answer"), " ", make("small", {}, "nearest to “", make("bdi", {}, question.text), `”, ${facts}`));
  } else {
    const good = answer.hits.filter((hit) => !["weak", "none"].includes(hit.confidence.word)).length;
    const rest = answer.hits.length - good;
    title.replaceChildren(good === 1 ? "1 good match" : `${good} good matches`, " ", make("small", {}, rest ? `and ${rest} weaker, ${facts}` : facts));
  }
  const match = answer.selection.text_match;
  if (match && !answer.probe && match.confidence !== "clear" && notice.hidden) {
    const where = question.image ? "this image" : "the index", what = question.image ? "the selected region" : "the best answer";
    show("weak", match.confidence === "weak" ? `Perhaps there is no such thing in ${where}` : "It may be something else", `${match.better} of ${match.words} everyday words name ${what} better than yours.`);
  }

  function show(kind, head, text, action) {
    notice.hidden = false;
    notice.classList.add(kind);
    notice.replaceChildren(make("div", {}, make("strong", {}, head), make("p", {}, text)), action || "");
  }
}

/** Conditions as the filters of the page are written: `year=2024` is a text, `year:=2024` a number. */
const typed = (hint) => hint.replace(/ == "([^"]*)"/g, "=$1").replace(/ == /g, ":=");

/** Why no hit is good: chance is as near, or other words fit better. */
function weakness(answer) {
  const first = answer.hits[0], match = answer.selection.text_match;
  if (!first.confidence) return match ? `${match.better} of ${match.words} everyday words name even the best of them better than yours` : "none fits the words well";
  const bits = `${first.distance_bits} of ${answer.bits} bits differ`;
  if (first.confidence.calibrated) return `in an index of this size others are as near by chance: ${chance(first.false_match)} unrelated regions, ${bits}`;
  return `even the first is no nearer than chance allows among so few: ${bits}`;
}

const NO_INDEX = "Nothing is indexed yet";

/** Why there is no answer, as its headline. */
export function headline(problem) {
  if (problem.kind === "IndexNotFoundError") return NO_INDEX;
  if (problem.kind === "WordsMissingError") return "No words in this index yet";
  return { 429: "The server is busy", 501: "Not offered here" }[problem.status] || "No answer";
}

/** What went wrong, with a way to try again: at once, or when the server will take questions again; or with `other`, { label, act }. */
export function tellProblem(notice, problem, again, other = null) {
  notice.hidden = false;
  const none = problem.kind === "IndexNotFoundError"; // how everybody begins
  notice.className = `notice ${none || problem.status === 501 ? "nothing" : "problem"}`;
  const detail = [sentence(problem.message), problem.request && !none ? `Request ${problem.request}.` : ""].join(" ");
  const button = problem.status === 501 ? "" : make("button", { type: "button", class: "button", onclick: other ? other.act : again }, other ? other.label : "Try again");
  if (button && problem.retryAfter) wait(button, Date.now() + 1000 * problem.retryAfter);
  notice.replaceChildren(make("div", {}, make("strong", {}, none ? NO_INDEX : problem.title), make("p", {}, detail)), button);
}

/** The same for where there is no notice yet: in a dialog. */
export function problemNotice(problem, again) {
  const notice = make("div");
  tellProblem(notice, problem, again);
  return notice;
}

/** A button that can be pressed from a time on, and counts the seconds until then: by the clock, as timers stand still in a laptop that sleeps. */
function wait(button, from) {
  const seconds = Math.ceil((from - Date.now()) / 1000);
  button.disabled = seconds > 0;
  button.textContent = seconds > 0 ? `Try again in ${seconds} s` : "Try again";
  if (seconds > 0) setTimeout(() => wait(button, from), 1000);
}
