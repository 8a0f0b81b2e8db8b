"""What clicks and boxes around known things select, by the rules and by simpler ones.

python -m benchmarks.choosing [--preset pico] [--scenes 100] [--seed 11] [--json FILE]
    [--street FOLDER --images 100 --skip 0] [--drawn-only] [--keep FILE.npz] [--before FILE.npz]

Each thing of generated scenes (and of annotated street photographs, as in `benchmarks.ranking_data`) is clicked on its
innermost pixel, on its rim (1.5 to 3.5 px inside), anywhere, and several times: on its innermost pixel and on others.
Where the first click's mask is poor (IoU below 0.75) and mostly too large, up to three more clicks correct it: each in
the middle of the largest wrong piece, in the background where it is too much, else in the foreground.
It is boxed tightly, loosely and too tightly, by boxes that are centred on it. Printed is the share of prompts whose
mask has an IoU of at least 0.5 with the thing, and the mean IoU, by a simpler rule and by the rule: exact clicks and
clicks that may touch; the masks of several clicks merged, and those that are needed; boxes by IoU alone, and by fit;
corrections that take masks out, and that cut them where none is left.
`best`: the ceiling's share, by the best mask of each segmentation.

Rows "drawn" are boxes of so many times the area of the thing's own box around its centre, or with the thing anywhere
in them ("off centre"; a smaller box lies anywhere in the thing's), or the thing's box less 30 % at one side. Each is
given alone (simpler: by IoU alone), with a click on the innermost pixel or anywhere in the box (simpler: the click
alone), and where what the box selects is poor and mostly too large, with a background click that corrects it (simpler:
the box alone). "whole" is all that is annotated on a street photograph: a person.

`--keep` writes the IoU of each prompt. `--before` reads such a file, of another state of the code, and prints for each
row the mean IoU before and after, and the 95 % interval of the difference: bootstrap over images, prompts of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from benchmarks.ranking_clicks import Annotated, scene_clicks, street_clicks
from benchmarks.ranking_data import load_preset
from searchanything.core.geometry import GRID_STRIDE, decode_rle, innermost_point
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask, BoxXYXY
from searchanything.prompts.choose import Choice, box_ious, choose_by_box, choose_by_points
from searchanything.prompts.choose_together import choose_together
from searchanything.prompts.points_on_grid import PointsOnGrid
from searchanything.prompts.prompt import Box, Point, Points, Prompts

MIN_IOU: Final = 0.5
LEAST_PX: Final = 100  # of a thing: smaller ones are crumbs
BOX_MIN_IOU: Final = 0.1  # the setting's default
LOOSER: Final = (-0.15, 0.0, 0.1, 0.25, 0.5, 1.0)
SEVERAL: Final = (2, 3, 5)
CORRECTIONS: Final = 3
GOOD_IOU: Final = 0.75  # who sees as much corrects nothing
LEAST_WRONG: Final = 0.1  # of the thing's area, for somebody to correct it
LEAST_DEPTH: Final = 1.5  # cells from the middle of a piece to its rim, for somebody to see it
AREAS: Final = (1, 2, 4, 9)  # of a drawn box, in those of the thing's own
OFF_CENTRE: Final = (0.5, 9)
LEFT_OUT: Final = 0.3  # of a side, by a box that misses
ROUNDS: Final = 1000  # of the bootstrap
WHOLE: Final = -1  # the number of all things of an image together
WIDTH: Final = 40
COLUMNS: Final = ("simpler", "rule", "best", "IoU, s.", "IoU, rule", "prompts")


def clicks(mask: BoolMask, rng: np.random.Generator) -> Iterator[tuple[str, Point]]:
    """The innermost pixel of a thing, one of its rim where it has such, and any."""
    yield "innermost", innermost_point(mask)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    for name, there in (("rim", (depth >= 1.5) & (depth <= 3.5)), ("anywhere", mask)):
        pixels = np.argwhere(there)
        if len(pixels):
            y, x = pixels[rng.integers(len(pixels))].tolist()
            yield name, (x + 0.5, y + 0.5)


def several_clicks(mask: BoolMask, rng: np.random.Generator) -> Iterator[tuple[str, tuple[Point, ...]]]:
    """The innermost pixel of a thing, and one to four others anywhere on it."""
    pixels = np.argwhere(mask)
    drawn = pixels[rng.integers(len(pixels), size=max(SEVERAL) - 1)].tolist()
    points = (innermost_point(mask), *((x + 0.5, y + 0.5) for y, x in drawn))
    for count in SEVERAL:
        yield f"{count} clicks", points[:count]


def corrected(thing: BoolMask, on_grid: BoolMask, segmentation: Segmentation) -> Iterator[tuple[str, Choice]]:
    """What the first, second and third correction select, if the first is a background click; else nothing."""
    prompt = Points((innermost_point(thing),))
    choice, again = choose_by_points(prompt, segmentation), True
    for number in range(1, CORRECTIONS + 1):
        wrong = wrong_piece(choice.mask, on_grid, segmentation) if again else None
        again = wrong is not None
        if wrong is not None:
            name, point = wrong
            if name == "background":
                prompt = replace(prompt, background=(*prompt.background, point))
            else:
                prompt = replace(prompt, foreground=(*prompt.foreground, point))
            choice = choose_by_points(prompt, segmentation)
        if not prompt.background:
            return
        yield f"{number} corrected", choice


def wrong_piece(mask: BoolMask, thing: BoolMask, segmentation: Segmentation) -> tuple[str, Point] | None:
    """The largest piece by which two grid masks differ, if somebody would correct it: the kind of click that does, and
    where.
    """
    if overlap(mask, thing, segmentation) >= GOOD_IOU:
        return None
    largest: tuple[int, str, BoolMask] = 0, "", np.zeros_like(mask)
    for name, wrong in (("background", mask & ~thing), ("foreground", thing & ~mask)):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=4)
        areas = np.append(0, stats[1:, cv2.CC_STAT_AREA])
        if areas.max() > largest[0]:
            largest = int(areas.max()), name, labels == areas.argmax()
    area, name, piece = largest
    depth = cv2.distanceTransform(np.pad(piece, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    if area < LEAST_WRONG * thing.sum() or depth.max() < LEAST_DEPTH:
        return None
    y, x = (float(cell) for cell in np.unravel_index(depth.argmax(), depth.shape))
    cell = np.array([[x, y, x + 1, y + 1]], dtype=np.float32) * GRID_STRIDE
    x1, y1, x2, y2 = segmentation.letterbox.boxes_to_image(cell)[0].tolist()
    return name, ((x1 + x2) / 2, (y1 + y2) / 2)


def boxes(mask: BoolMask) -> Iterator[tuple[str, BoxXYXY]]:
    """The tight box, and what is looser (or tighter) by shares of its sides at each edge, within the image."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x1, y1, x2, y2 = float(xs[0]), float(ys[0]), float(xs[-1]) + 1, float(ys[-1]) + 1
    for by in LOOSER:
        dx, dy = by * (x2 - x1), by * (y2 - y1)
        box = max(x1 - dx, 0.0), max(y1 - dy, 0.0), min(x2 + dx, mask.shape[1]), min(y2 + dy, mask.shape[0])
        yield ("tight" if by == 0 else f"looser by {by:g}"), box


