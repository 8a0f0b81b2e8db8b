// The image that is open: what is known of it, its regions, and its picture on the stage.

import * as api from "./api.js";
import { regionList } from "./choices.js";
import { RegionMap } from "./masks.js";
import { baseName, byId, say } from "./parts.js";
import { CLOSEST, Stage } from "./stage.js";

const SIDE = 1280, FINEST = 2048; // of the picture on the stage

export class OpenImage {
  /** `on` has point(x, y, {add, remove}), box(xyxy), as a Stage, and stored(number) for a region of the list. */
  constructor(on) {
    this.on = on;
    this.wanted = null; // { id } or { upload }
    this.facts = null; // of what is open: { id | upload, bucket, key, etag, width, height }
    this.map = null;
    const canvas = byId("canvas");
    this.stage = new Stage(canvas, byId("tip"), {
      ...on,
      zoomed: (zoom) => this.#zoomed(zoom),
      hover: (region) => region && document.activeElement === canvas && say(this.map.describe(region)),
    });
  }

  get name() {
    return this.facts && baseName(this.facts.key);
  }

  /** Whether this one is open. */
  is(image) {
    return this.facts && image && (image.upload ? this.facts.upload === image.upload : this.facts.id === image.id);
  }

  /** Nothing is open; the last picture stays in sight until there is another. */
  close() {
    this.wanted = this.facts = this.map = null;
    this.stage.close();
  }

  /** Open an image; whether it is still this one that is wanted when it has come. Raises: Problem. */
  async open(image) {
    this.close();
    this.wanted = image;
    byId("canvas-box").setAttribute("aria-busy", "true"); // the last image, pale
    const path = `/v1/images/${encodeURIComponent(image.id)}`;
    const [facts, regions] = await Promise.all([
      image.upload ? { upload: image.upload, key: "Your image" } : api.get(path),
      image.upload ? api.post("/v1/segment", { image }) : api.get(`${path}/regions`),
      this.#showPicture(image),
    ]);
    if (this.wanted !== image) return false;
    this.facts = facts;
    this.#mapped(regions);
    return true;
  }

  /** Whether an answer is of another state of this image than is shown: it was indexed anew since. `number` is the region asked with. */
  isOld({ selection, hits }, number) {
    if (!this.facts || this.facts.upload) return false;
    const isOther = number !== null && String(selection.box_xyxy) !== String(this.map.byNumber(number)?.box_xyxy);
    return isOther || hits.some(({ id, etag }) => id === this.facts.id && etag !== this.facts.etag);
  }

  /** Show the image as it is now; what is asked of it stays. Raises: Problem. */
  async renew(signal) {
    const image = this.wanted, path = `/v1/images/${encodeURIComponent(image.id)}`;
    const [facts, regions] = await Promise.all([api.get(path, signal), api.get(`${path}/regions`, signal)]);
    if (this.wanted !== image) return;
    if (facts.etag !== this.facts.etag) await this.#showPicture(image);
    if (this.wanted !== image) return;
    this.facts = facts;
    this.#mapped(regions);
  }

  /** The picture as it is now: it is asked for before the etag is known. */
  async #showPicture(image) {
    const address = await api.picture(api.picturePath(image, SIDE), { renew: true });
    if (this.wanted !== image) return;
    await this.stage.open(address);
    if (this.wanted === image) byId("canvas-box").setAttribute("aria-busy", "false");
  }

  #mapped(regions) {
    this.map = new RegionMap(regions);
    this.stage.regions(this.map);
    document.body.classList.toggle("no-regions", !this.map.regions.length);
    const { stored, point: at } = this.on;
    byId("region-list").replaceChildren(...regionList(this.map, { stored, at: (x, y) => at(x, y, {}), show: (region) => this.stage.show(region) }));
  }

  /** A zoomed image is drawn from more pixels, if it has them; two fingers zoom the page. */
  async #zoomed(zoom) {
    byId("zoom-in").disabled = zoom >= CLOSEST;
    byId("zoom-out").disabled = zoom <= 1;
    const { map, facts } = this;
    if (zoom * visualViewport.scale <= 1 || !map || !facts || Math.max(map.width, map.height) <= SIDE) return;
    const address = await api.picture(api.picturePath(facts, FINEST)).catch(() => null);
    if (address) await this.stage.sharpen(address, map);
  }
}
