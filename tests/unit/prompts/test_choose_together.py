"""Boxes, points and texts together, against statements of the rules in image pixels (as in `test_prompts`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes.segmentations import (
    MIN_IOU,
    SEEDS,
    WIDTH,
    cut_for_clicks,
    cut_half_way,
    fit,
    held,
    in_pixels,
    meant_by,
    nearer,
    needed_rows,
    random_masks,
    random_points,
    reaches_least_iou,
    rectangle,
    scores_for_size,
    segmented,
    things_in_order,
    to_five_digits,
)
from hypothesis import given, settings
from numpy.typing import NDArray

from searchanything.core.errors import PromptError
from searchanything.core.geometry import decode_rle
from searchanything.core.protocols import Segmentation
from searchanything.core.types import FloatArray
from searchanything.prompts.choose import RUNNERS_UP, Choice, choose, selection_of_choice
from searchanything.prompts.choose_together import choose_together
from searchanything.prompts.containers import RowNumbers, covered_by_parts
from searchanything.prompts.prompt import Box, Points, Prompts

Pixels = NDArray[np.bool_]
Corners = tuple[int, int, int, int]


def random_boxes(seed: int, height: int, least: int, most: int) -> list[Corners]:
    generator = np.random.default_rng([seed, 77])
    boxes = []
    for _ in range(int(generator.integers(least, most + 1))):
        x1, y1 = int(generator.integers(0, WIDTH - 4)), int(generator.integers(0, height - 4))
        boxes.append((x1, y1, int(generator.integers(x1 + 4, WIDTH + 1)), int(generator.integers(y1 + 4, height + 1))))
    return boxes


def random_cosines(seed: int, count: int) -> FloatArray:
    return np.random.default_rng([seed, 78]).permutation(count).astype(np.float32) / max(count, 1)


def inside(point: tuple[float, float], box: Corners) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def best(rows: list[int], figures: dict[int, float]) -> int:
    return min(rows, key=lambda row: (-to_five_digits(figures[row]), row))


def of_box(
    box: Corners,
    points: list[tuple[float, float]],
    masks: list[Pixels],
    usable: list[int],
    erased: Pixels,
    clicks: dict[str, list[tuple[float, float]]],
) -> Pixels | None:
    """A box without a text, in words: it takes the fittest mask, and each of its points the fittest of those under it
    that reach the least IoU or lie mostly in the box, if that has an IoU of 1/2 with the box, or else that with the
    highest score for its size times its fit.

    A box that only excluded masks fit takes the best of them, cut half way between its middle and the background, and
    at the box. Where nothing fits it takes itself. Where a background point leaves nothing of that under a point, a
    mask that holds both is cut, and the box cuts it as well.
    """
    height = len(erased)
    filled = rectangle(height, box)
    fits = {row: fit(box, mask) for row, mask in enumerate(masks)}
    reaching = [row for row, mask in enumerate(masks) if reaches_least_iou(box, mask)]
    if points:
        mostly = [row for row in usable if 2 * (masks[row] & filled).sum() > masks[row].sum()]
        dense = scores_for_size(masks)
        value = {row: dense[row] * to_five_digits(fits[row]) for row in usable}
        allowed = [row for row in usable if row in reaching or row in mostly]
        groups = [meant_by(point, masks, allowed) for point in points]
        chosen = []
        for group in groups:
            row = best(group, fits) if group else None
            tight = row is not None and 2 * (masks[row] & filled).sum() >= (masks[row] | filled).sum()
            chosen.append([row] if tight else sorted(group, key=lambda row: (-value[row], row))[:1])
    else:
        left = [row for row in reaching if row in usable]
        chosen = [[best(left, fits)] if left else []]
        if reaching and not left:
            row = best(reaching, fits)
            x1, y1, x2, y2 = box
            theirs = [point for point in clicks["background"] if held(masks[row], point)]
            cut = nearer(masks[row], [((x1 + x2) / 2, (y1 + y2) / 2)], theirs) & filled
            if cut.any():
                return cut
    if all(chosen):
        return np.any([masks[row] for (row,) in chosen], axis=0)
    itself = filled & ~erased  # the boxes here lie at whole cells
    if itself.any() and all(held(itself, point) for point in points):
        return itself
    if not points:
        return None
    parts = [masks[row] for rows in chosen for row in rows]
    for point, rows in zip(points, chosen, strict=True):
        others = [row for row in range(len(masks)) if row not in usable and held(masks[row], point)]
        if not rows and others:
            cut = cut_half_way(masks[things_in_order(masks, others)[0]], clicks["foreground"], clicks["background"])
            parts += [cut & filled] if held(cut, point) else []
    return np.any(parts, axis=0) if parts else None


@given(SEEDS)
@settings(max_examples=200)
def test_boxes_and_points_are_places_that_are_merged(seed: int) -> None:
    height, masks = random_masks(seed)
    masks = [mask for mask in masks if mask.any()]
    boxes = [tuple(side // 4 * 4 for side in box) for box in random_boxes(seed, height, 1, 3)]
    boxes = [(x1, y1, max(x2, x1 + 4), max(y2, y1 + 4)) for x1, y1, x2, y2 in boxes]
    foreground, background = random_points(seed, height, 0, 2), random_points(seed + 1, height, 0, 1)
    usable = [row for row, mask in enumerate(masks) if not any(held(mask, point) for point in background)]
    erased = np.any([np.zeros((height, WIDTH), np.bool_), *(m for r, m in enumerate(masks) if r not in usable)], axis=0)
    for x, y in background:
        erased[int(y) // 4 * 4 : int(y) // 4 * 4 + 4, int(x) // 4 * 4 : int(x) // 4 * 4 + 4] = True
    points = {"foreground": foreground, "background": background}
    parts = [
        of_box(box, [one for one in foreground if inside(one, box)], masks, usable, erased, points) for box in boxes
    ]
    alone = [point for point in foreground if not any(inside(point, box) for box in boxes)]
    groups = {point: meant_by(point, masks, usable) for point in alone}
    picked = {point: things_in_order(masks, rows)[0] for point, rows in groups.items() if rows}
    parts += [masks[row] for row in needed_rows(masks, picked, alone)]
    parts += cut_for_clicks(masks, usable, alone, lambda rows: things_in_order(masks, rows), **points).values()
    expected = [part for part in parts if part is not None]

    prompt = Prompts(boxes, tuple(foreground), tuple(background))  # type: ignore[arg-type]
    choice = choose_together(prompt, segmented(height, masks), box_min_iou=MIN_IOU)

    if not expected:
        assert choice.kind == "none"
        return
    np.testing.assert_array_equal(in_pixels(choice, height), np.any(expected, axis=0))
    assert not set(choice.others) & set(choice.rows)
    assert set(choice.others) <= set(usable)


def test_a_background_point_cuts_what_a_point_in_a_box_means() -> None:
    """Jars that are one mask: the box is drawn around the left one, and with a click in it nothing was selected."""
    scene = segmented(64, [rectangle(64, (0, 24, 64, 40))])
    prompt = Prompts(((0, 20, 24, 36),), ((8, 32),), ((56, 32),))  # type: ignore[arg-type]
    choice = choose_together(prompt, scene, box_min_iou=MIN_IOU)
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (0, 24, 24, 36)))
    assert (choice.rows, choice.box_xyxy, choice.rule) == ((), (0, 24, 24, 36), "box+point+background/thing")
    assert choice.reason == (
        "the best under (8, 32) in the box, cut half way to the background points, which lie on all masks there (0.90)"
        "; background points rule out 1 mask"
    )


def test_a_box_with_a_point_on_nothing_is_the_mask_and_names_that_point() -> None:
    """It was said that no mask lies under its points, which was so of one of them. Cut, each stands for itself."""
    thing, cut = rectangle(64, (8, 8, 24, 24)), rectangle(64, (32, 8, 64, 24))
    corners, on_thing, on_nothing, on_cut = (0, 0, 60, 60), (16, 16), (20, 48), (36, 16)

    def chosen(*points: tuple[int, int], background: Sequence[tuple[int, int]] = ()) -> Choice:
        prompt = Prompts((corners,), points, background)  # type: ignore[arg-type]
        return choose_together(prompt, segmented(64, [thing, cut]), box_min_iou=MIN_IOU)

    itself = chosen(on_thing, on_nothing)
    np.testing.assert_array_equal(in_pixels(itself, 64), rectangle(64, corners))
    assert itself.reason == ("the box itself, as no usable mask under (20, 48) reaches IoU 0.1 or lies mostly inside")
    assert itself.others == (1, 0), "IoU 0.12 and 0.07 with the box"
    assert "under (20, 48) or (28, 40) reaches" in chosen(on_nothing, on_thing, (28, 40)).reason
    excluded = chosen(on_nothing, background=[(56, 16)])
    np.testing.assert_array_equal(in_pixels(excluded, 64), rectangle(64, corners) & ~cut)
    assert excluded.reason.startswith("the box itself, less what background points exclude, as no usable mask under")
    both = chosen(on_thing, on_cut, background=[(52, 16)])
    np.testing.assert_array_equal(in_pixels(both, 64), thing | rectangle(64, (32, 8, 44, 24)))
    assert (both.rows, both.rule) == ((0,), "box+point+background/iou")
    left = choose_together(
        Prompts(((36, 8, 60, 24),), ((38, 16), (50, 20)), ((38, 17), (50, 21))),  # type: ignore[arg-type]
        segmented(64, [thing, cut]),
        box_min_iou=MIN_IOU,
    )
    assert (left.kind, left.others) == ("none", (0,))
    assert left.reason == "the background points leave nothing of the box; background points rule out 1 mask"


@pytest.mark.parametrize("further", ["in no box", "in a box elsewhere"])
def test_masks_are_measured_as_often_for_many_clicks_as_for_two(further: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each click compared all masks with all: of 100 masks on a grid of 1024 x 1024 cells 100 clicks took minutes."""
    measured: list[int] = []

    def counting(segmentation: Segmentation, rows: RowNumbers) -> FloatArray:
        measured.append(len(rows))
        return covered_by_parts(segmentation, rows)

    def measurements(points: int) -> int:
        measured.clear()
        places = [(4.0 + 56 * number / points, 20.0) for number in range(points)]
        if further == "in no box":
            assert choose(Points(places), scene, box_min_iou=MIN_IOU).kind == "region"
        else:
            prompt = Prompts(((0, 48, 8, 56),), places)  # type: ignore[arg-type]
            assert choose_together(prompt, scene, box_min_iou=MIN_IOU).kind == "region"
        return len(measured)

    monkeypatch.setattr("searchanything.prompts.choose.covered_by_parts", counting)
    scene = segmented(64, [rectangle(64, (0, 0, 64, 40)), rectangle(64, (0, 0, 32, 40)), rectangle(64, (0, 48, 8, 56))])
    assert measurements(40) == measurements(2) > 0


