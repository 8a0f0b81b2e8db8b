"""Draws prompts and regions over images.

An image is first brought to the size at which it is shown; marks, given in pixels of the EXIF-corrected image, are
scaled to that size once. Every line has a dark and a bright part, so that it reads on any background. Pure functions:
arguments are never changed.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from searchanything.core.geometry import box_of_mask, mask_of_size
from searchanything.core.libraries import LazyModule
from searchanything.core.types import BoolMask, BoxXYXY, MaskRLE, RGBImage
from searchanything.drawing.text import (
    CAP_HEIGHT,
    ELLIPSIS,
    shorten,
    text_width_px,
    write_text,
)

if TYPE_CHECKING:
    import cv2
else:
    cv2 = LazyModule("cv2")

Color: TypeAlias = tuple[int, int, int]  # RGB
Contour: TypeAlias = NDArray[Any]  # (N, 1, 2) points, as OpenCV finds them
PlateXYXY: TypeAlias = tuple[int, int, int, int]  # of a label, in shown pixels

SELECTED: Color = (255, 204, 0)
HIT: Color = (64, 224, 255)
FOREGROUND: Color = (48, 209, 88)
BACKGROUND: Color = (255, 69, 58)
INK: Color = (24, 27, 31)
MUTED: Color = (104, 112, 122)
WHITE: Color = (255, 255, 255)
DESK: Color = (241, 243, 246)

FILL_OPACITY = 0.24  # the region's own colours stay visible
MIN_SHOWN_SIDE_PX = 24  # a 1 x 2000 px image is widened to this, or nothing of it could be seen
MIN_FONT_PX = 12
MOST_COVERED = 1 / 3  # of a region by its label: one that would cover more lies beside it
MOST_PLATES_AROUND = 9  # 3 x 3: a box of more is no small region's but that of a rope, and may be the whole image


@dataclass(frozen=True, slots=True)
class RegionMark:
    """A region: translucent fill, outline, and a label in its middle; beside it where the label would hide it."""

    mask: MaskRLE
    color: Color = HIT
    label: str = ""


@dataclass(frozen=True, slots=True)
class BoxMark:
    """A box, in image pixels."""

    box_xyxy: BoxXYXY
    color: Color = FOREGROUND


@dataclass(frozen=True, slots=True)
class PointMark:
    """A prompt's point, in image pixels: green in the foreground, red in the background."""

    x: float
    y: float
    foreground: bool = True


@dataclass(frozen=True, slots=True)
class TextMark:
    """A line of text on a plate along the lower edge."""

    text: str


Mark: TypeAlias = RegionMark | BoxMark | PointMark | TextMark


@dataclass(frozen=True, slots=True)
class _Label:
    """A text to be put on a plate, its point, and of a region: its box with the outline, its area, its colour."""

    text: str
    center: tuple[int, int]
    box_xyxy: PlateXYXY | None = None
    area_px: int = 0
    color: Color | None = None

    def is_hidden_by(self, size: tuple[int, int]) -> bool:
        """Whether a plate (width, height) upon it would leave too little of the region to be seen."""
        if self.box_xyxy is None:
            return False
        plate_px, (x1, y1, x2, y2) = size[0] * size[1], self.box_xyxy
        return plate_px > MOST_COVERED * self.area_px and (x2 - x1) * (y2 - y1) <= MOST_PLATES_AROUND * plate_px


def prompt_marks(prompt: Mapping[str, Any]) -> list[Mark]:
    """What can be drawn of a prompt as plain JSON (`prompts.prompt.describe_prompt`): its points, boxes and text."""
    marks: list[Mark] = []
    for box in [*prompt.get("boxes_xyxy", ()), *([prompt["box_xyxy"]] if prompt.get("box_xyxy") else [])]:
        x1, y1, x2, y2 = box
        marks.append(BoxMark((x1, y1, x2, y2), FOREGROUND))
    for name in ("foreground", "background"):
        marks += [PointMark(x, y, foreground=name == "foreground") for x, y in prompt.get(name) or ()]
    if prompt.get("text"):
        marks.append(TextMark(f"“{prompt['text']}”"))
    return marks


