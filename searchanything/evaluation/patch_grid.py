"""The baseline without a segmenter's regions: an image as squares of a grid, each encoded as a region would be."""

from __future__ import annotations

from typing import Final

import numpy as np

from searchanything.core.protocols import Segmentation
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode.encoder import RegionJob

LEVELS: Final = (1, 2, 3, 4)  # so many rows and columns: 30 patches, where an index keeps 25 regions


def patch_boxes(height: int, width: int) -> FloatArray:
    """All patches of an image of (height, width) pixels, (30, 4) float32 xyxy: the whole of it first."""
    boxes = [
        (width * column / level, height * row / level, width * (column + 1) / level, height * (row + 1) / level)
        for level in LEVELS
        for row in range(level)
        for column in range(level)
    ]
    return np.array(boxes, dtype=np.float32)


def patch_job(image: RGBImage, segmentation: Segmentation) -> RegionJob:
    """The patches as regions: boxes filled to the rim, so that both features are those of the patch."""
    boxes = patch_boxes(*image.shape[:2])
    masks = [segmentation.letterbox.box_mask(tuple(box)) for box in boxes.tolist()]
    return RegionJob(image, segmentation, np.stack(masks), boxes)
