"""Overlays: marks land where they should, read on any background, and never change their arguments."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.geometry import encode_rle
from searchanything.core.types import MaskRLE
from searchanything.drawing import overlays
from searchanything.drawing.overlays import (
    BACKGROUND,
    FOREGROUND,
    HIT,
    BoxMark,
    PointMark,
    RegionMark,
    TextMark,
    _free_place,
    distinct_colors,
    draw_marks,
    shown_size,
)
from searchanything.drawing.sheets import Tile, contact_sheet, full_rows


def plain(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def half_mask(height: int, width: int) -> MaskRLE:
    """The left half of the image."""
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[:, : width // 2] = True
    return encode_rle(mask)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (240, 320)), ((64, 64), (320, 320)), ((2000, 1), (320, 24)), ((1, 20000), (24, 320))],
)
def test_longest_side_is_as_asked_and_thin_images_stay_visible(size, expected):
    assert shown_size(*size, 320) == expected
    assert draw_marks(plain(*size), [], longest_side_px=320).shape == (*expected, 3)


def test_image_without_marks_at_its_own_size_is_unchanged_and_a_copy():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    shown = draw_marks(image, [], longest_side_px=120)
    np.testing.assert_array_equal(shown, image)
    assert not np.shares_memory(shown, image)


@pytest.mark.parametrize("background", [0, 128, 255])
def test_region_is_tinted_inside_untouched_outside_and_outlined_light_and_dark(background):
    shown = draw_marks(plain(200, 200, background), [RegionMark(half_mask(100, 100), HIT)], longest_side_px=200)
    expected = np.round(background * 0.76 + np.array(HIT) * 0.24)
    np.testing.assert_allclose(shown[100, 50], expected, atol=1)
    np.testing.assert_array_equal(shown[100, 180], [background] * 3)
    luminance = shown[100, 92:108].mean(axis=1)
    assert luminance.min() < 60  # the dark line
    assert luminance.max() > 160  # the bright line


def test_marks_scale_with_the_image():
    marks = [PointMark(100, 150), PointMark(300, 50, foreground=False)]
    shown = draw_marks(plain(200, 400), marks, longest_side_px=800)
    np.testing.assert_array_equal(shown[300, 200], FOREGROUND)
    left_of_bar = shown[100, 600 - 11]
    np.testing.assert_array_equal(left_of_bar, BACKGROUND)
    np.testing.assert_array_equal(shown[100, 600], [255, 255, 255])  # the bar


@pytest.mark.parametrize(("height", "width"), [(90, 900), (900, 90), (60, 900)])
def test_a_dot_hides_no_more_than_a_fifth_of_a_panoramas_height(height: int, width: int) -> None:
    shown = draw_marks(plain(height, width), [PointMark(width / 2, height / 2)], longest_side_px=900)
    changed = (shown != 128).any(axis=2)
    assert changed.any()
    assert max(changed.any(axis=0).sum(), changed.any(axis=1).sum()) <= max(0.2 * min(height, width), 13)


def test_box_is_drawn_on_its_edges_and_clipped_to_the_image():
    shown = draw_marks(plain(100, 100), [BoxMark((20, -50, 60, 500), FOREGROUND)], longest_side_px=100)
    np.testing.assert_array_equal(shown[50, 20], FOREGROUND)
    np.testing.assert_array_equal(shown[50, 60], FOREGROUND)
    np.testing.assert_array_equal(shown[50, 40], [128] * 3)


def test_text_plate_lies_on_the_lower_edge():
    shown = draw_marks(plain(200, 300), [TextMark("red car")], longest_side_px=300)
    changed = (shown != 128).any(axis=2)
    assert changed[-15:].any()
    assert not changed[:-30].any()


def test_region_label_lies_on_a_region_that_its_box_centre_misses():
    ring = np.zeros((120, 120), dtype=np.bool_)
    ring[10:110, 10:30] = ring[10:110, 90:110] = ring[10:30, 10:110] = True
    unlabelled, labelled = (
        draw_marks(plain(120, 120), [RegionMark(encode_rle(ring), HIT, label)], longest_side_px=120)
        for label in ("", "7")
    )
    rows, columns = np.nonzero((unlabelled != labelled).any(axis=2))
    assert ring[round(rows.mean()), round(columns.mean())]


def test_coarse_masks_get_a_smooth_outline_and_tiny_ones_survive():
    dot = np.zeros((32, 32), dtype=np.bool_)
    dot[16, 16] = True
    shown = draw_marks(plain(640, 640), [RegionMark(encode_rle(dot), HIT)], longest_side_px=640)
    assert (shown[330, 330] != 128).any()


def test_empty_mask_draws_nothing():
    empty = encode_rle(np.zeros((10, 10), dtype=np.bool_))
    np.testing.assert_array_equal(draw_marks(plain(50, 50), [RegionMark(empty)], longest_side_px=50), plain(50, 50))


def test_arguments_are_never_changed():
    image = plain(100, 100)
    image.flags.writeable = False
    marks = (RegionMark(half_mask(50, 50), HIT, "1"), PointMark(5, 5), BoxMark((1, 1, 9, 9)), TextMark("x"))
    draw_marks(image, marks, longest_side_px=100)
    draw_marks(image, marks, longest_side_px=60)
    assert (image == 128).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_foreign_arrays_are_refused(image):
    with pytest.raises(ValueError, match=r"expected an image of \(H, W, 3\) uint8"):
        draw_marks(image, [], longest_side_px=100)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    text=st.text(max_size=60),
    point=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_no_size_text_or_place_breaks_the_drawing(height, width, text, point):
    marks = [RegionMark(half_mask(height, width), HIT, text), PointMark(*point), TextMark(text)]
    shown = draw_marks(plain(height, width), marks, longest_side_px=64)
    assert shown.dtype == np.uint8
    assert max(shown.shape[:2]) == 64
    assert contact_sheet([Tile(shown, text, text, text)], side_px=80).ndim == 3


@pytest.mark.parametrize("text", ["日本語/写真.jpg", "\ud800", "a\nb\0c", "\u202eabc", "🍎" * 40, ""])
def test_texts_that_the_font_lacks_are_drawn_all_the_same(text):
    assert contact_sheet([Tile(plain(40, 40), text, text, text)], side_px=120).shape[2] == 3


@given(
    sizes=st.lists(st.tuples(st.integers(8, 60), st.integers(8, 20)), max_size=40),
    centers=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 120)), min_size=40, max_size=40),
)
def test_plates_lie_inside_the_image_and_never_on_each_other(sizes, centers):
    shown = np.zeros((120, 200), dtype=int)
    taken = []
    for (width, height), center in zip(sizes, centers, strict=False):
        place = _free_place((width, height), center, (200, 120), taken)
        if place is None:
            continue
        x, y = place
        assert 0 <= x <= x + width <= 200
        assert 0 <= y <= y + height <= 120
        taken.append((x, y, x + width, y + height))
        shown[y : y + height, x : x + width] += 1
    assert shown.max() <= 1
    assert bool(taken) == bool(sizes)


def dot_at(x: int, y: int) -> MaskRLE:
    dot = np.zeros((200, 200), dtype=np.bool_)
    dot[y - 5 : y + 5, x - 5 : x + 5] = True
    return encode_rle(dot)


@pytest.mark.parametrize(("x", "y"), [(100, 100), (6, 6), (194, 194), (6, 194), (100, 6)])
def test_label_lies_beside_a_region_that_it_would_hide(x, y):
    unlabelled, labelled = (
        draw_marks(plain(200, 200), [RegionMark(dot_at(x, y), HIT, label)], longest_side_px=200)
        for label in ("", "all 1")
    )
    rows, columns = np.nonzero((unlabelled != labelled).any(axis=2))
    assert rows.size, "it is drawn"
    assert not ((abs(columns - x) < 7) & (abs(rows - y) < 7)).any()
    assert np.hypot(columns - x, rows - y).min() < 15, "and near"


def test_label_of_a_large_region_keeps_off_a_small_one_in_its_middle():
    everything = RegionMark(encode_rle(np.ones((200, 200), dtype=np.bool_)), HIT, "large")
    small = RegionMark(dot_at(100, 100), HIT, "small")
    both = draw_marks(plain(200, 200), [everything, small], longest_side_px=200)
    alone = draw_marks(plain(200, 200), [replace(everything, label=""), small], longest_side_px=200)
    bare = draw_marks(plain(200, 200), [replace(everything, label=""), replace(small, label="")], longest_side_px=200)
    np.testing.assert_array_equal(both[93:107, 93:107], bare[93:107, 93:107])
    for shown in (both, alone):
        assert (shown != bare).any()
    assert (both != alone).any()


def test_label_of_a_large_region_keeps_off_a_small_one_even_where_no_other_label_is_near():
    """The small one's label lies above it; that of the large one would lie below that, upon half of the small one."""
    large = RegionMark(encode_rle(np.ones((200, 200), dtype=np.bool_)), HIT, "large")
    small = RegionMark(dot_at(100, 94), HIT, "small")
    bare, of_large, of_small, both = (
        draw_marks(plain(200, 200), [replace(large, label=first), replace(small, label=second)], longest_side_px=200)
        for first, second in (("", ""), ("large", ""), ("", "small"), ("large", "small"))
    )
    first, second = ((shown != bare).any(axis=2) for shown in (of_large, of_small))
    assert first[89:99, 95:105].any(), "alone, it lies on the small one"
    assert not (first & second).any(), "and not where the other label lies"
    np.testing.assert_array_equal(both[87:101, 93:107], bare[87:101, 93:107])


