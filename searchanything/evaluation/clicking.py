"""What clicks on annotated instances select: by each rule, after a second click, and beside the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import decode_rle, innermost_point
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask
from searchanything.evaluation.overlaps import MIN_IOU, Ious, region_ious
from searchanything.evaluation.truth import TrueImage
from searchanything.prompts.choose import Choice, choose_by_points
from searchanything.prompts.prompt import Point, Points

Clicks: TypeAlias = Mapping[str, NDArray[np.float64]]

_RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "surest": {"rule": "surest"},
    "smallest": {"granularity": "part"},
    "middle": {"granularity": "object"},
    "largest": {"granularity": "whole"},
    "fastsam": {"rule": "fastsam"},
}
CLICKS: Final = (*_RULES, "second", "steady")
ASIDE_PX: Final = 4.0  # how far beside the first click its neighbours lie
_ASIDE: Final = tuple(
    (x, y) for x in (-ASIDE_PX, 0.0, ASIDE_PX) for y in (-ASIDE_PX, 0.0, ASIDE_PX) if (x, y) != (0, 0)
)


def click(segmentation: Segmentation, truth: TrueImage) -> Clicks:
    """Of M instances by name, (M,) float64: 1 the mask lies on the instance, 0 it does not, NaN a crowd.

    Each is clicked on its innermost pixel. `second`: the mask by default or the first runner-up lies on it; `steady`:
    the share of clicks 4 px beside the first, on the instance, that select the same masks (NaN where there are none).
    """
    masks = [decode_rle(one.mask) for one in truth.instances]
    points = [innermost_point(mask) for mask in masks]
    choices = {
        name: [choose_by_points(Points((point,), **how), segmentation) for point in points]
        for name, how in _RULES.items()
    }
    found = {name: _right(segmentation, truth, several) for name, several in choices.items()}
    first = choices["default"]
    found["second"] = np.fmax(found["default"], _runner_up(segmentation, truth, first))
    steady = [_steady(*one, segmentation) for one in zip(points, masks, first, strict=True)]
    found["steady"] = np.array(steady, dtype=np.float64)
    crowd = np.array([one.crowd for one in truth.instances], dtype=np.bool_)
    return {name: np.where(crowd, np.nan, values) for name, values in found.items()}


def _right(segmentation: Segmentation, truth: TrueImage, choices: list[Choice]) -> NDArray[np.float64]:
    """Whether the mask of each instance's own choice lies on it: a region's, never the point's surroundings."""
    grid = segmentation.letterbox.grid_size
    masks = np.array([one.mask for one in choices], dtype=np.bool_).reshape(-1, *grid)
    selected = np.array([one.kind == "region" for one in choices], dtype=np.bool_)
    return _on(region_ious(segmentation.letterbox, masks, truth)) * selected


def _runner_up(segmentation: Segmentation, truth: TrueImage, choices: list[Choice]) -> NDArray[np.float64]:
    """The same for the first runner-up; 0 where there is none."""
    rows = [one.others[0] if one.others else -1 for one in choices]
    blank = np.zeros((1, *segmentation.letterbox.grid_size), dtype=np.bool_)
    masks = np.concatenate([segmentation.masks, blank])[rows]
    return _on(region_ious(segmentation.letterbox, masks, truth))


def _on(ious: Ious) -> NDArray[np.float64]:
    return (np.diagonal(ious) >= MIN_IOU).astype(np.float64)


def _steady(point: Point, mask: BoolMask, first: Choice, segmentation: Segmentation) -> float:
    height, width = mask.shape
    beside = [(point[0] + x, point[1] + y) for x, y in _ASIDE]
    on_it = [(x, y) for x, y in beside if 0 <= x < width and 0 <= y < height and mask[int(y), int(x)]]
    same = [choose_by_points(Points((one,)), segmentation).rows == first.rows for one in on_it]
    return float(np.mean(same)) if same else float("nan")
