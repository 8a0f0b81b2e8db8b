// The ways an own image comes to the page: chosen, pasted, dropped. One at a time: the latest.

import { upload } from "./api.js";
import { byId, sentence, toast } from "./parts.js";

let coming = null; // what is being uploaded

/** `on` has begun(), open(upload), failed(problem), where a problem is one of the key or null for one that was said. */
export function onImage(on) {
  const take = (files) => taken(files, on);
  for (const id of ["upload-button", "hero-upload"]) byId(id).addEventListener("click", () => byId("upload").click());
  byId("upload").addEventListener("change", () => (take([...byId("upload").files]), (byId("upload").value = "")));
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])].filter(isImage);
    if (event.target.closest?.("input, textarea") && event.clipboardData.types.includes("text/plain")) return; // words with their picture, as of a table
    if (files.length) take(files), event.preventDefault();
  });
  onDrop(take);
}

/** What was asked for meanwhile is not taken away again by an image that comes late. */
export function stopUpload() {
  if (!coming) return;
  coming.abort();
  coming = null;
  toast("The upload was stopped");
}

const isImage = (file) => file.type.startsWith("image/");

/** Upload the first of these files that is an image: one of an unknown type may be, too. */
async function taken(files, on) {
  const file = files.find(isImage) || files.find((one) => !one.type);
  if (!file) return files.length ? toast("That is not an image") : undefined;
  coming?.abort();
  const mine = (coming = new AbortController());
  on.begun();
  toast(`Uploading ${file.name}${files.length > 1 ? ", one image at a time" : ""}…`, true);
  let kept;
  try {
    await file.slice(0, 1).arrayBuffer().catch(() => Promise.reject(new Error("That cannot be read: is it a folder?")));
    kept = await upload(file, mine.signal);
  } catch (problem) {
    if (mine !== coming) return;
    coming = null;
    toast(problem.status === 401 ? "" : sentence(problem.status === 0 ? problem.title : problem.message));
    return on.failed(problem.status === 401 ? problem : null);
  }
  if (mine !== coming) return;
  coming = null;
  toast("");
  on.open(kept.upload);
}

/** Files are dropped anywhere; words only into a field, as ever; what is dragged from this page nowhere. */
function onDrop(take) {
  let own = false;
  const into = ({ target, dataTransfer }) => !dataTransfer.types.includes("Files") && target.closest?.("input, textarea");
  addEventListener("dragstart", () => (own = true));
  addEventListener("dragend", () => (own = false));
  addEventListener("dragenter", (event) => !own && !byId("dialog").open && event.dataTransfer.types.includes("Files") && (byId("drop").hidden = false));
  byId("drop").addEventListener("dragleave", () => (byId("drop").hidden = true));
  addEventListener("dragover", (event) => into(event) || event.preventDefault());
  addEventListener("drop", (event) => {
    if (into(event)) return;
    event.preventDefault();
    byId("drop").hidden = true;
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else if (!own) toast("Drop the image itself: addresses are not opened");
  });
}