@pytest.mark.parametrize("on_top", ["rope", "small"])
@pytest.mark.parametrize(("x", "y"), [(200, 195), (190, 215), (210, 210)])
def test_labels_keep_off_a_small_region_where_a_rope_crosses_the_whole_image(x, y, on_top):
    """The rope has as few pixels as a small region has, in a box that leaves no place for any label."""
    dot = np.zeros((400, 400), dtype=np.bool_)
    dot[y - 5 : y + 5, x - 5 : x + 5] = True
    diagonal = np.eye(400, dtype=np.bool_) | np.eye(400, k=1, dtype=np.bool_)
    two = [RegionMark(encode_rle(dot), HIT, "small"), RegionMark(encode_rle(diagonal), BACKGROUND, "rope")]
    two.sort(key=lambda mark: mark.label == on_top)
    marks = [RegionMark(encode_rle(np.ones_like(dot)), HIT, "large"), *two]
    shown, bare = (
        draw_marks(plain(400, 400), given, longest_side_px=400)
        for given in (marks, [replace(mark, label="") for mark in marks])
    )
    np.testing.assert_array_equal(shown[dot], bare[dot])
    for left_out in marks:
        others = [replace(mark, label="" if mark is left_out else mark.label) for mark in marks]
        assert (draw_marks(plain(400, 400), others, longest_side_px=400) != shown).any(), "each is drawn"


