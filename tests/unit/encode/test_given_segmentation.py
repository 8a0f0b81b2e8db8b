"""Given regions on a segmenter's grid: by an independent computation of what a mask covers of each cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.models import FakeSegmenter, drawn, fake_encoder
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from searchanything.core.geometry import GRID_STRIDE, Letterbox, encode_rle
from searchanything.core.types import BoxXYXY, MaskRLE, RGBImage
from searchanything.encode.encoder import EncodedImage
from searchanything.encode.given_segmentation import GivenSegmentation
from searchanything.encode.region_policy import RegionPolicy
from searchanything.images.given_regions import GivenRegions


def overlaps(cells: int, start: float, pixels: int, scale: float) -> NDArray[np.float64]:
    """(cells, pixels): how much of each cell, in input pixels, each image pixel takes along one axis."""
    low = start + scale * np.arange(pixels)
    edges = GRID_STRIDE * np.arange(cells)
    both = np.minimum(edges[:, None] + GRID_STRIDE, low + scale) - np.maximum(edges[:, None], low)
    return np.clip(both, 0, None)


def shares(letterbox: Letterbox, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(gh, gw): how much of each cell is image, and how much of that is mask."""
    (top, left), (sy, sx), (gh, gw) = letterbox.offset, letterbox.scale, letterbox.grid_size
    rows, columns = overlaps(gh, top, letterbox.height, sy), overlaps(gw, left, letterbox.width, sx)
    image = np.outer(rows.sum(1), columns.sum(1))
    return image, np.divide(rows @ mask @ columns.T, image, out=np.zeros_like(image), where=image > 1e-9)


def given_on(image: RGBImage, *regions: tuple[BoxXYXY, MaskRLE | None]) -> GivenSegmentation:
    [found] = FakeSegmenter().segment([image])
    return GivenSegmentation(found, GivenRegions.of([(box, 1.0, 1.0, mask) for box, mask in regions]))


@settings(max_examples=30)
@given(st.integers(64, 200), st.integers(64, 200), st.integers(0, 2**32 - 1))
def test_cells_are_those_that_a_mask_fills_by_half(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=np.bool_)
    for _ in range(3):
        (x1, x2), (y1, y2) = np.sort(rng.integers(0, width + 1, 2)), np.sort(rng.integers(0, height + 1, 2))
        mask[y1:y2, x1:x2] = True
    assume(mask.any())
    x1, y1, x2, y2 = 3.0, 5.0, width - 7.5, height - 2.25
    found = given_on(
        np.zeros((height, width, 3), np.uint8), ((0, 0, width, height), encode_rle(mask)), ((x1, y1, x2, y2), None)
    )
    image, filled = shares(found.letterbox, mask)
    clear = (image > 1e-6) & (abs(filled - 0.5) > 1e-3)
    large = filled.max() > 0.51  # a thin mask keeps what it touches
    if large:
        assert np.array_equal(found.masks[0][clear], filled[clear] > 0.5)
    assert not found.masks[0][image < 1e-6].any(), "nothing on padding"
    assert found.masks[0].any()
    cells = found.letterbox.box_share((x1, y1, x2, y2)) >= 0.5 * found.letterbox.coverage
    assert np.array_equal(found.masks[1], cells & (found.letterbox.coverage > 0))


def test_a_mask_of_one_pixel_keeps_a_cell_that_holds_it() -> None:
    mask = np.zeros((1200, 1600), dtype=np.bool_)
    mask[700, 900] = True
    found = given_on(np.zeros((1200, 1600, 3), np.uint8), ((900, 700, 901, 701), encode_rle(mask)))
    assert np.argwhere(found.masks[0]).tolist() == found.letterbox.cells_of(np.array([[900.5, 700.5]])).tolist()


def test_a_mask_as_an_index_keeps_it_covers_the_same_cells() -> None:
    """On any grid that spans the image, with fewer rows and columns than that has pixels."""
    image, regions = np.zeros((128, 192, 3), np.uint8), []
    for height, width in ((128, 192), (64, 96), (32, 48)):
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[height // 4 : height // 2, width // 4 :] = True
        regions.append(((0.0, 0.0, 192.0, 128.0), encode_rle(mask)))
    masks = given_on(image, *regions).masks
    assert 0 < masks[0].sum() < masks[0].size // 2
    assert (masks == masks[0]).all()
    none = given_on(image).masks
    assert (none.dtype, none.shape) == (np.bool_, (0, *masks.shape[1:]))


def as_tuple(image: EncodedImage) -> tuple[object, ...]:
    return (
        image.boxes_xyxy.tolist(),
        image.scores.tolist(),
        image.masks,
        image.codes.tolist(),
        image.image_code.tolist(),
    )


def test_the_segmenters_own_masks_have_the_segmenters_codes() -> None:
    encoder = fake_encoder()
    image = drawn(90, 120, red=(4, 4, 50, 60), green=(60, 10, 110, 80), blue=(10, 62, 40, 88))
    [found] = encoder.encode_images([image])
    regions = []
    for box, score in zip(found.boxes_xyxy.tolist(), found.scores.tolist(), strict=True):
        x1, y1, x2, y2 = (int(side) for side in box)
        mask = np.zeros(image.shape[:2], dtype=np.bool_)
        mask[y1:y2, x1:x2] = (image[y1:y2, x1:x2] == image[(y1 + y2) // 2, (x1 + x2) // 2]).all(axis=2)
        regions.append(((x1, y1, x2, y2), float(mask.sum()), score, encode_rle(mask)))
    given_ones = GivenRegions.of(regions)
    segmented, again = encoder.encode_images([image, image], given=[None, given_ones])
    assert as_tuple(again) == as_tuple(found) == as_tuple(segmented)
    assert again.areas_px.tolist() == sorted((one[1] for one in regions), reverse=True), "of pixels, not of cells"


@pytest.mark.parametrize("policy", [RegionPolicy("largest", 3), RegionPolicy("stratified", 3)])
def test_the_policy_keeps_the_largest_and_only_these_come_onto_the_grid(
    policy: RegionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    masks_at = GivenSegmentation.masks_at
    monkeypatch.setattr(
        GivenSegmentation, "masks_at", lambda self, rows: (asked.extend(rows.tolist()), masks_at(self, rows))[1]
    )
    encoder = replace(fake_encoder(), policy=policy)
    boxes = [(0.0, 0.0, 5.0 + 7 * number, 20.0) for number in range(8)]
    regions = GivenRegions.of([(box, (box[2] - box[0]) * 20, 1.0, None) for box in boxes])
    [found] = encoder.encode_images([drawn(64, 64, red=(2, 2, 9, 9))], given=[regions])
    assert len(found.codes) == len(asked) == 3
    if policy.name == "largest":
        assert found.areas_px.tolist() == [1080.0, 940.0, 800.0]


def test_no_given_region_is_none_and_the_image_has_its_own_code() -> None:
    image = drawn(64, 64, red=(2, 2, 40, 40))
    [found], [segmented] = (fake_encoder().encode_images([image], given=one) for one in ([GivenRegions.of([])], ()))
    assert (len(found.codes), len(segmented.codes)) == (0, 1)
    assert found.image_code.tolist() == segmented.image_code.tolist()
