"""Every prompt rule of the design, against statements of the rules in image pixels.

The images here lie in their network input without scaling and at whole cells, so that a grid mask is a mask of 4 x 4
pixel blocks and everything can be counted pixel by pixel.
"""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from fakes.models import GridMap
from fakes.segmentations import (
    MIN_IOU,
    SEEDS,
    WIDTH,
    cut_for_clicks,
    fit,
    held,
    in_pixels,
    made_of_others,
    meant_by,
    needed_rows,
    overlapping_rows,
    random_masks,
    random_points,
    reaches_least_iou,
    rectangle,
    segmented,
    things_in_order,
    to_five_digits,
    touched,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from searchanything.core.errors import PromptError
from searchanything.core.geometry import Letterbox, decode_rle
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoxXYXY
from searchanything.prompts.choose import (
    RUNNERS_UP,
    box_fits,
    box_ious,
    choose,
    choose_by_points,
    choose_by_similarity,
    selection_of_choice,
    shares_in_box,
)
from searchanything.prompts.choose_together import choose_together
from searchanything.prompts.containers import covered_by_parts
from searchanything.prompts.prompt import Box, Mask, Points, Prompts, WholeImage

# --- points -----------------------------------------------------------------------------------------------------


def ranked(rows: list[int], masks: list[NDArray[np.bool_]], way: str) -> list[int]:
    """The rule in words: surest, smallest, largest or middle first; among equals the surer one."""
    areas = [int(mask.sum()) for mask in masks]
    if way == "surest":
        return sorted(rows)
    if way == "thing":
        return things_in_order(masks, rows)
    granularity = way
    by_area = sorted(rows, key=lambda row: (areas[row], row))
    if granularity == "part":
        return by_area
    if granularity == "whole":
        return sorted(rows, key=lambda row: (-areas[row], row))
    middle = len(by_area) // 2
    return sorted(by_area, key=lambda row: abs(by_area.index(row) - middle))


@given(SEEDS, st.sampled_from(["thing", "surest", "part", "object", "whole"]))
@settings(max_examples=250)
def test_each_point_chooses_one_of_the_masks_that_hold_it_or_that_it_touches(
    seed: int, way: Literal["thing", "surest", "part", "object", "whole"]
) -> None:
    granularity = None if way in ("thing", "surest") else way
    rule: Literal["searchanything", "surest"] = "surest" if way == "surest" else "searchanything"
    height, masks = random_masks(seed)
    foreground, background = random_points(seed, height, 1, 3), random_points(seed, height, 0, 2)
    usable = [row for row, mask in enumerate(masks) if not any(held(mask, point) for point in background)]
    under = [meant_by(point, masks, usable) for point in foreground]
    picked = {point: ranked(rows, masks, way)[0] for point, rows in zip(foreground, under, strict=True) if rows}
    chosen = set(needed_rows(masks, picked, foreground) if way == "thing" else picked.values())
    rest = sorted({row for rows in under for row in rows} - chosen)
    points = {"foreground": foreground, "background": background}
    cut = cut_for_clicks(masks, usable, foreground, lambda rows: ranked(rows, masks, way), **points)

    choice = choose_by_points(
        Points(tuple(foreground), tuple(background), granularity, rule),  # type: ignore[arg-type]
        segmented(height, masks),
    )

    if not chosen and not cut:
        assert choice.kind == "none"
        assert not choice.mask.any()
        return
    assert choice.kind == "region"
    expected = np.any([*(masks[row] for row in chosen), *cut.values()], axis=0)
    np.testing.assert_array_equal(in_pixels(choice, height), expected)
    assert choice.rows == tuple(sorted(chosen)), "what is cut is none of them"
    ys, xs = np.nonzero(expected)
    assert choice.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    beside_cut = overlapping_rows(np.any([np.zeros_like(expected), *cut.values()], axis=0), masks, usable)
    others = dict.fromkeys([*ranked(rest, masks, way), *(row for row in beside_cut if row not in chosen)])
    assert choice.others == tuple(others)[:RUNNERS_UP]
    assert choice.rule == f"points/{'score' if way == 'surest' else way}"
    assert choice.score == pytest.approx(0.9 - 0.6 * min({*chosen, *cut}) / max(len(masks) - 1, 1))


def test_a_click_on_a_wheel_is_the_wheel_and_granularity_overrides() -> None:
    wheel, door, car = rectangle(64, (8, 40, 16, 48)), rectangle(64, (4, 32, 32, 52)), rectangle(64, (0, 16, 64, 56))
    scene = segmented(64, [door, car, wheel])
    areas = {name: int(mask.sum()) for name, mask in (("wheel", wheel), ("door", door), ("car", car))}
    expected = {None: "wheel", "part": "wheel", "object": "door", "whole": "car"}
    for granularity, name in expected.items():
        selection = selection_of_choice(choose_by_points(Points((12, 44), granularity=granularity), scene), scene)  # type: ignore[arg-type]
        assert selection.area_px == areas[name]
        assert [one.area_px for one in selection.runners_up] != []
        assert areas[name] not in [one.area_px for one in selection.runners_up]


def test_a_click_on_jeans_means_the_jeans_and_not_the_person_whom_clothes_cover() -> None:
    person, shirt, jeans = rectangle(64, (8, 0, 56, 60)), rectangle(64, (8, 4, 56, 28)), rectangle(64, (8, 32, 56, 60))
    scene = segmented(64, [person, shirt, jeans])
    np.testing.assert_array_equal(in_pixels(choose_by_points(Points((20, 40)), scene), 64), jeans)
    surest = choose_by_points(Points((20, 40), rule="surest"), scene)
    np.testing.assert_array_equal(in_pixels(surest, 64), person)
    only_the_person = choose_by_points(Points((20, 30)), scene)  # the belt lies between the two
    np.testing.assert_array_equal(in_pixels(only_the_person, 64), person)


@pytest.mark.parametrize(
    ("part", "covered"),
    [
        ((24, 0, 44, 40), 0.4),  # four fifths of it lie in the whole
        ((28, 0, 44, 40), 0.0),  # three quarters
        ((0, 0, 32, 40), 0.8),  # four fifths as large
        ((0, 0, 36, 40), 0.0),  # nine tenths: the same thing again
    ],
)
def test_what_is_a_part_of_a_whole(part: tuple[int, int, int, int], covered: float) -> None:
    scene = segmented(64, [rectangle(64, (0, 0, 40, 40)), rectangle(64, part)])
    assert covered_by_parts(scene, np.array([0]))[0] == pytest.approx(covered)


def test_three_fifths_are_enough_to_be_made_of_others() -> None:
    for covered, first in ((12, 2), (8, 1)):  # of 20 px of width
        part, whole, behind = (rectangle(64, box) for box in ((0, 0, covered, 16), (0, 0, 20, 16), (12, 0, 64, 60)))
        assert choose_by_points(Points((16, 4)), segmented(64, [part, whole, behind])).rows == (first,)


def test_a_click_on_a_face_means_the_face_which_eyes_do_not_cover() -> None:
    face, left, right = rectangle(64, (8, 0, 56, 60)), rectangle(64, (16, 12, 24, 20)), rectangle(64, (40, 12, 48, 20))
    choice = choose_by_points(Points((32, 40)), segmented(64, [face, left, right]))
    np.testing.assert_array_equal(in_pixels(choice, 64), face)


def test_a_background_point_takes_its_masks_out() -> None:
    wheel, car = rectangle(64, (8, 40, 16, 48)), rectangle(64, (0, 16, 64, 56))
    scene = segmented(64, [car, wheel])
    choice = choose_by_points(Points((12, 44), background=(60, 20)), scene)
    np.testing.assert_array_equal(in_pixels(choice, 64), wheel)
    assert choice.others == ()


def test_only_clicks_on_a_mask_cut_it() -> None:
    """Of a click beside it, the mask's own border says enough; on a background point's cell nothing is selected."""
    left, cat = rectangle(64, (0, 24, 48, 40)), rectangle(64, (48, 16, 64, 56))
    scene = segmented(64, [left, cat])
    below = choose_by_points(Points((8, 26), background=((40, 26), (8, 44))), scene)
    np.testing.assert_array_equal(in_pixels(below, 64), rectangle(64, (0, 24, 24, 40)))
    both = choose_by_points(Points(((8, 32), (56, 28)), background=(40, 32)), scene)
    np.testing.assert_array_equal(in_pixels(both, 64), rectangle(64, (0, 24, 24, 40)) | cat)
    on_it = choose_by_points(Points(((56, 28), (8, 32)), background=(8, 32)), scene)
    np.testing.assert_array_equal(in_pixels(on_it, 64), cat)
    assert on_it.reason.endswith("; 1 more point lies on no usable mask")
    near = rectangle(64, (24, 24, 64, 40))
    other = choose_by_points(
        Points(((36, 28), (8, 50)), background=(56, 32)), segmented(64, [near, rectangle(64, (0, 44, 64, 56))])
    )
    np.testing.assert_array_equal(
        in_pixels(other, 64), rectangle(64, (24, 24, 48, 40)) | rectangle(64, (0, 44, 64, 56))
    )


def test_a_cut_mask_offers_the_masks_that_it_overlaps() -> None:
    """Those that hold the background point, and those beyond the cut, are none of them."""
    jars, lid, label = rectangle(64, (0, 24, 64, 40)), rectangle(64, (0, 24, 24, 28)), rectangle(64, (20, 28, 36, 36))
    masks = [jars, lid, label, rectangle(64, (36, 28, 48, 36)), rectangle(64, (0, 20, 64, 40))]
    choice = choose_by_points(Points((8, 32), background=(56, 32)), segmented(64, masks))
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (0, 24, 32, 40)))
    assert choice.others == (1, 2), "IoU 0.19 and 0.18 with the cut"


