"""The second stage of ingest on a GPU: pooling, crops and masks of all kept regions of a batch, and one wait for them.

On the host they are the slowest stage: 85 ms of a core for a photograph and 25 of 300 regions, where the paper's models
take 29 on an H200 (docs/adr/0081). Crops stay on the device for the encoder; masks come back as bits of the grid that
is stored, to be run-length encoded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchanything.core.counting import counted
from searchanything.core.geometry import STORED_MASK_BYTES, Letterbox, encode_columns
from searchanything.core.protocols import Segmentation
from searchanything.core.types import MaskRLE, RGBImage
from searchanything.encode.cut_batch import CutBatch, KeptRegions
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import crop_windows
from searchanything.images.resizing import Interpolation, ResizeMode, Resizing
from searchanything.models.device_lane import DeviceLane, uploaded
from searchanything.models.device_regions import DeviceSegmentation, packed_bits
from searchanything.models.device_sampling import (
    CropPlaces,
    GridPlaces,
    area_crops,
    crop_masks,
    cubic_crops,
    image_masks,
    summed_area_table,
)
from searchanything.models.p3_map import P3Map
from searchanything.models.passes import is_out_of_memory

logger = logging.getLogger(__name__)

MOST_PIXELS: Final = 2**25  # of an image: its table takes 24 bytes for each, twice while it is made
GROUP_PIXELS: Final = 2**25  # of images whose tables are made together
_CROPS_AT_ONCE: Final = 64  # crops that are sampled together: up to 80 MB for each of a dozen tensors
_TAKEN: Final = Resizing(ResizeMode.LONGEST, Interpolation.AREA_CUBIC)


class DeviceCutter:
    """A `Cutter` for segmentations of the same device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @cached_property
    def _lane(self) -> DeviceLane:
        """Opened when there is something to cut: until then the device is left alone."""
        return DeviceLane(self._device, urgent=True)

    def takes(self, images: Sequence[RGBImage], segmentations: Sequence[Segmentation], resizing: Resizing) -> bool:
        """Whether all lie on the device, no image is huge, and the resizing is OpenCV's."""
        of_device = all(isinstance(one, DeviceSegmentation) for one in segmentations)
        return of_device and resizing == _TAKEN and all(image.size <= 3 * MOST_PIXELS for image in images)

    def cut(
        self,
        images: Sequence[RGBImage],
        segmentations: Sequence[Segmentation],
        rows: Sequence[NDArray[np.intp]],
        *,
        size_px: int,
        policy: CropPolicy,
    ) -> CutBatch | None:
        plan = _CropPlan(images, segmentations, rows, size_px=size_px, policy=policy)
        try:
            return self._cut(plan, cast("Sequence[DeviceSegmentation]", segmentations), rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        logger.warning("out of memory for the crops of %s: made by the host", counted(len(images), "image"))
        if self._device.type == "cuda":
            self._lane.wait()  # what was begun reads what the segmenter made, which the caller may drop
            torch.cuda.empty_cache()  # after the block: the error's frames held its tensors
        return None

    def _cut(self, plan: _CropPlan, found: Sequence[DeviceSegmentation], rows: Sequence[NDArray[np.intp]]) -> CutBatch:
        with self._lane.open(), torch.inference_mode():
            chosen = uploaded(np.concatenate([*rows, np.zeros(0, np.intp)]), self._device)
            ends = np.cumsum([len(one) for one in rows]).tolist()
            masks = [
                one.masks_of(chosen[end - len(some) : end]) for one, some, end in zip(found, rows, ends, strict=True)
            ]
            maps = [cast("P3Map", one.features) for one in found]
            pooled = torch.cat([one.pooled(some, whole=True) for one, some in zip(maps, masks, strict=True)])
            crops = plan.crops(masks, self._device)
            stored = [
                packed_bits(image_masks(some, one.letterbox, one.letterbox.stored_size()).transpose(1, 2))
                for one, some in zip(found, masks, strict=True)
            ]
            f_m = pooled.cpu().numpy()  # the one wait: what was queued before is there as well
            bits = torch.cat([one.flatten() for one in stored]).cpu().numpy()
        parts = np.split(bits, np.cumsum([one.numel() for one in stored])[:-1])
        regions = []
        for one, some, kept, part in zip(found, masks, rows, parts, strict=True):
            stored_masks = encoded_masks(part, some, one.letterbox)
            regions.append(KeptRegions.of_rows(one, kept, areas_px=one.areas_px[kept], masks=stored_masks))
        return CutBatch(regions, f_m, crops)


@cache
def cutter_of(device: torch.device) -> DeviceCutter:
    """The device's one cutter: each encoder's own would have a stream, and memory that is kept for that stream."""
    return DeviceCutter(device)


class _CropPlan:
    """Where each crop of a batch comes from: regions of each image and then the image, image by image."""

    def __init__(
        self,
        images: Sequence[RGBImage],
        segmentations: Sequence[Segmentation],
        rows: Sequence[NDArray[np.intp]],
        *,
        size_px: int,
        policy: CropPolicy,
    ) -> None:
        windows, is_masked = [], []
        for image, one, kept in zip(images, segmentations, rows, strict=True):
            some, masked = crop_windows(one.boxes_xyxy[kept], image.shape[:2], policy)
            whole = np.array([[0, 0, image.shape[1], image.shape[0]]])
            windows.append(np.concatenate([some, whole]))
            is_masked.append(np.append(masked, False))
        self.images, self.side = images, size_px
        self.letterboxes = [one.letterbox for one in segmentations]
        self.numbers = np.repeat(np.arange(len(images)), [len(one) for one in windows])  # of each crop's image
        self.windows, self.is_masked = np.concatenate(windows), np.concatenate(is_masked)
        sides = self.windows[:, 3:1:-1] - self.windows[:, 1::-1]
        self.counts = _TAKEN.sizes(sides, size_px)
        self.shrinks = sides.max(axis=1) > size_px

    def crops(self, masks: Sequence[Tensor], device: torch.device) -> Tensor:
        """(N, S, S, 3) uint8 on the device, from each image's kept masks (R, gh, gw)."""
        made = torch.zeros((len(self.windows), self.side, self.side, 3), dtype=torch.uint8, device=device)
        for group in self._groups():
            members = np.flatnonzero(np.isin(self.numbers, group))
            shrunk, grown = members[self.shrinks[members]], members[~self.shrinks[members]]
            pixels = [uploaded(self.images[number], device) for number in group]
            if len(shrunk):
                tables = _joined([summed_area_table(one) for one in pixels])
                for some in _chunks(shrunk):
                    places = self._places(some, group, device, margin=1)
                    made[uploaded(some, device)] = area_crops(tables, places, self.side)
            if len(grown):
                flat = _joined([one.flatten(0, 1) for one in pixels])
                for some in _chunks(grown):
                    made[uploaded(some, device)] = cubic_crops(flat, self._places(some, group, device), self.side)
        if self.is_masked.any():
            self._mask(made, masks, device)
        return made

    def _mask(self, made: Tensor, masks: Sequence[Tensor], device: torch.device) -> None:
        """Blacken what lies outside the masks of crops that are shown masked."""
        cells = torch.cat([one.flatten() for one in masks])
        sizes = np.array([box.grid_size[0] * box.grid_size[1] for box in self.letterboxes])[self.numbers]
        is_region = np.append(self.numbers[1:] == self.numbers[:-1], False)
        first = np.cumsum(np.where(is_region, sizes, 0)) - np.where(is_region, sizes, 0)
        for some in _chunks(np.flatnonzero(self.is_masked)):
            grids = GridPlaces.on(device, [self.letterboxes[number] for number in self.numbers[some]], first[some])
            shown = crop_masks(cells, self._places(some, range(len(self.images)), device), grids, self.side)
            there = uploaded(some, device)
            made[there] = made[there] * shown[..., None]

    def _places(
        self, some: NDArray[np.intp], group: Sequence[int], device: torch.device, *, margin: int = 0
    ) -> CropPlaces:
        """Of some crops, in a flat buffer of a group's images, each with so many rows and columns more."""
        shapes = np.array([self.images[number].shape[:2] for number in group]) + margin
        first = np.cumsum(shapes.prod(axis=1)) - shapes.prod(axis=1)
        at = np.searchsorted(np.asarray(group), self.numbers[some])
        return CropPlaces.on(device, self.windows[some], self.counts[some], self.side, first[at], shapes[at, 1])

    def _groups(self) -> Iterator[Sequence[int]]:
        """Images whose tables are made together."""
        group: list[int] = []
        held = 0
        for number, image in enumerate(self.images):
            if group and held + image.size > 3 * GROUP_PIXELS:
                yield group
                group, held = [], 0
            group.append(number)
            held += image.size
        yield group


def _joined(parts: list[Tensor]) -> Tensor:
    """One after the other; a large image's, which is alone, is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _chunks(numbers: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(numbers), _CROPS_AT_ONCE):
        yield numbers[start : start + _CROPS_AT_ONCE]


def encoded_masks(bits: NDArray[np.uint8], masks: Tensor, letterbox: Letterbox) -> tuple[MaskRLE, ...]:
    """Masks as they are stored; by the host those whose text is too long, or that lie between the samples."""
    height, width = letterbox.stored_size()
    columns = np.unpackbits(bits.reshape(len(masks), width, -(-height // 8)), axis=-1, count=height)
    found = encode_columns(columns)
    seen = np.any(columns, axis=(1, 2)).tolist()
    others = [number for number, one in enumerate(found) if not seen[number] or len(one.counts) > STORED_MASK_BYTES]
    if others:
        for number, one in zip(others, letterbox.stored_masks(masks[others].cpu().numpy()), strict=True):
            found[number] = one
    return tuple(found)
