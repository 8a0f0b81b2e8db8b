"""Regions whose masks stay on a GPU, a bit a cell, until somebody asks for them: of 300 that are found, 25 are kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from searchanything.core.geometry import Letterbox
from searchanything.core.protocols import FeatureMap, Segmentation
from searchanything.core.types import BoolMasks, FloatArray


class DeviceSegmentation(Segmentation):
    """A `Segmentation` of a device. `bits` (N, gh, ⌈gw / 8⌉) uint8 are its masks, as `packed_bits` makes them."""

    __slots__ = ("_areas_px", "_masks", "bits")
    bits: Tensor
    _areas_px: FloatArray
    _masks: BoolMasks | None

    def __init__(
        self,
        letterbox: Letterbox,
        boxes_xyxy: FloatArray,
        scores: FloatArray,
        bits: Tensor,
        areas_px: FloatArray,
        features: FeatureMap,
    ) -> None:
        given = {
            "letterbox": letterbox, "boxes_xyxy": boxes_xyxy, "scores": scores, "bits": bits, "_areas_px": areas_px,
            "features": features, "_masks": None,
        }  # fmt: skip
        for name, value in given.items():
            object.__setattr__(self, name, value)  # the base is frozen

    @property
    def masks(self) -> BoolMasks:
        """(N, gh, gw) bool in the host's memory."""
        found = self._masks
        if found is None:
            found = host_masks(self.bits, self.letterbox.grid_size[1])
            object.__setattr__(self, "_masks", found)
        return found

    @property
    def areas_px(self) -> FloatArray:
        return self._areas_px

    def masks_of(self, rows: Tensor) -> Tensor:
        """Some of the masks, (R, gh, gw) bool on the device."""
        return unpacked_bits(self.bits[rows], self.letterbox.grid_size[1])


def packed_bits(masks: Tensor) -> Tensor:
    """(N, h, w) bool -> (N, h, ⌈w / 8⌉) uint8 on the same device, the first cell highest: as `numpy.packbits`."""
    padded = nn.functional.pad(masks.to(torch.uint8), (0, -masks.shape[-1] % 8))
    cells = padded.reshape(*padded.shape[:-1], padded.shape[-1] // 8, 8)
    bits: Tensor = (cells * _weights(masks)).sum(dim=-1, dtype=torch.uint8)
    return bits


def unpacked_bits(bits: Tensor, width: int) -> Tensor:
    """The (N, h, width) bool masks that were packed."""
    cells: Tensor = (bits[..., None] & _weights(bits)) != 0
    return cells.flatten(-2)[..., :width]


def host_masks(bits: Tensor, width: int) -> BoolMasks:
    """Packed masks (N, h, width) bool in the host's memory: they travel as bits, an eighth of the bytes."""
    return np.unpackbits(bits.cpu().numpy(), axis=-1, count=width).view(np.bool_)


def _weights(like: Tensor) -> Tensor:
    return 2 ** torch.arange(7, -1, -1, device=like.device, dtype=torch.uint8)
