"""The demo's judgements on cases worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from searchanything.core.geometry import encode_rle
from searchanything.core.types import BoolMask
from searchanything.demo.judging import (
    Share,
    TrueObject,
    TrueScene,
    chance_of_hit,
    hit_among_first,
    matched_object,
    object_ious,
    true_masks,
)


def rectangle(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = (20, 40)) -> BoolMask:
    mask = np.zeros(size, dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def thing(concept: str, box: tuple[int, int, int, int]) -> TrueObject:
    return TrueObject(
        concept, "style", zero_shot=False, box_xyxy=box, visible_fraction=1.0, mask=encode_rle(rectangle(*box))
    )


def scene_of(*objects: TrueObject, key: str = "scene.jpg") -> TrueScene:
    return TrueScene(key, width=40, height=20, photograph=0, objects=objects)


class TestObjectIous:
    def test_half_shifted_squares_share_a_third(self) -> None:
        # 10 x 10 each, 50 shared, 150 together; the other object lies apart
        scene = scene_of(thing("cat", (0, 0, 10, 10)), thing("dog", (30, 0, 40, 10)))
        region = encode_rle(rectangle(5, 0, 15, 10))
        assert object_ious(region, scene, true_masks(scene)) == pytest.approx([1 / 3, 0])

    def test_only_the_visible_pixels_count(self) -> None:
        # an L of 20 x 10 with a hole of 10 x 5: 150 px, all within the region's 200
        box = (0, 0, 20, 10)
        visible = rectangle(*box) & ~rectangle(10, 0, 20, 5)
        scene = scene_of(TrueObject("cat", "style", False, box, 0.75, encode_rle(visible)))
        assert object_ious(encode_rle(rectangle(*box)), scene, [visible]) == pytest.approx([0.75])

    def test_an_empty_region_covers_nothing(self) -> None:
        scene = scene_of(thing("cat", (0, 0, 10, 10)))
        assert object_ious(encode_rle(rectangle(0, 0, 0, 0)), scene, true_masks(scene)) == [0]


class TestMatchedObject:
    scene = scene_of(thing("cat", (0, 0, 10, 10)), thing("dog", (20, 0, 40, 20)))

    def match(self, mask: BoolMask) -> int | None:
        return matched_object(encode_rle(mask), self.scene, true_masks(self.scene))

    def test_a_region_belongs_to_the_object_it_covers(self) -> None:
        assert self.match(rectangle(0, 0, 10, 9)) == 0  # 90 of 100
        assert self.match(rectangle(22, 0, 40, 20)) == 1  # 360 of 400

    def test_half_is_enough(self) -> None:
        assert self.match(rectangle(0, 0, 5, 10)) == 0  # 50 of 100

    def test_less_than_half_is_not(self) -> None:
        assert self.match(rectangle(0, 0, 7, 7)) is None  # 49 of 100

    def test_a_region_much_larger_than_the_object_is_not_it(self) -> None:
        assert self.match(rectangle(0, 0, 20, 20)) is None  # 100 of 400

    def test_nothing_matches_in_a_scene_without_objects(self) -> None:
        assert matched_object(encode_rle(rectangle(0, 0, 5, 5)), scene_of(), []) is None

    def test_a_coarser_mask_is_compared_over_the_whole_image(self) -> None:
        coarse = rectangle(10, 0, 20, 10, size=(10, 20))  # the right half on a grid of half the resolution
        assert self.match(coarse) == 1


class TestHitAmongFirst:
    def test_the_sixth_does_not_count(self) -> None:
        assert not hit_among_first([False] * 5 + [True])

    def test_the_fifth_does(self) -> None:
        assert hit_among_first([False] * 4 + [True])

    def test_no_answers_are_no_hit(self) -> None:
        assert not hit_among_first([])


class TestChance:
    def test_it_is_what_counting_all_draws_gives(self) -> None:
        relevant, total, draws = 3, 9, 5
        hands = list(itertools.combinations(range(total), draws))
        hits = sum(any(card < relevant for card in hand) for hand in hands)
        assert chance_of_hit(relevant, total, draws) == pytest.approx(hits / len(hands))

    def test_one_draw_is_the_plain_share(self) -> None:
        assert chance_of_hit(7, 100, 1) == pytest.approx(0.07)

    def test_nothing_relevant_is_never_hit(self) -> None:
        assert chance_of_hit(0, 50) == 0.0

    def test_fewer_than_five_are_all_drawn(self) -> None:
        assert chance_of_hit(1, 3) == 1.0
        assert chance_of_hit(0, 0) == 0.0

    @pytest.mark.parametrize(("relevant", "total"), [(-1, 5), (6, 5)])
    def test_impossible_counts_are_refused(self, relevant: int, total: int) -> None:
        with pytest.raises(ValueError, match="relevant"):
            chance_of_hit(relevant, total)


class TestShare:
    def test_a_share_without_trials_has_no_value(self) -> None:
        assert Share.of([]).value is None
        assert Share.of([]).interval == (0.0, 1.0)

    def test_a_share_counts_what_came_true(self) -> None:
        share = Share.of([True, False, True, True])
        assert (share.right, share.count, share.value) == (3, 4, 0.75)
