"""Boxes, points and a text read together: each place chooses its masks, and what the places choose is merged.

- A box is a place. A foreground point in boxes says which thing of them is meant; one in no box is its own place. A
  text without any place looks at the whole image.
- A mask that holds a background point is out, everywhere. A point in no box that this leaves none has its mask cut.
- Of the masks that a place leaves, a text chooses the closest to it; without one a box chooses the mask that fits it
  best, and points in no box the masks that clicks would. With a text, over half of a mask must lie in the box.
- A point in a box chooses among the masks under it that reach the least IoU or lie mostly in the box. Where the best
  fit of them has an IoU of 0.5 with the box, the box says how large the thing is, and that mask is chosen; else the box
  is loose, and the one with the highest score for its size, as a click, times its fit (docs/adr/0091).
- Where a box without a point fits no mask but those that hold background points, the best of them is cut half way
  between the box's middle and these points, and at the box (docs/adr/0091).
- A box that finds no mask in these ways is its own mask, less the masks that hold background points.
- Where that, or a point in no box, has no mask left under a point, as a background point lies on all of them, the mask
  that a click would mean is cut half way between both (`cuts`). Nothing is cut with a text.

SAM reads a box with points as one thing, refined, and ultralytics' FastSAM merges whatever each prompt chose alone; the
rule here refines within a box and merges between places (docs/adr/0009).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np

from searchanything.core.geometry import boxes_of
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask, BoxXYXY, FloatArray
from searchanything.prompts.choose import (
    LEAST_SHARE_IN_BOX,
    RUNNERS_UP,
    TIGHT_IOU,
    Choice,
    Fits,
    box_fits,
    box_ious,
    box_of,
    clipped,
    merged_box,
    nearest_rows,
    needed,
    nothing,
    reach_least_iou,
    scores_for_size,
    shares_in_box,
    things_first,
)
from searchanything.prompts.containers import RowNumbers
from searchanything.prompts.cuts import CUT, CutMasks, cut_half_way, overlapping
from searchanything.prompts.points_on_grid import Flags, PointsOnGrid
from searchanything.prompts.prompt import Point, Prompts


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """A prompt's masks, measured once: which may be chosen (N,), and where the points lie.

    `similarities` (N,) cosines to the text, None without one; `erased` (gh, gw): what background points exclude.
    `things`: the rows that points may mean, as clicks rank them.
    """

    prompt: Prompts
    segmentation: Segmentation
    min_iou: float
    similarities: FloatArray | None
    usable: Flags
    points: PointsOnGrid
    erased: BoolMask
    things: RowNumbers


@dataclass(frozen=True, slots=True, eq=False)
class _Pick:
    """What one place chose: a row of the segmentation, or (`own`) a mask of its own; neither where it found nothing."""

    sentence: str
    row: int | None = None
    own: BoolMask | None = None
    box_xyxy: BoxXYXY = (0.0, 0.0, 0.0, 0.0)
    score: float = 0.0
    order: Sequence[int] = ()
    by: str = "iou"

    @property
    def found(self) -> bool:
        return self.row is not None or self.own is not None


def choose_together(
    prompt: Prompts, segmentation: Segmentation, *, box_min_iou: float, similarities: FloatArray | None = None
) -> Choice:
    """Apply boxes, points and a text; `similarities` (N,) are the masks' cosines to the text, where there is one.

    `score` is the least of what the places' masks were chosen by. Raises: PromptError for a point or a box outside the
    image.
    """
    points = PointsOnGrid.of(prompt.foreground, prompt.background, segmentation)
    scene = _Scene(
        prompt=prompt,
        segmentation=segmentation,
        min_iou=box_min_iou,
        similarities=similarities,
        usable=~points.excluded & np.any(segmentation.masks, axis=(1, 2)),
        points=points,
        erased=_erased(segmentation, points),
        things=things_first(segmentation, np.flatnonzero(np.any(points.within_reach, axis=1))),
    )
    return _merged(scene, list(_picks(scene)))


def _erased(segmentation: Segmentation, points: PointsOnGrid) -> BoolMask:
    erased: BoolMask = np.any(segmentation.masks[points.excluded], axis=0)
    erased[points.background[:, 0], points.background[:, 1]] = True
    return erased


def _picks(scene: _Scene) -> Iterable[_Pick]:
    """Every place's picks, boxes first."""
    alone = set(range(len(scene.prompt.foreground)))
    for place, box in enumerate(scene.prompt.boxes, start=1):
        inside = clipped(box.xyxy, scene.segmentation)
        numbers = [number for number, point in enumerate(scene.prompt.foreground) if _in_box(point, inside)]
        alone -= set(numbers)
        name = "the box" if len(scene.prompt.boxes) == 1 else f"box {place}"
        yield from _in_a_box(scene, inside, numbers, name)
    yield from _at_points(scene, sorted(alone))
    if scene.similarities is not None and not scene.prompt.boxes and not scene.prompt.foreground:
        yield _by_text(scene, scene.similarities, scene.usable, "in the image")