def test_labels_of_regions_beside_and_below_each_other_never_cover_one_of_them():
    places = [(60 + 40 * column, 60 + 40 * row) for column in range(3) for row in range(3)]
    marks = [RegionMark(dot_at(x, y), color, "10") for (x, y), color in zip(places, distinct_colors(9), strict=True)]
    bare = draw_marks(plain(200, 200), [replace(mark, label="") for mark in marks], longest_side_px=200)
    shown = draw_marks(plain(200, 200), marks, longest_side_px=200)
    for x, y in places:
        np.testing.assert_array_equal(shown[y - 6 : y + 6, x - 6 : x + 6], bare[y - 6 : y + 6, x - 6 : x + 6])


def test_colors_differ():
    colors = np.array(distinct_colors(25), dtype=float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1000 * np.eye(25)
    assert distances.min() > 10
    assert np.linalg.norm(np.diff(colors, axis=0), axis=1).min() > 100  # neighbours


def test_sheet_has_as_many_cells_as_needed():
    tile = Tile(plain(100, 50), "key", "3 bits", "1", accent=HIT)
    one, five, six = (contact_sheet([tile] * count, columns=5, side_px=100).shape for count in (1, 5, 6))
    gap, cell = 6, 106
    assert one[1] == gap + cell + gap
    assert five[1] == six[1] == gap + 5 * (cell + gap)
    assert five[0] == one[0]
    assert six[0] == 2 * one[0] - gap


def test_sheet_brings_foreign_sizes_to_the_cell():
    large, fitting = (contact_sheet([Tile(plain(*size, 9), "k")], side_px=100) for size in ((1000, 500), (100, 50)))
    np.testing.assert_array_equal(large, fitting)


def test_sheet_breaks_captions_instead_of_cutting_them():
    """The text is all there: pixels below the image, line by line, are those of the lines as titles of their own."""
    reason = "the surest of 2 masks under 1 foreground point"
    one, three = (contact_sheet([Tile(plain(60, 60), "k", text)], side_px=120) for text in ("x", reason))
    assert three.shape[0] - one.shape[0] == round(12 * (0.7 + 1.3 * 4)) - round(12 * (0.7 + 1.3 * 2))
    ends = [contact_sheet([Tile(plain(60, 60), "k", reason + end)], side_px=120) for end in ("", "s")]
    assert (ends[0] != ends[1]).any(), "the last letter is drawn"


def test_sheet_cuts_what_has_no_room_in_three_lines_after_a_word():
    whole, longer = (contact_sheet([Tile(plain(60, 60), "k", "many words " * n)], side_px=120) for n in (40, 41))
    np.testing.assert_array_equal(whole, longer)
    name = "folder/" * 20 + "IMG_0042.jpg"
    titles = [contact_sheet([Tile(plain(60, 60), text)], side_px=120) for text in (name, name[:-5] + "3.jpg")]
    assert (titles[0] != titles[1]).any(), "the end of a name is always drawn"


def test_captions_of_one_sheet_leave_all_cells_alike():
    tiles = [Tile(plain(60, 60), "k", text) for text in ("x", "the surest of 2 masks under 1 foreground point")]
    both, alone = contact_sheet(tiles, side_px=120), contact_sheet(tiles[1:], side_px=120)
    assert both.shape[0] == alone.shape[0]


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 5), (3, 3), (4, 4), (5, 5), (6, 3), (7, 4), (9, 3), (10, 5), (101, 5)]
)
def test_rows_are_as_full_as_they_can_be(count, columns):
    empty = {most: -count % most for most in (3, 4, 5)}
    assert empty[full_rows(count)] == min(empty.values())
    assert full_rows(count) == columns or count in (1, 101)


@pytest.mark.parametrize(("tiles", "columns"), [([], 5), ([Tile(plain(5, 5), "k")], 0)])
def test_sheet_needs_tiles_and_columns(tiles, columns):
    with pytest.raises(ValueError, match="at least one tile and one column"):
        contact_sheet(tiles, columns=columns)


def test_the_shapes_of_many_regions_are_not_held_at_once(monkeypatch):
    """Each is as large as the picture: three hundred of them would take 768 MB in one of 1600 x 1600 px."""
    made, most = [], []
    shape_of = overlays._shown_mask

    def counted_shape(*given):
        made.append(weakref.ref(shape := shape_of(*given)))
        most.append(sum(one() is not None for one in made))
        return shape

    monkeypatch.setattr(overlays, "_shown_mask", counted_shape)
    marks = [RegionMark(half_mask(40, 40), HIT, str(number)) for number in range(30)]
    draw_marks(plain(80, 80), marks, longest_side_px=80)
    assert (len(made), max(most) <= 2) == (30, True), most