def shown_size(height: int, width: int, longest_side_px: int) -> tuple[int, int]:
    """(height, width) at which an image is shown: longest side as given, the other one at least 24 px."""
    ratio = longest_side_px / max(height, width)
    least = min(MIN_SHOWN_SIDE_PX, longest_side_px)
    return max(least, round(height * ratio)), max(least, round(width * ratio))


def draw_marks(
    image: RGBImage, marks: Sequence[Mark], *, longest_side_px: int, marked_size: tuple[int, int] | None = None
) -> RGBImage:
    """Show an image with marks: regions first, then boxes, points and text.

    image: (H, W, 3) uint8 RGB; marks: in pixels of that image, or of one of `marked_size` (height, width) that it was
    shrunk from.
    Returns: (h, w, 3) uint8 RGB, longest side `longest_side_px`.
    Raises: ValueError for an array of another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"expected an image of (H, W, 3) uint8, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    size = shown_size(height, width, longest_side_px)
    marked_height, marked_width = marked_size or (height, width)
    scale = size[1] / marked_width, size[0] / marked_height
    pixels = resized(image, size)
    labels = _regions(pixels, [mark for mark in marks if isinstance(mark, RegionMark)])
    for box in (mark for mark in marks if isinstance(mark, BoxMark)):
        _box(pixels, box, scale)
    for point in (mark for mark in marks if isinstance(mark, PointMark)):
        _point(pixels, point, scale)
    texts = [_Label(mark.text, (0, size[0])) for mark in marks if isinstance(mark, TextMark)]
    return _with_plates(pixels, labels + texts)


def distinct_colors(count: int) -> list[Color]:
    """Bright colours, neighbours far apart in hue (steps of the golden angle)."""
    hues = ((0.13 + index * 0.618034) % 1.0 for index in range(count))
    shades = (colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues)
    return [(round(red * 255), round(green * 255), round(blue * 255)) for red, green, blue in shades]


def resized(image: RGBImage, size: tuple[int, int]) -> RGBImage:
    """A new array of (height, width) `size`: averaged when shrunk, smooth when enlarged."""
    height, width = size
    if (height, width) == image.shape[:2]:
        return image.copy()
    shrinks = height * width < image.shape[0] * image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _shown_mask(mask: MaskRLE, size: tuple[int, int]) -> BoolMask:
    """A stored mask at the shown size. The grid's stairs are smoothed over one cell, unless nothing would be left."""
    stairs = mask_of_size(mask, *size)
    cell_px = max(size[0] / mask.size[0], size[1] / mask.size[1])
    if cell_px <= 1:
        return stairs
    smooth = cv2.GaussianBlur(stairs.astype(np.float32), (0, 0), cell_px) >= 0.5
    return smooth if smooth.any() else stairs