def test_a_background_point_cuts_a_mask_where_it_leaves_no_other() -> None:
    """Jars that the segmenter takes for one mask of 64 x 16 px: the click's at the left, another at the right."""
    jars = rectangle(64, (0, 24, 64, 40))
    scene = segmented(64, [jars])
    choice = choose_by_points(Points((8, 32), background=(56, 32)), scene)
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (0, 24, 32, 40)))
    assert (choice.kind, choice.rows, choice.box_xyxy, choice.others) == ("region", (), (0, 24, 32, 40), ())
    assert choice.reason == (
        "the surest for its size under 1 foreground point, cut half way to the background points, "
        "which lie on all masks there"
    )
    closer = choose_by_points(Points((8, 32), background=((56, 32), (24, 32))), scene)
    np.testing.assert_array_equal(in_pixels(closer, 64), rectangle(64, (0, 24, 16, 40)))
    both = choose_by_points(Points(((8, 32), (40, 32)), background=(56, 32)), scene)
    np.testing.assert_array_equal(in_pixels(both, 64), rectangle(64, (0, 24, 48, 40)))
    assert choose_by_points(Points((8, 32), background=(9, 33)), scene).kind == "none", "the same cell"
    one_apart = segmented(64, [jars, rectangle(64, (0, 0, 16, 16))])
    two = choose_by_points(Points(((8, 32), (8, 8)), background=(56, 32)), one_apart)
    assert two.rows == (1,), "the other click has a mask of its own"
    assert "of 1 mask under 1 foreground point; the surest for its size under 1 foreground point, cut" in two.reason


