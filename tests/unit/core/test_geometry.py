"""Letterbox, mask grid, RLE and boxes, each against a computation that shares no line with the code."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ultralytics_peer import import_ultralytics

from searchanything.core.geometry import (
    STORED_MASK_BYTES,
    STORED_MASK_SIDE,
    Letterbox,
    box_iou,
    boxes_of,
    decode_rle,
    encode_rle,
    mask_of_size,
)
from searchanything.core.types import BoolMask, MaskRLE

side = st.integers(1, 3000)
small_side = st.integers(1, 300)
input_size = st.integers(1, 40).map(lambda number: 32 * number)
small_input = st.integers(1, 5).map(lambda number: 32 * number)
any_letterbox = st.builds(Letterbox, side, side, input_size)
small_letterbox = st.builds(Letterbox, small_side, small_side, small_input)
seed = st.integers(0, 2**32 - 1)


def textured(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Noise that repeats, so that large images cost little."""
    tile = np.random.default_rng(seed).integers(0, 256, (61, 67, 3), dtype=np.uint8)
    return tile[np.arange(height) % 61][:, np.arange(width) % 67]


def on_image(letterbox: Letterbox) -> NDArray[np.float64]:
    """The share of each grid cell on the image, by painting the network input's pixels."""
    painted = np.zeros(letterbox.input_shape)
    (top, left), (height, width) = letterbox.offset, letterbox.scaled_size
    painted[top : top + height, left : left + width] = 1
    rows, columns = letterbox.grid_size
    return painted.reshape(rows, 4, columns, 4).mean(axis=(1, 3))


@given(height=side, width=side, size=input_size, seed=seed)
@settings(max_examples=60)
def test_letterbox_is_ultralytics_pixel_for_pixel(height: int, width: int, size: int, seed: int) -> None:
    import_ultralytics()
    from ultralytics.data.augment import LetterBox

    image = textured(height, width, seed)
    expected = LetterBox((size, size), auto=True, scaleup=True, center=True, stride=32)(image=image)
    np.testing.assert_array_equal(Letterbox(height, width, size).apply(image), expected)


def test_letterbox_of_a_known_size() -> None:
    """480 x 640 into 1024 by hand: scaled to 768 x 1024, no padding; 100 x 1000 to 102 x 1024, 26 rows of padding."""
    assert Letterbox(480, 640, 1024).input_shape == (768, 1024)
    thin = Letterbox(100, 1000, 1024)
    assert (thin.scaled_size, thin.input_shape, thin.offset) == ((102, 1024), (128, 1024), (13, 0))


