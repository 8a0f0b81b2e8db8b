// The query image on its canvas: pointing, and what is drawn over it. It asks nobody: the regions came once.

import { holds, outline } from "./masks.js";

const SELECTED = "#ffcc00", HOVER = "#40e0ff", GOOD = "#30d158", BAD = "#ff453a";
const DRAG_PX = 6, FINEST_PX = 2048, PRIMARY = 1;
const STEP = 1 / 40, FINE = 1 / 200;
export const CLOSER = 1.5, CLOSEST = 8;

export class Stage {
  /**
   * `on` has point(x, y, {add, remove}), box(xyxy), hover(region), zoomed(). Points are in image pixels. The canvas is as
   * large as what is seen; the sheet around it is as large as the zoomed image, and its frame scrolls.
   */
  constructor(canvas, tip, on) {
    this.canvas = canvas;
    this.sheet = canvas.parentElement;
    this.frame = this.sheet.parentElement;
    this.tip = tip;
    this.mode = "point"; // what a tap or click does without a key: point, add, remove, box
    this.least = 0; // px that the image may be high in a lower window
    this.zoom = 1;
    this.on = on;
    this.picture = null;
    this.map = null;
    this.marks = { regions: [], points: [], box: null, offered: [] };
    this.hovered = null;
    this.cross = null;
    this.drag = null;
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#isOf(event) && this.#drop());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => ((this.cross = null), this.#hover(null)));
    this.frame.addEventListener("scroll", () => this.draw());
    this.frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => this.draw()).observe(this.frame);
    let settled = 0;
    const { signal } = (this.leaving = new AbortController());
    visualViewport.addEventListener("resize", () => (clearTimeout(settled), (settled = setTimeout(() => this.#window(), 150))), { signal });
  }

  /** Show another image. It can be pointed at when its regions are known, and with them its true size. */
  async open(address) {
    this.close();
    const mine = (this.opening = {});
    const picture = await decoded(address);
    if (this.opening !== mine) return; // closed or opened again meanwhile
    this.picture = picture;
    this.width = picture.naturalWidth;
    this.height = picture.naturalHeight;
    this.zoom = 1;
    this.on.zoomed(1);
    this.mark({});
  }

  /** Nothing can be pointed at any more; the image stays in sight. */
  close() {
    this.picture = this.map = this.drag = this.cross = this.opening = null;
    this.#hover(null);
  }

  /** The canvas is taken away for good: the window would hold on to it. */
  leave() {
    this.close();
    this.leaving.abort();
  }

  /** Larger or smaller by a factor, about a place of the window or the middle. */
  scale(factor, client) {
    if (!this.picture) return;
    const before = this.canvas.getBoundingClientRect();
    const [x, y] = client || [before.left + before.width / 2, before.top + before.height / 2];
    const [px, py] = this.#place({ clientX: x, clientY: y });
    this.zoom = Math.min(CLOSEST, Math.max(1, this.zoom * factor));
    this.tip.hidden = true; // where it was may be outside now
    this.draw();
    const after = this.canvas.getBoundingClientRect();
    const held = client ? [x - after.left, y - after.top] : [after.width / 2, after.height / 2];
    this.frame.scrollLeft = (px / this.width) * this.shown.width - held[0];
    this.frame.scrollTop = (py / this.height) * this.shown.height - held[1];
    this.draw();
    this.on.zoomed(this.zoom);
  }

  /** The same image with more pixels. */
  async sharpen(address, map) {
    const image = await decoded(address);
    if (map !== this.map) return;
    this.picture = image;
    this.draw();
  }

  regions(map) {
    this.map = map;
    this.width = map.width;
    this.height = map.height;
    this.draw();
  }

  mark(marks) {
    this.marks = { regions: [], points: [], box: null, offered: [], ...marks };
    if (this.hovered) this.#label();
    this.draw();
  }

  show(region) {
    this.#hover(region);
  }

  draw() {
    const { frame, sheet, canvas } = this;
    if (!this.picture || !frame.clientWidth) return;
    const most = Math.round(Math.max(this.least, Math.min(document.documentElement.clientHeight * 0.66, 760)));
    const scale = this.zoom * Math.min(Math.floor(frame.getBoundingClientRect().width) / this.width, most / this.height);
    const width = Math.max(40, Math.round(this.width * scale)), height = Math.max(40, Math.round(this.height * scale));
    sized(sheet, width, height);
    frame.style.maxHeight = `${most}px`;
    frame.classList.toggle("scrolls", frame.scrollHeight > frame.clientHeight);
    const seen = { width: Math.min(width, frame.clientWidth), height: Math.min(height, frame.clientHeight) };
    const ratio = Math.min(devicePixelRatio * visualViewport.scale, Math.max(2, FINEST_PX / Math.max(seen.width, seen.height)));
    sized(canvas, seen.width, seen.height);
    canvas.width = Math.round(seen.width * ratio);
    canvas.height = Math.round(seen.height * ratio);
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, -frame.scrollLeft * ratio, -frame.scrollTop * ratio);
    this.shown = { width, height };
    c.imageSmoothingQuality = "high";
    c.drawImage(this.picture, 0, 0, width, height);
    this.#dim(c);
    for (const bitmap of this.marks.offered) this.#line(c, bitmap, "#ffffff", 1.5, [4, 4]);
    if (this.hovered && !this.marks.regions.includes(this.hovered.bitmap)) {
      this.#fill(c, this.hovered.bitmap, "rgb(64 224 255 / 0.2)");
      this.#line(c, this.hovered.bitmap, HOVER, 2);
    }
    for (const bitmap of this.marks.regions) this.#line(c, bitmap, SELECTED, 2.5);
    if (this.marks.box) this.#box(c, this.marks.box, SELECTED);
    if (this.drag?.box) this.#box(c, this.drag.box, HOVER);
    for (const point of this.marks.points) this.#point(c, point);
    if (this.cross) this.#cross(c);
  }

  /** The window is higher, which leaves the frame as it was, or two fingers zoomed the page. */
  #window() {
    this.draw();
    if (this.picture) this.on.zoomed(this.zoom);
  }

  #path(bitmap) {
    const path = new Path2D();
    const { width, height } = this.shown;
    path.addPath(new Path2D(outline(bitmap)), new DOMMatrix([width / bitmap.width, 0, 0, height / bitmap.height, 0, 0]));
    return path;
  }