def test_a_box_whose_middle_is_background_is_its_own_mask() -> None:
    """Nothing of the only mask is nearer to the middle; what is left is the box around it."""
    shelf = rectangle(64, (16, 16, 48, 48))
    prompt = Prompts(((8, 8, 56, 56),), (), ((33, 33),))  # type: ignore[arg-type]
    choice = choose_together(prompt, segmented(64, [shelf]), box_min_iou=MIN_IOU)
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (8, 8, 56, 56)) & ~shelf)
    assert choice.rule == "box+background/itself"
    assert choice.reason == (
        "the box itself, less what background points exclude, as no usable mask reaches IoU 0.1; "
        "background points rule out 1 mask"
    )


@given(SEEDS)
@settings(max_examples=200)
def test_a_text_chooses_among_what_the_places_leave(seed: int) -> None:
    height, masks = random_masks(seed)
    masks = [mask for mask in masks if mask.any()]
    boxes = random_boxes(seed, height, 0, 2)
    foreground, background = random_points(seed, height, 0, 2), random_points(seed + 1, height, 0, 1)
    cosines = random_cosines(seed, len(masks))
    figures = dict(enumerate(cosines.tolist()))
    usable = [row for row, mask in enumerate(masks) if not any(held(mask, point) for point in background)]
    groups = []
    for box in boxes:
        mostly = [row for row in usable if (masks[row] & rectangle(height, box)).sum() > 0.5 * masks[row].sum()]
        own = [point for point in foreground if inside(point, box)]
        groups += [meant_by(point, masks, mostly) for point in own] or [mostly]
    for point in foreground:
        if not any(inside(point, box) for box in boxes):
            groups.append(meant_by(point, masks, usable))
    groups = groups if boxes or foreground else [usable]
    chosen = sorted({best(group, figures) for group in groups if group})

    prompt = Prompts(boxes, tuple(foreground), tuple(background), "thing")  # type: ignore[arg-type]
    choice = choose_together(prompt, segmented(height, masks), box_min_iou=MIN_IOU, similarities=cosines)

    assert list(choice.rows) == chosen
    assert choice.rule.endswith("/cosine")
    if chosen:
        np.testing.assert_array_equal(in_pixels(choice, height), np.any([masks[row] for row in chosen], axis=0))
        assert choice.score == pytest.approx(min(figures[row] for row in chosen))
    else:
        assert choice.kind == "none"
        assert choice.others == tuple(sorted(usable, key=lambda row: -figures[row])[:RUNNERS_UP])


