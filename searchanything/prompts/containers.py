"""Which masks are made of other masks: a person of garments, a shelf of bottles.

A click that lies on such a whole usually means the thing in it, while a thing with a few marks on it (a face with eyes,
a ball with a logo) is meant itself. What tells them apart is how much of a mask its own parts cover.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.protocols import Segmentation
from searchanything.core.types import FloatArray

CONTAINED_SHARE: Final = 0.8  # of a part's area lies in the whole
PART_SIZE: Final = 0.8  # a part's area over the whole's, at most: what is larger is the same thing again
COVERED_SHARE: Final = 0.6  # of a whole's area that its parts cover, from which on it is made of them

RowNumbers: TypeAlias = NDArray[np.intp]


def covered_by_parts(segmentation: Segmentation, rows: RowNumbers) -> FloatArray:
    """How much of the masks in these K rows is covered by their parts together: (K,) float32 in [0, 1].

    A part is a mask of which at least `CONTAINED_SHARE` lies in the whole, and that is at most `PART_SIZE` as large.
    Areas are those of grid cells, partly filled ones counted so.
    """
    if not len(rows):
        return np.zeros(0, dtype=np.float32)
    cells = segmentation.masks.reshape(len(segmentation.masks), segmentation.letterbox.coverage.size)
    flat = cells.astype(np.float32)
    weighed = flat[rows] * segmentation.letterbox.coverage.ravel()
    areas = flat @ segmentation.letterbox.coverage.ravel()
    overlap = weighed @ flat.T
    own = areas[rows][:, None]
    is_part = (overlap >= CONTAINED_SHARE * areas) & (areas <= PART_SIZE * own)  # an empty one covers nothing
    covered = (is_part.astype(np.float32) @ flat) > 0
    shares = (weighed * covered).sum(axis=1) / np.maximum(own[:, 0], np.finfo(np.float32).tiny)
    return np.asarray(shares, dtype=np.float32)
