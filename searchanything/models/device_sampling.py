"""Crops and masks sampled on a device, all of a batch at once: as OpenCV and `core.geometry` do it on the host.

Areas (cv2.INTER_AREA) come from summed-area tables in float64: a table is linear between its points, so an average over
a box with fractional edges is four samples of it (Crow, SIGGRAPH 1984), however large the box. Cubics (cv2.INTER_CUBIC)
are two products of matrices. Values are those of OpenCV, but for a rounding of 1 here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from searchanything.core.geometry import GRID_STRIDE, Letterbox
from searchanything.models.device_lane import uploaded
from searchanything.models.exact import exact_product

_CUBIC: Final = -0.75  # OpenCV's
_CUBIC_STEPS: Final = 2048  # its weights are multiples of one such


@dataclass(frozen=True, slots=True)
class CropPlaces:
    """Where N crops of S x S are taken from, and where their parts lie in them; float64 on the device, each (N, 2).

    Pairs are (vertical, horizontal). `start` and `length` are the window in its image, `count` and `offset` the part in
    the crop; `first` (N,) and `stride` (N,) say where the window's image begins in a flat buffer of pixels, and how
    long its rows are.
    """

    start: Tensor
    length: Tensor
    count: Tensor
    offset: Tensor
    first: Tensor
    stride: Tensor

    @classmethod
    def on(
        cls, device: torch.device, windows: NDArray[np.int64], counts: NDArray[np.int64], side: int,
        first: NDArray[np.int64], stride: NDArray[np.int64],
    ) -> CropPlaces:  # fmt: skip
        """`windows` (N, 4) as x1, y1, x2, y2; `counts` (N, 2) as height, width; crops of `side` pixels."""
        start, end = windows[:, 1::-1], windows[:, 3:1:-1]
        columns = [start, end - start, counts, (side - counts) // 2, first[:, None], stride[:, None]]
        there = uploaded(np.concatenate(columns, axis=1).astype(np.float64), device)
        starts, lengths, sizes, offsets = (there[:, at : at + 2] for at in (0, 2, 4, 6))
        return cls(starts, lengths, sizes, offsets, there[:, 8].long(), there[:, 9].long())


def summed_area_table(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> ((H + 1) * (W + 1), 3) float64: the sum of all pixels above and left of each corner."""
    sums = image.cumsum(0, dtype=torch.float64).cumsum(1)
    return nn.functional.pad(sums, (0, 0, 1, 0, 1, 0)).flatten(0, 1)


def area_crops(tables: Tensor, places: CropPlaces, side: int) -> Tensor:
    """Windows shrunk to crops, by averages: (N, S, S, 3) uint8, black outside their parts.

    `tables` are those of all images, one after the other.
    """
    (rows, down), (columns, across) = (_edges(places, axis, side) for axis in (0, 1))
    stride = places.stride[:, None, None]
    corner = places.first[:, None, None] + rows[:, :, None] * stride + columns[:, None, :]
    across, down = across[:, None, :, None], down[:, :, None, None]
    upper = tables[corner] * (1 - across) + tables[corner + 1] * across
    corner = corner + stride
    lower = tables[corner] * (1 - across) + tables[corner + 1] * across
    sums = upper * (1 - down) + lower * down
    boxes = sums[:, 1:, 1:] - sums[:, :-1, 1:] - sums[:, 1:, :-1] + sums[:, :-1, :-1]
    pixels = (places.length / places.count).prod(dim=1)[:, None, None, None]
    return (boxes / pixels).round().clamp(0, 255).to(torch.uint8)


def cubic_crops(pixels: Tensor, places: CropPlaces, side: int) -> Tensor:
    """Windows of at most S x S pixels grown to crops, by cubics: (N, S, S, 3) uint8, black outside their parts.

    `pixels` (P, 3) uint8 are those of all images, one after the other.
    """
    rows, columns = (_inside(places, axis, side) for axis in (0, 1))
    corner = places.first[:, None, None] + rows[:, :, None] * places.stride[:, None, None] + columns[:, None, :]
    part = pixels[corner].permute(0, 3, 1, 2).float()
    down, across = (_cubic_weights(places, axis, side)[:, None] for axis in (0, 1))
    grown = exact_product(exact_product(down, part), across.transpose(2, 3))
    return (grown + 0.5).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class GridPlaces:
    """What turns pixels of N images into cells of their letterboxes' grids: float64 on the device, (N, 2) each.

    `first` (N,) says where the mask begins in a flat buffer of cells.
    """

    scale: Tensor
    offset: Tensor
    cells: Tensor
    first: Tensor

    @classmethod
    def on(cls, device: torch.device, letterboxes: Sequence[Letterbox], first: NDArray[np.int64]) -> GridPlaces:
        """Of one letterbox for each."""
        facts = [[*one.scale, *one.offset, *one.grid_size] for one in letterboxes]
        there = uploaded(np.column_stack([np.array(facts, dtype=np.float64).reshape(-1, 6), first]), device)
        scale, offset, cells = (there[:, at : at + 2] for at in (0, 2, 4))
        return cls(scale, offset, cells, there[:, 6].long())


