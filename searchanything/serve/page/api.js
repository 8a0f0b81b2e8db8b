// Talks to the server. The key lives in this tab alone and travels in a header, never in an address.

import { storage } from "./kept.js";

const KEY = "searchanything-key";
const PICTURES = 600; // kept as blobs; the browser's own cache has the rest
const tab = storage(() => sessionStorage);
const pictures = new Map();

export class Problem extends Error {
  constructor(status, document, retryAfter) {
    super(document.detail || document.title || `status ${status}`);
    this.status = status;
    this.title = document.title || "The server did not answer";
    this.kind = String(document.type || "").split(":").pop();
    this.request = String(document.instance || "").split(":").pop();
    this.retryAfter = retryAfter;
  }
}

export const key = {
  get: () => tab.get(KEY) || "",
  set: (value) => {
    tab.set(KEY, value);
    forgetPictures();
  },
};

function forgetPictures() {
  for (const held of pictures.values()) held.then(URL.revokeObjectURL, () => {});
  pictures.clear();
}

/** What is answered, `as` "json", "blob" or "text". */
async function fetched(path, as, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "The server cannot be reached", detail: "Is searchanything serve still running?" });
  }
  if (response.ok) {
    return response[as]().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { title: "The answer cannot be read", detail: "It broke off, or something before the server answered in its place" });
    });
  }
  const document = await response.json().catch(() => ({}));
  throw new Problem(response.status, document, Number(response.headers.get("Retry-After")) || 0);
}

export async function get(path, signal) {
  return fetched(path, "json", { signal });
}

export async function post(path, document, signal) {
  const headers = { "Content-Type": "application/json" };
  return fetched(path, "json", { method: "POST", headers, body: JSON.stringify(document), signal });
}

/** A request that is answered with nothing but that it was done. */
export async function act(method, path, document) {
  const headers = document ? { "Content-Type": "application/json" } : {};
  await fetched(path, "text", { method, headers, body: document && JSON.stringify(document) });
}

export async function upload(file, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return fetched("/v1/uploads", "json", { method: "POST", headers, body: file, signal });
}

/** The path of a picture of an indexed image, an upload, a box of one, or a standing query; another etag is another picture. */
export function picturePath(image, side, box) {
  const query = new URLSearchParams({ side });
  if (image.etag) query.set("etag", image.etag);
  if (box) query.set("box", box.map((n) => Math.max(0, Math.round(n))).join(","));
  const base = image.upload ? `/v1/uploads/${image.upload}` : image.standing ? `/v1/standing/${image.standing}` : `/v1/images/${image.id}`;
  return `${base}/thumbnail?${query}`;
}

/** A picture as an address that an <img> may have: fetched with the key, as addresses hold none; `renew`: as it is now. */
export function picture(path, { renew = false } = {}) {
  if (pictures.has(path) && !renew) {
    const held = pictures.get(path);
    pictures.delete(path);
    pictures.set(path, held);
    return held;
  }
  const made = fetched(path, "blob", { cache: renew ? "no-cache" : "default" }).then((blob) => URL.createObjectURL(blob));
  pictures.get(path)?.then(URL.revokeObjectURL, () => {});
  pictures.set(path, made);
  made.catch(() => pictures.get(path) === made && pictures.delete(path));
  if (pictures.size > PICTURES) {
    const [oldest, held] = pictures.entries().next().value;
    pictures.delete(oldest);
    held.then(URL.revokeObjectURL, () => {});
  }
  return made;
}
