"""Clicks on annotated instances, by rule: a person whose mask is the surest, made of a shirt and jeans."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.segmentations import rectangle, segmented

from searchanything.core.geometry import encode_rle, innermost_point
from searchanything.core.protocols import Segmentation
from searchanything.evaluation.clicking import CLICKS, Clicks, click
from searchanything.evaluation.overlaps import MIN_IOU, paired, region_ious
from searchanything.evaluation.truth import Instance, TrueImage
from searchanything.prompts.choose import choose_by_points
from searchanything.prompts.prompt import Points

SIDE = 64
PERSON, SHIRT, JEANS, BAG = (8, 0, 56, 64), (8, 0, 56, 28), (8, 36, 56, 64), (0, 0, 4, 4)
SCENE = segmented(SIDE, [rectangle(SIDE, box) for box in (PERSON, SHIRT, JEANS)])  # surest first


def instance(name: str, box: tuple[int, int, int, int], *, crowd: bool = False) -> Instance:
    mask = rectangle(SIDE, box)
    return Instance(name, tuple(map(float, box)), float(mask.sum()), encode_rle(mask), crowd=crowd)


def clicked(scene: Segmentation, *things: Instance) -> Clicks:
    truth = TrueImage("a.png", SIDE, SIDE, things)
    on = region_ious(scene.letterbox, scene.masks, truth) >= MIN_IOU
    return click(scene, truth, np.vstack([on, np.zeros((1, len(things)), np.bool_)]))


@pytest.mark.parametrize("count", [0, 1, 16, 20, 33])
def test_overlaps_are_those_of_pixels(count: int) -> None:
    rng = np.random.default_rng(count)
    masks = [rng.random((SIDE, SIDE)) < 0.5 for _ in range(count)]
    things = (instance("shirt", SHIRT), instance("jeans", JEANS, crowd=True), instance("bag", BAG))
    void = rng.random((SIDE, SIDE)) < 0.3
    scene = segmented(SIDE, [rectangle(SIDE, BAG)])
    stacked = np.array(masks, dtype=np.bool_).reshape(count, SIDE, SIDE)
    found = region_ious(scene.letterbox, stacked, TrueImage("a.png", SIDE, SIDE, things, encode_rle(void)))
    assert found.shape == (count, 3)
    for row, mask in enumerate(masks):
        seen = scene.letterbox.image_masks(mask[None])[0] & ~void
        for column, box in enumerate((SHIRT, JEANS, BAG)):
            true = rectangle(SIDE, box).astype(np.bool_)
            of = seen.sum() if things[column].crowd else (seen | true).sum()
            assert found[row, column] == pytest.approx((seen & true).sum() / of)
    assert region_ious(scene.letterbox, stacked, TrueImage("a.png", SIDE, SIDE, ())).shape == (count, 0)


def test_pairing_leaves_the_overlaps_as_they_are() -> None:
    ious = np.random.default_rng(1).random((4, 3))
    before = ious.copy()
    found = paired(ious)
    np.testing.assert_array_equal(ious, before)
    assert len(set(found)) == 3
    assert all(found[column] in ious[:, column] for column in range(3))
    assert found.max() == ious.max()


def test_each_rule_says_what_it_selects() -> None:
    things = (
        instance("jeans", JEANS),
        instance("person", PERSON),
        instance("bag", BAG),
        instance("all", JEANS, crowd=True),
    )
    found = clicked(SCENE, *things)
    assert set(found) == set(CLICKS)
    wanted = {  # jeans, the person (whose innermost pixel lies on the shirt), a bag that no mask shows
        "default": [1, 0, 0],
        "surest": [0, 1, 0],
        "smallest": [1, 0, 0],
        "middle": [0, 1, 0],  # of two masks the larger
        "largest": [0, 1, 0],
        "fastsam": [0, 1, 0],
        "second": [1, 1, 0],
    }
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], [*values, np.nan], name)
    assert found["steady"][0] == 1.0
    assert np.isnan(found["steady"][3])


@pytest.mark.parametrize("gap", [0, 12], ids=["another thing begins there", "nothing is there"])
def test_a_click_beside_an_edge_is_less_steady_only_where_another_thing_begins(gap: int) -> None:
    left, right = rectangle(SIDE, (0, 0, 32, 64)), rectangle(SIDE, (32 + gap, 0, 64, 64))
    scene = segmented(SIDE, [left, right])
    thin = (32 - 4, 24, 32 + 4, 40)  # its innermost pixel lies on the border of both, 4 px to each side
    found = clicked(scene, instance("seam", thin))
    # It is pixel (31, 27). On the instance are (31, 31), (35, 27) and (35, 31), of which the first lies on the left.
    assert found["steady"][0] == pytest.approx(1.0 if gap else 1 / 3)


@pytest.mark.parametrize("across", [False, True], ids=["left and right", "top and bottom"])
def test_clicks_beside_the_image_are_none(across: bool) -> None:
    """Strips at opposite borders: what lies before the first pixel is not at the other end, nor behind the last one."""
    strips = [rectangle(SIDE, box) for box in ((0, 0, 3, 64), (61, 0, 64, 64))]
    first, last = (mask.T.copy() for mask in strips) if across else strips
    for mask in (first | last, last):
        thing = Instance("strips", (0.0, 0.0, 64.0, 64.0), float(mask.sum()), encode_rle(mask))
        assert clicked(segmented(SIDE, [first, last]), thing)["steady"].tolist() == [1.0]


def test_the_second_is_the_first_runner_up_of_several() -> None:
    boxes = [(4, 4, 60, 60), (14, 14, 50, 50), (24, 24, 40, 40)]  # of no two of them the IoU is 0.5
    scene = segmented(SIDE, [rectangle(SIDE, box) for box in boxes])
    found = clicked(scene, *(instance("ring", box) for box in boxes))
    choice = choose_by_points(Points((innermost_point(rectangle(SIDE, boxes[0])),)), scene)
    assert len(choice.others) == 2
    assert found["default"].tolist() == [float(row == choice.rows[0]) for row in range(3)]
    assert found["second"].tolist() == [float(row in (choice.rows[0], choice.others[0])) for row in range(3)]


def test_a_mask_that_a_click_misses_is_a_runner_up_at_most() -> None:
    """A frame around the clicked pixel: IoU 0.75 with the whole square."""
    frame = rectangle(SIDE, (8, 8, 56, 56)) & ~rectangle(SIDE, (20, 20, 44, 44))
    found = clicked(segmented(SIDE, [frame]), instance("square", (8, 8, 56, 56)))
    assert {name: found[name].tolist() for name in CLICKS if name != "steady"} == {
        name: [float(name == "second")] for name in CLICKS if name != "steady"
    }


def test_without_regions_or_instances() -> None:
    empty = segmented(SIDE, [])
    found = clicked(empty, instance("jeans", JEANS))
    assert [found[name].tolist() for name in CLICKS if name != "steady"] == [[0.0]] * (len(CLICKS) - 1)
    assert all(len(values) == 0 for values in clicked(SCENE).values())