def test_letterbox_does_not_touch_its_image_and_returns_an_array_of_its_own() -> None:
    image = textured(32, 64, 0)
    before = image.copy()
    Letterbox(32, 64, 64).apply(image)[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(("height", "width", "size"), [(0, 5, 64), (5, 0, 64), (5, 5, 0), (5, 5, 33), (5, 5, -32)])
def test_letterbox_refuses_nonsense(height: int, width: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"{height} x {width} px into {size}"):
        Letterbox(height, width, size)


@given(any_letterbox)
def test_coverage_is_the_painted_share_and_sums_to_the_scaled_area(letterbox: Letterbox) -> None:
    np.testing.assert_allclose(letterbox.coverage, on_image(letterbox), atol=1e-7)
    assert letterbox.coverage.sum(dtype=np.float64) * 16 == math.prod(letterbox.scaled_size)


@given(any_letterbox)
def test_the_whole_image_has_its_own_area_box_and_mask(letterbox: Letterbox) -> None:
    whole = letterbox.coverage > 0
    height, width = letterbox.height, letterbox.width
    assert letterbox.areas_px(whole[None]).tolist() == [height * width]
    np.testing.assert_allclose(boxes_of(whole[None], letterbox), [[0, 0, width, height]], atol=1e-3)
    np.testing.assert_array_equal(letterbox.box_mask((0, 0, width, height)), whole)
    np.testing.assert_allclose(letterbox.box_share((0, 0, width, height)), letterbox.coverage, atol=1e-5)
    assert decode_rle(letterbox.stored_mask(whole)).all()


@given(small_letterbox)
def test_the_whole_image_survives_the_way_to_the_grid_and_back(letterbox: Letterbox) -> None:
    everything = np.ones((letterbox.height, letterbox.width), dtype=np.bool_)
    np.testing.assert_array_equal(letterbox.grid_mask(everything), letterbox.coverage > 0)
    assert letterbox.image_masks(letterbox.coverage[None] > 0).all()


@given(small_letterbox, seed)
def test_areas_count_image_pixels_without_padding(letterbox: Letterbox, seed: int) -> None:
    masks = np.random.default_rng(seed).random((3, *letterbox.grid_size)) < 0.5
    pixel = letterbox.height * letterbox.width / math.prod(letterbox.scaled_size)  # image pixels per input pixel
    expected = [(on_image(letterbox) * 16 * mask).sum() * pixel for mask in masks]
    np.testing.assert_allclose(letterbox.areas_px(masks), expected, rtol=1e-6)


@given(any_letterbox)
def test_no_masks_have_no_areas_and_no_boxes(letterbox: Letterbox) -> None:
    none = np.zeros((0, *letterbox.grid_size), dtype=np.bool_)
    assert letterbox.areas_px(none).shape == (0,)
    assert boxes_of(none, letterbox).shape == (0, 4)


@given(any_letterbox, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_point_lies_in_its_cell(letterbox: Letterbox, across: float, down: float) -> None:
    x, y = across * letterbox.width, down * letterbox.height
    row, column = letterbox.cells_of(np.array([[x, y]], dtype=np.float32))[0].tolist()
    assert letterbox.coverage[row, column] > 0
    (top, left), (height, width) = letterbox.offset, letterbox.scaled_size
    for place, cell, start, scaled, length in (
        (y, row, top, height, letterbox.height),
        (x, column, left, width, letterbox.width),
    ):
        position = start + place * scaled / length
        assert cell * 4 - 1e-3 <= position <= cell * 4 + 4 + 1e-3


@given(any_letterbox)
def test_points_beyond_the_image_take_the_corner_cells_that_hold_image(letterbox: Letterbox) -> None:
    far = np.array([[-1e6, -1e6], [1e6, 1e6]], dtype=np.float32)
    held = np.argwhere(on_image(letterbox) > 0)
    assert letterbox.cells_of(far).tolist() == [held.min(axis=0).tolist(), held.max(axis=0).tolist()]


@given(any_letterbox, seed)
def test_every_whole_cell_is_found_again_by_its_centre(letterbox: Letterbox, seed: int) -> None:
    cells = np.argwhere(letterbox.coverage == 1)
    cells = cells[np.random.default_rng(seed).permutation(len(cells))[:50]]
    (top, left), (height, width) = letterbox.offset, letterbox.scaled_size
    x = (cells[:, 1] * 4 + 2 - left) * letterbox.width / width
    y = (cells[:, 0] * 4 + 2 - top) * letterbox.height / height
    np.testing.assert_array_equal(letterbox.cells_of(np.stack([x, y], axis=1).astype(np.float32)), cells)


@given(any_letterbox, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back_from_the_input_and_are_clipped(letterbox: Letterbox, shares: list[float]) -> None:
    xs, ys = sorted(shares[:2]), sorted(shares[2:])
    box = np.array([xs[0], ys[0], xs[1], ys[1]]) * ([letterbox.width, letterbox.height] * 2)
    (top, left), (height, width) = letterbox.offset, letterbox.scaled_size
    ratio = np.array([width / letterbox.width, height / letterbox.height] * 2)
    in_input = (box * ratio + [left, top, left, top]).astype(np.float32)
    given_boxes = np.stack([in_input, in_input + 10**6, in_input - 10**6])
    before = given_boxes.copy()
    back = letterbox.boxes_to_image(given_boxes)
    np.testing.assert_allclose(back[0], box, atol=letterbox.width * 1e-4 + letterbox.height * 1e-4)
    np.testing.assert_array_equal(back[1], [letterbox.width, letterbox.height] * 2)
    np.testing.assert_array_equal(back[2], [0, 0, 0, 0])
    np.testing.assert_array_equal(given_boxes, before)


@given(small_letterbox, st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4))
@settings(max_examples=150)
def test_box_share_is_what_fine_sampling_counts(letterbox: Letterbox, shares: list[float]) -> None:
    xs, ys = sorted(shares[:2]), sorted(shares[2:])
    box = xs[0] * letterbox.width, ys[0] * letterbox.height, xs[1] * letterbox.width, ys[1] * letterbox.height
    fine = 32  # samples along a cell
    filled = []
    for cells, start, scaled, length, low, high in (
        (letterbox.grid_size[0], letterbox.offset[0], letterbox.scaled_size[0], letterbox.height, box[1], box[3]),
        (letterbox.grid_size[1], letterbox.offset[1], letterbox.scaled_size[1], letterbox.width, box[0], box[2]),
    ):
        position = ((np.arange(cells * fine) + 0.5) * 4 / fine - start) * length / scaled  # in image pixels
        inside = (position >= max(low, 0)) & (position < min(high, length))
        filled.append(inside.reshape(cells, fine).mean(axis=1))
    np.testing.assert_allclose(letterbox.box_share(box), np.outer(*filled), atol=2.1 / fine)


@given(small_letterbox, st.floats(0, 0.999), st.floats(0, 0.999))
def test_the_mask_of_the_smallest_box_is_the_cell_of_its_centre(
    letterbox: Letterbox, across: float, down: float
) -> None:
    x, y = across * letterbox.width, down * letterbox.height
    mask = letterbox.box_mask((x - 5e-7, y - 5e-7, x + 5e-7, y + 5e-7))
    cell = tuple(letterbox.cells_of(np.array([[x, y]], dtype=np.float32))[0])
    assert mask.sum() == 1
    assert mask[cell]


def test_a_cell_counts_from_half_of_what_it_shows_on() -> None:
    """36 x 64 px at their own size: row 0 lies in the middle of row 3 of the cells, the first that shows the image."""
    letterbox = Letterbox(36, 64, 64)
    assert (letterbox.scaled_size, letterbox.offset, letterbox.grid_size) == ((36, 64), (14, 0), (16, 16))
    half, less = letterbox.box_mask((0, 4, 22, 10)), letterbox.box_mask((0, 4, 21.9, 10))
    drawn = np.zeros((36, 64), dtype=np.bool_)
    drawn[4:10, :22] = True
    np.testing.assert_array_equal(half, letterbox.grid_mask(drawn))
    # Rows 4 to 9 fill one half of row 4 of the cells and all of row 5; columns to 22 a half of the sixth.
    assert np.argwhere(half).tolist() == [[4, column] for column in range(5)] + [[5, column] for column in range(6)]
    assert np.argwhere(less).tolist() == [[row, column] for row in (4, 5) for column in range(5)]
    top = letterbox.box_mask((0, 0, 64, 1))
    assert np.argwhere(top).tolist() == [[3, column] for column in range(16)], "half of the row that is no padding"
    drawn[:] = False
    drawn[8, 10:40] = True
    drawn[20, 3] = True
    thin = letterbox.grid_mask(drawn)
    assert np.argwhere(thin).tolist() == [[5, column] for column in range(2, 10)] + [[8, 0]]


@given(small_letterbox, st.integers(0, 299), st.integers(0, 299))
def test_no_pixel_is_lost_on_the_grid(letterbox: Letterbox, row: int, column: int) -> None:
    mask = np.zeros((letterbox.height, letterbox.width), dtype=np.bool_)
    mask[row % letterbox.height, column % letterbox.width] = True
    on_grid = letterbox.grid_mask(mask)
    assert on_grid.any()
    assert not (on_grid & (on_image(letterbox) == 0)).any()


@given(st.integers(40, 300), st.integers(40, 300), st.sampled_from([64, 128, 160]), seed)
@settings(max_examples=60)
def test_a_shape_moves_by_no_more_than_a_cell_on_its_way_to_the_grid_and_back(
    height: int, width: int, size: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    letterbox = Letterbox(height, width, size)
    cell_px = math.sqrt(letterbox.cell_area_px)
    drawn = np.zeros((height, width), dtype=np.uint8)
    centre = int(generator.integers(0, width)), int(generator.integers(0, height))
    axes = [max(int(generator.integers(0, max(height, width) // 2)), math.ceil(2 * cell_px)) for _ in range(2)]
    cv2.ellipse(drawn, centre, axes, float(generator.integers(0, 180)), 0, 360, 1, -1)
    mask = drawn.astype(np.bool_)
    back = letterbox.image_masks(letterbox.grid_mask(mask)[None])[0]
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (drawn, 1 - drawn))
    assert (inside + outside)[back != mask].max(initial=0) <= 1.5 * cell_px + 1


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(30, 40\), got \(40, 30\)"):
        Letterbox(30, 40, 64).grid_mask(np.ones((40, 30), dtype=np.bool_))


@given(small_letterbox, seed, st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=60)
def test_mask_in_box_is_a_bilinear_sample(letterbox: Letterbox, seed: int, height: int, width: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random(letterbox.grid_size) < 0.5
    x1, y1 = int(generator.integers(0, letterbox.width)), int(generator.integers(0, letterbox.height))
    x2 = int(generator.integers(x1 + 1, letterbox.width + 1))
    y2 = int(generator.integers(y1 + 1, letterbox.height + 1))
    found = letterbox.mask_in_box(mask, (x1, y1, x2, y2), (height, width))
    assert found.shape == (height, width)
    (top, left), (scaled_height, scaled_width) = letterbox.offset, letterbox.scaled_size
    for row in range(height):
        for column in range(width):
            y = y1 + (row + 0.5) * (y2 - y1) / height
            x = x1 + (column + 0.5) * (x2 - x1) / width
            value = bilinear(
                mask,
                (y * scaled_height / letterbox.height + top) / 4 - 0.5,
                (x * scaled_width / letterbox.width + left) / 4 - 0.5,
            )
            assert abs(value - 0.5) < 1e-5 or found[row, column] == (value > 0.5)


def bilinear(mask: BoolMask, row: float, column: float) -> float:
    """One sample, the border extended, from the definition: each cell weighs by its nearness along both axes."""
    row, column = min(max(row, 0), mask.shape[0] - 1), min(max(column, 0), mask.shape[1] - 1)
    return sum(
        max(0.0, 1 - abs(row - r)) * max(0.0, 1 - abs(column - c))
        for r in (math.floor(row), math.floor(row) + 1)
        for c in (math.floor(column), math.floor(column) + 1)
        if r < mask.shape[0] and c < mask.shape[1] and mask[r, c]
    )


def test_very_long_images_can_be_sampled() -> None:
    """Sides beyond 32767, where cv2.remap gives up."""
    letterbox = Letterbox(2, 40_000, 1024)
    assert letterbox.image_masks(letterbox.coverage[None] > 0).all()


@given(small_side, small_side, small_input, small_input, seed)
@settings(max_examples=40)
def test_masks_of_another_grid_are_sampled_at_the_centres_of_cells(
    height: int, width: int, one: int, other: int, seed: int
) -> None:
    """Without the code's fractional cells: a centre in image pixels by shares of the scaled sides, there and back."""
    here, there = Letterbox(height, width, one), Letterbox(height, width, other)
    generator = np.random.default_rng(seed)
    mask = generator.random(there.grid_size) < 0.5
    [found] = here.regrid(mask[None], there)
    shown = on_image(here) > 0
    assert not found[~shown].any()
    for row, column in generator.permutation(np.argwhere(shown))[:40].tolist():
        places = []
        for axis, cell in enumerate((row, column)):
            share = (4 * cell + 2 - here.offset[axis]) / here.scaled_size[axis]
            places.append((share * there.scaled_size[axis] + there.offset[axis]) / 4 - 0.5)
        value = bilinear(mask, places[0], places[1])
        assert abs(value - 0.5) < 1e-5 or found[row, column] == (value > 0.5)


@given(any_letterbox)
def test_stored_masks_are_as_fine_as_image_and_grid_allow(letterbox: Letterbox) -> None:
    longest = max(letterbox.height, letterbox.width)
    stored = letterbox.stored_size()
    assert max(stored) == min(256, max(letterbox.grid_size), longest)
    for side, whole in zip(stored, (letterbox.height, letterbox.width), strict=True):
        assert side == 1 or abs(side - whole * max(stored) / longest) <= 0.5 + 1e-9


NOISES = {
    "noise": lambda generator, shape: generator.random(shape) < 0.5,
    "sparse": lambda generator, shape: generator.random(shape) < 0.1,
    "checkers": lambda _, shape: np.indices(shape).sum(axis=0) % 2 == 0,
    "rows": lambda _, shape: np.indices(shape)[0] % 2 == 0,
    "columns": lambda _, shape: np.indices(shape)[1] % 2 == 0,
}


@given(any_letterbox, seed, st.sampled_from(sorted(NOISES)))
@settings(max_examples=60)
def test_stored_masks_have_a_bounded_size(letterbox: Letterbox, seed: int, noise: str) -> None:
    mask = NOISES[noise](np.random.default_rng(seed), letterbox.grid_size) & (letterbox.coverage > 0)
    stored = letterbox.stored_mask(mask)
    assert max(stored.size) <= STORED_MASK_SIDE
    assert min(stored.size) >= 1
    assert len(stored.counts) <= STORED_MASK_BYTES
    assert decode_rle(stored).shape == stored.size


def test_noise_costs_resolution_and_plain_shapes_do_not() -> None:
    letterbox = Letterbox(768, 1024, 1024)
    noise = np.random.default_rng(0).random(letterbox.grid_size) < 0.5
    plain = letterbox.box_mask((100, 200, 500, 600))
    assert letterbox.stored_mask(plain).size == (192, 256)
    assert letterbox.stored_mask(noise).size in ((96, 128), (48, 64)), "half as fine, and again"
    np.testing.assert_array_equal(decode_rle(letterbox.stored_mask(plain)), plain)


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1024, 2048, 4096]), st.integers(1, 4), seed)
@settings(max_examples=60)
def test_a_small_thing_on_a_fine_grid_is_stored_where_it_lies(
    height: int, width: int, size: int, side: int, seed: int
) -> None:
    """Tiles make grids that are finer than what is stored: things of up to four cells lay between the samples."""
    letterbox = Letterbox(height, width, size)
    row, column = np.random.default_rng(seed).choice(np.argwhere(letterbox.coverage > 0))
    mask = np.zeros(letterbox.grid_size, dtype=np.bool_)
    mask[row : row + side, column : column + side] = True
    mask &= letterbox.coverage > 0
    stored = decode_rle(letterbox.stored_mask(mask))
    assert stored.any()
    x1, y1, x2, y2 = boxes_of(mask[None], letterbox)[0] / (width, height, width, height)
    rows, columns = ((places + 0.5) / count for places, count in zip(np.nonzero(stored), stored.shape, strict=True))
    for shares, low, high, count in ((rows, y1, y2, stored.shape[0]), (columns, x1, x2, stored.shape[1])):
        assert low - 1 / count <= shares.min()
        assert shares.max() <= high + 1 / count


def coco_counts(mask: BoolMask) -> str:
    """COCO's compressed RLE from its description.

    Runs down the columns, the first of zeros; from the fourth on, each as the difference to the one two before; each
    number in groups of five bits, lowest first, bit 5 saying that more follow, character code 48 added.
    """
    runs, current = [0], False
    for value in mask.T.ravel().tolist():
        if value != current:
            runs.append(0)
            current = value
        runs[-1] += 1
    text = ""
    for position, run in enumerate(runs):
        number = run - runs[position - 2] if position > 2 else run
        while True:
            group, number = number & 31, number >> 5
            done = number == (-1 if group & 16 else 0)
            text += chr(48 + (group if done else group | 32))
            if done:
                break
    return text


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), seed)
def test_rle_is_cocos(height: int, width: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    encoded = encode_rle(mask)
    assert (encoded.size, encoded.counts) == ((height, width), coco_counts(mask))
    np.testing.assert_array_equal(decode_rle(encoded), mask)


def test_rle_of_long_runs() -> None:
    mask = np.zeros((300, 200), dtype=np.bool_)
    mask[:, 77:180] = True
    assert encode_rle(mask).counts == coco_counts(mask)


@pytest.mark.parametrize("counts", ["", "4", "2222", "o", "4000", "N4", "0" * 30 + "oooooooooooooooo", "é"])
def test_runs_that_do_not_fill_their_grid_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match=r"fill a mask|codec|buffer"):
        decode_rle(MaskRLE((3, 3), counts))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), seed)