@given(SEEDS)
@settings(max_examples=100)
def test_one_kind_alone_means_what_it_means_alone(seed: int) -> None:
    height, masks = random_masks(seed)
    scene = segmented(height, [mask for mask in masks if mask.any()])
    (box,) = random_boxes(seed, height, 1, 1)
    foreground, background = random_points(seed, height, 1, 2), random_points(seed + 1, height, 0, 1)
    pairs: list[tuple[Box | Points, Prompts]] = [
        (Box(*box), Prompts((Box(*box),))),
        (Points(tuple(foreground), tuple(background)), Prompts((), tuple(foreground), tuple(background))),
    ]
    for alone, together in pairs:
        assert together.simplest() == alone
        one, other = choose(alone, scene, box_min_iou=MIN_IOU), choose_together(together, scene, box_min_iou=MIN_IOU)
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.kind, one.rows) == (other.kind, other.rows)
        assert one.kind == "region" or one.others == other.others


@given(SEEDS)
@settings(max_examples=100)
def test_nothing_that_is_selected_holds_a_background_point_and_order_means_nothing(seed: int) -> None:
    height, masks = random_masks(seed)
    scene = segmented(height, masks)
    boxes = random_boxes(seed, height, 1, 3)
    foreground, background = random_points(seed, height, 0, 3), random_points(seed + 1, height, 1, 2)
    prompt = Prompts(boxes, tuple(foreground), tuple(background))  # type: ignore[arg-type]
    backwards = Prompts(boxes[::-1], tuple(foreground[::-1]), tuple(background[::-1]))  # type: ignore[arg-type]
    choice, other = (choose_together(one, scene, box_min_iou=MIN_IOU) for one in (prompt, backwards))
    pixels = in_pixels(choice, height)
    assert not any(held(pixels, point) for point in background)
    np.testing.assert_array_equal(pixels, in_pixels(other, height))
    assert choice.mask.any() == (choice.kind == "region")
    selection = selection_of_choice(choice, scene)
    assert decode_rle(selection.mask).any() == (choice.kind == "region") or selection.area_px < 64
    if choice.kind == "region":
        x1, y1, x2, y2 = choice.box_xyxy
        ys, xs = np.nonzero(pixels)
        assert x1 - 4 < xs.min()
        assert y1 - 4 < ys.min()
        assert xs.max() < x2 + 4
        assert ys.max() < y2 + 4


