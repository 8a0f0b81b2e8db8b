"""A small region is shown once more, enlarged; a large one is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.geometry import encode_rle
from searchanything.drawing.loupe import draw_hit
from searchanything.drawing.overlays import HIT, RegionMark, draw_marks

RED = (220, 30, 30)


def scene(box, *, height=400, width=600):
    """A grey image with a red thing in a box, and the thing's mask."""
    x1, y1, x2, y2 = box
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    image[y1:y2, x1:x2] = RED
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return image, encode_rle(mask)


def red(pixels):
    return int((np.abs(pixels.astype(int) - RED).max(axis=2) < 40).sum())


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((30, 30, 50, 50), (slice(-40, None), slice(-40, None))),
        ((560, 30, 580, 50), (slice(-40, None), slice(None, 40))),
        ((30, 360, 50, 380), (slice(None, 40), slice(-40, None))),
        ((560, 360, 580, 380), (slice(-40, None), slice(None, 40))),  # never over the badge, upper left
    ],
)
def test_a_small_region_is_enlarged_in_the_corner_farthest_from_it(box, corner):
    image, mask = scene(box)
    plain = draw_marks(image, [RegionMark(mask, HIT)], longest_side_px=320)
    shown = draw_hit(image, mask, longest_side_px=320)
    assert shown.shape == plain.shape
    assert red(shown) > red(plain) + 1000
    assert red(shown[corner]) > 300
    changed = (shown != plain).any(axis=2)
    assert not changed[:30, :30].any()


@pytest.mark.parametrize("box", [(0, 0, 600, 400), (100, 100, 210, 120)])
def test_a_region_that_can_be_seen_gets_no_loupe(box):
    image, mask = scene(box)
    np.testing.assert_array_equal(
        draw_hit(image, mask, longest_side_px=320), draw_marks(image, [RegionMark(mask, HIT)], longest_side_px=320)
    )


def test_without_a_mask_the_image_is_shown_as_it_is():
    image, _ = scene((30, 30, 50, 50))
    np.testing.assert_array_equal(
        draw_hit(image, None, longest_side_px=320), draw_marks(image, [], longest_side_px=320)
    )


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    side=st.integers(16, 200),
)
def test_any_image_with_any_region_gives_a_thumbnail_of_its_size(size, place, side):
    height, width = size
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    mask = np.zeros(size, dtype=np.bool_)
    mask[int(place[0] * (height - 1)), int(place[1] * (width - 1))] = True
    encoded = encode_rle(mask)
    plain = draw_marks(image, [RegionMark(encoded, HIT)], longest_side_px=side)
    assert draw_hit(image, encoded, longest_side_px=side).shape == plain.shape
