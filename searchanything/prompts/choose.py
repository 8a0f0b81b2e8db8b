"""Prompt → region: which of a segmentation's masks a prompt means, with the reason and the runners-up.

The rules are those of `searchanything.prompts.prompt`; here they meet the masks on their grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.counting import counted
from searchanything.core.errors import PromptError
from searchanything.core.geometry import boxes_of
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask, BoxXYXY, Candidate, FloatArray, Selection, TextMatch
from searchanything.prompts.containers import COVERED_SHARE, RowNumbers, covered_by_parts
from searchanything.prompts.cuts import CUT, CutMasks, overlapping
from searchanything.prompts.points_on_grid import Flags, PointsOnGrid
from searchanything.prompts.prompt import Box, Mask, Point, Points, WholeImage

RUNNERS_UP = 5
SIZE_POWER = 0.75  # measured with COVERED_SHARE on photographs of people and on pictogram scenes (docs/adr/0053)
CELLS_BESIDE = 1  # a mask's edge is known to a cell
CELLS_BESIDE_WHOLE = 4  # where a click is on nothing but a whole that is made of others (docs/adr/0088)
LEAST_SHARE_IN_BOX = 0.5  # of a mask, to lie mostly in a box: the greater part
LEAST_IOU_IN_BOX = 0.3  # of the least IoU, for a mask that lies mostly in the box (docs/adr/0091)
TIGHT_IOU = 0.5  # of a mask and a box, from which on the box says how large the thing under a click is
CENTRED = 4.0  # of exp(-4 d²), d from a box's centre to a mask's, in halves of the box's sides (docs/adr/0088)
_DIGITS = 5  # of a fit, behind its first bit: products that are equal but for their factors tie
_RULE_NAMES = {"searchanything": "thing", "surest": "score"}
_HOW = {
    "searchanything": "the surest for its size",
    "surest": "the surest",
    "part": "the smallest",
    "object": "the middle",
    "whole": "the largest",
}

Fits: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The outcome of a prompt on the mask grid: `mask` (gh, gw) bool, and what `Selection` says of it.

    As rows of the segmentation, `others` lists the runners-up, best first, and `rows` the masks that were chosen.
    """

    kind: Literal["region", "image", "none"]
    mask: BoolMask
    box_xyxy: BoxXYXY
    score: float
    rule: str
    reason: str
    others: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    text_match: TextMatch | None = None


def choose(prompt: Points | Box | Mask | WholeImage, segmentation: Segmentation, *, box_min_iou: float) -> Choice:
    """Apply a prompt that needs no embeddings. Raises: PromptError."""
    match prompt:
        case Points():
            return choose_by_points(prompt, segmentation)
        case Box():
            return choose_by_box(prompt, segmentation, min_iou=box_min_iou)
        case Mask():
            return choose_given(prompt, segmentation)
        case WholeImage():
            return choose_everything(segmentation)