def _in_a_box(scene: _Scene, box: BoxXYXY, points: Sequence[int], name: str) -> list[_Pick]:
    """One pick for each foreground point in the box, or one for the box; the box itself where one finds nothing."""
    groups = [
        (scene.points.within_reach[:, number], f"under {_point_in_words(scene, number)} in {name}") for number in points
    ]
    groups = groups or [(np.ones_like(scene.usable), f"in {name}")]
    shares = shares_in_box(box, scene.segmentation)
    mostly = shares > LEAST_SHARE_IN_BOX
    if scene.similarities is not None:
        return [_by_text(scene, scene.similarities, scene.usable & mostly & group, where) for group, where in groups]
    ious = box_ious(box, scene.segmentation)
    fitting = reach_least_iou(ious, shares, scene.min_iou)
    fits = box_fits(box, ious, shares, scene.segmentation)
    if points:
        allowed = scene.usable & (fitting | mostly)
        weighed = fits * scores_for_size(scene.segmentation.scores, scene.segmentation.areas_px)
        picks = [
            _by_click_in_box(scene, allowed & group, where, fits=fits, weighed=weighed, tight=ious >= TIGHT_IOU)
            for group, where in groups
        ]
    else:
        picks = [_best(scene, scene.usable & fitting, fits, f"in {name}, by fit")]
        if not picks[0].found:
            picks = [_cut_in_box(scene, box, fitting & scene.points.excluded, fits, name)]
    if all(pick.found for pick in picks):
        return picks
    missed = [number for number, pick in zip(points, picks, strict=False) if not pick.found]
    itself = _box_itself(scene, box, points, missed, ious=ious, name=name)
    if itself.found or not points:
        return [itself]
    cut = [_cut(scene, number, where, box) for number, (_, where) in zip(points, groups, strict=True)]
    picks = [pick if pick.found else other for pick, other in zip(picks, cut, strict=True)]
    return picks if any(pick.found for pick in picks) else [itself]


def _at_points(scene: _Scene, numbers: Sequence[int]) -> Iterator[_Pick]:
    """One pick for each point; without a text, what clicks do not need finds nothing."""
    picks = {number: _at_a_point(scene, number) for number in numbers}
    rows = {number: pick.row for number, pick in picks.items() if pick.row is not None}
    kept = rows.values() if scene.similarities is not None else needed(scene.segmentation, scene.points, rows)
    for number, pick in picks.items():
        if pick.row is None or pick.row in kept:
            yield pick
        else:
            where = _point_in_words(scene, number)
            yield replace(pick, row=None, sentence=f"{where} lies under or beside what another point selects")


def _at_a_point(scene: _Scene, number: int) -> _Pick:
    where = f"under {_point_in_words(scene, number)}"
    group = scene.usable & scene.points.within_reach[:, number]
    if scene.similarities is not None:
        return _by_text(scene, scene.similarities, group, where)
    held = scene.points.under[:, number]
    return _by_click(scene, group, where) if group.any() or not held.any() else _cut(scene, number, where)


