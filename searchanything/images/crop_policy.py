"""Which crop of a region the encoder is shown: a preset names its policy.

By the published configuration [D], `paper`: a large region is its box with everything outside the mask black; a medium
region is its box as it is; a small region is three times its box, clipped to the image, because a few pixels alone say
little [A].
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from searchanything.core.types import SizeClass

SMALL_CONTEXT: Final = 3.0  # the crop's side over the box's, for small regions [D]


class CropPolicy(StrEnum):
    """Which regions are masked and which see their surroundings. Whole images are shown alike by all."""

    PAPER = "paper"  # by size, as above
    MASKED = "masked"  # every region masked, 1 x its box
    CONTEXT = "context"  # none masked; small regions 3 x, others 1 x their box
    BOX = "box"  # none masked, 1 x their box

    def masks(self, size_class: SizeClass) -> bool:
        """Whether regions of a size are shown with everything outside the mask black."""
        return self is CropPolicy.MASKED or (self is CropPolicy.PAPER and size_class is SizeClass.LARGE)

    def context(self, size_class: SizeClass) -> float:
        """The crop's side over the box's."""
        widens = self in (CropPolicy.PAPER, CropPolicy.CONTEXT) and size_class is SizeClass.SMALL
        return SMALL_CONTEXT if widens else 1.0

    def like(self, other: CropPolicy, size_class: SizeClass) -> bool:
        """Whether both show regions of a size alike."""
        same_mask = self.masks(size_class) == other.masks(size_class)
        return same_mask and self.context(size_class) == other.context(size_class)

    @property
    def unmasked(self) -> CropPolicy:
        """The policy with the same surroundings that masks nothing."""
        return CropPolicy.CONTEXT if self in (CropPolicy.PAPER, CropPolicy.CONTEXT) else CropPolicy.BOX