def crop_masks(cells: Tensor, places: CropPlaces, grids: GridPlaces, side: int) -> Tensor:
    """Grid masks over the parts of crops: (N, S, S) bool, False outside; all True in a part that no pixel of it is in.

    `cells` (P,) bool are those of all masks, one after the other.
    """
    steps = torch.arange(side, device=cells.device, dtype=torch.float64)
    taps, inside = [], []
    for axis in (0, 1):
        start, length, count, offset = (
            one[:, axis, None] for one in (places.start, places.length, places.count, places.offset)
        )
        step = steps - offset
        positions = start + (step + 0.5) * (length / count)
        scale, top, last = (one[:, axis, None] for one in (grids.scale, grids.offset, grids.cells))
        taps.append(_taps(positions, scale, top, last))
        inside.append((step >= 0) & (step < count))
    (above, below, down), (left, right, across) = taps
    stride = grids.cells[:, 1].long()[:, None, None]
    above, below = (grids.first[:, None, None] + one[:, :, None] * stride for one in (above, below))
    left, right, down, across = left[:, None, :], right[:, None, :], down[:, :, None], across[:, None, :]
    first = cells[above + left] * (1 - down) + cells[below + left] * down
    second = cells[above + right] * (1 - down) + cells[below + right] * down
    part = inside[0][:, :, None] & inside[1][:, None, :]
    found = ((first * (1 - across) + second * across) >= 0.5) & part
    return torch.where(found.flatten(1).any(1)[:, None, None], found, part)


def image_masks(masks: Tensor, letterbox: Letterbox, size: tuple[int, int]) -> Tensor:
    """Grid masks (N, gh, gw) bool over their whole image at (height, width) points, as `Letterbox.mask_in_box` does."""
    values = masks.float()
    sides = (letterbox.height, letterbox.width)
    for axis, (side, points) in enumerate(zip(sides, size, strict=True)):
        steps = torch.arange(points, device=masks.device, dtype=torch.float64)
        positions = (steps + 0.5) * (side / points)
        low, high, share = _taps(
            positions, letterbox.scale[axis], letterbox.offset[axis], float(letterbox.grid_size[axis])
        )
        share = share[:, None] if axis == 0 else share
        values = values.index_select(axis + 1, low) * (1 - share) + values.index_select(axis + 1, high) * share
    return values >= 0.5


def _taps(
    positions: Tensor, scale: Tensor | float, offset: Tensor | float, cells: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells beside each position in image pixels, and the second one's share."""
    places = (positions * scale + offset) / GRID_STRIDE - 0.5
    last: Any = cells - 1  # no tensor is made of a number: the host would wait for it
    low = places.floor().clamp(min=0).clamp(max=last)
    high = (low + 1).clamp(max=last)
    return low.long(), high.long(), (places - low).clamp(0, 1).float()


def _edges(places: CropPlaces, axis: int, side: int) -> tuple[Tensor, Tensor]:
    """The pixel that each edge between a crop's pixels lies in, (N, S + 1), and how far; those outside are the ends."""
    start, length, count, offset = (
        one[:, axis, None] for one in (places.start, places.length, places.count, places.offset)
    )
    steps = torch.arange(side + 1, device=start.device, dtype=start.dtype)
    inside = torch.minimum((steps - offset).clamp(min=0), count)
    edges = start + inside * (length / count)
    low = torch.minimum(edges.floor(), start + length - 1)
    return low.long(), edges - low


def _inside(places: CropPlaces, axis: int, side: int) -> Tensor:
    """The pixels of a window, from its first on, (N, S); the last one again beyond its end."""
    steps = torch.arange(side, device=places.start.device, dtype=places.start.dtype)
    start, length = places.start[:, axis, None], places.length[:, axis, None]
    return (start + torch.minimum(steps, length - 1)).long()


def _cubic_weights(places: CropPlaces, axis: int, side: int) -> Tensor:
    """(N, S, S) float32: what each pixel of a crop takes of each of its window; nothing outside its part."""
    length, count, offset = (one[:, axis, None] for one in (places.length, places.count, places.offset))
    steps = torch.arange(side, device=length.device, dtype=length.dtype) - offset
    positions = (steps + 0.5) * (length / count) - 0.5
    low = positions.floor()
    far = (positions - low).float()
    near = 1 - far
    outer = ((_CUBIC * (far + 1) - 5 * _CUBIC) * (far + 1) + 8 * _CUBIC) * (far + 1) - 4 * _CUBIC
    inner, other = (((_CUBIC + 2) * one - (_CUBIC + 3)) * one * one + 1 for one in (far, near))
    weights = torch.stack([outer, inner, other, 1 - outer - inner - other], dim=2)
    weights = (weights * _CUBIC_STEPS).round() / _CUBIC_STEPS
    weights = weights * ((steps >= 0) & (steps < count))[:, :, None]
    taps = low[:, :, None] + torch.arange(-1, 3, device=low.device, dtype=low.dtype)
    taps = torch.minimum(taps.clamp(min=0), length[:, :, None] - 1).long()
    made = torch.zeros(len(low), side, side, device=low.device)
    return made.scatter_add_(2, taps, weights)
