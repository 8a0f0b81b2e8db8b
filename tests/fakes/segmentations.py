"""Segmentations whose masks can be counted pixel by pixel.

The images lie in their network input without scaling and at whole cells, so that a grid mask is a mask of 4 x 4 pixel
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from fakes.models import GridMap
from hypothesis import strategies as st
from numpy.typing import NDArray

from searchanything.core.geometry import Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMasks
from searchanything.prompts.choose import Choice

MIN_IOU = 0.1  # of a box and the mask that fits it
SEEDS = st.integers(0, 2**32 - 1)
WIDTH = 64
HEIGHTS = (32, 40, 48, 64)  # each padded by a whole number of cells


def segmented(height: int, pixels: Sequence[NDArray[np.bool_]] | BoolMasks) -> Segmentation:
    """A segmentation of (height, 64) px whose masks are these image masks of 4 x 4 blocks, surest first."""
    letterbox = Letterbox(height, WIDTH, 64)
    top = letterbox.offset[0] // 4
    masks = np.zeros((len(pixels), *letterbox.grid_size), dtype=np.bool_)
    boxes = np.zeros((len(pixels), 4), dtype=np.float32)
    for mask, box, image_mask in zip(masks, boxes, pixels, strict=True):
        mask[top : top + height // 4] = image_mask[::4, ::4]
        ys, xs = np.nonzero(image_mask)
        box[:] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else 0
    scores = np.linspace(0.9, 0.3, len(pixels)).astype(np.float32)
    features = GridMap(np.zeros((*letterbox.grid_size, 1), dtype=np.float32), letterbox.coverage)
    return Segmentation(letterbox, boxes, scores, masks, features)


def rectangle(height: int, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((height, WIDTH), dtype=np.bool_)
    x1, y1, x2, y2 = box_xyxy
    mask[y1:y2, x1:x2] = True
    return mask


def random_masks(seed: int) -> tuple[int, list[NDArray[np.bool_]]]:
    """A height and up to seven masks of blocks: rectangles that overlap and nest, copies, noise, an empty one."""
    generator = np.random.default_rng(seed)
    height = int(generator.choice(HEIGHTS))
    rows = height // 4
    masks = []
    for _ in range(int(generator.integers(0, 8))):
        blocks = np.zeros((rows, WIDTH // 4), dtype=np.bool_)
        kind = generator.random()
        if kind < 0.1:
            blocks = generator.random(blocks.shape) < 0.4
        elif kind < 0.2 and masks:
            blocks = masks[int(generator.integers(len(masks)))][::4, ::4].copy()
        elif kind < 0.95:
            y, x = sorted(generator.integers(0, rows + 1, 2)), sorted(generator.integers(0, WIDTH // 4 + 1, 2))
            blocks[y[0] : y[1], x[0] : x[1]] = True
        masks.append(np.kron(blocks, np.ones((4, 4), dtype=np.bool_)))
    return height, masks


def random_points(seed: int, height: int, least: int, most: int) -> list[tuple[float, float]]:
    generator = np.random.default_rng([seed, least])
    count = int(generator.integers(least, most + 1))
    return [(float(x) * WIDTH, float(y) * height) for x, y in generator.random((count, 2))]


def held(mask: NDArray[np.bool_], point: tuple[float, float]) -> bool:
    return bool(mask[math.floor(point[1]), math.floor(point[0])])


def touched(mask: NDArray[np.bool_], point: tuple[float, float], blocks: int = 1) -> bool:
    """Whether a mask has a pixel in the point's block of 4 x 4 or so many blocks around it."""
    x, y = (math.floor(side / 4) * 4 for side in point)
    around = 4 * blocks
    return bool(mask[max(y - around, 0) : y + 4 + around, max(x - around, 0) : x + 4 + around].any())


def meant_by(
    point: tuple[float, float], masks: Sequence[NDArray[np.bool_]], usable: Sequence[int] | None = None
) -> list[int]:
    """The rule in words: the masks that hold a point, or, where no mask at all does, those that it touches."""
    on_one = any(held(mask, point) for mask in masks)
    rows = range(len(masks)) if usable is None else usable
    return [row for row in rows if (held if on_one else touched)(masks[row], point)]