def scene_of_a_rider() -> tuple[dict[str, int], list[Pixels]]:
    rider, horse = rectangle(64, (20, 4, 36, 32)), rectangle(64, (8, 28, 56, 60))
    return {"horse": 0, "rider": 1, "both": 2}, [horse, rider, rider | horse]


def together(masks: list[Pixels], cosines: FloatArray | None = None, **prompt: object) -> Choice:
    return choose_together(
        Prompts(**prompt),  # type: ignore[arg-type]
        segmented(64, masks),
        box_min_iou=MIN_IOU,
        similarities=cosines,
    )


def test_points_refine_a_box_as_people_expect() -> None:
    rows, masks = scene_of_a_rider()
    around = (8, 4, 56, 60)
    assert together(masks, boxes=around, foreground=(24, 8)).rows == (rows["both"],)
    assert together(masks, boxes=around, background=(50, 50)).rows == (rows["rider"],)
    assert together(masks, boxes=around, background=(24, 8)).rows == (rows["horse"],)
    assert together(masks, boxes=around, foreground=(24, 8), background=(50, 50)).rows == (rows["rider"],)
    assert together(masks, boxes=[(8, 28, 56, 60), (20, 4, 36, 32)]).rows == (rows["horse"], rows["rider"])


def test_two_wheels_without_a_bicycle() -> None:
    wheels = [rectangle(64, (4, 32, 24, 52)), rectangle(64, (40, 32, 60, 52))]
    choice = together(wheels, boxes=(0, 16, 64, 56), foreground=((10, 40), (50, 40)))
    assert choice.rows == (0, 1)
    assert choice.rule == "box+point/iou"