def test_a_stroke_of_background_points_needs_little_memory() -> None:
    """A mask is cut one point at a time: distances to all of these at once were 800 MB on a grid of 256 x 256 cells."""
    letterbox = Letterbox(1024, 1024, 1024)
    masks = np.ones((1, *letterbox.grid_size), dtype=np.bool_)
    features = GridMap(np.zeros((*letterbox.grid_size, 1), dtype=np.float32), letterbox.coverage)
    boxes = np.array([[0, 0, 1024, 1024]], dtype=np.float32)
    scene = Segmentation(letterbox, boxes, np.ones(1, dtype=np.float32), masks, features)
    stroke = [(700 + 200 * math.cos(turn), 500 + 200 * math.sin(turn)) for turn in np.linspace(0, 6, 1500)]
    tracemalloc.start()
    try:
        choice = choose_by_points(Points((100, 500), background=stroke), scene)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert choice.kind == "region"
    assert most_bytes < 20e6


def test_two_points_merge_their_masks_and_boxes() -> None:
    left, right = rectangle(32, (0, 0, 8, 8)), rectangle(32, (40, 16, 48, 24))
    scene = segmented(32, [left, right])
    choice = choose_by_points(Points(((2, 2), (44, 20), (60, 30))), scene)
    np.testing.assert_array_equal(in_pixels(choice, 32), left | right)
    assert choice.box_xyxy == (0, 0, 48, 24)
    assert choice.score == pytest.approx(0.9)
    assert "1 more point lies on no usable mask" in choice.reason


def test_a_second_click_on_the_rim_does_not_add_the_neighbour_or_the_whole() -> None:
    """A face of 16 x 16 px, a dress beside it, a person of both with a gap of 24 px between them."""
    face, dress = rectangle(64, (24, 0, 40, 16)), rectangle(64, (16, 40, 48, 64))
    person = rectangle(64, (16, 0, 48, 64))
    parts = [rectangle(64, (16, 16, 48, 24)), rectangle(64, (16, 0, 20, 64))]
    scene = segmented(64, [person, dress, face, *parts])
    assert choose_by_points(Points([(32, 8), (42, 8)]), scene).rows == (2,), "the person is all that holds it"
    reason = choose_by_points(Points([(32, 8), (42, 8)]), scene).reason
    assert reason.endswith("; 1 mask left out, as the rest lies under or beside each point")
    assert choose_by_points(Points([(32, 8), (32, 30)]), scene).rows == (2,), "four cells below the face"
    assert choose_by_points(Points([(32, 8), (32, 34)]), scene).rows == (0,), "a click apart from it means the person"
    two = segmented(64, [rectangle(64, (0, 0, 20, 64)), rectangle(64, (20, 0, 64, 64))])
    assert choose_by_points(Points([(2, 30), (23, 30)]), two).rows == (0,), "one cell beside it"
    assert choose_by_points(Points([(2, 30), (24, 30)]), two).rows == (0, 1), "two cells"
    assert choose_by_points(Points([(40, 30), (18, 30)]), two).rows == (1,)
    assert choose_by_points(Points([(2, 30), (23, 30)], granularity="part"), two).rows == (0, 1), "as it was asked for"


