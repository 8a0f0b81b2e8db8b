// The indexed images: a grid in pages, found by a part of their names.

import { get } from "./api.js";
import { address, empty } from "./question.js";
import { baseName, byId, count, coverSide, lazyImage, make } from "./parts.js";

const PAGE = 60;

export class Browse {
  /** `failed(problem)` is called when a page cannot be had. */
  constructor(failed) {
    this.failed = failed;
    this.after = null;
    this.asked = 0;
    byId("tiles-more").addEventListener("click", () => this.#page(false).catch(failed));
    let timer = 0;
    byId("browse-find").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.open().catch(failed), 180);
    });
  }

  /** List the images; `keep` leaves the pages that are there. */
  async open({ keep = false } = {}) {
    if (keep && byId("tiles").childElementCount) return;
    this.after = null;
    await this.#page(true);
  }

  async #shownToCome(found) {
    this.coming = found;
    byId("progress").hidden = false;
    try {
      return await found;
    } finally {
      if (this.coming === found && document.body.dataset.view === "browse") byId("progress").hidden = true;
    }
  }

  async #page(first) {
    const asked = ++this.asked;
    const named = byId("browse-find").value.trim();
    const found = await this.#shownToCome(images(named, first ? null : this.after, PAGE));
    if (asked !== this.asked) return;
    byId("browse-notice").hidden = true;
    const tiles = found.images.map((image) =>
      make(
        "li",
        {},
        make("a", { class: "image-tile", href: address({ ...empty(), image: { id: image.id } }), "data-go": true, "aria-label": `${image.key}, ${count(image.regions, "region")}`, title: image.key }, lazyImage(image, coverSide(image, 320)), make("span", { class: "image-name", dir: "auto" }, baseName(image.key))),
      ),
    );
    if (first) byId("tiles").replaceChildren(...tiles);
    else {
      byId("tiles").append(...tiles);
      tiles[0]?.firstChild.focus();
    }
    this.after = found.next;
    byId("tiles-more").hidden = !found.next;
    byId("browse-count").textContent = found.total ? count(found.total, "image") + (found.complete ? "" : " at least") : named ? "No image has that in its name" : "No images yet";
  }
}

export function images(contains, after, limit) {
  const query = new URLSearchParams({ limit });
  if (contains) query.set("contains", contains);
  if (after) query.set("after", after);
  return get(`/v1/images?${query}`);
}
