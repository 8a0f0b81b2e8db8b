"""Region policies: which of an image's regions are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.errors import SettingsError
from searchanything.core.protocols import Segmentation
from searchanything.core.types import MEDIUM_AREA_PX, SMALL_AREA_PX

PolicyName: TypeAlias = Literal["largest", "stratified"]
_CLASSES = 3  # small, medium, large


@dataclass(frozen=True, slots=True)
class RegionPolicy:
    """Which regions of an image are kept, at most `count` of them.

    `largest`: by mask area, 25 in the paper [S]. It loses logos and other small things in busy images. `stratified`:
    every size class (by box area) has a third of the places for its largest regions; what a class leaves over goes to
    the largest of the others.
    """

    name: PolicyName = "largest"
    count: int = 25

    def __post_init__(self) -> None:
        if self.name not in ("largest", "stratified") or not 1 <= self.count <= 1000:
            raise SettingsError(
                f"expected region policy largest or stratified with 1 to 1000 regions, got {self.name!r}, {self.count}"
            )

    @property
    def description(self) -> dict[str, str | int]:
        """The policy's part of the fingerprint."""
        return {"policy": self.name, "count": self.count}

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> Self:
        """The policy that a fingerprint's part describes. Raises: SettingsError if this version does not know it."""
        return cls(description.get("policy", ""), description.get("count", 0))

    def keep(self, segmentation: Segmentation) -> NDArray[np.intp]:
        """Rows of the segmentation to keep, largest first; equal areas by falling score."""
        order = np.argsort(-segmentation.areas_px, kind="stable")
        if self.name == "largest" or len(order) <= self.count:
            return order[: self.count]
        classes = _size_classes(segmentation)[order]
        # A region's place within its class, in order of area: the first third of the places is the class's own.
        places = np.zeros(len(order), dtype=np.intp)
        for one in range(_CLASSES):
            members = classes == one
            places[members] = np.arange(members.sum())
        own = places < self.count // _CLASSES
        kept = np.argsort(~own, kind="stable")[: self.count]
        return order[np.sort(kept)]


def _size_classes(segmentation: Segmentation) -> NDArray[np.intp]:
    """(N,) 0 small, 1 medium, 2 large, by the area of the boxes as `types.size_class_of` has it."""
    sides = segmentation.boxes_xyxy[:, 2:] - segmentation.boxes_xyxy[:, :2]
    areas = np.prod(sides, axis=1, dtype=np.float64)
    return np.asarray(np.searchsorted([SMALL_AREA_PX, MEDIUM_AREA_PX], areas), dtype=np.intp)