def drawn_boxes(mask: BoolMask, rng: np.random.Generator) -> Iterator[tuple[str, BoxXYXY]]:
    """Boxes as people draw them, within the image: by their area, and one that misses a part of the thing."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    lower, upper = np.array([xs[0], ys[0]], dtype=np.float64), np.array([xs[-1], ys[-1]]) + 1.0
    for names, drawn in ((AREAS, False), (OFF_CENTRE, True)):
        for times in names:
            sides = (upper - lower) * times**0.5
            first = lower - (sides - (upper - lower)) * (rng.random(2) if drawn else 0.5)
            yield f"{times:g} x" + (", off centre" if drawn else ""), _within(first, first + sides, mask)
    side, axis = rng.integers(2, size=2)
    ends = np.array([lower, upper])
    ends[side, axis] += (1 - 2 * side) * LEFT_OUT * (upper - lower)[axis]
    yield f"less {LEFT_OUT:.0%}", _within(ends[0], ends[1], mask)


def _within(lower: NDArray[np.float64], upper: NDArray[np.float64], mask: BoolMask) -> BoxXYXY:
    (x1, y1), (x2, y2) = np.maximum(lower, 0).tolist(), np.minimum(upper, mask.shape[::-1]).tolist()
    return x1, y1, x2, y2


def drawn(thing: BoolMask, segmentation: Segmentation, rng: np.random.Generator) -> Mapping[str, tuple[BoolMask, ...]]:
    """Of each drawn box, alone and with a click, the mask by something simpler and by the rule."""
    on_grid = segmentation.letterbox.grid_mask(thing)
    chosen: dict[str, tuple[BoolMask, ...]] = {}
    for name, box in drawn_boxes(thing, rng):
        alone = choose_by_box(Box(*box), segmentation, min_iou=BOX_MIN_IOU).mask
        chosen[f"drawn, {name}"] = by_iou_alone(box, segmentation), alone
        for which, point in clicks_in_box(thing, box, rng):
            both = choose_together(Prompts(Box(*box), point), segmentation, box_min_iou=BOX_MIN_IOU).mask
            chosen[f"drawn, {name}, {which}"] = choose_by_points(Points((point,)), segmentation).mask, both
        wrong = wrong_piece(alone, on_grid, segmentation)
        if wrong is not None and wrong[0] == "background":
            prompt = Prompts(Box(*box), background=(wrong[1],))
            corrected_once = choose_together(prompt, segmentation, box_min_iou=BOX_MIN_IOU).mask
            chosen[f"drawn, {name}, background"] = alone, corrected_once
    return chosen


def clicks_in_box(mask: BoolMask, box: BoxXYXY, rng: np.random.Generator) -> Iterator[tuple[str, Point]]:
    """The innermost pixel of a thing, where the box holds it, and any that it holds."""
    x, y = innermost_point(mask)
    if box[0] <= x < box[2] and box[1] <= y < box[3]:
        yield "innermost", (x, y)
    centres = np.argwhere(mask)[:, ::-1] + 0.5
    held = centres[np.all((centres >= box[:2]) & (centres < box[2:]), axis=1)]
    if len(held):
        x, y = held[rng.integers(len(held))].tolist()
        yield "anywhere", (x, y)


def overlap(mask: BoolMask, thing: BoolMask, segmentation: Segmentation) -> float:
    """IoU of two grid masks, partly filled cells counted so."""
    share = segmentation.letterbox.coverage
    return float(((mask & thing) * share).sum() / max(((mask | thing) * share).sum(), 1e-9))


def by_iou_alone(box: BoxXYXY, segmentation: Segmentation) -> BoolMask:
    """The rule before: the largest IoU, or the box itself."""
    ious = box_ious(box, segmentation)
    fits = ious.max(initial=0) >= BOX_MIN_IOU
    return segmentation.masks[ious.argmax()] if fits else segmentation.letterbox.box_mask(box)


def prompted(
    thing: BoolMask, segmentation: Segmentation, rng: np.random.Generator
) -> Mapping[str, tuple[BoolMask, ...]]:
    """Of each prompt for one thing, the mask by the simpler rule and by the rule."""
    on_grid = segmentation.letterbox.grid_mask(thing)
    chosen: dict[str, tuple[BoolMask, ...]] = {}
    for name, point in clicks(thing, rng):
        touching = choose_by_points(Points((point,)), segmentation).mask
        exact = PointsOnGrid.of([point], [], segmentation).under.any()
        chosen[f"click, {name}"] = touching if exact else np.zeros_like(touching), touching
    for name, points in several_clicks(thing, rng):
        alone = [choose_by_points(Points((point,)), segmentation).mask for point in points]
        chosen[name] = np.any(alone, axis=0), choose_by_points(Points(points), segmentation).mask
    for name, choice in corrected(thing, on_grid, segmentation):
        chosen[name] = np.any(segmentation.masks[list(choice.rows)], axis=0), choice.mask
    for name, box in boxes(thing):
        by_fit = choose_by_box(Box(*box), segmentation, min_iou=BOX_MIN_IOU).mask
        chosen[f"box, {name}"] = by_iou_alone(box, segmentation), by_fit
    return chosen


def _measured(
    at: tuple[int, int], thing: BoolMask, chosen: Mapping[str, tuple[BoolMask, ...]], segmentation: Segmentation
) -> Iterator[tuple[str, list[float]]]:
    """By its row, of each prompt: the numbers of the image and the thing, and the IoUs of the simpler rule's mask, the
    rule's, and the best of all.
    """
    on_grid = segmentation.letterbox.grid_mask(thing)
    best = max((overlap(one, on_grid, segmentation) for one in segmentation.masks), default=0.0)
    for name, several in chosen.items():
        yield name, [*at, *(overlap(one, on_grid, segmentation) for one in several), best]


def values_of(
    segmented: Iterable[tuple[Segmentation, Annotated]], *, drawn_only: bool, wholes: bool
) -> dict[str, NDArray[np.float64]]:
    """Of each row, the prompts' IoUs."""
    rng, of_drawn = np.random.default_rng(3), np.random.default_rng(5)
    found: dict[str, list[list[float]]] = {}
    for number, (segmentation, (_, truth)) in enumerate(segmented):
        things = [decode_rle(one.mask) for one in truth.instances if one.area_px >= LEAST_PX]
        asked = [(place, thing, drawn(thing, segmentation, of_drawn)) for place, thing in enumerate(things)]
        if not drawn_only:
            asked += [(place, thing, prompted(thing, segmentation, rng)) for place, thing in enumerate(things)]
        if wholes and things:
            whole: BoolMask = np.any(things, axis=0)
            of_whole = drawn(whole, segmentation, of_drawn)
            asked.append((WHOLE, whole, {f"whole, {name}": masks for name, masks in of_whole.items()}))
        for place, thing, chosen in asked:
            for name, values in _measured((number, place), thing, chosen, segmentation):
                found.setdefault(name, []).append(values)
    return {name: np.array(values) for name, values in found.items()}


