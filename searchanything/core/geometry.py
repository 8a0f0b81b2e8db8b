"""Frames and masks: image pixels, network input (letterboxed) and the mask grid.

    image (H, W)  --scale, pad-->  network input (multiples of 32)  --/ stride-->  mask grid

The mask grid (stride 4: the segmenter's prototypes) covers the padding too; `Letterbox.coverage` says how much of each
cell lies on the image. Nothing here knows a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.libraries import LazyModule
from searchanything.core.types import BoolMask, BoolMasks, BoxXYXY, FloatArray, MaskRLE, RGBImage

if TYPE_CHECKING:
    import cv2
    from pycocotools import mask as coco_mask
else:
    cv2, coco_mask = LazyModule("cv2"), LazyModule("pycocotools.mask")

GRID_STRIDE = 4  # YOLOv8-seg prototypes: input / 4
INPUT_MULTIPLE = 32  # the deepest pyramid level's stride
PADDING_VALUE = 114  # ultralytics' LetterBox
STORED_MASK_SIDE = 256  # longest side of a stored mask's grid
MAX_MASK_CELLS = 1 << 28  # of any mask that is decoded: more than an image may have by default
_MOST_GROUPS = 6  # of 5 bits after a number's first
STORED_MASK_BYTES = 4096  # most bytes of a stored mask's counts; halved in resolution until it fits


@dataclass(frozen=True)
class Letterbox:
    """How an image of (height, width) px lies in a network input, by ultralytics' LetterBox(auto=True).

    The longest side becomes `input_size` (a multiple of 32), the other follows and is padded on both sides to the next
    multiple of 32. It depends on the image's size alone, so an image has the same features in any batch.
    """

    height: int
    width: int
    input_size: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.input_size % INPUT_MULTIPLE or self.input_size < INPUT_MULTIPLE:
            raise ValueError(
                f"expected a non-empty image and an input size that {INPUT_MULTIPLE} divides, "
                f"got {self.height} x {self.width} px into {self.input_size}"
            )

    @cached_property
    def scaled_size(self) -> tuple[int, int]:
        """(height, width) of the image inside the input; at least one pixel each way."""
        ratio = self.input_size / max(self.height, self.width)
        return max(1, round(self.height * ratio)), max(1, round(self.width * ratio))

    @cached_property
    def input_shape(self) -> tuple[int, int]:
        """(height, width) of the network input."""
        height, width = (-(-side // INPUT_MULTIPLE) * INPUT_MULTIPLE for side in self.scaled_size)
        return height, width

    @cached_property
    def offset(self) -> tuple[int, int]:
        """(top, left) padding in input pixels; the odd pixel goes to the bottom and the right."""
        top, left = ((whole - part) // 2 for whole, part in zip(self.input_shape, self.scaled_size, strict=True))
        return top, left

    @cached_property
    def scale(self) -> tuple[float, float]:
        """(vertical, horizontal) input pixels per image pixel; rounding makes them differ slightly."""
        return self.scaled_size[0] / self.height, self.scaled_size[1] / self.width

    @cached_property
    def grid_size(self) -> tuple[int, int]:
        """(height, width) of the mask grid in cells."""
        return self.input_shape[0] // GRID_STRIDE, self.input_shape[1] // GRID_STRIDE

    @cached_property
    def coverage(self) -> FloatArray:
        """(gh, gw) float32: the fraction of each grid cell that lies on the image, 0 on padding."""
        rows, columns = (
            _covered(cells, start, length)
            for cells, start, length in zip(self.grid_size, self.offset, self.scaled_size, strict=True)
        )
        return np.outer(rows, columns).astype(np.float32)

    @cached_property
    def cell_area_px(self) -> float:
        """Image pixels in one whole grid cell."""
        return GRID_STRIDE**2 / (self.scale[0] * self.scale[1])

    def apply(self, image: RGBImage) -> RGBImage:
        """The network input, (input height, input width, 3) uint8."""
        top, left = self.offset
        height, width = self.scaled_size
        resized: NDArray[Any] = image
        if image.shape[:2] != (height, width):
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        padded = np.full((*self.input_shape, 3), PADDING_VALUE, dtype=np.uint8)
        padded[top : top + height, left : left + width] = resized
        return padded

    def boxes_to_image(self, boxes_xyxy: FloatArray) -> FloatArray:
        """(N, 4) boxes from input pixels to image pixels, clipped to the image; a new array."""
        (top, left), (sy, sx) = self.offset, self.scale
        boxes = (boxes_xyxy - np.array([left, top, left, top])) / np.array([sx, sy, sx, sy])
        boxes = np.clip(boxes, 0, [self.width, self.height, self.width, self.height])
        return np.asarray(boxes, dtype=np.float32)

    def cells_of(self, points_xy: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """(N, 2) points in image pixels -> (N, 2) grid cells (row, column), clipped to cells that hold image."""
        (top, left), (sy, sx) = self.offset, self.scale
        rows = np.floor((points_xy[:, 1] * sy + top) / GRID_STRIDE)
        columns = np.floor((points_xy[:, 0] * sx + left) / GRID_STRIDE)
        last_row = (top + self.scaled_size[0] - 1) // GRID_STRIDE
        last_column = (left + self.scaled_size[1] - 1) // GRID_STRIDE
        rows = np.clip(rows, top // GRID_STRIDE, last_row)
        columns = np.clip(columns, left // GRID_STRIDE, last_column)
        return np.stack([rows, columns], axis=1).astype(np.int64)

    def areas_px(self, masks: BoolMasks) -> FloatArray:
        """(N, gh, gw) grid masks -> (N,) float32 areas in image pixels; padding does not count."""
        flat = masks.reshape(len(masks), self.coverage.size).astype(np.float32)
        return self.areas_of(flat @ self.coverage.ravel())  # sixteenths of cells: exact in float32

    def areas_of(self, covered: FloatArray) -> FloatArray:
        """(N,) float32 areas in image pixels of masks that cover so many grid cells."""
        return np.asarray(covered.astype(np.float64) * self.cell_area_px, dtype=np.float32)

    def box_share(self, box_xyxy: BoxXYXY) -> FloatArray:
        """(gh, gw) float32: the fraction of each grid cell that a box in image pixels fills, exactly; 0 on padding."""
        (top, left), (sy, sx) = self.offset, self.scale
        x1, x2 = (min(max(x, 0), self.width) for x in box_xyxy[::2])
        y1, y2 = (min(max(y, 0), self.height) for y in box_xyxy[1::2])
        rows = _covered(self.grid_size[0], y1 * sy + top, (y2 - y1) * sy)
        columns = _covered(self.grid_size[1], x1 * sx + left, (x2 - x1) * sx)
        return np.asarray(np.outer(rows, columns), dtype=np.float32)

    def box_mask(self, box_xyxy: BoxXYXY) -> BoolMask:
        """The cells that a box in image pixels fills by half or more; at least the cell of the box's centre."""
        x1, y1, x2, y2 = box_xyxy
        mask = (self.box_share(box_xyxy) >= 0.5 * self.coverage) & (self.coverage > 0)
        if not mask.any():
            row, column = self.cells_of(np.array([[(x1 + x2) / 2, (y1 + y2) / 2]], dtype=np.float32))[0]
            mask[row, column] = True
        return mask

    def grid_mask(self, mask: BoolMask) -> BoolMask:
        """An image-sized mask on the grid: cells at least half inside; a thin mask keeps the cells it touches.

        Raises: ValueError if the mask's shape is not the image's.
        """
        if mask.shape != (self.height, self.width):
            raise ValueError(f"expected a mask of {(self.height, self.width)}, got {mask.shape}")
        (top, left), (height, width) = self.offset, self.scaled_size
        padded = np.zeros(self.input_shape, dtype=np.float32)
        padded[top : top + height, left : left + width] = cv2.resize(
            mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
        )
        gh, gw = self.grid_size
        share = padded.reshape(gh, GRID_STRIDE, gw, GRID_STRIDE).mean(axis=(1, 3))
        # Border cells are only partly image: "half" is half of what the image covers.
        filled: BoolMask = (share >= 0.5 * self.coverage) & (self.coverage > 0)
        return filled if filled.any() else (share > 0) & (self.coverage > 0)

    def mask_in_box(self, mask: BoolMask, box_xyxy: tuple[int, int, int, int], size: tuple[int, int]) -> BoolMask:
        """Sample a grid mask over a box in image pixels at (height, width) points, bilinearly: a smooth outline.

        A stack of masks (…, gh, gw) gives a stack.
        """
        x1, y1, x2, y2 = box_xyxy
        height, width = size
        (top, left), (sy, sx) = self.offset, self.scale
        ys = y1 + (np.arange(height) + 0.5) * ((y2 - y1) / height)
        xs = x1 + (np.arange(width) + 0.5) * ((x2 - x1) / width)
        rows = (ys * sy + top) / GRID_STRIDE - 0.5
        columns = (xs * sx + left) / GRID_STRIDE - 0.5
        return _sample_bilinear(mask, rows, columns) >= 0.5

    def regrid(self, masks: BoolMasks, other: Letterbox) -> BoolMasks:
        """(N, h, w) masks on the grid of another letterbox of the same image, on this grid, bilinearly."""
        (top, left), (sy, sx) = self.offset, self.scale
        (other_top, other_left), (other_sy, other_sx) = other.offset, other.scale
        rows, columns = ((np.arange(cells) + 0.5) * GRID_STRIDE for cells in self.grid_size)
        rows = ((rows - top) / sy * other_sy + other_top) / GRID_STRIDE - 0.5
        columns = ((columns - left) / sx * other_sx + other_left) / GRID_STRIDE - 0.5
        regridded = np.zeros((len(masks), *self.grid_size), dtype=np.bool_)
        for number, mask in enumerate(masks):  # one by one: samples are floats, four bytes a cell
            regridded[number] = _sample_bilinear(mask, rows, columns) >= 0.5
        return regridded & (self.coverage > 0)

    def image_masks(self, masks: BoolMasks) -> BoolMasks:
        """(N, gh, gw) grid masks at the image's own size, (N, height, width) bool."""
        return self.mask_in_box(masks, (0, 0, self.width, self.height), (self.height, self.width))

    def stored_size(self, side: int = STORED_MASK_SIDE) -> tuple[int, int]:
        """(height, width) of the grid that masks are stored on, no side longer than `side`, the image or its grid."""
        ratio = min(1.0, min(side, max(self.grid_size)) / max(self.height, self.width))
        return max(1, round(self.height * ratio)), max(1, round(self.width * ratio))

    def stored_mask(self, mask: BoolMask) -> MaskRLE:
        """One grid mask (gh, gw) as `stored_masks` has it."""
        return self.stored_masks(mask[None])[0]

    def stored_masks(self, masks: BoolMasks) -> tuple[MaskRLE, ...]:
        """Grid masks (N, gh, gw) as RLE over a grid that spans the image, longest side ≤ 256, counts ≤ 4096 bytes.

        All are sampled and encoded in one pass; those whose counts are too long once more, on a coarser grid. A mask
        that lies between the samples, as small things on a finer grid do, is what it touches: none becomes empty.
        """
        found: dict[int, MaskRLE] = {}
        waiting, side = list(range(len(masks))), STORED_MASK_SIDE
        while waiting:
            size = self.stored_size(side)
            sampled = self.mask_in_box(masks[waiting], (0, 0, self.width, self.height), size)
            for place in np.flatnonzero(~sampled.any(axis=(1, 2))):
                sampled[place] = _touched(masks[waiting[place]], self, size)
            found.update(zip(waiting, encode_rles(sampled), strict=True))
            waiting = [one for one in waiting if len(found[one].counts) > STORED_MASK_BYTES]  # never at 1 x 1
            side = min(side, max(self.grid_size)) // 2
        return tuple(found[number] for number in range(len(masks)))


