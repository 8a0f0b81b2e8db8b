// The regions of a question by several, above its hits.

import { get } from "./api.js";
import { pictured } from "./hits.js";
import { baseName, byId, make } from "./parts.js";

let latest = 0;

/** The regions of a question by several, each outlined in its image. */
export async function drawLike(question) {
  const box = byId("like"), shown = question.like.slice(0, 12);
  box.hidden = !shown.length || Boolean(question.image);
  const mine = ++latest;
  if (box.hidden) return;
  const tiles = await Promise.all(
    shown.map(async (one) => {
      const found = await get(`/v1/images/${encodeURIComponent(one.id)}/regions`).catch(() => null);
      const region = found?.regions.find((other) => other.region === one.region);
      if (!region) return null;
      return make("li", { title: `${one.key}, region ${one.region}` }, pictured({ id: one.id, ...found.image }, { mask: region.mask, box: region.box_xyxy, alt: `${baseName(one.key)}, region ${one.region}` }));
    }),
  );
  if (mine === latest) box.querySelector("ul").replaceChildren(...tiles.filter(Boolean));
}