def summed_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of the simpler rule, the rule and the ceiling, the mean IoUs of both, and the count."""
    ious = values[:, 2:]
    return np.array([*(ious >= MIN_IOU).mean(axis=0), *ious[:, :2].mean(axis=0), len(ious)])


def compared(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float, float, float, int]:
    """The rule's mean IoU before and after, the interval of the difference, and the count of prompts of both."""
    known = {(image, thing): iou for image, thing, _, iou, _ in before.tolist()}
    pairs = np.array(
        [(image, known[image, thing], iou) for image, thing, _, iou, _ in after.tolist() if (image, thing) in known]
    )
    images, inverse = np.unique(pairs[:, 0], return_inverse=True)
    sums, counts = np.bincount(inverse, pairs[:, 2] - pairs[:, 1]), np.bincount(inverse)
    drawn_images = np.random.default_rng(0).integers(len(images), size=(ROUNDS, len(images)))
    low, high = np.percentile(sums[drawn_images].sum(axis=1) / counts[drawn_images].sum(axis=1), (2.5, 97.5))
    return float(pairs[:, 1].mean()), float(pairs[:, 2].mean()), float(low), float(high), len(pairs)


def print_compared(file: Path, after: Mapping[str, NDArray[np.float64]]) -> None:
    """A line for each row that both have."""
    print(f"{'':{WIDTH + 7}} {'before':>9} {'after':>9} {'low':>9} {'high':>9} {'prompts':>9}")
    with np.load(file, allow_pickle=False) as before:
        for name in after:
            if name in before:
                *ious, count = compared(before[name], after[name])
                print(f"{name:{WIDTH + 7}} " + " ".join(f"{iou:9.3f}" for iou in ious) + f" {count:9}")


