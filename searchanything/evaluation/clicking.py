"""What clicks on annotated instances select: by each rule, after a second click, and beside the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import decode_rle, innermost_point
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMask
from searchanything.evaluation.overlaps import MIN_IOU, region_ious
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


def click(segmentation: Segmentation, truth: TrueImage, on: NDArray[np.bool_]) -> Clicks:
    """Of M instances by name, (M,) float64: 1 the mask lies on the instance, 0 it does not, NaN a crowd.

    Each is clicked on its innermost pixel. `on` (N + 1, M) says which of the segmentation's masks lie on which
    instance, and of the last row, -1, that it lies on none. `second`: the mask by default or the first runner-up lies
    on it; `steady`: the share of clicks 4 px beside the first, on the instance, that select the same masks (NaN where
    there are none).
    """
    masks = [decode_rle(one.mask) for one in truth.instances]
    points = [innermost_point(mask) for mask in masks]
    choices = {
        name: [choose_by_points(Points((point,), **how), segmentation) for point in points]
        for name, how in _RULES.items()
    }
    places = np.arange(len(points))
    found = {
        name: on[[one.rows[0] if one.rows else -1 for one in several], places] for name, several in choices.items()
    }
    found["fastsam"] = _painted(segmentation, truth, choices["fastsam"])
    first = choices["default"]
    found["second"] = found["default"] | on[[one.others[0] if one.others else -1 for one in first], places]
    steady = [_steady(*one, segmentation) for one in zip(points, masks, first, strict=True)]
    crowd = np.array([one.crowd for one in truth.instances], dtype=np.bool_)
    return {
        name: np.where(crowd, np.nan, np.asarray(values, np.float64))
        for name, values in {**found, "steady": np.array(steady)}.items()
    }


def _painted(segmentation: Segmentation, truth: TrueImage, choices: list[Choice]) -> NDArray[np.bool_]:
    """Whether what was painted for each instance lies on it: no mask of the segmentation, so measured by itself."""
    grid = segmentation.letterbox.grid_size
    masks = np.array([one.mask for one in choices], dtype=np.bool_).reshape(-1, *grid)
    return np.diagonal(region_ious(segmentation.letterbox, masks, truth)) >= MIN_IOU


def _steady(point: Point, mask: BoolMask, first: Choice, segmentation: Segmentation) -> float:
    height, width = mask.shape
    beside = [(point[0] + x, point[1] + y) for x, y in _ASIDE]
    on_it = [(x, y) for x, y in beside if 0 <= x < width and 0 <= y < height and mask[int(y), int(x)]]
    same = [choose_by_points(Points((one,)), segmentation).rows == first.rows for one in on_it]
    return float(np.mean(same)) if same else float("nan")