@given(SEEDS)
@settings(max_examples=200)
def test_several_clicks_keep_their_promises(seed: int) -> None:
    height, masks = random_masks(seed)
    scene = segmented(height, masks)
    foreground, background = random_points(seed, height, 1, 4), random_points(seed + 1, height, 0, 1)
    choice = choose_by_points(Points(tuple(foreground), tuple(background)), scene)
    alone = [choose_by_points(Points(one, tuple(background)), scene).rows for one in foreground]
    assert set(choice.rows) <= {row for rows in alone for row in rows}, "no click adds what no click selects"
    assert bool(choice.rows) == any(alone)
    turned = choose_by_points(Points(tuple(foreground[::-1]), tuple(background)), scene)
    assert turned.rows == choice.rows, "their order means nothing"
    again = choose_by_points(Points((*foreground, *foreground), tuple(background)), scene)
    assert again.rows == choice.rows, "nor does a second click on the same place"
    for row in choice.rows:
        assert not any(held(masks[row], point) for point in background)
        out = np.argwhere(masks[row])[0][::-1] + 0.5
        without = choose_by_points(Points(tuple(foreground), (*background, tuple(out.tolist()))), scene)
        assert row not in without.rows, "a background click in a selected mask removes it"
    for point, rows in zip(foreground, alone, strict=True):
        near = [touched(masks[row], point, 4) for row in choice.rows]
        assert any(near) or not rows, "each click is in or near the selection"


def clear_of_rims(masks: list[NDArray[np.bool_]], point: tuple[float, float]) -> bool:
    """Whether a point is on a mask, and no mask that does not hold it is so near that it could stand in."""
    on = [row for row, mask in enumerate(masks) if held(mask, point)]
    blocks = 4 if on and made_of_others(masks, things_in_order(masks, on)[0]) else 1
    return bool(on) and all(held(mask, point) == touched(mask, point, blocks) for mask in masks)


@given(SEEDS)
@settings(max_examples=200)
def test_a_click_in_what_is_selected_away_from_rims_changes_nothing(seed: int) -> None:
    height, masks = random_masks(seed)
    scene = segmented(height, masks)
    clear = [one for one in random_points(seed, height, 16, 16) if clear_of_rims(masks, one)]
    points, more = tuple(clear[:2]), clear[2:]
    if not points:
        return
    before = choose_by_points(Points(points), scene)
    selected = in_pixels(before, height)
    for point in more:
        if held(selected, point):
            assert choose_by_points(Points((*points, point)), scene).rows == before.rows


def test_an_unsure_mask_is_selected_where_its_size_makes_up_for_it() -> None:
    """Score / area^0.75 by hand: 32 x 32 px of 0.9 give 0.0050; 8 x 8 px of 0.15 give 0.0066, of 0.1 give 0.0044."""
    thing, part = rectangle(48, (0, 0, 32, 32)), rectangle(48, (4, 4, 12, 12))
    found = segmented(48, [thing, part])
    for score, first in ((0.15, 1), (0.1, 0)):
        scored = replace(found, scores=np.array([0.9, score], dtype=np.float32))
        assert choose(Points(((8, 8),)), scored, box_min_iou=MIN_IOU).rows == (first,)


def test_a_point_on_no_mask_selects_nothing_and_offers_the_nearest() -> None:
    far, near, excluded = rectangle(64, (0, 0, 8, 8)), rectangle(64, (40, 40, 48, 48)), rectangle(64, (48, 56, 64, 64))
    scene = segmented(64, [far, near, excluded])
    choice = choose_by_points(Points((53, 53), background=(60, 60)), scene)
    assert (choice.kind, choice.others, choice.box_xyxy) == ("none", (1, 0), (0, 0, 0, 0))
    selection = selection_of_choice(choice, scene)
    assert (selection.area_px, selection.score, decode_rle(selection.mask).any()) == (0, 0.0, False)
    assert [one.box_xyxy for one in selection.runners_up] == [(40, 40, 48, 48), (0, 0, 8, 8)]


def test_a_click_on_the_rim_of_a_thing_means_the_thing() -> None:
    """A mask's edge is known to a cell of 4 px; two cells away, or in a hole so wide, there is nothing."""
    ring = rectangle(64, (16, 16, 44, 44)) & ~rectangle(64, (24, 24, 36, 36))
    scene = segmented(64, [ring])
    for point in ((15.9, 30), (12, 30), (44, 30), (47.9, 47.9), (24, 24), (27.9, 30)):
        choice = choose_by_points(Points(point), scene)
        assert choice.rows == (0,), point
        assert choice.reason == "the surest for its size of 1 mask beside 1 foreground point"
        assert choose_by_points(Points(point, rule="fastsam"), scene).kind == "none", "as published"
    for point in ((11.9, 30), (48, 30), (30, 30)):
        assert choose_by_points(Points(point), scene).kind == "none", point
    two = choose_by_points(Points([(15, 30), (45, 30)]), scene)
    assert two.reason.endswith("of 1 mask beside 2 foreground points")
    one_on_it = choose_by_points(Points([(16, 30), (45, 30), (1, 1)]), scene)
    assert "of 1 mask under or beside 2 foreground points; 1 more point lies on no usable mask" in one_on_it.reason