def choose_by_points(prompt: Points, segmentation: Segmentation) -> Choice:
    """The masks under the foreground points, one each, merged, without those that are not needed.

    Raises: PromptError for a point outside the image.
    """
    points = PointsOnGrid.of(prompt.foreground, prompt.background, segmentation)
    if prompt.rule == "fastsam":
        return _painted(segmentation, np.any(points.under, axis=1), points.excluded)
    usable = points.within_reach & ~points.excluded[:, None]
    reach = np.where(np.any(usable, axis=0), usable, points.under)  # where a background leaves no mask, it is cut
    orders = _ranked(prompt, segmentation, reach)
    firsts = {number: int(order[0]) for number, order in enumerate(orders) if len(order)}
    picked = {number: row for number, row in firsts.items() if usable[row, number]}
    cut = CutMasks.of({number: row for number, row in firsts.items() if number not in picked}, points, segmentation)
    if not picked and not cut.rows:
        return _nearest(segmentation, prompt, excluded=points.excluded)
    by_default = prompt.granularity is None and prompt.rule == "searchanything"
    chosen = needed(segmentation, points, picked) if by_default else sorted(set(picked.values()))
    held = np.flatnonzero(np.any(usable, axis=1))
    [rest] = _ranked(prompt, segmentation, np.isin(np.arange(len(usable)), np.setdiff1d(held, chosen))[:, None])
    beside_cut = overlapping(cut.masks, segmentation, ~points.excluded)
    how = _HOW[prompt.granularity or prompt.rule]
    beside = int(np.any(points.beside & usable, axis=0).sum())
    where = "under" if not beside else "beside" if beside == len(picked) else "under or beside"
    why = []
    if picked:
        why.append(f"{how} of {counted(len(held), 'mask')} {where} {counted(len(picked), 'foreground point')}")
    if cut.rows:
        why.append(f"{how} under {counted(cut.points, 'foreground point')}, {CUT}")
    if missed := len(orders) - len(picked) - cut.points:
        why.append(f"{counted(missed, 'more point')} {'lies' if missed == 1 else 'lie'} on no usable mask")
    if superfluous := len(set(picked.values())) - len(chosen):
        why.append(f"{counted(superfluous, 'mask')} left out, as the rest lies under or beside each point")
    return Choice(
        kind="region",
        mask=np.any(np.concatenate([segmentation.masks[chosen], cut.masks]), axis=0),
        box_xyxy=merged_box(np.concatenate([segmentation.boxes_xyxy[chosen], cut.boxes_xyxy])),
        score=float(segmentation.scores[[*chosen, *cut.rows]].max()),
        rule=f"points/{prompt.granularity or _RULE_NAMES[prompt.rule]}",
        reason="; ".join(why),
        others=tuple(int(row) for row in dict.fromkeys([*rest, *beside_cut]) if row not in chosen)[:RUNNERS_UP],
        rows=tuple(chosen),
    )


def choose_by_box(prompt: Box, segmentation: Segmentation, *, min_iou: float) -> Choice:
    """The mask that fits the filled box best; the box itself where none has an IoU of `min_iou` with it, or of 3/10 of
    that and lies mostly in it.

    Raises: PromptError for a box that lies outside the image.
    """
    box = clipped(prompt.xyxy, segmentation)
    ious, shares = box_ious(box, segmentation), shares_in_box(box, segmentation)
    fitting = reach_least_iou(ious, shares, min_iou)
    if fitting.any():
        fits = box_fits(box, ious, shares, segmentation)
        order = np.lexsort((-fits, ~fitting))
        best = f"IoU {ious[order[0]]:.2f} with the box and {shares[order[0]]:.0%} in it"
        reason = f"{best}, the best of {counted(len(ious), 'mask')}"
        return _highest(segmentation, fits, order[ious[order] > 0], rule="box/iou", reason=reason)
    order = np.argsort(-ious, kind="stable")
    nearest = "the image has no regions"
    if len(order):
        most = ious[order[0]]
        nearest = f"best IoU {most:.2f} is below {min_iou}" if most < min_iou else "none overlaps it"
    return Choice(
        kind="region",
        mask=segmentation.letterbox.box_mask(box),
        box_xyxy=box,
        score=0.0,
        rule="box/itself",
        reason=f"no mask fits the box ({nearest}); the box itself is the mask",
        others=tuple(int(row) for row in order[:RUNNERS_UP] if ious[row] > 0),
    )


def choose_by_similarity(similarities: FloatArray, segmentation: Segmentation, text: str) -> Choice:
    """The region whose embedding is closest to a text's; (N,) cosines. None where there are no regions."""
    if not len(similarities):
        return nothing(segmentation, rule="text", reason=f"the image has no regions to match {text!r}")
    order = np.argsort(-similarities, kind="stable")
    found = f"cosine {similarities[order[0]]:.3f} to {text!r}"
    reason = f"{found} is the highest of {counted(len(similarities), 'region')}"
    return _highest(segmentation, similarities, order, rule="text/cosine", reason=reason)