def _covered(cells: int, start: float, length: float) -> FloatArray:
    """How much of each of `cells` stretches of GRID_STRIDE input pixels lies in [start, start + length)."""
    edges = np.arange(cells + 1) * GRID_STRIDE
    overlap = np.minimum(edges[1:], start + length) - np.maximum(edges[:-1], start)
    return np.asarray(np.clip(overlap, 0, GRID_STRIDE) / GRID_STRIDE, dtype=np.float32)


def _touched(mask: BoolMask, letterbox: Letterbox, size: tuple[int, int]) -> BoolMask:
    """What the centres of a grid mask's cells touch of a grid of (height, width) that spans the image."""
    centres = (np.argwhere(mask & (letterbox.coverage > 0)) + 0.5) * GRID_STRIDE - letterbox.offset
    rows, columns = np.clip(centres * size / letterbox.scaled_size, 0, np.array(size) - 1).astype(np.intp).T
    touched = np.zeros(size, dtype=np.bool_)
    touched[rows, columns] = True
    return touched


def _sample_bilinear(mask: BoolMask, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> FloatArray:
    """Bilinear samples at the grid rows x columns given as fractional indices; the edge cells extend outwards.

    Separable, in two gathers, because cv2.remap refuses sides beyond 32767.
    """
    values = mask.astype(np.float32)
    for axis, positions in ((-2, rows), (-1, columns)):
        last = values.shape[axis] - 1
        low = np.clip(np.floor(positions), 0, last).astype(np.intp)
        high = np.minimum(low + 1, last)
        share = np.clip(positions - low, 0, 1).astype(np.float32)
        share = share[:, None] if axis == -2 else share[None, :]
        values = values.take(low, axis=axis) * (1 - share) + values.take(high, axis=axis) * share
    return values


def boxes_of(masks: BoolMasks, letterbox: Letterbox) -> FloatArray:
    """Tight boxes (N, 4) float32 in image pixels around grid masks; zeros for an empty mask."""
    rows, columns = np.any(masks, axis=2), np.any(masks, axis=1)
    filled = np.any(rows, axis=1)
    y1, x1 = rows.argmax(axis=1), columns.argmax(axis=1)
    y2 = masks.shape[1] - rows[:, ::-1].argmax(axis=1)
    x2 = masks.shape[2] - columns[:, ::-1].argmax(axis=1)
    boxes = np.stack([x1, y1, x2, y2], axis=1).astype(np.float32) * GRID_STRIDE
    return np.where(filled[:, None], letterbox.boxes_to_image(boxes), np.float32(0))


def box_of_mask(mask: BoolMask) -> BoxXYXY | None:
    """The tight box around a mask, in pixels; None where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def encode_rle(mask: BoolMask) -> MaskRLE:
    """A (H, W) mask in COCO's compressed run-length encoding."""
    return encode_rles(mask[None])[0]


def encode_rles(masks: BoolMasks) -> list[MaskRLE]:
    """(N, H, W) masks in COCO's compressed run-length encoding, in one call."""
    return encode_columns(np.ascontiguousarray(masks.transpose(0, 2, 1), dtype=np.uint8))


def encode_columns(masks: NDArray[np.uint8]) -> list[MaskRLE]:
    """The same for masks (N, W, H) of zeros and ones, column by column as the encoding goes."""
    size = masks.shape[2], masks.shape[1]
    return [MaskRLE(size, one["counts"].decode("ascii")) for one in coco_mask.encode(masks.transpose(2, 1, 0))]


def check_rle(rle: MaskRLE, *, most_cells: int = MAX_MASK_CELLS) -> NDArray[np.int64]:
    """The runs of a run-length encoding, checked: they need as much memory as its text, however large the mask.

    The format is that of `rleToString` in COCO's maskApi.c: numbers in groups of 5 bits, lowest first, bit 5 set on all
    but the last, two's complement; from the fourth run on, the difference to the run two before. Runs go down the
    columns and begin with zeros.

    Raises: ValueError if the runs do not fill the grid, or for a grid of more than `most_cells`.
    """
    height, width = rle.size
    if height < 0 or width < 0 or height * width > most_cells:
        raise ValueError(f"expected a mask of at most {most_cells:,} cells, got {height} x {width}")
    groups = np.frombuffer(rle.counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(groups & 32 == 0)
    if groups.min(initial=0) < 0 or groups.max(initial=0) > 63 or (len(groups) and groups[-1] & 32):
        raise ValueError(f"expected runs that fill a mask of {rle.size}, got other characters or a cut off number")
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    places = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    if places.max(initial=0) > _MOST_GROUPS:
        raise ValueError(f"expected runs that fill a mask of {rle.size}, got a number of more than 32 bits")
    runs = np.add.reduceat((groups & 31) << (5 * places), starts) if len(ends) else groups[:0]
    runs -= np.where(groups[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    if runs.min(initial=0) < 0 or runs.max(initial=0) > most_cells or runs.sum() != height * width:
        got = f"{counted(len(runs), 'run')} of {counted(int(runs.sum()), 'cell')}"
        raise ValueError(f"expected runs that fill a mask of {rle.size}, got {got}")
    return runs


def decode_rle(rle: MaskRLE, *, most_cells: int = MAX_MASK_CELLS) -> BoolMask:
    """The (H, W) bool mask of a run-length encoding. Raises: as `check_rle`."""
    runs = check_rle(rle, most_cells=most_cells)
    height, width = rle.size
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def mask_of_size(rle: MaskRLE, height: int, width: int) -> BoolMask:
    """A stored mask at another size (usually the image's), smooth outline, (height, width) bool; of one that is too
    small for any pixel there, the pixel in its middle.

    Raises: ValueError for a damaged mask; UsageError for one of more than `MAX_MASK_CELLS`.
    """
    if height * width > MAX_MASK_CELLS:
        raise UsageError(f"expected a mask of at most {MAX_MASK_CELLS:,} cells, got {height} x {width}")
    grid = decode_rle(rle)
    found = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5
    if grid.any() and not found.any():
        row, column = ((np.argwhere(grid) + 0.5).mean(axis=0) * (height, width) / grid.shape).astype(np.intp)
        found[row, column] = True
    return np.asarray(found, dtype=np.bool_)


def innermost_point(mask: BoolMask) -> tuple[float, float]:
    """Centre (x, y) of the pixel farthest from the mask's outline and from the image's border, first in reading order.

    Raises: ValueError for an empty mask.
    """
    depths, (top, left) = depths_inside(mask)
    row, column = np.unravel_index(int(depths.argmax()), depths.shape)
    return left + float(column) + 0.5, top + float(row) + 0.5


def depths_inside(mask: BoolMask) -> tuple[FloatArray, tuple[int, int]]:
    """Distance of each pixel to the nearest one outside the mask, over its tight box, and that box's (row, column).

    Felzenszwalb and Huttenlocher, Theory of Computing 2012, as OpenCV has it. Raises: ValueError for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("expected a mask with at least one pixel")
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    distances = cv2.distanceTransform(np.pad(inside.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distances[1:-1, 1:-1], dtype=np.float32), (int(rows[0]), int(columns[0]))


def box_iou(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """IoU of each of (N, 4) boxes with each of (M, 4): (N, M) float32; 0 where both are empty."""
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    other_areas = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(axis=1)
    union = areas[:, None] + other_areas[None, :] - overlap
    ious = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return np.asarray(ious, dtype=np.float32)