def test_a_click_beside_one_mask_and_on_another_means_that_other() -> None:
    scene = segmented(64, [rectangle(64, (0, 0, 20, 20)), rectangle(64, (20, 0, 64, 64))])
    assert choose_by_points(Points((21, 5)), scene).rows == (1,)
    cut = choose_by_points(Points((21, 5), background=(60, 60)), scene)
    assert cut.kind == "region", "that other"
    assert not in_pixels(cut, 64)[:, :20].any()


def test_a_miss_says_where_and_leaves_what_is_offered_to_who_shows_it() -> None:
    """`combine`, `compare` and `explain` give the same reason, and offer nothing."""
    one = segmented(64, [rectangle(64, (40, 40, 48, 48))])
    missed = "no usable mask lies under the foreground point at (5, 5)"
    assert choose_by_points(Points((5, 5)), one).reason == missed
    assert choose_by_points(Points((5, 5)), one).others == (0,)
    assert choose_by_points(Points((5, 5), background=(44, 44)), one).reason == missed
    for points in (Points((5, 5)), Points([(5, 5), (9, 9)], background=(44, 44))):
        assert choose_by_points(points, segmented(64, [])).reason == "no region was found in this image"


@pytest.mark.parametrize("point", [(-0.1, 5), (64, 5), (5, -1), (5, 48), (1e9, 1e9)])
@pytest.mark.parametrize("rule", ["searchanything", "fastsam"])
def test_a_point_outside_names_itself_and_the_size(point: tuple[float, float], rule: str) -> None:
    scene = segmented(48, [rectangle(48, (0, 0, 64, 48))])
    x, y = point
    expected = rf"point \({x:g}, {y:g}\) lies outside the image of 64 x 48 pixels".replace("+", r"\+")
    with pytest.raises(PromptError, match=expected):
        choose_by_points(Points((point,), rule=rule), scene)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=expected):
        choose_by_points(Points((5, 5), background=(point,), rule=rule), scene)  # type: ignore[arg-type]


@pytest.mark.parametrize("corner", [(0, 0), (63.999, 0), (0, 47.999), (63.999, 47.999)])
def test_a_point_in_a_corner_is_inside(corner: tuple[float, float]) -> None:
    scene = segmented(48, [rectangle(48, (0, 0, 64, 48))])
    assert choose_by_points(Points(corner), scene).kind == "region"


# --- boxes ------------------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=150)
def test_a_box_takes_the_mask_that_fits_it_best(seed: int) -> None:
    height, masks = random_masks(seed)
    generator = np.random.default_rng(seed)
    x1, y1 = int(generator.integers(-20, WIDTH)), int(generator.integers(-20, height))
    x2, y2 = int(generator.integers(max(x1, 0) + 1, WIDTH + 20)), int(generator.integers(max(y1, 0) + 1, height + 20))
    inside = max(x1, 0), max(y1, 0), min(x2, WIDTH), min(y2, height)
    filled = rectangle(height, inside)
    ious = [int((mask & filled).sum()) / int((mask | filled).sum()) for mask in masks]
    fits = [fit(inside, mask) for mask in masks]
    by_iou = sorted(range(len(masks)), key=lambda row: (-round(ious[row], 6), row))
    fitting = [reaches_least_iou(inside, mask) for mask in masks]
    order = sorted(range(len(masks)), key=lambda row: (not fitting[row], -to_five_digits(fits[row]), row))

    choice = choose(Box(x1, y1, x2, y2), segmented(height, masks), box_min_iou=MIN_IOU)

    assert choice.kind == "region"
    if any(fitting):
        assert choice.rule == "box/iou"
        assert choice.score == pytest.approx(fits[order[0]], abs=1e-5)
        np.testing.assert_array_equal(in_pixels(choice, height), masks[order[0]])
        assert choice.others == tuple(row for row in order[1:] if ious[row] > 0)[:RUNNERS_UP]
    else:
        assert (choice.rule, choice.score, choice.box_xyxy) == ("box/itself", 0.0, inside)
        assert "the box itself is the mask" in choice.reason
        assert choice.others == tuple(row for row in by_iou[:RUNNERS_UP] if ious[row] > 0)