def test_a_point_chooses_in_a_loose_box_too() -> None:
    apple, tree, street = rectangle(64, (8, 8, 16, 16)), rectangle(64, (6, 4, 18, 24)), rectangle(64, (0, 8, 64, 64))
    loose = (0, 0, 56, 60)
    choice = together([apple, tree], boxes=loose, foreground=(12, 12))
    assert (choice.rows, choice.rule) == ((0,), "box+point/iou")
    assert choice.reason == "the best of 2 under (12, 12) in the box, by score for its size and fit (0.00)"
    assert together([apple, tree], boxes=loose, foreground=(12, 20)).rows == (1,)
    assert together([apple], boxes=loose).rule == "box/itself"
    at_its_corner = together([apple, rectangle(64, (20, 20, 40, 40))], boxes=(8, 8, 42, 42), foreground=(8, 8))
    assert at_its_corner.rows == (0,)
    left = together([apple, tree], boxes=loose, foreground=(40, 40))
    assert left.rule == "box+point/itself"
    assert "no usable mask under (40, 40) reaches IoU" in left.reason
    outside = together([street], boxes=(10, 10, 14, 14), foreground=(12, 12))  # only a corner of it is in the box
    assert (outside.rule, outside.box_xyxy) == ("box+point/itself", (10, 10, 14, 14))  # its own sides, not the cells'


def test_a_box_that_nothing_fits_is_itself_less_what_the_background_excludes() -> None:
    street = rectangle(64, (0, 40, 64, 64))
    choice = together([street], boxes=[(20, 20, 44, 48), (0, 0, 8, 8)], background=(4, 60))
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (20, 20, 44, 40)) | rectangle(64, (0, 0, 8, 8)))
    assert (choice.rule, choice.score, choice.rows) == ("box+background/itself", 0.0, ())
    assert choice.box_xyxy == (0, 0, 44, 40), "around what is left of both"
    assert "box 1 itself, less what background points exclude" in choice.reason
    nothing = together([street], boxes=(20, 44, 28, 52), background=(4, 60))
    assert (nothing.kind, nothing.reason) == (
        "none",
        "the background points leave nothing of the box; background points rule out 1 mask",
    )


