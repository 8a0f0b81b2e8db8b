// The question: what the address holds, and what the server is asked.

export const SIZES = ["small", "medium", "large"];
export const PAGE = 24;
const MOST = 200;

export function empty() {
  return {
    image: null, // { id } or { upload }
    region: null, // a stored region's number
    fg: [], bg: [], level: null, box: null, text: "", whole: false,
    prefix: "", size: "", meta: [], from: "", to: "",
    group: false, limit: PAGE,
    like: [], // indexed regions as one question, each { id, bucket, key, region }
    right: [], wrong: [], refined: false, // marks, and whether the answer follows them
  };
}

export const NO_MARKS = { right: [], wrong: [], refined: false };

/** A region as an address names it: its image's id, which is made of bucket and key, and its number. */
const spelt = ({ id, region }) => `${id}:${region}`;
function regions(texts) {
  return texts.slice(0, 100).flatMap((text) => {
    const [, id, number] = /^([\w-]+):(\d{1,9})$/.exec(text) || [];
    if (!id) return [];
    try {
      const bytes = Uint8Array.from(atob(id.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
      const [bucket, key] = new TextDecoder().decode(bytes).split("\0");
      return key === undefined ? [] : [{ id, bucket, key, region: Number(number) }];
    } catch {
      return [];
    }
  });
}

/** Regions as the server names them. */
export const refs = (list) => list.map(({ bucket, key, region }) => ({ bucket, key, region }));

/** Whether it is a day of the calendar. */
const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text) && Boolean(new Date(text).toJSON()?.startsWith(text));

/** When a day begins where the browser is, in ms, or one so many days later. */
function dawn(day, later = 0) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later).getTime(); // a day of the calendar has not always 24 hours
}

const points = (text) => (text ? text.split(";").map((pair) => pair.split(",").map(Number)).filter((p) => p.length === 2 && p.every(Number.isFinite)) : []);
const told = (list) => list.map((pair) => pair.map((n) => Math.round(n * 10) / 10).join(",")).join(";");

/** The question of an address. What is malformed is left out. */
export function parse(search) {
  const given = new URLSearchParams(search);
  const question = empty();
  if (given.get("image")) question.image = { id: given.get("image") };
  if (given.get("upload")) question.image = { upload: given.get("upload") };
  if (/^\d{1,9}$/.test(given.get("region") || "")) question.region = Number(given.get("region"));
  question.fg = points(given.get("fg"));
  question.bg = points(given.get("bg"));
  if (["part", "object", "whole"].includes(given.get("level"))) question.level = given.get("level");
  const box = (given.get("box") || "").split(",").map(Number);
  if (box.length === 4 && box.every(Number.isFinite)) question.box = box;
  question.text = (given.get("text") || "").slice(0, 500);
  question.whole = given.get("whole") === "1";
  question.prefix = given.get("prefix") || "";
  question.size = SIZES.includes(given.get("size")) ? given.get("size") : "";
  question.meta = given.getAll("meta").filter((entry) => entry.indexOf("=") > 0);
  for (const end of ["from", "to"]) if (isDay(given.get(end) || "")) question[end] = given.get(end);
  question.group = given.get("group") === "1";
  for (const list of ["like", "right", "wrong"]) question[list] = regions(given.getAll(list));
  question.refined = given.get("refined") === "1" && question.right.length + question.wrong.length > 0;
  const limit = Number(given.get("n"));
  if (limit > 0 && limit <= MOST) question.limit = Math.round(limit);
  return question;
}

/** The address of a question. */
export function address(question) {
  const q = new URLSearchParams();
  if (question.image) q.set(question.image.upload ? "upload" : "image", question.image.upload || question.image.id);
  if (question.region !== null) q.set("region", question.region);
  if (question.fg.length) q.set("fg", told(question.fg));
  if (question.bg.length) q.set("bg", told(question.bg));
  if (question.level && question.fg.length) q.set("level", question.level);
  if (question.box) q.set("box", told([question.box]));
  if (question.text) q.set("text", question.text);
  if (question.whole) q.set("whole", 1);
  for (const name of ["prefix", "size", "from", "to"]) if (question[name]) q.set(name, question[name]);
  for (const entry of question.meta) q.append("meta", entry);
  if (question.group) q.set("group", 1);
  for (const list of ["like", "right", "wrong"]) for (const one of question[list]) q.append(list, spelt(one));
  if (question.refined) q.set("refined", 1);
  if (question.limit !== PAGE) q.set("n", question.limit);
  const text = q.toString();
  return text ? `/?${text}` : "/";
}

/** Whether anything is meant: an open image alone asks nothing. */
export function asks(question) {
  if (!question.image) return Boolean(question.text) || question.like.length > 0;
  return question.region !== null || question.whole || question.fg.length > 0 || question.box !== null || Boolean(question.text);
}

/** What the selection follows from, whatever is filtered or shown of its answer. */
export const meant = ({ image, region, fg, bg, level, box, text, whole }) => JSON.stringify([image, region, fg, bg, level, box, text, whole]);

function metaValue(text) {
  if (text === "true" || text === "false") return text === "true";
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

export function filterOf(question) {
  const filter = {};
  if (question.prefix) filter.key_prefix = question.prefix;
  if (question.size && !question.whole) filter.size_class = question.size;
  if (question.meta.length) {
    filter.metadata = {};
    for (const entry of question.meta) {
      const at = entry.indexOf("=");
      const typed = entry[at - 1] === ":"; // name:=2024 is a number, name=2024 a text, as on the command line
      filter.metadata[entry.slice(0, typed ? at - 1 : at)] = typed ? metaValue(entry.slice(at + 1)) : entry.slice(at + 1);
    }
  }
  if (question.from || question.to) filter.indexed_at_ms = [question.from ? dawn(question.from) : null, question.to ? dawn(question.to, 1) - 1 : null];
  return filter;
}

export const filterCount = (question) => Object.keys(filterOf(question)).length + Math.max(0, question.meta.length - 1);

function promptOf(question) {
  if (question.whole) return { kind: "image" };
  if (question.box || question.text) {
    return {
      kind: "mixed",
      boxes_xyxy: question.box ? [question.box] : [],
      foreground: question.fg,
      background: question.bg,
      text: question.text || null,
    };
  }
  return { kind: "points", foreground: question.fg, background: question.bg, granularity: question.level };
}

/** What the server is asked. `named` is the bucket and key of an indexed image. */
export function request(question, named) {
  const document = { filter: filterOf(question), limit: question.limit, group_by_image: question.group };
  if (!question.image) return question.like.length ? { ...document, like: refs(question.like) } : { ...document, text: question.text };
  if (question.image.upload) return { ...document, image: { upload: question.image.upload }, prompt: promptOf(question) };
  if (question.region !== null) return { ...document, image: { ...named, region: question.region } };
  return { ...document, image: named, prompt: promptOf(question) };
}