def test_a_loose_box_means_the_thing_in_it_and_not_what_reaches_out_of_it() -> None:
    """By IoU alone the person is meant, 0.41 against 0.19; 0.41 of the person lies in the box, and all of the bag."""
    person, bag = rectangle(64, (0, 0, 64, 64)), rectangle(64, (12, 12, 32, 28))
    scene = segmented(64, [person, bag])
    choice = choose(Box(4, 4, 44, 46), scene, box_min_iou=MIN_IOU)
    assert (choice.rows, choice.others) == ((1,), (0,))
    assert choice.reason == "IoU 0.19 with the box and 100% in it, the best of 2 masks"
    assert choose(Box(0, 0, 60, 60), scene, box_min_iou=MIN_IOU).rows == (0,), "a box of the person's size means it"
    assert choose(Box(4, 4, 44, 46), scene, box_min_iou=0.2).rows == (1,), "3/10 of it are enough in the box"
    assert choose(Box(4, 4, 44, 46), scene, box_min_iou=0.7).rule == "box/itself", "IoU 0.41 and 0.19"
    beside = segmented(64, [rectangle(64, (0, 0, 20, 20)), rectangle(64, (24, 24, 40, 40))])
    assert choose(Box(0, 0, 60, 60), beside, box_min_iou=0.05).rows == (1,), "the smaller one is in the middle"
    pointed = choose_together(Prompts((Box(4, 4, 44, 46),), ((20, 20),)), scene, box_min_iou=MIN_IOU)
    assert pointed.rows == (1,)


@pytest.mark.parametrize("corners", [(60, 60, 64, 64), (0, 0, 4, 8), (0, 56, 8, 64), (32, 32, 36, 36)])
def test_small_things_in_a_large_box_do_not_tie(corners: tuple[int, int, int, int]) -> None:
    """A fit of 0.0000034 was 0.000003, and on a larger grid 0, as that of all things at the edge: the surest won."""
    box, thing = (0.0, 0.0, 64.0, 64.0), rectangle(64, corners)
    scene = segmented(64, [thing])
    fits = box_fits(box, box_ious(box, scene), shares_in_box(box, scene), scene)
    assert fits[0] == pytest.approx(fit(box, thing), rel=1e-4)


def test_fits_that_differ_in_the_sixth_digit_alone_tie() -> None:
    """Factors are float32, whose errors are that large; the surer of two masks then comes first."""
    scene = segmented(64, [rectangle(64, (0, 0, 64, 64))] * 3)
    fits = box_fits((0.0, 0.0, 64.0, 64.0), np.float32([0.5, 0.500004, 0.50002]), np.ones(3, dtype=np.float32), scene)
    assert fits.tolist() == pytest.approx([0.5, 0.5, 0.50002], abs=1e-12)


def test_a_small_box_at_the_end_of_long_things_means_the_better_of_them() -> None:
    """An eighth and a seventh of them lie in it: fits of 1e-87 and 5e-65 were both 0, and the surest won."""
    train, engine = rectangle(32, (0, 8, 64, 12)), rectangle(32, (0, 8, 56, 12))
    scene = segmented(32, [train, engine])
    choice = choose(Box(0, 8, 8, 12), scene, box_min_iou=MIN_IOU)
    assert (choice.rows, choice.others) == ((1,), (0,))
    assert choice.score == pytest.approx(math.exp(-4 * 6**2) / 7**2, rel=1e-4)


def test_a_mask_of_just_the_least_iou_fits() -> None:
    """What reaches out of the box needs all of it, what lies mostly in it 3/10."""
    inside, across = rectangle(64, (0, 0, 16, 16)), rectangle(64, (0, 0, 64, 16))
    for minimum, rule in ((0.16, "box/iou"), (0.17, "box/itself")):  # IoU 1/6, and a third of it in the box
        assert choose(Box(0, 0, 32, 32), segmented(64, [across & ~inside]), box_min_iou=minimum).rule == rule
    for minimum, rule in ((0.83, "box/iou"), (0.84, "box/itself")):
        assert choose(Box(0, 0, 32, 32), segmented(64, [inside]), box_min_iou=minimum).rule == rule


def test_a_box_that_fits_no_mask_is_the_mask_and_says_so() -> None:
    scene = segmented(64, [rectangle(64, (0, 0, 8, 8))])
    choice = choose(Box(40, 40, 60, 56), scene, box_min_iou=MIN_IOU)
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (40, 40, 60, 56)))
    assert (choice.rule, choice.score, choice.others) == ("box/itself", 0.0, ())
    assert "best IoU 0.00 is below 0.1" in choice.reason
    overlapping = segmented(64, [rectangle(64, (0, 0, 8, 8)), rectangle(64, (52, 48, 64, 64))])
    choice = choose(Box(40, 40, 60, 56), overlapping, box_min_iou=0.2)
    assert "best IoU 0.14 is below 0.2" in choice.reason, "64 of 448 px, not that of the surest"
    assert choice.others == (1,)


