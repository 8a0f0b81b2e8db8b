// The ways an own image comes to the page: chosen, pasted, dropped.

import { byId } from "./parts.js";

export function onImage(take) {
  for (const id of ["upload-button", "hero-upload"]) byId(id).addEventListener("click", () => byId("upload").click());
  byId("upload").addEventListener("change", () => (take(byId("upload").files[0]), (byId("upload").value = "")));
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
    if (file) take(file), event.preventDefault();
  });
  addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && (byId("drop").hidden = false));
  byId("drop").addEventListener("dragleave", () => (byId("drop").hidden = true));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").hidden = true;
    take(event.dataTransfer?.files[0]);
  });
}