def _highest(
    segmentation: Segmentation, values: FloatArray | Fits, order: RowNumbers, *, rule: str, reason: str
) -> Choice:
    """The first of the rows in this order, with its value as the score; those behind it are the runners-up."""
    best = int(order[0])
    return Choice(
        kind="region",
        mask=segmentation.masks[best],
        box_xyxy=box_of(segmentation, best),
        score=float(values[best]),
        rule=rule,
        reason=reason,
        others=tuple(int(row) for row in order[1 : RUNNERS_UP + 1]),
        rows=(best,),
    )


def choose_given(prompt: Mask, segmentation: Segmentation) -> Choice:
    """The given mask. Raises: PromptError if it is not of the image's size."""
    letterbox = segmentation.letterbox
    try:
        mask = letterbox.grid_mask(prompt.mask)
    except ValueError as error:
        raise PromptError(f"the mask does not fit the image (height, width): {error}") from None
    x1, y1, x2, y2 = boxes_of(mask[None], letterbox)[0].tolist()
    return Choice("region", mask, (x1, y1, x2, y2), 1.0, "mask", "the given mask")


def choose_everything(segmentation: Segmentation) -> Choice:
    """The whole image."""
    letterbox = segmentation.letterbox
    whole = (0.0, 0.0, float(letterbox.width), float(letterbox.height))
    return Choice("image", letterbox.coverage > 0, whole, 1.0, "image", "no prompt: the whole image")


def selection_of_choice(choice: Choice, segmentation: Segmentation) -> Selection:
    """A choice in image terms, as answers carry it."""
    letterbox = segmentation.letterbox
    return Selection(
        kind=choice.kind,
        box_xyxy=choice.box_xyxy,
        area_px=round(float(letterbox.areas_px(choice.mask[None])[0])),
        mask=letterbox.stored_mask(choice.mask),
        score=choice.score,
        rule=choice.rule,
        reason=choice.reason,
        runners_up=tuple(candidates(segmentation, choice.others)),
        text_match=choice.text_match,
    )


def candidates(segmentation: Segmentation, rows: Sequence[int]) -> list[Candidate]:
    """Rows of a segmentation in image terms; `score` is the segmenter's."""
    letterbox = segmentation.letterbox
    areas = letterbox.areas_px(segmentation.masks[list(rows)])
    return [
        Candidate(
            box_of(segmentation, row),
            round(float(area)),
            float(segmentation.scores[row]),
            letterbox.stored_mask(segmentation.masks[row]),
        )
        for row, area in zip(rows, areas, strict=True)
    ]


def box_ious(box_xyxy: BoxXYXY, segmentation: Segmentation) -> FloatArray:
    """(N,) IoU of each mask with a filled box in image pixels, by areas on the grid, partly filled cells counted so."""
    letterbox = segmentation.letterbox
    share = letterbox.box_share(box_xyxy).ravel()
    flat = segmentation.masks.reshape(len(segmentation.masks), share.size).astype(np.float32)
    overlap = flat @ share
    union = flat @ letterbox.coverage.ravel() + share.sum() - overlap
    ious = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return np.asarray(ious, dtype=np.float32)


def shares_in_box(box_xyxy: BoxXYXY, segmentation: Segmentation) -> FloatArray:
    """(N,) how much of each mask's area lies in a box in image pixels; 0 for an empty mask."""
    letterbox = segmentation.letterbox
    flat = segmentation.masks.reshape(len(segmentation.masks), letterbox.coverage.size).astype(np.float32)
    inside, whole = flat @ letterbox.box_share(box_xyxy).ravel(), flat @ letterbox.coverage.ravel()
    return np.asarray(np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0), dtype=np.float32)


def reach_least_iou(ious: FloatArray, shares: FloatArray, min_iou: float) -> Flags:
    """(N,) which masks a box may mean, by their IoUs with it and their shares in it.

    A small thing in a loose box has a small IoU; so has a large one that reaches into a small box, and that is not
    meant. So the least IoU is lower for what lies mostly in the box (docs/adr/0091).
    """
    least = np.where(shares > LEAST_SHARE_IN_BOX, LEAST_IOU_IN_BOX * min_iou, min_iou)
    return np.asarray((ious > 0) & (ious >= least.astype(np.float32)), dtype=np.bool_)