def test_the_reason_for_a_box_itself_compares_no_iou_of_0() -> None:
    """It said "best IoU 0.00 is below 0"."""
    apart = segmented(64, [rectangle(64, (40, 40, 60, 60))])
    choice = choose(Box(0, 0, 8, 8), apart, box_min_iou=0)
    assert choice.reason == "no mask fits the box (none overlaps it); the box itself is the mask"


def test_without_a_minimum_a_mask_apart_from_the_box_still_does_not_fit() -> None:
    scene = segmented(64, [rectangle(64, (0, 0, 8, 8))])
    assert choose(Box(40, 40, 60, 56), scene, box_min_iou=0).rule == "box/itself"
    assert choose(Box(4, 4, 60, 56), scene, box_min_iou=0).rule == "box/iou"


def test_a_box_nine_times_as_large_means_the_thing_in_it() -> None:
    """A round thing fills half of its own box or more, so here its IoU is 0.06."""
    thing, wall = rectangle(64, (20, 28, 44, 36)), rectangle(64, (0, 44, 64, 64))
    choice = choose(Box(0, 4, 63, 60), segmented(64, [wall, thing]), box_min_iou=MIN_IOU)
    assert (choice.rows, choice.reason) == ((1,), "IoU 0.05 with the box and 100% in it, the best of 2 masks")
    speck = rectangle(64, (28, 28, 36, 36))
    assert choose(Box(0, 4, 63, 60), segmented(64, [speck]), box_min_iou=MIN_IOU).rule == "box/itself"


@pytest.mark.parametrize("box", [(64, 0, 80, 20), (-9, 0, 0, 20), (0, 48, 20, 50), (0, -5, 20, -1), (70, 70, 80, 80)])
def test_a_box_wholly_outside_names_itself_and_the_size(box: BoxXYXY) -> None:
    scene = segmented(48, [rectangle(48, (0, 0, 64, 48))])
    with pytest.raises(PromptError, match="outside the image of 64 x 48 pixels") as caught:
        choose(Box(*box), scene, box_min_iou=MIN_IOU)
    assert str(tuple(float(side) for side in box)) in str(caught.value)


def test_a_tiny_box_between_masks_still_has_a_cell() -> None:
    choice = choose(Box(33.2, 33.2, 33.3, 33.3), segmented(64, []), box_min_iou=MIN_IOU)
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (32, 32, 36, 36)))


def test_at_most_five_runners_up_are_offered() -> None:
    """A click on eight masks that nest, and a box in all of them that fits none; the smaller ones fit it better."""
    nested = segmented(64, [rectangle(64, (0, 0, 64 - 4 * n, 64 - 4 * n)) for n in range(8)])
    assert choose_by_points(Points((2, 2), granularity="part"), nested).others == (6, 5, 4, 3, 2)
    assert choose_by_points(Points((2, 2), granularity="whole"), nested).others == (1, 2, 3, 4, 5)
    choice = choose(Box(0, 0, 4, 4), nested, box_min_iou=MIN_IOU)
    assert (choice.rule, choice.others) == ("box/itself", (7, 6, 5, 4, 3))


def test_of_many_masks_that_are_equal_the_surer_ones_come_first() -> None:
    """NumPy's default sort keeps no order, which a dozen of equals are enough to show."""
    small, large = rectangle(64, (0, 0, 8, 8)), rectangle(64, (0, 0, 16, 16))
    scene = segmented(64, [small, large] * 20)
    text = choose_by_similarity(np.tile(np.float32([0.1, 0.5]), 20), scene, "an apple")
    assert (text.rows, text.others) == ((1,), (3, 5, 7, 9, 11))
    assert choose(Box(0, 0, 4, 4), scene, box_min_iou=0.9).others == (0, 2, 4, 6, 8), "IoU 1/4, and 1/16"
    assert choose_by_points(Points((60, 60)), scene).others == (1, 3, 5, 7, 9), "the nearer ones"
    jars, lid, knob = (rectangle(64, box) for box in ((0, 24, 64, 40), (12, 24, 20, 32), (12, 24, 16, 28)))
    cut = choose_by_points(Points((8, 32), background=(56, 32)), segmented(64, [jars, *[knob, lid] * 20]))
    assert cut.others == (2, 4, 6, 8, 10)


# --- text, mask, whole image -----------------------------------------------------------------------------------


def test_a_text_takes_the_closest_region_and_offers_the_next() -> None:
    scene = segmented(64, [rectangle(64, (0, 0, 4 * n + 4, 8)) for n in range(8)])
    similarities = np.array([0.1, 0.5, 0.9, -0.2, 0.5, 0.3, 0.0, 0.2], dtype=np.float32)
    choice = choose_by_similarity(similarities, scene, "a red apple")
    assert choice.box_xyxy == (0, 0, 12, 8)
    assert choice.score == pytest.approx(0.9)
    assert choice.others == (1, 4, 5, 7, 0)
    assert choice.rule == "text/cosine"
    assert "'a red apple'" in choice.reason


