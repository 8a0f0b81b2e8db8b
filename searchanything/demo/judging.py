"""What counts as a right answer, and how often chance would give one. Pure functions over the scenes' ground truth.

A region is right if it covers an object of the wanted concept with a mask IoU of at least 0.5. The query's own image
never takes part: it is excluded from the search, and from what chance is computed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from searchanything.core.geometry import decode_rle, mask_of_size
from searchanything.core.intervals import wilson_interval
from searchanything.core.types import BoolMask, MaskRLE

AMONG_FIRST: Final = 5  # the 5 of hit@5
RIGHT_IOU: Final = 0.5


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object of a scene as it was pasted: visible pixels, tight box in image pixels, and whether the models that
    ship with the demo never saw its concept (`zero_shot`).
    """

    concept: str
    style: str
    zero_shot: bool
    box_xyxy: tuple[int, int, int, int]
    visible_fraction: float
    mask: MaskRLE


@dataclass(frozen=True, slots=True)
class TrueScene:
    """The ground truth of one image: its key in the bucket, its size in pixels, the number of the photograph that it
    shows, and its objects, from back to front.
    """

    key: str
    width: int
    height: int
    photograph: int
    objects: tuple[TrueObject, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """How many of `count` trials were right, as a share with its 95 % interval."""

    right: int
    count: int

    @property
    def value(self) -> float | None:
        """The share; None without a trial."""
        return self.right / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % score interval (Wilson 1927); (0, 1) without a trial."""
        return wilson_interval(self.right, self.count)

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> Share:
        """The share of trials that came out true."""
        return cls(sum(outcomes), len(outcomes))

    @classmethod
    def together(cls, shares: Sequence[Share]) -> Share:
        """Several shares' trials as one."""
        return cls(sum(one.right for one in shares), sum(one.count for one in shares))


def true_masks(scene: TrueScene) -> list[BoolMask]:
    """The visible pixels of each object, (H, W) bool."""
    return [decode_rle(one.mask) for one in scene.objects]


def object_ious(region: MaskRLE, scene: TrueScene, masks: Sequence[BoolMask]) -> list[float]:
    """IoU of a region with each object of a scene; the region's coarser mask is brought to the image's size.

    `masks` are the scene's `true_masks`.
    """
    shown = mask_of_size(region, scene.height, scene.width)
    area_px = int(np.count_nonzero(shown))
    ious = []
    for one, mask in zip(scene.objects, masks, strict=True):
        x1, y1, x2, y2 = one.box_xyxy
        inside = mask[y1:y2, x1:x2]  # all of the object: its box is tight
        common = int(np.count_nonzero(inside & shown[y1:y2, x1:x2]))
        ious.append(common / (area_px + int(np.count_nonzero(inside)) - common))
    return ious


def matched_object(region: MaskRLE, scene: TrueScene, masks: Sequence[BoolMask]) -> int | None:
    """The number of the object that a region covers with IoU ≥ 0.5, the best one of several; None if there is none.

    `masks` are the scene's `true_masks`.
    """
    ious = object_ious(region, scene, masks)
    best = int(np.argmax(ious)) if ious else -1
    return best if best >= 0 and ious[best] >= RIGHT_IOU else None


def hit_among_first(right: Sequence[bool]) -> bool:
    """Whether any of the first answers is right."""
    return any(right[:AMONG_FIRST])


def chance_of_hit(relevant: int, total: int, draws: int = AMONG_FIRST) -> float:
    """Probability that `draws` of `total` answers, drawn blindly without putting back, hold one of the `relevant` ones.

    1 - C(total - relevant, draws) / C(total, draws), the hypergeometric distribution's tail; fewer than `draws` answers
    are all drawn. Raises: ValueError unless 0 ≤ relevant ≤ total.
    """
    if not 0 <= relevant <= total:
        raise ValueError(f"expected 0 ≤ relevant ≤ total, got {relevant} of {total}")
    draws = min(draws, total)
    return 1.0 - math.comb(total - relevant, draws) / math.comb(total, draws)
