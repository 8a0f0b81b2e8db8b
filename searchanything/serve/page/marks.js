// Marks of hits, right and wrong: which there are, and what can be done with them.

import { byId } from "./parts.js";

/** The marks when this hit is marked so; a second time takes the mark away. */
export function marked(question, kind, hit) {
  const one = { id: hit.id, bucket: hit.bucket, key: hit.key, region: hit.region };
  const other = kind === "right" ? "wrong" : "right";
  const is = (kept) => kept.bucket === one.bucket && kept.key === one.key && kept.region === one.region;
  const rest = question[kind].filter((kept) => !is(kept));
  return {
    [kind]: rest.length < question[kind].length ? rest : [...rest, one],
    [other]: question[other].filter((kept) => !is(kept)),
  };
}

/** How many marks there are, and what is offered for them. `probe` is that of the answer they have led to, if any. */
export function drawMarks({ right, wrong, refined }, probe, mayRefine) {
  byId("refine").hidden = !right.length && !wrong.length;
  const precision = probe && probe.precision !== null ? `; checked mark by mark: ${Math.round(probe.precision * 100)} % of those called right are right` : "";
  const barred = mayRefine ? "" : ": your key may not refine; search with the right ones instead";
  byId("refine-text").textContent = `${refined ? "Refined by " : ""}${right.length} right, ${wrong.length} wrong${precision}${barred}`;
  byId("refine-button").hidden = !mayRefine;
  byId("refine-like").hidden = !right.length;
  byId("refine-probe").hidden = !probe;
}