  #dim(c) {
    if (!this.marks.regions.length) return;
    const dark = new Path2D();
    dark.rect(0, 0, this.shown.width, this.shown.height);
    c.save();
    c.fillStyle = "rgb(10 10 14 / 0.46)";
    const veil = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const v = veil.getContext("2d");
    v.setTransform(c.getTransform());
    v.fillStyle = c.fillStyle;
    v.fill(dark);
    v.globalCompositeOperation = "destination-out";
    v.fillStyle = "#000";
    for (const bitmap of this.marks.regions) v.fill(this.#path(bitmap), "evenodd");
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(veil, 0, 0);
    c.restore();
  }

  #fill(c, bitmap, colour) {
    c.fillStyle = colour;
    c.fill(this.#path(bitmap), "evenodd");
  }

  #line(c, bitmap, colour, width, dash = []) {
    const path = this.#path(bitmap);
    c.lineJoin = "round";
    c.setLineDash(dash);
    c.strokeStyle = "rgb(0 0 0 / 0.7)";
    c.lineWidth = width + 2;
    c.stroke(path);
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke(path);
    c.setLineDash([]);
  }

  #box(c, [x1, y1, x2, y2], colour) {
    const sx = this.shown.width / this.width, sy = this.shown.height / this.height;
    for (const [stroke, width] of [["rgb(0 0 0 / 0.7)", 4], [colour, 2]]) {
      c.strokeStyle = stroke;
      c.lineWidth = width;
      c.strokeRect(x1 * sx, y1 * sy, (x2 - x1) * sx, (y2 - y1) * sy);
    }
  }

  #point(c, { x, y, good }) {
    const px = (x / this.width) * this.shown.width, py = (y / this.height) * this.shown.height;
    c.beginPath();
    c.arc(px, py, 8, 0, 7);
    c.fillStyle = good ? GOOD : BAD;
    c.fill();
    c.lineWidth = 2;
    c.strokeStyle = "#fff";
    c.stroke();
    c.beginPath();
    c.moveTo(px - 3.5, py);
    c.lineTo(px + 3.5, py);
    if (good) c.moveTo(px, py - 3.5), c.lineTo(px, py + 3.5);
    c.stroke();
  }

  #cross(c) {
    const x = this.cross[0] * this.shown.width, y = this.cross[1] * this.shown.height;
    for (const [stroke, width] of [["rgb(0 0 0 / 0.8)", 4], ["#fff", 1.5]]) {
      c.strokeStyle = stroke;
      c.lineWidth = width;
      c.beginPath();
      c.moveTo(x - 13, y);
      c.lineTo(x + 13, y);
      c.moveTo(x, y - 13);
      c.lineTo(x, y + 13);
      c.stroke();
    }
  }

  #place(event) {
    const sheet = this.sheet.getBoundingClientRect();
    const x = ((event.clientX - sheet.left) / sheet.width) * this.width;
    const y = ((event.clientY - sheet.top) / sheet.height) * this.height;
    return [Math.min(Math.max(x, 0), this.width - 0.01), Math.min(Math.max(y, 0), this.height - 0.01)];
  }

  #hover(region, place) {
    const changed = region !== this.hovered;
    this.hovered = region;
    this.tip.hidden = !region || !place;
    this.levels = place ? this.map.levels(...place).length : 0;
    if (region && place) {
      this.#label();
      const left = (place[0] / this.width) * this.shown.width, top = (place[1] / this.height) * this.shown.height;
      const { frame, sheet, tip } = this;
      tip.style.left = `${Math.min(left + sheet.offsetLeft + 14, frame.scrollLeft + frame.clientWidth - tip.offsetWidth - 4)}px`;
      tip.style.top = `${Math.min(top + sheet.offsetTop + 16, frame.scrollTop + frame.clientHeight - tip.offsetHeight - 4)}px`;
    }
    if (changed) {
      this.draw();
      this.on.hover(region);
    }
  }

  /** What a click on what is hovered would do: nothing where that alone is selected. */
  #label() {
    this.tip.textContent = this.levels > 1 ? `${this.levels} levels: click again for the next` : this.marks.regions.includes(this.hovered.bitmap) ? "Selected" : "Click to search";
  }

  /** What a click here would select next: what is selected already stays quiet, its next level shows. */
  #under(place) {
    return this.map.under(...place)[0] || null;
  }

  /** Whether a drag is of this pointer: a second finger and the palm beside a pen are others, and the keyboard's box is of none. */
  #isOf({ pointerId }) {
    return this.drag?.pointer === pointerId;
  }

  #move(event) {
    if (!this.map) return;
    const place = this.#place(event);
    if (this.drag) {
      if (!this.#isOf(event)) return;
      if (event.pointerType === "touch" && this.mode !== "box") return; // a finger that moves scrolls
      if (!(event.buttons & this.drag.button)) return this.#drop(); // let go where it was not seen, as over a menu
      const [x, y] = this.drag.start;
      const far = Math.hypot(event.clientX - this.drag.client[0], event.clientY - this.drag.client[1]);
      if (far > DRAG_PX && this.drag.button !== PRIMARY) return this.#drop();
      if (far > DRAG_PX || this.drag.box) {
        this.drag.box = [Math.min(x, place[0]), Math.min(y, place[1]), Math.max(x, place[0]), Math.max(y, place[1])];
        this.#hover(null);
        this.draw();
      }
      return;
    }
    this.#hover(this.#under(place), place);
  }

  #down(event) {
    if (![0, 2].includes(event.button) || !event.isPrimary || !this.map) return;
    this.cross = null;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { pointer: event.pointerId, start: this.#place(event), client: [event.clientX, event.clientY], box: null, button: event.buttons };
  }

  /** What was begun is neither a box nor a click. */
  #drop() {
    this.drag = null;
    this.draw();
  }

  #up(event) {
    if (!this.#isOf(event)) return;
    const drag = this.drag;
    this.drag = null;
    if (drag.box && drag.box[2] - drag.box[0] > 2 && drag.box[3] - drag.box[1] > 2) this.on.box(drag.box);
    else this.on.point(...drag.start, { add: event.shiftKey || this.mode === "add", remove: event.altKey || event.button === 2 || this.mode === "remove" });
    this.draw();
  }

  /** A pinch on a touchpad is a wheel with Ctrl; a plain wheel scrolls. */
  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.scale(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.005)), [event.clientX, event.clientY]);
  }

  #key(event) {
    if (!this.map || event.ctrlKey || event.metaKey) return;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) {
      const step = event.shiftKey ? FINE : STEP;
      const [x, y] = this.cross || [0.5, 0.5];
      const [dx, dy] = this.cross ? moves[event.key] : [0, 0];
      this.cross = [Math.min(0.999, Math.max(0, x + dx * step)), Math.min(0.999, Math.max(0, y + dy * step))];
      const place = [this.cross[0] * this.width, this.cross[1] * this.height];
      if (this.drag?.keys) {
        const [sx, sy] = this.drag.start;
        this.drag.box = [Math.min(sx, place[0]), Math.min(sy, place[1]), Math.max(sx, place[0]), Math.max(sy, place[1])];
      } else this.#hover(this.#under(place), place);
      this.#reveal(this.cross);
      this.draw();
    } else if (["+", "=", "-", "0"].includes(event.key)) {
      this.scale({ "-": 1 / CLOSER, 0: 0 }[event.key] ?? CLOSER);
      if (this.cross) this.#reveal(this.cross);
    } else if ((event.key === "Enter" || event.key === " ") && this.cross) {
      this.on.point(this.cross[0] * this.width, this.cross[1] * this.height, { add: event.shiftKey, remove: event.altKey });
    } else if (event.key === "b" || event.key === "B") {
      this.#keyBox();
    } else if (event.key === "Escape" && this.drag) {
      this.#drop();
      event.stopPropagation();
    } else return;
    event.preventDefault();
  }

  /** Scroll so that the cross is in sight. */
  #reveal([x, y]) {
    const { frame, shown } = this;
    const inside = (at, start, length) => Math.min(Math.max(start, at - length + 30), at - 30);
    frame.scrollLeft = inside(x * shown.width, frame.scrollLeft, frame.clientWidth);
    frame.scrollTop = inside(y * shown.height, frame.scrollTop, frame.clientHeight);
  }

  #keyBox() {
    const [x, y] = this.cross || (this.cross = [0.5, 0.5]);
    if (this.drag?.keys) {
      const box = this.drag.box;
      this.drag = null;
      if (box) this.on.box(box);
    } else this.drag = { start: [x * this.width, y * this.height], keys: true, box: null };
    this.draw();
  }
}

async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

function sized(element, width, height) {
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
}

/** A point inside a region, near its middle: where a click would have been. */
export function anchor(map, region) {
  const { width, height, bits } = region.bitmap;
  let sx = 0, sy = 0, count = 0;
  for (let i = 0; i < bits.length; i++) if (bits[i]) (sx += i % width), (sy += (i / width) | 0), count++;
  const cx = sx / count, cy = sy / count;
  if (holds(region.bitmap, (cx + 0.5) / width, (cy + 0.5) / height)) return toImage(map, region.bitmap, cx, cy);
  let best = 0, least = Infinity;
  for (let i = 0; i < bits.length; i++) {
    if (!bits[i]) continue;
    const far = (i % width - cx) ** 2 + (((i / width) | 0) - cy) ** 2;
    if (far < least) (least = far), (best = i);
  }
  return toImage(map, region.bitmap, best % width, (best / width) | 0);
}

const toImage = (map, bitmap, x, y) => [((x + 0.5) / bitmap.width) * map.width, ((y + 0.5) / bitmap.height) * map.height];