def _cut(scene: _Scene, number: int, where: str, box: BoxXYXY | None = None) -> _Pick:
    """Of the mask that a click would mean if there were no background, what lies nearer to the foreground, in a box."""
    held = scene.things[(scene.points.under[:, number] & scene.points.excluded)[scene.things]]
    first = {number: int(held[0])} if len(held) else {}
    cut = CutMasks.of(first, scene.points, scene.segmentation)
    letterbox = scene.segmentation.letterbox
    masks = cut.masks if box is None else cut.masks & letterbox.box_mask(box)
    if not masks.any():
        return _Pick(f"no mask {where}")
    score = float(scene.segmentation.scores[cut.rows[0]])
    box_xyxy = merged_box(boxes_of(masks, letterbox))
    order = overlapping(masks, scene.segmentation, scene.usable).tolist()
    return _Pick(
        f"the best {where}, {CUT} ({score:.2f})", own=masks[0], box_xyxy=box_xyxy, score=score, by="thing", order=order
    )


def _cut_in_box(scene: _Scene, box: BoxXYXY, allowed: Flags, fits: Fits, name: str) -> _Pick:
    """Of the excluded mask that fits a box best, what lies in it and nearer to its middle than to the background."""
    rows = np.flatnonzero(allowed)
    if not len(rows):
        return _Pick(f"no mask in {name}")
    row = int(rows[np.argmax(fits[rows])])
    letterbox = scene.segmentation.letterbox
    x1, y1, x2, y2 = box
    middle = letterbox.cells_of(np.array([[(x1 + x2) / 2, (y1 + y2) / 2]], dtype=np.float32))
    inside = scene.segmentation.masks[row] & letterbox.box_mask(box)
    mask = cut_half_way(inside, middle, scene.points.background[scene.points.held[row]])
    if not mask.any():
        return _Pick(f"no mask in {name}")
    return _Pick(
        f"the best in {name}, by fit ({fits[row]:.2f}), {CUT}",
        own=mask,
        box_xyxy=merged_box(boxes_of(mask[None], letterbox)),
        score=float(fits[row]),
        order=overlapping(mask[None], scene.segmentation, scene.usable).tolist(),
    )


def _by_click_in_box(scene: _Scene, allowed: Flags, where: str, *, fits: Fits, weighed: Fits, tight: Flags) -> _Pick:
    """The allowed mask that fits best, if the box is tight around it, or else that weighs most: `weighed` by size."""
    rows = np.flatnonzero(allowed)
    by_fit = rows[np.argsort(-fits[rows], kind="stable")]
    if len(rows) and tight[by_fit[0]]:
        return _first(scene, by_fit.tolist(), fits, f"{where}, by fit")
    order = rows[np.argsort(-weighed[rows], kind="stable")].tolist()
    return _first(scene, order, fits, f"{where}, by score for its size and fit")


def _by_click(scene: _Scene, allowed: Flags, where: str) -> _Pick:
    """The allowed mask that a click means."""
    order = scene.things[allowed[scene.things]].tolist()
    return replace(_first(scene, order, scene.segmentation.scores, f"{where}, by score for its size"), by="thing")


def _by_text(scene: _Scene, similarities: FloatArray, allowed: Flags, where: str) -> _Pick:
    return _best(scene, allowed, similarities, f"{where}, by cosine to {scene.prompt.text!r}")


def _best(scene: _Scene, allowed: Flags, measure: FloatArray | Fits, where: str) -> _Pick:
    """The allowed mask that measures most; ties go to the surer one."""
    rows = np.flatnonzero(allowed)
    return _first(scene, rows[np.argsort(-measure[rows], kind="stable")].tolist(), measure, where)


def _first(scene: _Scene, order: Sequence[int], measure: FloatArray | Fits, where: str) -> _Pick:
    """The first of the rows, best first, and what it measures."""
    if not order:
        return _Pick(f"no mask {where}")
    value = float(measure[order[0]])
    sentence = f"the best of {len(order)} {where} ({value:.2f})"
    return _Pick(sentence, row=order[0], box_xyxy=box_of(scene.segmentation, order[0]), score=value, order=order)