def test_a_stored_mask_grows_with_its_shape(height: int, width: int, factor: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    rle = encode_rle(mask)
    np.testing.assert_array_equal(mask_of_size(rle, height, width), mask)
    grown = mask_of_size(rle, height * factor, width * factor)
    assert grown.shape == (height * factor, width * factor)
    if factor % 2:  # then each cell's centre is a pixel's centre
        np.testing.assert_array_equal(grown[factor // 2 :: factor, factor // 2 :: factor], mask)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), seed)
def test_a_stored_mask_keeps_a_pixel_at_every_size(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    """Of one stored cell between two pixels, as at 260 px of what is stored at 256, nothing was left."""
    cell = np.random.default_rng(seed).integers(0, (rows, columns))
    mask = np.zeros((rows, columns), dtype=np.bool_)
    mask[tuple(cell)] = True
    found = np.argwhere(mask_of_size(encode_rle(mask), height, width)) + 0.5
    assert len(found)
    middle = (cell + 0.5) * (height, width) / (rows, columns)
    assert np.abs(found.mean(axis=0) - middle).max() <= 1 + max(height / rows, width / columns) / 2
    assert not mask_of_size(encode_rle(np.zeros_like(mask)), height, width).any()


def test_a_stored_mask_keeps_its_edges_where_they_are() -> None:
    drawn = np.zeros((5, 6), dtype=np.bool_)
    drawn[:, 2:4] = True
    expected = np.zeros((20, 24), dtype=np.bool_)
    expected[:, 8:16] = True
    np.testing.assert_array_equal(mask_of_size(encode_rle(drawn), 20, 24), expected)


@given(small_letterbox, seed)
def test_boxes_are_tight(letterbox: Letterbox, seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = generator.random((4, *letterbox.grid_size)) < generator.random() * 0.1
    masks[0] = False
    boxes = boxes_of(masks, letterbox)
    (top, left), (height, width) = letterbox.offset, letterbox.scaled_size
    for mask, box in zip(masks, boxes, strict=True):
        cells = np.argwhere(mask)
        if not len(cells):
            assert box.tolist() == [0, 0, 0, 0]
            continue
        (low_row, low_column), (high_row, high_column) = cells.min(axis=0) * 4, cells.max(axis=0) * 4 + 4
        expected = [
            (low_column - left) * letterbox.width / width,
            (low_row - top) * letterbox.height / height,
            (high_column - left) * letterbox.width / width,
            (high_row - top) * letterbox.height / height,
        ]
        limits = [letterbox.width, letterbox.height] * 2
        expected = [min(max(value, 0), limit) for value, limit in zip(expected, limits, strict=True)]
        np.testing.assert_allclose(box, expected, rtol=1e-5, atol=1e-4)


def iou(one: list[float], other: list[float]) -> float:
    """IoU of two boxes, one number at a time."""
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [
        (box[2] - box[0]) * (box[3] - box[1]) if box[2] > box[0] and box[3] > box[1] else 0 for box in (one, other)
    ]
    union = sum(areas) - across * down
    return across * down / union if union > 0 else 0.0


@given(seed, st.integers(0, 6), st.integers(0, 6))
def test_box_iou_is_the_naive_one(seed: int, count: int, others: int) -> None:
    generator = np.random.default_rng(seed)
    boxes = generator.integers(0, 8, (count + others, 4)).astype(np.float32)  # empty and inverted ones among them
    boxes[:, 2:] = np.where(generator.random((len(boxes), 1)) < 0.8, boxes[:, :2] + boxes[:, 2:], boxes[:, :2])
    boxes /= 4  # sides of less than a pixel, too
    found = box_iou(boxes[:count], boxes[count:])
    assert found.shape == (count, others)
    expected = [[iou(one, other) for other in boxes[count:].tolist()] for one in boxes[:count].tolist()]
    np.testing.assert_allclose(found, np.array(expected).reshape(count, others), rtol=1e-6)


def test_a_stack_of_masks_is_sampled_as_each_mask_alone() -> None:
    letterbox = Letterbox(90, 130, 320)
    masks = np.random.default_rng(4).random((3, *letterbox.grid_size)) < 0.5
    stack = letterbox.image_masks(masks)
    assert stack.shape == (3, 90, 130)
    for mask, sampled in zip(masks, stack, strict=True):
        np.testing.assert_array_equal(letterbox.mask_in_box(mask, (0, 0, 130, 90), (90, 130)), sampled)
    assert letterbox.image_masks(masks[:0]).shape == (0, 90, 130)
