"""Between the segmenter and the encoder: what is kept of a batch's regions, on the host or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from searchanything.core.protocols import Segmentation
from searchanything.core.types import FloatArray, MaskRLE, RGBImage
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.resizing import Resizing


@dataclass(frozen=True, slots=True, eq=False)
class KeptRegions:
    """An image's kept regions as they will be stored, and its (height, width)."""

    boxes_xyxy: FloatArray
    areas_px: FloatArray
    scores: FloatArray
    masks: tuple[MaskRLE, ...]
    size: tuple[int, int]

    @classmethod
    def of_rows(
        cls, segmentation: Segmentation, rows: NDArray[np.intp], *, areas_px: FloatArray, masks: tuple[MaskRLE, ...]
    ) -> KeptRegions:
        """Some of a segmentation's regions, their areas, and their masks as they will be stored."""
        letterbox = segmentation.letterbox
        return cls(
            boxes_xyxy=segmentation.boxes_xyxy[rows],
            areas_px=areas_px,
            scores=segmentation.scores[rows],
            masks=masks,
            size=(letterbox.height, letterbox.width),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CutBatch:
    """A batch that waits for the encoder: kept regions per image, their f_M (R, C) and crops (R, S, S, 3) together.

    Rows are those of each image's regions and then its own, image by image. `crops` are an `RGBImage`, or the same on
    the encoder's device: `embed_many` takes both.
    """

    regions: list[KeptRegions]
    pooled: FloatArray
    crops: Any


def host_crops(crops: Any) -> RGBImage:  # noqa: ANN401 - as in a `CutBatch`
    """A batch's crops in the host's memory."""
    return crops if isinstance(crops, np.ndarray) else np.asarray(crops.cpu())


class Cutter(Protocol):
    """Makes the second stage's `CutBatch` on a device. Thread-safe."""

    def takes(self, images: Sequence[RGBImage], segmentations: Sequence[Segmentation], resizing: Resizing) -> bool:
        """Whether it can; else the host does it."""
        ...

    def cut(
        self,
        images: Sequence[RGBImage],
        segmentations: Sequence[Segmentation],
        rows: Sequence[NDArray[np.intp]],
        *,
        size_px: int,
        policy: CropPolicy,
    ) -> CutBatch | None:
        """Images, what was found in them, and which regions of each are kept; None where its memory is too small."""
        ...