def box_fits(box_xyxy: BoxXYXY, ious: FloatArray, shares: FloatArray, segmentation: Segmentation) -> Fits:
    """(N,) how well each mask fits a box: its IoU with it, times the share of it in the box, times its centredness.

    A box is drawn around a thing, and often loosely: what reaches out of it, or lies at its edge, is less likely to be
    meant (docs/adr/0087, docs/adr/0088).
    """
    mantissas, exponents = np.frexp(ious * shares * _centredness(box_xyxy, segmentation))
    return np.asarray(np.ldexp(mantissas.round(_DIGITS), exponents), dtype=np.float64)


def _centredness(box_xyxy: BoxXYXY, segmentation: Segmentation) -> Fits:
    """(N,) 1 where a mask's box has its centre at the box's, falling with the distance: 0.37 half way to an edge."""
    lower, upper = np.reshape(box_xyxy, (2, 2)).astype(np.float64)
    boxes = segmentation.boxes_xyxy.astype(np.float64)
    away = (boxes[:, :2] + boxes[:, 2:] - lower - upper) / (upper - lower)
    return np.asarray(np.exp(-CENTRED * (away**2).sum(axis=1)), dtype=np.float64)  # in float32 0 from d = 5 on


def box_of(segmentation: Segmentation, row: int) -> BoxXYXY:
    """One candidate's box as a tuple."""
    x1, y1, x2, y2 = segmentation.boxes_xyxy[row].tolist()
    return x1, y1, x2, y2


def _ranked(prompt: Points, segmentation: Segmentation, reach: Flags) -> list[RowNumbers]:
    """For each of P points, the rows that `reach` (N, P) says, best first, by the prompt's granularity or rule.

    Ties go to the surer mask. Where a mask ranks does not depend on the others, so all are measured once.
    """
    rows = np.flatnonzero(np.any(reach, axis=1))  # by falling score
    if prompt.granularity is not None:
        areas = segmentation.areas_px[rows]
        rows = rows[np.argsort(-areas if prompt.granularity == "whole" else areas, kind="stable")]
    elif prompt.rule != "surest":
        rows = things_first(segmentation, rows)
    each = [rows[column[rows]] for column in reach.T]
    return [_middle_first(one) for one in each] if prompt.granularity == "object" else each


