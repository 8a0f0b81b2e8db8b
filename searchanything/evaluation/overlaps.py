"""Masks of regions against masks of annotated instances, by pycocotools, and where to click on an instance."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from searchanything.core.geometry import Letterbox, decode_rle
from searchanything.core.types import BoolMasks
from searchanything.evaluation.truth import Instance, TrueImage

Encoded: TypeAlias = dict[str, Any]  # pycocotools' own form of a mask
Ious: TypeAlias = NDArray[np.float64]

MIN_IOU: Final = 0.5
_MASKS_AT_ONCE: Final = 16  # of the image's size in memory


def region_ious(letterbox: Letterbox, masks: BoolMasks, image: TrueImage) -> Ious:
    """IoU (N, M) of N masks on the segmenter's grid with an image's M instances, in pixels of the image.

    With a crowd it is the share of the region that lies on the crowd, as COCO has it.
    """
    instances = image.instances
    if not len(masks) or not instances:
        return np.zeros((len(masks), len(instances)))
    void = None if image.void is None else decode_rle(image.void)
    regions: list[Encoded] = []
    for start in range(0, len(masks), _MASKS_AT_ONCE):
        pixels = letterbox.image_masks(masks[start : start + _MASKS_AT_ONCE])
        if void is not None:
            pixels &= ~void
        regions += coco_mask.encode(np.asfortranarray(pixels.transpose(1, 2, 0), dtype=np.uint8))
    truths = [_encoded(one) for one in instances]
    return np.asarray(coco_mask.iou(regions, truths, [int(one.crowd) for one in instances]), dtype=np.float64)


def paired(ious: Ious) -> NDArray[np.float64]:
    """For every column the IoU of the row that it is paired with, one to one, greedily by falling IoU; else 0."""
    best = np.zeros(ious.shape[1])
    left = ious.copy()
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        if left[row, column] <= 0:
            break
        best[column] = left[row, column]
        left[row, :] = left[:, column] = -1
    return best


def _encoded(instance: Instance) -> Encoded:
    return {"size": list(instance.mask.size), "counts": instance.mask.counts.encode("ascii")}
