"""Which questions the demo asks, and where it points."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from searchanything.core.geometry import encode_rle, innermost_point
from searchanything.core.types import BoolMask
from searchanything.demo.judging import TrueObject, TrueScene
from searchanything.demo.questions import (
    KINDS,
    background_point,
    images_like,
    pose_questions,
    second_point,
)
from searchanything.prompts.prompt import Box, Mask, Points, Text, WholeImage

SIZE = (30, 60)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> BoolMask:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def scene(key: str, *concepts: str, photograph: int = 0) -> TrueScene:
    """One square of 10 px per concept, side by side."""
    objects = []
    for place, concept in enumerate(concepts):
        x = 15 * place
        box = (x, 5, x + 10, 15)
        objects.append(TrueObject(concept, "style", False, box, 1.0, encode_rle(rectangle(*box))))
    return TrueScene(key, width=SIZE[1], height=SIZE[0], photograph=photograph, objects=tuple(objects))


SCENES = (
    scene("a", "hot-dog", "cat"),
    scene("b", "hot-dog", "cat"),
    scene("c", "hot-dog", "cat", "rare"),
    scene("d", "hot-dog", "dog"),
)


class TestPoints:
    def test_the_innermost_pixel_of_a_square_is_its_middle(self) -> None:
        assert innermost_point(rectangle(10, 5, 19, 14)) == (14.5, 9.5)

    def test_the_image_border_counts_as_a_border(self) -> None:
        x, y = innermost_point(rectangle(0, 0, 9, 9))
        assert (x, y) == (4.5, 4.5)

    def test_it_lies_on_the_mask_where_the_centre_of_the_box_does_not(self) -> None:
        ring = rectangle(5, 5, 25, 25) & ~rectangle(8, 8, 22, 22)
        x, y = innermost_point(ring)
        assert ring[int(y), int(x)]
        assert not ring[15, 15]

    def test_an_empty_mask_has_none(self) -> None:
        with pytest.raises(ValueError, match="at least one pixel"):
            innermost_point(rectangle(0, 0, 0, 0))

    def test_the_second_point_lies_well_inside_and_far_away(self) -> None:
        mask = rectangle(0, 10, 60, 19)  # 60 x 9: half as deep as the middle is 2.5 px from the border
        (x1, _), (x2, y2) = innermost_point(mask), second_point(mask)
        assert mask[int(y2), int(x2)]
        assert abs(x2 - x1) > 20
        assert min(x2, 60 - x2, y2 - 10, 19 - y2) >= 2

    def test_background_is_the_nearest_other_object(self) -> None:
        masks = [rectangle(0, 0, 9, 9), rectangle(50, 0, 59, 9), rectangle(12, 0, 21, 9)]
        assert background_point(masks, 0) == (16.5, 4.5)

    def test_background_is_free_ground_where_the_object_is_alone(self) -> None:
        mask = rectangle(0, 0, 40, 30)
        x, y = background_point([mask], 0)
        assert not mask[int(y), int(x)]


class TestPoseQuestions:
    def test_every_kind_is_asked_equally_often(self) -> None:
        counts = Counter(question.kind for question in pose_questions(SCENES, 2, seed=1))
        assert counts == dict.fromkeys(KINDS, 2)

    def test_only_concepts_that_two_other_images_show_are_asked_for(self) -> None:
        asked = {one.wanted.concept for one in pose_questions(SCENES, 99, seed=1) if one.wanted}
        assert asked == {"hot-dog", "cat"}

    def test_concepts_take_turns(self) -> None:
        asked = Counter(
            one.wanted.concept for one in pose_questions(SCENES, 6, seed=3) if one.kind == "box" and one.wanted
        )
        assert asked == {"hot-dog": 3, "cat": 3}

    def test_the_same_seed_asks_the_same(self) -> None:
        first, again = (
            [(one.kind, one.scene.key, one.target) for one in pose_questions(SCENES, 3, seed=5)] for _ in range(2)
        )
        assert first == again

    def test_each_kind_gets_its_prompt(self) -> None:
        prompts = {one.kind: one.prompt for one in pose_questions(SCENES[:3], 1, seed=0)}
        wanted = next(one for one in pose_questions(SCENES[:3], 1, seed=0) if one.kind == "box")
        assert wanted.wanted is not None
        assert prompts["box"] == Box(*wanted.wanted.box_xyxy)
        assert prompts["text"] == Text(wanted.wanted.concept.replace("-", " "))
        assert isinstance(prompts["mask"], Mask)
        assert prompts["mask"].mask.sum() == 100
        assert prompts["image"] == WholeImage()
        points = prompts["points"]
        assert isinstance(points, Points)
        assert len(points.foreground) == 2
        background = prompts["background"]
        assert isinstance(background, Points)
        assert len(background.background) == 1


def test_images_are_alike_that_show_one_photograph_and_never_like_themselves() -> None:
    scenes = [scene("a", "cat", photograph=1), scene("b", "cat", photograph=2), scene("c", "dog", photograph=1)]
    assert images_like(scenes[0], scenes) == {"c"}