def _middle_first(rows: RowNumbers) -> RowNumbers:
    return rows[np.argsort(np.abs(np.arange(len(rows)) - len(rows) // 2), kind="stable")]


def things_first(segmentation: Segmentation, rows: RowNumbers) -> RowNumbers:
    """Rows by score / area^0.75; what is made of other masks comes behind what is not, the smallest of it first."""
    areas = segmentation.areas_px[rows].astype(np.float64)
    dense = scores_for_size(segmentation.scores[rows], areas)
    made_of_others = covered_by_parts(segmentation, rows) >= COVERED_SHARE
    return rows[np.lexsort((np.where(made_of_others, areas, -dense), made_of_others))]


def scores_for_size(scores: FloatArray, areas_px: FloatArray | Fits) -> Fits:
    """(N,) score / area^0.75."""
    return np.asarray(scores / np.maximum(areas_px.astype(np.float64), 1.0) ** SIZE_POWER, dtype=np.float64)


def needed(segmentation: Segmentation, points: PointsOnGrid, picked: Mapping[int, int]) -> list[int]:
    """Of the rows that foreground points pick one by one (`picked`, by the point's number), those that are needed.

    A click near the rim of a thing may lie on its neighbour alone, or on nothing but the whole, which then would be
    added. So rows are left out, the last of `things_first` first, while each point still lies in or beside a row that
    is left.
    """
    rows = things_first(segmentation, np.array(sorted(set(picked.values())), dtype=np.intp))
    if len(rows) < 2:
        return [int(row) for row in rows]
    wholes = set(rows[covered_by_parts(segmentation, rows) >= COVERED_SHARE].tolist())
    masks = segmentation.masks[rows]
    near = [
        points.within_reach[rows, number]
        | points.near(masks, number, CELLS_BESIDE_WHOLE if row in wholes else CELLS_BESIDE)
        for number, row in picked.items()
    ]
    left = np.ones(len(rows), dtype=np.bool_)
    for place in reversed(range(len(rows))):
        left[place] = False
        left[place] = not all((held & left).any() for held in near)
    return sorted(int(row) for row in rows[left])


def _painted(segmentation: Segmentation, holds_foreground: np.ndarray, holds_background: np.ndarray) -> Choice:
    """The published FastSAM rule: paint masks by falling area; a mask under a background point erases its pixels."""
    areas = segmentation.areas_px
    painted = np.zeros(segmentation.letterbox.grid_size, dtype=np.bool_)
    for row in np.argsort(-areas, kind="stable"):
        if holds_foreground[row]:
            painted |= segmentation.masks[row]
        if holds_background[row]:
            painted &= ~segmentation.masks[row]
    if not painted.any():
        return nothing(segmentation, rule="points/fastsam", reason="the points leave no pixel of any mask")
    x1, y1, x2, y2 = boxes_of(painted[None], segmentation.letterbox)[0].tolist()
    score = float(segmentation.scores[holds_foreground].max())
    reason = f"{counted(int(holds_foreground.sum()), 'mask')} painted, {int(holds_background.sum())} erased"
    return Choice("region", painted, (x1, y1, x2, y2), score, "points/fastsam", reason)


def _nearest(segmentation: Segmentation, prompt: Points, *, excluded: np.ndarray) -> Choice:
    """No usable mask holds a foreground point: select nothing, offer the nearest masks, if there are some."""
    x, y = prompt.foreground[0]
    where = f"points, the first at ({x:g}, {y:g})" if len(prompt.foreground) > 1 else f"point at ({x:g}, {y:g})"
    others = nearest_rows(segmentation, (x, y), ~excluded)
    reason = (
        f"no usable mask lies under the foreground {where}" if len(excluded) else "no region was found in this image"
    )
    return nothing(segmentation, rule="points", reason=reason, others=others)


def nearest_rows(segmentation: Segmentation, point: Point, usable: np.ndarray) -> tuple[int, ...]:
    """The usable (N,) masks whose boxes are nearest to a point."""
    rows = np.flatnonzero(usable)
    boxes = segmentation.boxes_xyxy[rows]
    x, y = point
    outside = np.maximum(np.maximum(boxes[:, :2] - (x, y), (x, y) - boxes[:, 2:]), 0)
    order = rows[np.argsort(np.hypot(outside[:, 0], outside[:, 1]), kind="stable")]
    return tuple(int(row) for row in order[:RUNNERS_UP])


def nothing(segmentation: Segmentation, *, rule: str, reason: str, others: tuple[int, ...] = ()) -> Choice:
    """Nothing is selected; `others` is what is offered."""
    empty = np.zeros(segmentation.letterbox.grid_size, dtype=np.bool_)
    return Choice("none", empty, (0.0, 0.0, 0.0, 0.0), 0.0, rule, reason, others)


def merged_box(boxes_xyxy: FloatArray) -> BoxXYXY:
    """The smallest box around (N, 4) boxes, N ≥ 1."""
    x1, y1 = boxes_xyxy[:, :2].min(axis=0).tolist()
    x2, y2 = boxes_xyxy[:, 2:].max(axis=0).tolist()
    return x1, y1, x2, y2


def clipped(box: BoxXYXY, segmentation: Segmentation) -> BoxXYXY:
    """The part of a box that lies on the image. Raises: PromptError where there is none."""
    width, height = segmentation.letterbox.width, segmentation.letterbox.height
    x1, y1, x2, y2 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    if x2 <= x1 or y2 <= y1:
        raise PromptError(f"box {box} lies outside the image of {width} x {height} pixels")
    return x1, y1, x2, y2
