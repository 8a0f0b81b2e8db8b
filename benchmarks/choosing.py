"""What clicks and boxes around known things select, by the rules and by simpler ones.

python -m benchmarks.choosing [--preset pico] [--scenes 100] [--seed 11] [--json FILE]
    [--street FOLDER --images 100 --skip 0]

Each thing of generated scenes (and of annotated street photographs, as in `benchmarks.ranking_data`) is clicked on its
innermost pixel, on its rim (1.5 to 3.5 px inside), anywhere, and several times: on its innermost pixel and on others.
Where the first click's mask is poor (IoU below 0.75) and mostly too large, up to three more clicks correct it: each in
the middle of the largest wrong piece, in the background where it is too much, else in the foreground.
It is boxed tightly, loosely and too tightly, by boxes that are centred on it. Printed is the share of prompts whose
mask has an IoU of at least 0.5 with the thing, and the mean IoU, by a simpler rule and by the rule: exact clicks and
clicks that may touch; the masks of several clicks merged, and those that are needed; boxes by IoU alone, and by fit;
corrections that take masks out, and that cut them where none is left.
`best`: the ceiling's share, by the best mask of each segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from searchanything.prompts.points_on_grid import PointsOnGrid
from searchanything.prompts.prompt import Box, Point, Points

MIN_IOU: Final = 0.5
LEAST_PX: Final = 100  # of a thing: smaller ones are crumbs
BOX_MIN_IOU: Final = 0.1  # the setting's default
LOOSER: Final = (-0.15, 0.0, 0.1, 0.25, 0.5, 1.0)
SEVERAL: Final = (2, 3, 5)
CORRECTIONS: Final = 3
GOOD_IOU: Final = 0.75  # who sees as much corrects nothing
LEAST_WRONG: Final = 0.1  # of the thing's area, for somebody to correct it
LEAST_DEPTH: Final = 1.5  # cells from the middle of a piece to its rim, for somebody to see it
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
            prompt = replace(prompt, **{name: (*getattr(prompt, name), point)})
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


def overlap(mask: BoolMask, thing: BoolMask, segmentation: Segmentation) -> float:
    """IoU of two grid masks, partly filled cells counted so."""
    share = segmentation.letterbox.coverage
    return float(((mask & thing) * share).sum() / max(((mask | thing) * share).sum(), 1e-9))


def by_iou_alone(box: BoxXYXY, segmentation: Segmentation) -> BoolMask:
    """The rule before: the largest IoU, or the box itself."""
    ious = box_ious(box, segmentation)
    fits = ious.max(initial=0) >= BOX_MIN_IOU
    return segmentation.masks[ious.argmax()] if fits else segmentation.letterbox.box_mask(box)


def measured(
    segmentation: Segmentation, thing: BoolMask, rng: np.random.Generator
) -> Iterator[tuple[str, list[float]]]:
    """Of each prompt for one thing, the IoU of the mask by the simpler rule, by the rule, and of the best of all."""
    on_grid = segmentation.letterbox.grid_mask(thing)
    best = max((overlap(one, on_grid, segmentation) for one in segmentation.masks), default=0.0)
    chosen: dict[str, tuple[BoolMask, BoolMask]] = {}
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
    for name, several in chosen.items():
        yield name, [*(overlap(one, on_grid, segmentation) for one in several), best]


def table(segmenter_of: Iterator[tuple[Segmentation, Annotated]]) -> Mapping[str, NDArray[np.float64]]:
    """Per prompt, the shares of the simpler rule, the rule and the ceiling, the mean IoUs of both, and the count."""
    rng = np.random.default_rng(3)
    found: dict[str, list[list[float]]] = {}
    for segmentation, (_, truth) in segmenter_of:
        for one in truth.instances:
            if one.area_px >= LEAST_PX:
                for name, values in measured(segmentation, decode_rle(one.mask), rng):
                    found.setdefault(name, []).append(values)
    return {name: _summed_up(np.array(values)) for name, values in found.items()}


def _summed_up(ious: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([*(ious >= MIN_IOU).mean(axis=0), *ious[:, :2].mean(axis=0), len(ious)])


def main() -> None:
    """Print a table for each kind of image; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--street", type=Path, help="folder of photographs with their label files")
    parser.add_argument("--images", type=int, default=100, help="street photographs to use")
    parser.add_argument("--skip", type=int, default=0, help="street photographs to leave out before them")
    options = parser.parse_args()
    segmenter = load_preset(options.preset).segmenter
    kinds = {"scenes": scene_clicks(options.scenes, seed=options.seed)}
    if options.street is not None:
        kinds["street"] = street_clicks(sorted(options.street.glob("*.png"))[options.skip :][: options.images])
    figures = {}
    for kind, images in kinds.items():
        found = table((segmenter.segment([one[0]])[0], one) for one in images)
        print(f"{kind:24} " + " ".join(f"{column:>9}" for column in COLUMNS))
        for name, (*shares, count) in found.items():
            print(f"{name:24} " + " ".join(f"{share:9.3f}" for share in shares) + f" {count:9.0f}")
        figures[kind] = {name: dict(zip(COLUMNS, values.tolist(), strict=True)) for name, values in found.items()}
    measuring.write(figures, options.json)


if __name__ == "__main__":
    main()