def _box_itself(
    scene: _Scene, box: BoxXYXY, points: Sequence[int], missed: Sequence[int], *, ious: FloatArray, name: str
) -> _Pick:
    """The filled box less what background points exclude; nothing where that leaves none of its points.

    `missed` are those of the points that have no mask.
    """
    letterbox = scene.segmentation.letterbox
    order = [int(row) for row in np.argsort(-ious, kind="stable") if ious[row] > 0 and scene.usable[row]]
    mask = letterbox.box_mask(box)
    cut = mask & ~scene.erased if scene.prompt.background else mask
    cells = scene.points.foreground[list(points)]
    if not cut.any() or scene.erased[cells[:, 0], cells[:, 1]].any():  # a box may leave out a point's cell at its edge
        return _Pick(f"the background points leave nothing of {name}", order=order)
    whole = bool((cut == mask).all())
    x1, y1, x2, y2 = box if whole else boxes_of(cut[None], letterbox)[0].tolist()
    less = "" if whole else ", less what background points exclude"
    where = f" under {' or '.join(_point_in_words(scene, number) for number in missed)}" if missed else ""
    or_inside = " or lies mostly inside" if points else ""
    sentence = f"{name} itself{less}, as no usable mask{where} reaches IoU {scene.min_iou:g}{or_inside}"
    return _Pick(sentence, own=cut, box_xyxy=(x1, y1, x2, y2), order=order, by="itself")


def _merged(scene: _Scene, picks: Sequence[_Pick]) -> Choice:
    found = [pick for pick in picks if pick.found]
    reason = "; ".join(pick.sentence for pick in picks)
    if scene.prompt.background:
        out = int(scene.points.excluded.sum())
        reason += f"; background points rule out {out} {'mask' if out == 1 else 'masks'}"
    rule = _rule(scene.prompt, found)
    if not found:
        return nothing(scene.segmentation, rule=rule, reason=reason, others=_offered(scene, picks))
    rows = tuple(sorted({pick.row for pick in found if pick.row is not None}))
    masks = [scene.segmentation.masks[list(rows)], *(pick.own[None] for pick in found if pick.own is not None)]
    return Choice(
        kind="region",
        mask=np.any(np.concatenate(masks), axis=0),
        box_xyxy=merged_box(np.array([pick.box_xyxy for pick in found], dtype=np.float32)),
        score=min(pick.score for pick in found),
        rule=rule,
        reason=reason,
        others=_in_turn(picks, rows),
        rows=rows,
    )


def _rule(prompt: Prompts, found: Sequence[_Pick]) -> str:
    """What was given and what decided, e.g. `box+point/iou`."""
    parts = {"box": prompt.boxes, "point": prompt.foreground, "background": prompt.background, "text": prompt.text}
    given = "+".join(name for name, value in parts.items() if value)
    if prompt.text is not None:
        return f"{given}/cosine"
    ways = {pick.by for pick in found}
    return f"{given}/{ways.pop() if len(ways) == 1 else 'iou'}"


def _offered(scene: _Scene, picks: Sequence[_Pick]) -> tuple[int, ...]:
    """The runners-up of a prompt that selects nothing: the closest to the text, or the nearest to the first point."""
    if scene.similarities is not None:
        rows = np.flatnonzero(scene.usable)
        return tuple(rows[np.argsort(-scene.similarities[rows], kind="stable")][:RUNNERS_UP].tolist())
    in_turn = _in_turn(picks, ())
    if in_turn or not scene.prompt.foreground:
        return in_turn
    return nearest_rows(scene.segmentation, scene.prompt.foreground[0], scene.usable)


def _in_turn(picks: Sequence[_Pick], chosen: Sequence[int]) -> tuple[int, ...]:
    """Each place's next best mask in turn, without those that were chosen."""
    ranked = chain.from_iterable(zip_longest(*(pick.order for pick in picks)))
    rows = dict.fromkeys(row for row in ranked if row is not None and row not in chosen)
    return tuple(rows)[:RUNNERS_UP]


def _in_box(point: Point, box: BoxXYXY) -> bool:
    x1, y1, x2, y2 = box
    return x1 <= point[0] < x2 and y1 <= point[1] < y2


def _point_in_words(scene: _Scene, number: int) -> str:
    x, y = scene.prompt.foreground[number]
    return f"({x:g}, {y:g})"
