// Masks: COCO's run-length encoding to bitmaps, bitmaps to smooth outlines, and what lies under a point.

/** { width, height, bits: Uint8Array row by row } of a mask document. Runs go down the columns. */
export function decode(mask) {
  const [height, width] = mask.size;
  const bits = new Uint8Array(width * height);
  const runs = [];
  let value = 0, shift = 0;
  for (const letter of mask.counts) {
    const code = letter.charCodeAt(0) - 48;
    value |= (code & 31) << shift;
    shift += 5;
    if (code & 32) continue;
    if (code & 16) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
    value = shift = 0;
  }
  let place = 0;
  runs.forEach((run, number) => {
    if (number % 2) {
      for (let end = place + run, at = place; at < end; at++) bits[(at % height) * width + ((at / height) | 0)] = 1;
    }
    place += run;
  });
  return { width, height, bits };
}

/** Closed loops around a bitmap, as lists of corners in cells. */
function loops({ width, height, bits }) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && bits[y * width + x] === 1;
  const next = new Map(); // corner -> corners that edges lead to, the inside on the right
  const stride = width + 1;
  const edge = (x1, y1, x2, y2) => {
    const from = y1 * stride + x1, to = y2 * stride + x2;
    if (next.has(from)) next.get(from).push(to);
    else next.set(from, [to]);
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!bits[y * width + x]) continue;
      if (!inside(x, y - 1)) edge(x, y, x + 1, y);
      if (!inside(x + 1, y)) edge(x + 1, y, x + 1, y + 1);
      if (!inside(x, y + 1)) edge(x + 1, y + 1, x, y + 1);
      if (!inside(x - 1, y)) edge(x, y + 1, x, y);
    }
  }
  const found = [];
  for (const start of next.keys()) {
    while (next.get(start).length) {
      const loop = [];
      let at = start;
      do {
        loop.push([at % stride, (at / stride) | 0]);
        const ways = next.get(at);
        at = ways.pop();
      } while (at !== start && next.get(at).length);
      if (loop.length > 3) found.push(loop);
    }
  }
  return found;
}

/** A loop's corners averaged over their neighbours: a grid of a few hundred cells would show its steps. */
function smoothed(loop) {
  const reach = loop.length > 40 ? 3 : loop.length > 14 ? 2 : 1;
  return loop.map((_, i) => {
    let x = 0, y = 0;
    for (let j = i - reach; j <= i + reach; j++) {
      const corner = loop[(j + loop.length) % loop.length];
      x += corner[0];
      y += corner[1];
    }
    return [x / (2 * reach + 1), y / (2 * reach + 1)];
  });
}

/** The outline of a bitmap as an SVG path in cells. Specks and pinholes of a cell or two are not drawn. */
export function outline(bitmap) {
  if (bitmap.path !== undefined) return bitmap.path;
  const all = loops(bitmap);
  const drawn = all.filter((loop) => loop.length > 8);
  const short = (n) => Math.round(n * 100) / 100;
  bitmap.path = (drawn.length ? drawn : all)
    .map((loop) => `M${smoothed(loop).map(([x, y]) => `${short(x)} ${short(y)}`).join("L")}Z`)
    .join("");
  return bitmap.path;
}

export function holds(bitmap, x, y) {
  const column = Math.min(bitmap.width - 1, Math.max(0, Math.floor(x * bitmap.width)));
  const row = Math.min(bitmap.height - 1, Math.max(0, Math.floor(y * bitmap.height)));
  return bitmap.bits[row * bitmap.width + column] === 1;
}

/** The regions of one image, decoded once; whatever lies under a point is known without asking again. */
export class RegionMap {
  constructor(document) {
    this.width = document.image.width;
    this.height = document.image.height;
    this.source = document.source;
    this.regions = document.regions
      .map((region, place) => ({ ...region, place, bitmap: decode(region.mask) }))
      .sort((a, b) => a.area_px - b.area_px);
    this.regions.forEach((region, order) => (region.order = order));
  }

  /** All regions under a point in image pixels, the smallest first. */
  under(x, y) {
    return this.regions.filter((region) => holds(region.bitmap, x / this.width, y / this.height));
  }

  /** What part, object and whole mean at a point: the smallest, the middle one by area, the largest; once each. */
  levels(x, y) {
    const stack = this.under(x, y);
    if (!stack.length) return [];
    const named = [
      ["part", stack[0]],
      ["object", stack[stack.length >> 1]],
      ["whole", stack[stack.length - 1]],
    ];
    return named
      .filter(([, region], i) => named.findIndex(([, other]) => other === region) === i)
      .map(([level, region]) => ({ level, region }));
  }

  byNumber(number) {
    return this.regions.find((region) => region.region === number);
  }

  /** In words: how large, and where. */
  describe(region) {
    const share = (100 * region.area_px) / (this.width * this.height);
    const [x1, y1, x2, y2] = region.box_xyxy;
    const x = (x1 + x2) / 2 / this.width, y = (y1 + y2) / 2 / this.height;
    const row = y < 0.38 ? "top" : y > 0.62 ? "bottom" : "middle";
    const column = x < 0.38 ? "left" : x > 0.62 ? "right" : "centre";
    return `${share < 1 ? "under 1" : Math.round(share)} % of the image, ${row} ${column}`;
  }
}

/**
 * What a click means after the last one: its place, the levels there, and which of them. A click within the same levels
 * is the next level, at the place of the first; where nothing lies under it, each click is of its own place.
 */
export function clicked(map, last, [x, y]) {
  const levels = map.levels(x, y);
  const within = last && levels.length > 0 && levels.length === last.levels.length && levels.every((one, i) => one.region === last.levels[i].region);
  return within ? { ...last, step: (last.step + 1) % levels.length } : { place: [x, y], levels, step: 0 };
}
