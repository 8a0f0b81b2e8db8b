"""`rule="fastsam"` against an independent statement of the rule that FastSAM published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fakes.segmentations import SEEDS, WIDTH, held, in_pixels, random_masks, random_points, rectangle, segmented
from hypothesis import given, settings
from numpy.typing import NDArray

from searchanything.prompts.choose import choose_by_points
from searchanything.prompts.prompt import Points


def published_fastsam(
    masks: Sequence[NDArray[np.bool_]], points: Sequence[tuple[float, float]], labels: Sequence[int], height: int
) -> NDArray[np.bool_]:
    """FastSAM's `point_prompt`: for each mask by falling area and each point on it, paint or erase the mask."""
    canvas = np.zeros((height, WIDTH), dtype=np.int64)
    for mask in sorted(masks, key=lambda one: int(one.sum()), reverse=True):
        for point, label in zip(points, labels, strict=True):
            if held(mask, point):
                canvas[mask] = label
    return canvas == 1


@given(SEEDS)
@settings(max_examples=250)
def test_fastsam_mode_is_the_published_rule(seed: int) -> None:
    for part in range(3):
        height, masks = random_masks(seed + part)
        foreground, background = random_points(seed, height, 1, 3), random_points(seed, height, 0, 3)
        labels = [1] * len(foreground) + [0] * len(background)
        expected = published_fastsam(masks, foreground + background, labels, height)
        prompt = Points(tuple(foreground), tuple(background), rule="fastsam")
        choice = choose_by_points(prompt, segmented(height, masks))
        np.testing.assert_array_equal(in_pixels(choice, height), expected)
        assert choice.kind == ("region" if expected.any() else "none")
        assert choice.rule == "points/fastsam"
        if expected.any():
            ys, xs = np.nonzero(expected)
            assert choice.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_fastsam_erases_pixels_where_our_rule_drops_masks() -> None:
    car, wheel = rectangle(64, (0, 16, 64, 56)), rectangle(64, (8, 40, 16, 60))
    scene = segmented(64, [car, wheel])
    below_the_car, on_both = (12, 58), (12, 44)
    erased = choose_by_points(Points((40, 30), background=below_the_car, rule="fastsam"), scene)
    np.testing.assert_array_equal(in_pixels(erased, 64), car & ~wheel)
    ours = choose_by_points(Points((40, 30), background=below_the_car), scene)
    np.testing.assert_array_equal(in_pixels(ours, 64), car)
    cut = in_pixels(choose_by_points(Points((40, 30), background=on_both), scene), 64)
    assert cut.any(), "no mask is left, so the car is cut"
    assert not (cut & wheel).any()