def test_a_background_point_cuts_the_only_mask_that_a_box_fits() -> None:
    """Jars that are one mask: nothing was left of a box around the left two, as the whole mask was taken out of it."""
    jars, lid = rectangle(64, (0, 24, 64, 40)), rectangle(64, (0, 24, 4, 28))
    choice = together([jars, lid], boxes=(0, 20, 32, 44), background=(28, 32))
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (0, 24, 24, 40)))
    assert (choice.rows, choice.others, choice.rule) == ((), (1,), "box+background/iou")
    assert choice.reason == (
        "the best in the box, by fit (0.00), cut half way to the background points, which lie on all masks there; "
        "background points rule out 1 mask"
    )
    beside = together([jars], boxes=(0, 20, 32, 44), background=(60, 32))
    np.testing.assert_array_equal(in_pixels(beside, 64), rectangle(64, (0, 24, 32, 40)))
    wider = together([jars], boxes=(0, 20, 40, 44), background=(36, 32))
    fits = (
        640 / (960 + 1024 - 640) * 640 / 1024 * np.exp(-4 * 0.6**2)
    )  # IoU, share in the box, 12 of 20 px from its middle
    assert wider.score == pytest.approx(fits, rel=1e-4)
    assert "by fit (0.07), cut half way" in wider.reason
    in_its_middle = together([jars], boxes=(0, 20, 32, 44), background=(16, 32))
    assert not in_pixels(in_its_middle, 64)[24:40].any()


def test_a_click_in_a_loose_box_means_no_less_than_the_click_alone() -> None:
    """A box of 25 times the thing's size fits the wall behind it better, which reaches out of it."""
    thing, wall = rectangle(64, (28, 28, 36, 36)), rectangle(64, (0, 8, 64, 64))
    scene = [wall, thing]
    for reach in range(4, 20, 4):
        around = (28 - reach, 28 - reach, 36 + reach, 36 + reach)
        assert together(scene, boxes=around, foreground=(30, 30)).rows == (1,), reach
    assert together(scene, boxes=(0, 8, 64, 64), foreground=(30, 30)).rows == (0,), "a box of the wall's size means it"