def main() -> None:
    """Print a table for each kind of image; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--street", type=Path, help="folder of photographs with their label files")
    parser.add_argument("--images", type=int, default=100, help="street photographs to use")
    parser.add_argument("--skip", type=int, default=0, help="street photographs to leave out before them")
    parser.add_argument("--drawn-only", action="store_true", help="only the rows of drawn boxes")
    parser.add_argument("--keep", type=Path, help="write each prompt's IoU there (.npz)")
    parser.add_argument("--before", type=Path, help="compare with what --keep wrote of another state of the code")
    options = parser.parse_args()
    segmenter = load_preset(options.preset).segmenter
    kinds = {"scenes": scene_clicks(options.scenes, seed=options.seed)}
    if options.street is not None:
        kinds["street"] = street_clicks(sorted(options.street.glob("*.png"))[options.skip :][: options.images])
    figures, kept = {}, dict[str, NDArray[np.float64]]()
    for kind, images in kinds.items():
        segmented = ((segmenter.segment([one[0]])[0], one) for one in images)
        found = values_of(segmented, drawn_only=options.drawn_only, wholes=kind == "street")
        kept |= {f"{kind}/{name}": values for name, values in found.items()}
        print(f"{kind:{WIDTH}} " + " ".join(f"{column:>9}" for column in COLUMNS))
        summed = {name: summed_up(values) for name, values in found.items()}
        for name, (*shares, count) in summed.items():
            print(f"{name:{WIDTH}} " + " ".join(f"{share:9.3f}" for share in shares) + f" {count:9.0f}")
        figures[kind] = {name: dict(zip(COLUMNS, values.tolist(), strict=True)) for name, values in summed.items()}
    measuring.write(figures, options.json)
    if options.keep is not None:
        np.savez_compressed(options.keep, allow_pickle=False, **kept)
    if options.before is not None:
        print_compared(options.before, kept)


if __name__ == "__main__":
    main()
