"""What two arithmetics of a model are compared by: inputs that are always the same, and when their answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.protocols import Segmentation
from searchanything.core.types import FloatArray, RGBImage

# Cosine of the two features of a crop or region, at least: at that angle random hyperplanes tell 1.2 of 256 bits apart
# (Charikar, STOC 2002). bf16, whose codes differ in 3 bits in the median, has about 0.9993.
AGREEING: Final = 0.9999
ALIKE: Final = 0.99  # the part of the regions that must be found again
ALIKE_PX: Final = 1.0  # sides of their boxes, at most so far apart
ALIKE_IOU: Final = 0.99  # of their masks
_CROPS: Final = 64
_IMAGES: Final = 8
_IMAGE_SIZE: Final = (480, 640)
_SHAPES: Final = 14  # in an image
_SQUARES: Final = 8  # of a chequered crop, along a side


def probe_crops(side: int) -> RGBImage:
    """Crops (64, S, S, 3), always the same, that excite a network in different ways: plain, noise, ramps, chequered."""
    generator = np.random.default_rng(21)
    crops = generator.integers(0, 256, (_CROPS, side, side, 3), dtype=np.uint8)
    places = np.arange(side)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    squares = (places[:, None] * _SQUARES // side + places[None, :] * _SQUARES // side) % 2 == 0
    for number in range(_CROPS // 4):
        colour = generator.integers(0, 256, 3, dtype=np.uint8)
        crops[4 * number] = (0, 255, colour)[min(number, 2)]
        crops[4 * number + 1] = np.roll(ramp, number)[:, None, None] // 2 + colour // 2
        crops[4 * number + 2] = np.where(squares[..., None], colour, 255 - colour)
    return crops


def probe_images() -> list[RGBImage]:
    """8 images of 480 x 640, always the same: boxes and discs of all sizes over each other, on ramps, with noise."""
    generator = np.random.default_rng(22)
    height, width = _IMAGE_SIZE
    rows, columns = np.mgrid[:height, :width]
    images = []
    for _ in range(_IMAGES):
        low, high = generator.uniform(0, 255, (2, 3))
        image = low + (high - low) * (columns[..., None] / width)
        for number in range(_SHAPES):
            y, x = generator.uniform(0, height), generator.uniform(0, width)
            tall, wide = 8 * 2 ** generator.uniform(0, 4.5, 2)  # 8 to 180 pixels
            across, down = (columns - x) / wide, (rows - y) / tall
            inside = across**2 + down**2 < 1 if number % 2 else np.maximum(abs(across), abs(down)) < 1
            image = np.where(inside[..., None], generator.uniform(0, 255, 3), image)
        image += generator.normal(0, 4, image.shape)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images


def embeddings_agree(some: FloatArray, exact: FloatArray) -> bool:
    """Whether rows of unit length (N, D) point the same way, and all values are finite."""
    if not (np.isfinite(some).all() and np.isfinite(exact).all()):
        return False
    return bool((some * exact).sum(axis=1).min() >= AGREEING)


def segmentations_agree(some: Sequence[Segmentation], exact: Sequence[Segmentation]) -> bool:
    """Whether nearly all regions of the exact ones are found again, with their features, and hardly any others.

    The features of whole images must agree in any case: there may be no region.
    """
    pairs = list(zip(some, exact, strict=True))
    regions = sum(len(one.scores) for _, one in pairs)
    others = sum(abs(len(one.scores) - len(other.scores)) for one, other in pairs)
    if found_again(some, exact) < ALIKE * regions or others > (1 - ALIKE) * regions:
        return False
    whole = [(one.letterbox.coverage > 0)[None] for _, one in pairs]
    return all(_same_way(one, other, mask, mask).all() for (one, other), mask in zip(pairs, whole, strict=True))


def found_again(some: Sequence[Segmentation], exact: Sequence[Segmentation]) -> int:
    """How many regions of the exact segmentations the others have as well."""
    return sum(_of_both(one, other) for one, other in zip(some, exact, strict=True))


def _of_both(one: Segmentation, exact: Segmentation) -> int:
    if not len(one.scores) or not len(exact.scores):
        return 0
    apart = np.abs(exact.boxes_xyxy[:, None] - one.boxes_xyxy[None]).max(axis=2)
    nearest = apart.argmin(axis=1)
    wanted, found = exact.masks, one.masks[nearest]
    shared, joined = (np.count_nonzero(both, axis=(1, 2)) for both in (wanted & found, wanted | found))
    alike = (apart.min(axis=1) <= ALIKE_PX) & (shared >= ALIKE_IOU * joined)
    return int(np.count_nonzero(alike & _same_way(one, exact, found, wanted)))


def _same_way(
    one: Segmentation, exact: Segmentation, masks: NDArray[np.bool_], others: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether the pooled features of masks (N, gh, gw) in both point the same way: (N,)."""
    first, second = one.features.pool(masks), exact.features.pool(others)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) >= AGREEING * lengths)  # never of what is not finite
