"""The segmenter's finest level of features, P3, and what is pooled from it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from searchanything.core.geometry import Letterbox
from searchanything.core.types import BoolMasks, FloatArray
from searchanything.models.device_lane import DeviceLane
from searchanything.models.exact import exact_product

_COVERAGES: Final = 64  # of image sizes, that are kept on devices
_P3_CELLS: Final = 2  # mask grid cells along a P3 cell: strides 4 and 8
_SMALLEST_WEIGHT: Final = 1 / 64  # a grid cell that is covered by 1 of its 16 pixels, in a P3 cell of 4


class P3Map:
    """A `FeatureMap`: P3 of one image on the device where it was computed."""

    __slots__ = ("_features", "_lane", "_letterbox")

    def __init__(self, features: Tensor, letterbox: Letterbox, lane: DeviceLane) -> None:
        """`features` (C, gh / 2, gw / 2) of the image in a letterbox, in the model's precision.

        `lane` is where masks are pooled; the features are computed by now.
        """
        self._features = features
        self._letterbox = letterbox
        self._lane = lane

    def pool(self, masks: BoolMasks) -> FloatArray:
        """Average P3 over each mask: (N, gh, gw) bool on the mask grid -> (N, C) float32.

        P3 cells are exact 2 x 2 blocks of grid cells, so a cell's weight is the part of it that is mask and image.
        A mask of one grid cell thereby takes the P3 cell that holds it; an empty mask gives zeros.
        One matrix product in fp32. Raises: ValueError for masks on another grid.
        """
        if masks.ndim != 3 or masks.shape[1:] != self._letterbox.grid_size:
            raise ValueError(f"expected masks (N, *{self._letterbox.grid_size}), got {masks.shape}")
        if len(masks) == 0:
            return np.zeros((0, self._features.shape[0]), dtype=np.float32)
        with self._lane.open(), torch.inference_mode():
            pooled: FloatArray = self.pooled(torch.from_numpy(masks).to(self._features.device)).cpu().numpy()
        return pooled

    def pooled(self, masks: Tensor, *, whole: bool = False) -> Tensor:
        """The same for masks on the device, in the caller's lane; `whole` adds a row for the whole image."""
        coverage = coverage_on(self._letterbox, self._features.device)
        share = masks * coverage
        if whole:
            share = torch.cat([share, coverage[None]])
        weights = nn.functional.avg_pool2d(share, _P3_CELLS).flatten(1)
        sums = weights.sum(dim=1, keepdim=True).clamp_min(_SMALLEST_WEIGHT)
        return exact_product(weights / sums, self._features.float().flatten(1).T)


def coverage_on(letterbox: Letterbox, device: torch.device) -> Tensor:
    """`Letterbox.coverage` on a device, for the caller's lane."""
    coverage = _kept_coverage(letterbox, device)
    if coverage.is_cuda:  # its memory is not given to others before this lane has read it, also when it is forgotten
        coverage.record_stream(torch.cuda.current_stream(device))
    return coverage


@lru_cache(maxsize=_COVERAGES)
def _kept_coverage(letterbox: Letterbox, device: torch.device) -> Tensor:
    coverage = torch.from_numpy(letterbox.coverage.copy()).to(device)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # it may be used in any lane from now on
    return coverage