def nearer(
    mask: NDArray[np.bool_], ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]
) -> NDArray[np.bool_]:
    """The blocks of a mask that are nearer to the block of one of our points than to each of theirs."""
    left = np.zeros_like(mask)
    for y in range(0, mask.shape[0], 4):
        for x in range(0, mask.shape[1], 4):
            one, other = (min(math.dist((x, y), (px // 4 * 4, py // 4 * 4)) for px, py in ps) for ps in (ours, theirs))
            left[y : y + 4, x : x + 4] = mask[y, x] and one < other
    return left


def cut_half_way(
    mask: NDArray[np.bool_], foreground: Sequence[tuple[float, float]], background: Sequence[tuple[float, float]]
) -> NDArray[np.bool_]:
    """The rule in words: the blocks of a mask that are nearer to a foreground point's block than to a background's, of
    the points on the mask.
    """
    ours, theirs = ([point for point in points if held(mask, point)] for points in (foreground, background))
    return nearer(mask, ours, theirs)


def cut_for_clicks(
    masks: Sequence[NDArray[np.bool_]],
    usable: Sequence[int],
    points: Sequence[tuple[float, float]],
    order: Callable[[list[int]], list[int]],
    *,
    foreground: Sequence[tuple[float, float]],
    background: Sequence[tuple[float, float]],
) -> dict[int, NDArray[np.bool_]]:
    """The rule in words: what is left of the first mask, by row, of each point all of whose masks are excluded, where
    that holds the point.
    """
    cut = {}
    for one in points:
        rows = [row for row in range(len(masks)) if held(masks[row], one)]
        if rows and not meant_by(one, masks, usable):
            row = order(rows)[0]
            left = cut_half_way(masks[row], foreground, background)
            if held(left, one):
                cut[row] = left
    return cut


def in_pixels(choice: Choice, height: int) -> NDArray[np.bool_]:
    """A choice's mask in image pixels; what lies on the padding must be empty."""
    top = Letterbox(height, WIDTH, 64).offset[0]
    pixels = np.kron(choice.mask, np.ones((4, 4), dtype=np.bool_))
    assert not pixels[:top].any()
    assert not pixels[top + height :].any()
    return pixels[top : top + height]


def made_of_others(masks: Sequence[NDArray[np.bool_]], row: int) -> bool:
    """The rule in words: 3/5 of it are covered by masks that lie in it to 4/5 and are at most 4/5 as large."""
    whole = masks[row]
    parts = [
        one
        for one in masks
        if one.any() and 5 * (one & whole).sum() >= 4 * one.sum() and 5 * one.sum() <= 4 * whole.sum()
    ]
    covered = np.any([np.zeros_like(whole), *parts], axis=0) & whole
    return bool(5 * covered.sum() >= 3 * whole.sum())


def scores_for_size(masks: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Score over area^0.75 of each."""
    scores = np.linspace(0.9, 0.3, len(masks)).astype(np.float32)
    return [float(score) / max(int(mask.sum()), 1) ** 0.75 for score, mask in zip(scores, masks, strict=True)]


def things_in_order(masks: Sequence[NDArray[np.bool_]], rows: Sequence[int]) -> list[int]:
    """A click's order in words: undivided masks by score over area^0.75, then those made of others, smallest first."""
    areas = [int(mask.sum()) for mask in masks]
    divided = {row: made_of_others(masks, row) for row in rows}
    dense = scores_for_size(masks)
    return sorted(rows, key=lambda row: (divided[row], areas[row] if divided[row] else -dense[row], row))


def needed_rows(
    masks: Sequence[NDArray[np.bool_]], picked: Mapping[tuple[float, float], int], points: Sequence[tuple[float, float]]
) -> list[int]:
    """The rule in words: of what each point picked, the least likely goes while all points lie in or near the rest.

    Near is one block away, four for a point whose own pick is made of others.
    """
    rows = things_in_order(masks, sorted(set(picked.values())))

    def at(point: tuple[float, float], row: int) -> bool:
        blocks = 4 if made_of_others(masks, picked[point]) else 1
        return row in meant_by(point, masks) or touched(masks[row], point, blocks)

    for row in rows[::-1]:
        rest = [one for one in rows if one != row]
        if all(any(at(point, one) for one in rest) for point in points if point in picked):
            rows = rest
    return sorted(rows)


def reaches_least_iou(box_xyxy: tuple[float, float, float, float], mask: NDArray[np.bool_]) -> bool:
    """The rule in words: `MIN_IOU` with a box of whole pixels, or 3/10 of it where over half of the mask is in it."""
    x1, y1, x2, y2 = (int(side) for side in box_xyxy)
    inside = int(mask[y1:y2, x1:x2].sum())
    iou = inside / ((x2 - x1) * (y2 - y1) + int(mask.sum()) - inside)
    return inside > 0 and iou >= (0.3 * MIN_IOU if 2 * inside > mask.sum() else MIN_IOU)


def overlapping_rows(cut: NDArray[np.bool_], masks: Sequence[NDArray[np.bool_]], usable: Sequence[int]) -> list[int]:
    """The usable masks that share a pixel with a cut one, the highest IoU with it first."""
    ious = {row: (masks[row] & cut).sum() / max((masks[row] | cut).sum(), 1) for row in usable}
    return sorted((row for row in usable if ious[row] > 0), key=lambda row: (-np.float32(ious[row]), row))


def to_five_digits(value: float) -> float:
    """A value whose first bit counts for a half, rounded: factors that are equal but for float32's error tie."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa, 5), exponent)


def fit(box_xyxy: tuple[float, float, float, float], mask: NDArray[np.bool_]) -> float:
    """IoU with a box of whole pixels, times the share in it, times exp(-4 d²); d² by halves of the box's sides."""
    x1, y1, x2, y2 = (int(side) for side in box_xyxy)
    ys, xs = np.nonzero(mask)
    inside = int(mask[y1:y2, x1:x2].sum())
    if not inside:
        return 0.0
    iou = inside / ((x2 - x1) * (y2 - y1) + len(xs) - inside)
    across = (int(xs.min()) + int(xs.max()) + 1 - x1 - x2) / (x2 - x1)
    down = (int(ys.min()) + int(ys.max()) + 1 - y1 - y2) / (y2 - y1)
    return float(iou * inside / len(xs) * math.exp(-4 * (across**2 + down**2)))
