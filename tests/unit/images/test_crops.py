"""Crops: policy by size, exact windows, and no image or box that breaks them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.geometry import Letterbox
from searchanything.core.types import BoolMasks, RGBImage, SizeClass, size_class_of
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import crop_windows, image_crop, region_crops

SIDE = 32


def coordinates_image(height: int, width: int) -> RGBImage:
    """Every pixel tells where it is: red its row, green its column, blue 255 (so no pixel is black)."""
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    image[..., 0] = np.arange(height)[:, None] % 256
    image[..., 1] = np.arange(width)[None, :] % 256
    return image


def whole(letterbox: Letterbox, count: int = 1) -> BoolMasks:
    return np.ones((count, *letterbox.grid_size), dtype=np.bool_)


def crop_of(image: RGBImage, box: tuple[float, ...], policy: CropPolicy, *, size_px: int = SIDE) -> RGBImage:
    letterbox = Letterbox(image.shape[0], image.shape[1], 320)
    boxes = np.array([box], dtype=np.float32)
    return region_crops(image, letterbox, whole(letterbox), boxes, size_px=size_px, policy=policy)[0]


def test_a_crop_of_its_own_size_is_the_image_itself() -> None:
    image = coordinates_image(200, 200)
    crop = crop_of(image, (50, 60, 82, 92), CropPolicy.MASKED)
    np.testing.assert_array_equal(crop, image[60:92, 50:82])


def test_small_regions_show_three_times_their_box() -> None:
    image = coordinates_image(200, 200)
    crop = crop_of(image, (100, 80, 110, 90), CropPolicy.PAPER, size_px=30)
    np.testing.assert_array_equal(crop, image[70:100, 90:120])
    np.testing.assert_array_equal(crop, crop_of(image, (100, 80, 110, 90), CropPolicy.CONTEXT, size_px=30))


def test_the_context_of_a_small_region_is_clipped_to_the_image_and_padded() -> None:
    image = coordinates_image(200, 200)
    crop = crop_of(image, (0, 80, 10, 90), CropPolicy.PAPER, size_px=30)
    np.testing.assert_array_equal(crop[:, 5:25], image[70:100, 0:20])
    assert not crop[:, :5].any()
    assert not crop[:, 25:].any()


def test_medium_regions_keep_their_surroundings_and_large_ones_lose_them() -> None:
    image = np.full((400, 400, 3), 200, dtype=np.uint8)
    letterbox = Letterbox(400, 400, 320)
    left = letterbox.box_mask((0, 0, 200, 400))[None]
    medium = np.array([[160, 160, 240, 240]], dtype=np.float32)  # 80 x 80 px, the mask covers its left half
    large = np.array([[100, 100, 300, 300]], dtype=np.float32)
    assert region_crops(image, letterbox, left, medium, size_px=SIDE, policy=CropPolicy.PAPER).min() == 200
    crop = region_crops(image, letterbox, left, large, size_px=SIDE, policy=CropPolicy.PAPER)[0]
    assert (crop[:, : SIDE // 2] == 200).all()
    assert not crop[:, SIDE // 2 :].any()
    masked = region_crops(image, letterbox, left, medium, size_px=SIDE, policy=CropPolicy.MASKED)[0]
    assert not masked[:, SIDE // 2 :].any()
    assert region_crops(image, letterbox, left, large, size_px=SIDE, policy=CropPolicy.CONTEXT).min() == 200


def test_large_crops_are_averaged_down_not_sampled() -> None:
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    image[:, ::2] = 200
    assert np.unique(crop_of(image, (0, 0, 128, 128), CropPolicy.PAPER)).tolist() == [100]


def test_no_regions_give_no_crops() -> None:
    letterbox = Letterbox(20, 30, 320)
    empty = region_crops(
        coordinates_image(20, 30),
        letterbox,
        whole(letterbox, 0),
        np.zeros((0, 4), np.float32),
        size_px=SIDE,
        policy=CropPolicy.PAPER,
    )
    assert empty.shape == (0, SIDE, SIDE, 3)
    assert empty.dtype == np.uint8


def test_the_box_policy_shows_the_box_alone_whatever_its_size() -> None:
    image = coordinates_image(400, 500)
    small = crop_of(image, (100, 80, 110, 90), CropPolicy.BOX, size_px=10)
    np.testing.assert_array_equal(small, image[80:90, 100:110])
    large = np.full((400, 500, 3), 200, dtype=np.uint8)
    letterbox = Letterbox(400, 500, 320)
    nothing = np.zeros((1, *letterbox.grid_size), dtype=np.bool_)
    nothing[0, 0, 0] = True
    boxes = np.array([[50, 50, 250, 250]], dtype=np.float32)
    assert region_crops(large, letterbox, nothing, boxes, size_px=SIDE, policy=CropPolicy.BOX).min() == 200


def test_masks_and_boxes_must_be_as_many() -> None:
    letterbox = Letterbox(20, 30, 320)
    with pytest.raises(ValueError, match="zip"):
        region_crops(
            coordinates_image(20, 30),
            letterbox,
            whole(letterbox, 2),
            np.zeros((1, 4), np.float32),
            size_px=8,
            policy=CropPolicy.PAPER,
        )


@pytest.mark.parametrize("policy", CropPolicy)
@pytest.mark.parametrize("side", [20, 80, 200])
def test_what_a_policy_says_of_a_size_is_what_its_crops_show(policy: CropPolicy, side: int) -> None:
    image = np.full((600, 600, 3), 200, dtype=np.uint8)
    letterbox = Letterbox(600, 600, 320)
    low, high = 300 - side // 2, 300 + side // 2
    image[low:high, low:high] = 100
    half = letterbox.box_mask((0, 0, 300, 600))[None]
    boxes = np.array([[low, low, high, high]], dtype=np.float32)
    (crop,) = region_crops(image, letterbox, half, boxes, size_px=SIDE, policy=policy)
    size_class = size_class_of((low, low, high, high))
    assert policy.masks(size_class) == (crop.min() == 0)
    assert (policy.context(size_class) > 1) == (crop.max() == 200)
    (bare,) = region_crops(image, letterbox, half, boxes, size_px=SIDE, policy=policy.unmasked)
    assert bare.min() > 0
    assert policy.unmasked.context(size_class) == policy.context(size_class), "the same surroundings"
    for other in CropPolicy:
        (theirs,) = region_crops(image, letterbox, half, boxes, size_px=SIDE, policy=other)
        assert policy.like(other, size_class) == np.array_equal(crop, theirs)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    corners=st.tuples(*[st.floats(-20, 320, width=32)] * 4),
    policy=st.sampled_from(CropPolicy),
)
def test_any_box_gives_a_centred_crop_of_the_image(
    height: int, width: int, corners: tuple[float, float, float, float], policy: CropPolicy
) -> None:
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    box = (min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2]))
    crop = crop_of(image, box, policy)
    rows, columns = crop.any(axis=(1, 2)), crop.any(axis=(0, 2))
    assert crop.shape == (SIDE, SIDE, 3)
    # Under a mask of the whole grid nothing but padding is black: the longest side is filled, the other centred.
    assert rows.all() or columns.all()
    for filled in (rows, columns):
        before, after = filled.argmax(), filled[::-1].argmax()
        assert filled.sum() == SIDE - before - after
        assert 0 <= after - before <= 1
    assert (crop[rows][:, columns] == 255).all()


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corners=st.tuples(*[st.integers(-40, 300).map(lambda quarters: quarters / 4)] * 4),
    policy=st.sampled_from([CropPolicy.BOX, CropPolicy.CONTEXT]),
)
def test_a_window_has_the_pixels_that_the_box_touches(
    size: tuple[int, int], corners: tuple[float, float, float, float], policy: CropPolicy
) -> None:
    """One axis at a time, pixel by pixel; such small boxes are shown three times as large by `context`."""
    spans = [(min(corners[axis::2]), max(corners[axis::2])) for axis in (0, 1)]
    box = (spans[0][0], spans[1][0], spans[0][1], spans[1][1])
    windows, masked = crop_windows(np.array([box], dtype=np.float32), size, policy)
    assert not masked.any()
    around = (
        1 if policy is CropPolicy.CONTEXT and size_class_of(box) is SizeClass.SMALL else 0
    )  # of its sides, each way
    for axis, (low, high) in enumerate(spans):
        low, high = low - around * (high - low), high + around * (high - low)
        touched = [pixel for pixel in range(size[1 - axis]) if low < pixel + 1 and pixel < high]
        start, end = windows[0, axis], windows[0, axis + 2]
        assert 0 <= start < end <= size[1 - axis]
        if touched:
            assert (start, end) == (touched[0], touched[-1] + 1)
        else:
            assert end - start == 1


def test_a_window_has_the_pixel_that_a_corner_reaches_into_by_a_hair() -> None:
    """In float32 the centre less half the width is 6, which would leave out the pixel from 5 to 6."""
    just_below_6 = np.nextafter(np.float32(6), np.float32(0))
    box = np.array([[just_below_6, just_below_6, 1741.7174, 1741.7174]], dtype=np.float32)
    windows, _ = crop_windows(box, (2000, 2000), CropPolicy.PAPER)
    assert windows.tolist() == [[5, 5, 1742, 1742]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_boxes_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        crop_windows(np.array([[0, 0, 9, 9], [0, 0, wrong, 9]], dtype=np.float32), (20, 20), CropPolicy.PAPER)


@given(height=st.integers(1, 300), width=st.integers(1, 300), data=st.data())
def test_a_mask_of_the_whole_box_equals_the_unmasked_crop(height: int, width: int, data: st.DataObject) -> None:
    image = coordinates_image(height, width)
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    masked = crop_of(image, (x1, y1, x2, y2), CropPolicy.MASKED)
    cut = np.ascontiguousarray(image[y1:y2, x1:x2])
    np.testing.assert_array_equal(masked, image_crop(cut, size_px=SIDE))


@pytest.mark.parametrize(("height", "width"), [(1, 20000), (20000, 1), (1, 40000), (1, 1), (3, 70000)])
def test_thin_images(height: int, width: int) -> None:
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    assert image_crop(image, size_px=SIDE).any()
    for policy in CropPolicy:
        assert crop_of(image, (0, 0, width, height), policy).any()


def test_a_mask_too_thin_for_any_pixel_leaves_the_crop_unmasked() -> None:
    letterbox = Letterbox(1024, 1024, 1024)
    masks = np.zeros((1, *letterbox.grid_size), dtype=np.bool_)
    masks[0, 100, 100] = True
    boxes = np.array([[0, 0, 1024, 1024]], dtype=np.float32)
    image = np.full((1024, 1024, 3), 255, dtype=np.uint8)
    assert region_crops(image, letterbox, masks, boxes, size_px=8, policy=CropPolicy.PAPER).min() == 255


def test_cropping_needs_no_torch() -> None:
    modules = "searchanything.images.crops, searchanything.core.geometry, searchanything.models.presets"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