@given(SEEDS)
@settings(max_examples=200)
def test_a_box_around_what_a_click_selects_changes_nothing_where_things_lie_apart(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = [(x, y) for x in (0, 24, 44) for y in (0, 24, 44)]
    sizes = generator.integers(1, 5, (9, 2)) * 4
    masks = [rectangle(64, (x, y, x + int(w), y + int(h))) for (x, y), (w, h) in zip(corners, sizes, strict=True)]
    row = int(generator.integers(9))
    x, y = corners[row]
    x2, y2 = x + int(sizes[row, 0]), y + int(sizes[row, 1])
    around = (
        int(generator.integers(0, x + 1)),
        int(generator.integers(0, y + 1)),
        int(generator.integers(x2, 65)),
        int(generator.integers(y2, 65)),
    )
    assert together(masks, boxes=around, foreground=(x + 2, y + 2)).rows == (row,)


def test_a_click_in_a_tight_box_that_leaves_out_a_part_means_what_the_box_does() -> None:
    """The shirt has the higher score for its size; the box around most of the person says how large the thing is."""
    person, shirt = rectangle(64, (16, 4, 48, 60)), rectangle(64, (20, 20, 44, 40))
    choice = together([person, shirt], boxes=(16, 4, 48, 44), foreground=(30, 30))
    assert (choice.rows, choice.others) == ((0,), (1,))
    assert choice.reason == "the best of 2 under (30, 30) in the box, by fit (0.27)"
    assert together([person, shirt], boxes=(20, 18, 44, 42), foreground=(30, 30)).rows == (1,)


def test_a_box_is_tight_from_an_iou_of_one_half_on() -> None:
    """A logo weighs more by its size than the thing that it is on; a box says the thing if that fills half of it."""
    logo, thing = rectangle(64, (12, 12, 20, 20)), rectangle(64, (0, 4, 32, 20))
    for cut_off, row in ((0, 1), (8, 0)):  # 16/32 and 15/32 of the box are left
        left = thing & ~rectangle(64, (0, 4, cut_off, 8))
        choice = together([logo, left], boxes=(0, 0, 32, 32), foreground=(14, 14))
        assert (choice.rows, choice.others) == ((row,), (1 - row,))


def test_a_click_at_the_edge_of_a_box_that_nothing_fits_selects_the_box() -> None:
    """The box fills a quarter of the click's cell, so that its mask leaves the cell out: nothing was selected."""
    choice = together([], boxes=(0, 0, 13, 13), foreground=(12.5, 5))
    np.testing.assert_array_equal(in_pixels(choice, 64), rectangle(64, (0, 0, 12, 12)))
    assert choice.rule == "box+point/itself"
    assert together([], boxes=(3.5, 3.5, 4.5, 4.5), foreground=(3.6, 3.6)).box_xyxy == (3.5, 3.5, 4.5, 4.5)
    beside = together([], boxes=(0, 0, 13, 13), foreground=(12.5, 5), background=(40, 40))
    assert beside.rule == "box+point+background/itself"
    on_it = together([], boxes=(0, 0, 13, 13), foreground=(12.5, 5), background=(13, 5))
    assert (on_it.kind, on_it.rule) == ("none", "box+point+background/iou"), "both lie in one cell"


def test_a_text_without_a_region_at_its_places_offers_the_closest_elsewhere() -> None:
    _, masks = scene_of_a_rider()
    cosines = np.array([0.1, 0.3, 0.2], dtype=np.float32)
    choice = together(masks, cosines, boxes=(0, 60, 8, 64), text="horse")
    assert (choice.kind, choice.rule, choice.others) == ("none", "box+text/cosine", (1, 2, 0))
    assert choice.reason == "no mask in the box, by cosine to 'horse'"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({"boxes": (0, 0, 32, 32)}, ((1,), (3, 5, 7, 9, 11))),
        ({"boxes": (4, 4, 28, 28), "foreground": (8, 8)}, ((1,), (3, 5, 7, 9, 11))),
        ({"boxes": (0, 0, 32, 32), "text": "cup"}, ((1,), (3, 5, 7, 9, 11))),
        ({"boxes": (24, 24, 64, 64)}, ((), (1, 3, 5, 7, 9))),
        ({"boxes": (40, 40, 60, 60), "text": "cup"}, ((), (1, 3, 5, 7, 9))),
        ({"boxes": (40, 40, 60, 60)}, ((), ())),
    ],
    ids=["box", "point in a box", "text", "box itself", "text elsewhere", "far away"],
)
def test_of_equal_masks_the_surest_comes_first_and_five_others_are_offered(
    prompt: dict[str, object], expected: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    """Every second one of forty is the better one. What does not touch a box is not offered for it."""
    masks = [rectangle(64, (4, 4, 24, 24)), rectangle(64, (4, 4, 28, 28))] * 20
    cosines = np.tile(np.array([0.1, 0.2], dtype=np.float32), 20) if "text" in prompt else None
    choice = together(masks, cosines, **prompt)
    assert (choice.rows, choice.others) == expected


def test_of_equal_masks_in_a_loose_box_a_point_means_the_surest() -> None:
    """With one score for all: else each would weigh less than the one before it."""
    masks = [rectangle(64, (4, 4, 20, 20)), rectangle(64, (4, 4, 28, 28))] * 20
    segmentation = replace(segmented(64, masks), scores=np.full(40, 0.5, dtype=np.float32))
    choice = choose_together(Prompts(boxes=(0, 0, 64, 64), foreground=(8, 8)), segmentation, box_min_iou=MIN_IOU)
    assert (choice.rows, choice.others) == ((1,), (3, 5, 7, 9, 11))


def test_a_mask_without_a_cell_is_never_chosen() -> None:
    masks = [rectangle(64, corners) for corners in ((0, 0, 0, 0), (4, 4, 28, 28), (36, 4, 60, 28))]
    choice = together(masks, np.array([0.9, 0.1, 0.5], dtype=np.float32), text="cup", background=(60, 60))
    assert (choice.rows, choice.others, choice.rule) == ((2,), (1,), "background+text/cosine")


def test_a_point_on_a_box_s_right_or_lower_edge_is_a_place_of_its_own() -> None:
    """Pixel 27 is the last one in a box that ends at 28."""
    left = rectangle(64, (4, 4, 28, 28))
    for beside, point in (((28, 4, 40, 28), (28, 8)), ((4, 28, 28, 40), (8, 28))):
        choice = together([left, rectangle(64, beside)], boxes=(4, 4, 28, 28), foreground=point)
        assert choice.rows == (0, 1)
        assert choice.reason.startswith("the best of 1 in the box, by fit (1.00); the best of 1 under")
    assert together([left], boxes=(4, 4, 28, 28), foreground=(4, 4)).reason.startswith("the best of 1 under (4, 4) in")


def test_a_point_that_background_leaves_nothing_of_costs_the_others_in_its_box_nothing() -> None:
    masks = [rectangle(64, corners) for corners in ((4, 4, 28, 28), (36, 4, 60, 28))]
    choice = together(masks, boxes=(0, 0, 64, 32), foreground=[(8, 8), (56, 8)], background=(57, 9))
    assert (choice.kind, choice.rows) == ("region", (0,))
    assert "; no mask under (56, 8) in the box; " in choice.reason


def test_a_box_that_background_leaves_nothing_of_offers_what_lies_in_it() -> None:
    """Not the mask nearest to the point, which lies beside the box."""
    masks = [rectangle(64, corners) for corners in ((36, 32, 64, 48), (4, 4, 28, 28))]
    choice = together(masks, boxes=(0, 0, 34, 40), foreground=(30, 36), background=(29, 37))
    assert (choice.kind, choice.others) == ("none", (1,))


def test_points_and_background_say_what_became_of_each_point() -> None:
    whole, part, rest = (rectangle(64, one) for one in ((4, 4, 28, 28), (4, 4, 12, 28), (20, 12, 60, 60)))
    cut = together([whole, part, rest], foreground=(20, 8), background=(8, 20))
    assert (cut.rule, cut.rows, cut.others) == ("point+background/thing", (), (2,))
    assert cut.score == pytest.approx(0.9)
    assert cut.reason == (
        "the best under (20, 8), cut half way to the background points, which lie on all masks there (0.90); "
        "background points rule out 2 masks"
    )
    both = together([part, whole], foreground=[(8, 8), (20, 20)], background=(60, 60))
    assert (both.rule, both.rows) == ("point+background/thing", (1,))
    assert both.reason.startswith(
        "(8, 8) lies under or beside what another point selects; the best of 1 under (20, 20)"
    )
    missed = together([whole], foreground=[(8, 8), (50, 50)], background=(60, 60))
    assert missed.rows == (0,)
    assert "; no mask under (50, 50), by score for its size; " in missed.reason


@pytest.mark.parametrize(
    "prompt",
    [
        {"boxes": [(0, 0, 9, 9), (70, 0, 80, 9)]},
        {"boxes": (0, 0, 9, 9), "foreground": (70, 5)},
        {"boxes": (0, 0, 9, 9), "background": (5, 70)},
        {"boxes": (0, 0, 9, 9), "foreground": [(4, 4), (-3, 5)]},
        {"foreground": (4, 4), "background": [(40, 40), (64, 5)]},
    ],
)
def test_what_lies_outside_the_image_is_refused(prompt: dict[str, object]) -> None:
    with pytest.raises(PromptError, match="outside the image of 64 x 64 pixels"):
        together([rectangle(64, (0, 0, 8, 8))], **prompt)


def test_what_is_offered_for_a_point_on_nothing_is_ordered_by_the_distance_of_the_boxes() -> None:
    """12 px below, 14 to the left, 16 to the right, 12 right and 12 below (17), and 24 above."""
    corners = [(44, 44, 60, 60), (28, 0, 36, 8), (48, 28, 60, 36), (0, 28, 18, 36), (28, 44, 36, 60)]
    choice = choose(Points((32, 32)), segmented(64, [rectangle(64, one) for one in corners]), box_min_iou=MIN_IOU)
    assert (choice.kind, choice.others) == ("none", (4, 3, 2, 0, 1))