def _line_widths(pixels: RGBImage) -> tuple[int, int]:
    """Widths of the dark line and of the bright one upon it, in shown pixels."""
    side = max(pixels.shape[:2])
    bright = max(2, min(3, side // 100), 1 + round(side / 400))  # thumbnails are often shown at half their size
    return 2 * bright + 1, bright


def _regions(pixels: RGBImage, marks: Sequence[RegionMark]) -> list[_Label]:
    """Fill and outline regions in place; their labels.

    Outlines lie upon all fills. Of each region its contours are kept until then: the shapes of many would fill memory.
    """
    outlines: list[Sequence[Contour]] = []
    labels = []
    for mark in marks:
        shape = _shown_mask(mark.mask, (pixels.shape[0], pixels.shape[1]))
        _fill(pixels, shape, mark.color)
        outlines.append(cv2.findContours(shape.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0])
        if mark.label:
            labels.append(_label_of(mark, shape, around_px=_line_widths(pixels)[0] // 2 + 1))
    for mark, contours in zip(marks, outlines, strict=True):
        _outline(pixels, contours, mark.color)
    return labels


def _fill(pixels: RGBImage, shape: BoolMask, color: Color) -> None:
    """Tint `pixels`, which belongs to the caller, in place."""
    tint = np.array(color, dtype=np.float32)
    inside = pixels[shape].astype(np.float32)
    pixels[shape] = np.round(inside * (1 - FILL_OPACITY) + tint * FILL_OPACITY).astype(np.uint8)


def _outline(pixels: RGBImage, contours: Sequence[Contour], color: Color) -> None:
    for thickness, shade in zip(_line_widths(pixels), (INK, color), strict=True):
        cv2.polylines(pixels, contours, isClosed=True, color=shade, thickness=thickness, lineType=cv2.LINE_AA)


def _box(pixels: RGBImage, box: BoxMark, scale: tuple[float, float]) -> None:
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = (
        round(min(max(value * factor, 0), limit - 1))
        for value, factor, limit in zip(box.box_xyxy, scale * 2, (width, height) * 2, strict=True)
    )
    for thickness, shade in zip(_line_widths(pixels), (INK, box.color), strict=True):
        cv2.rectangle(pixels, (x1, y1), (x2, y2), shade, thickness, cv2.LINE_AA)


def _point(pixels: RGBImage, point: PointMark, scale: tuple[float, float]) -> None:
    """A dot in a white and a dark ring; a background point carries a bar, for those who don't see red and green."""
    center = round(point.x * scale[0]), round(point.y * scale[1])
    height, width = pixels.shape[:2]
    radius = max(3, round(min(max(height, width) / 55, min(height, width) / 18)))  # or it hides a panorama's things
    ring = max(1, radius // 3)
    for extent, shade in ((radius + 2 * ring, INK), (radius + ring, WHITE)):
        cv2.circle(pixels, center, extent, shade, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(pixels, center, radius, FOREGROUND if point.foreground else BACKGROUND, cv2.FILLED, cv2.LINE_AA)
    if not point.foreground:
        half = max(1, radius // 2)
        left, right = (center[0] - half, center[1]), (center[0] + half, center[1])
        cv2.line(pixels, left, right, WHITE, ring, cv2.LINE_AA)


def _middle_of(shape: BoolMask) -> tuple[int, int]:
    """(x, y) of the shape's innermost pixel, which, unlike the centre of its box, always lies on it."""
    framed = np.pad(shape.astype(np.uint8), 1)
    row, column = np.unravel_index(cv2.distanceTransform(framed, cv2.DIST_L2, 3).argmax(), framed.shape)
    return int(column) - 1, int(row) - 1


def _label_of(mark: RegionMark, shape: BoolMask, *, around_px: int) -> _Label:
    tight = box_of_mask(shape)
    if tight is None:
        return _Label(mark.label, _middle_of(shape))
    x1, y1, x2, y2 = map(int, tight)
    box = x1 - around_px, y1 - around_px, x2 + around_px, y2 + around_px
    return _Label(mark.label, _middle_of(shape), box, int(np.count_nonzero(shape)), mark.color)


def _with_plates(pixels: RGBImage, labels: Sequence[_Label]) -> RGBImage:
    """Write each label on a solid plate centred on its point, or beside it where another label lies there.

    One that would hide its region lies beside that, and others keep off such a region where they can. A label that has
    no room even there is left out.
    """
    if not labels:
        return pixels
    canvas = Image.fromarray(pixels)
    size_px = max(MIN_FONT_PX, round(9 + max(canvas.size) / 90))
    plates = [(label, plate) for label in labels if (plate := _Plate.of(label.text, canvas.width, size_px)) is not None]
    small = [label.box_xyxy for label, plate in plates if label.is_hidden_by(plate.size) and label.box_xyxy is not None]
    taken: list[PlateXYXY] = []
    for label, plate in reversed(plates):  # the last lie on top: small regions, which have the least room
        place = _place_of(label, plate.size, canvas.size, (taken, small))
        if place is not None:
            taken.append(plate.draw(canvas, place, outline=label.color))
    return np.array(canvas)


def draw_plate(canvas: Image.Image, text: str, center: tuple[int, int], *, size_px: int) -> None:
    """Draw one plate, moved into the canvas; nothing where it has no room."""
    plate = _Plate.of(text, canvas.width, size_px)
    place = None if plate is None else _free_place(plate.size, center, canvas.size, ())
    if plate is not None and place is not None:
        plate.draw(canvas, place)


@dataclass(frozen=True, slots=True)
class _Plate:
    """A text as it is shown, with the size (width, height) that it takes."""

    text: str
    size: tuple[int, int]
    size_px: int
    pad_px: int

    @classmethod
    def of(cls, text: str, most_px: int, size_px: int) -> _Plate | None:
        """None where not even the beginning of the text has room."""
        pad = max(2, round(size_px / 4))
        shown = shorten(text, most_px - 2 * pad, size_px)
        if shown == ELLIPSIS:
            return None
        size = round(text_width_px(shown, size_px)) + 2 * pad, round(size_px * 1.1) + pad
        return cls(shown, size, size_px, pad)

    def draw(self, canvas: Image.Image, place: tuple[int, int], *, outline: Color | None = None) -> PlateXYXY:
        """Draw it with its upper left corner there. Returns: where no other may lie."""
        (x, y), (width, height) = place, self.size
        draw = ImageDraw.Draw(canvas)
        draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), radius=self.pad_px, fill=INK, outline=outline)
        baseline = y + (height + self.size_px * CAP_HEIGHT) / 2
        write_text(draw, (x + self.pad_px, round(baseline)), self.text, size_px=self.size_px, fill=WHITE)
        return x - 1, y - 1, x + width + 1, y + height + 1


def _place_of(
    label: _Label,
    size: tuple[int, int],
    room: tuple[int, int],
    occupied: tuple[Sequence[PlateXYXY], Sequence[PlateXYXY]],
) -> tuple[int, int] | None:
    """Where a label's plate goes: never on one of the plates, `occupied[0]`, and if it can on no small region."""
    plates, small = occupied
    for taken in ((*plates, *small), plates):
        box = label.box_xyxy if label.is_hidden_by(size) else None
        place = _free_place(size, label.center, room, taken) if box is None else _place_beside(size, box, room, taken)
        if place is not None:
            return place
    return _free_place(size, label.center, room, plates)


def _place_beside(
    size: tuple[int, int], box_xyxy: PlateXYXY, room: tuple[int, int], taken: Sequence[PlateXYXY]
) -> tuple[int, int] | None:
    """Upper left corner of a plate above a box, below it, or at its right or left side; None where none is free."""
    (width, height), (x1, y1, x2, y2) = size, box_xyxy
    across = min(max((x1 + x2 - width) // 2, 0), max(room[0] - width, 0))
    down = min(max((y1 + y2 - height) // 2, 0), max(room[1] - height, 0))
    for x, y in ((across, y1 - height), (across, y2), (x2, down), (x1 - width, down)):
        inside = 0 <= x <= room[0] - width and 0 <= y <= room[1] - height
        if inside and _is_free((x, y), size, taken):
            return x, y
    return None


def _free_place(
    size: tuple[int, int], center: tuple[int, int], room: tuple[int, int], taken: Sequence[PlateXYXY]
) -> tuple[int, int] | None:
    """Upper left corner of a plate (width, height) inside the room, near its point and on no other plate."""
    width, height = size
    steps = [(dx, dy) for dx in range(-2, 3) for dy in range(-2, 3)]
    for dx, dy in sorted(steps, key=lambda step: (step[0] * width) ** 2 + (step[1] * height) ** 2):
        x = min(max(center[0] - width // 2 + dx * (width + 1), 0), max(room[0] - width, 0))
        y = min(max(center[1] - height // 2 + dy * (height + 1), 0), max(room[1] - height, 0))
        if _is_free((x, y), size, taken):
            return x, y
    return None


def _is_free(place: tuple[int, int], size: tuple[int, int], taken: Sequence[PlateXYXY]) -> bool:
    (x, y), (width, height) = place, size
    return all(x >= x2 or x + width <= x1 or y >= y2 or y + height <= y1 for x1, y1, x2, y2 in taken)