def test_a_text_without_regions_selects_nothing() -> None:
    choice = choose_by_similarity(np.zeros(0, dtype=np.float32), segmented(64, []), "apple")
    assert (choice.kind, choice.rule, choice.others) == ("none", "text", ())
    assert "no regions to match 'apple'" in choice.reason


def test_a_given_mask_is_taken_as_it_is() -> None:
    given_mask = rectangle(48, (8, 4, 32, 20))
    choice = choose(Mask(given_mask), segmented(48, [rectangle(48, (0, 0, 64, 48))]), box_min_iou=MIN_IOU)
    np.testing.assert_array_equal(in_pixels(choice, 48), given_mask)
    assert (choice.kind, choice.rule, choice.score, choice.box_xyxy) == ("region", "mask", 1.0, (8, 4, 32, 20))


def test_a_mask_of_another_size_names_both_sizes() -> None:
    with pytest.raises(PromptError, match=r"\(48, 64\), got \(64, 48\)"):
        choose(Mask(np.ones((64, 48), dtype=np.bool_)), segmented(48, []), box_min_iou=MIN_IOU)


def test_the_whole_image() -> None:
    scene = segmented(40, [rectangle(40, (0, 0, 8, 8))])
    selection = selection_of_choice(choose(WholeImage(), scene, box_min_iou=MIN_IOU), scene)
    assert (selection.kind, selection.area_px, selection.box_xyxy) == ("image", 40 * 64, (0, 0, 64, 40))
    assert selection.score == 1
    assert decode_rle(selection.mask).all()
    assert selection.runners_up == ()


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (Points((5, 5)), "none"),
        (Points((5, 5), rule="fastsam"), "none"),
        (Box(4, 4, 20, 20), "region"),
        (Mask(np.ones((64, 64), dtype=np.bool_)), "region"),
        (WholeImage(), "image"),
    ],
)
def test_an_image_without_regions_takes_every_prompt(prompt: Points | Box | Mask | WholeImage, kind: str) -> None:
    scene = segmented(64, [])
    selection = selection_of_choice(choose(prompt, scene, box_min_iou=MIN_IOU), scene)
    assert (selection.kind, selection.runners_up) == (kind, ())


# --- invariants of every selection -------------------------------------------------------------------------------


def prompts_for(seed: int, height: int, width: int) -> list[Points | Box | Mask | WholeImage]:
    generator = np.random.default_rng(seed)
    points = tuple((float(x) * width, float(y) * height) for x, y in generator.random((4, 2)) * 0.999)
    xs, ys = np.sort(generator.random(2)) * width, np.sort(generator.random(2)) * height
    box = Box(xs[0], ys[0], xs[1] + 1e-3, ys[1] + 1e-3)
    mask = generator.random((height, width)) < 0.3
    mask[0, 0] = True
    grains: list[Literal["part", "object", "whole"] | None] = [None, "part", "object", "whole"]
    ours = [Points(points[:2], points[2:3], grain) for grain in grains]
    return [*ours, Points(points[:2], points[2:], rule="fastsam"), box, Mask(mask), WholeImage()]


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([32, 64, 96]), SEEDS)
@settings(max_examples=150)
def test_selections_keep_their_promises_at_every_size(height: int, width: int, size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    letterbox = Letterbox(height, width, size)
    on_image = letterbox.coverage > 0
    count = int(generator.integers(0, 6))
    masks = (generator.random((count, *letterbox.grid_size)) < generator.random((count, 1, 1))) & on_image
    corners = np.sort(generator.random((count, 2, 2)), axis=1).reshape(count, 4) * [width, height, width, height]
    features = GridMap(np.zeros((*letterbox.grid_size, 1), dtype=np.float32), letterbox.coverage)
    scores = np.sort(generator.random(count))[::-1].astype(np.float32)
    scene = Segmentation(letterbox, corners.astype(np.float32), scores, masks, features)
    union = masks.any(axis=0) if count else np.zeros_like(on_image)
    for prompt in prompts_for(seed, height, width):
        choice = choose(prompt, scene, box_min_iou=MIN_IOU)
        selection = selection_of_choice(choice, scene)
        assert not (choice.mask & ~on_image).any()
        if choice.rule.startswith("points") or choice.rule == "box/iou":
            assert not (choice.mask & ~union).any()
        assert choice.mask.any() == (choice.kind != "none")
        assert math.isfinite(selection.score)
        assert 0 <= selection.area_px <= height * width
        x1, y1, x2, y2 = selection.box_xyxy
        assert 0 <= x1 <= x2 <= width + 1e-3
        assert 0 <= y1 <= y2 <= height + 1e-3
        assert len(set(choice.others)) == len(choice.others) <= RUNNERS_UP
        assert all(isinstance(side, float) for side in selection.box_xyxy)
