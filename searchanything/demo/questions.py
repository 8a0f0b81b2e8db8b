"""Which questions the demo asks: the same objects by every kind of prompt, and whole images.

Targets are drawn evenly over the concepts, from objects whose concept two other images show as well. Nothing is chosen
by size, style or how well it is found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from searchanything.core.geometry import depths_inside, innermost_point
from searchanything.core.types import BoolMask
from searchanything.demo.judging import TrueObject, TrueScene, true_masks
from searchanything.prompts.prompt import Box, Mask, Point, Points, Prompt, Text, WholeImage

QuestionKind: TypeAlias = Literal["point", "points", "background", "box", "text", "mask", "image"]
KINDS: Final[tuple[QuestionKind, ...]] = get_args(QuestionKind)
MIN_OTHER_IMAGES: Final = 2  # that show the wanted concept


@dataclass(frozen=True, slots=True, eq=False)
class SceneQuestion:
    """One query of the demo. `target` is the number of the object that is meant; None for a whole image."""

    kind: QuestionKind
    scene: TrueScene
    target: int | None
    prompt: Prompt

    @property
    def wanted(self) -> TrueObject | None:
        """The object that is meant."""
        return None if self.target is None else self.scene.objects[self.target]


def pose_questions(scenes: Sequence[TrueScene], count: int, *, seed: int) -> list[SceneQuestion]:
    """`count` questions of every kind (fewer where the scenes hold too little), those about one image in a row."""
    rng = np.random.default_rng(seed)
    questions = [
        question for scene, target in _targets(scenes, count, rng) for question in _about_object(scene, target)
    ]
    questions += [SceneQuestion("image", scene, None, WholeImage()) for scene in _whole_images(scenes, count, rng)]
    return sorted(questions, key=lambda one: one.scene.key)


def images_like(scene: TrueScene, scenes: Sequence[TrueScene]) -> set[str]:
    """Keys of the other images that show the same photograph, cropped and covered in their own ways."""
    return {other.key for other in scenes if other.photograph == scene.photograph and other.key != scene.key}


def second_point(mask: BoolMask) -> Point:
    """The pixel farthest from the innermost one among those at least half as deep inside."""
    depths, (top, left) = depths_inside(mask)
    x, y = innermost_point(mask)
    rows, columns = np.nonzero(depths >= depths.max() / 2)
    xs, ys = columns + left + 0.5, rows + top + 0.5
    farthest = int(np.argmax((xs - x) ** 2 + (ys - y) ** 2))
    return float(xs[farthest]), float(ys[farthest])


def background_point(masks: Sequence[BoolMask], target: int) -> Point:
    """A point on what is not meant: the nearest other object's innermost pixel, else that of the free ground."""
    x, y = innermost_point(masks[target])
    others = [innermost_point(mask) for number, mask in enumerate(masks) if number != target]
    if not others:
        return innermost_point(~masks[target])
    return min(others, key=lambda point: (point[0] - x) ** 2 + (point[1] - y) ** 2)


def _targets(scenes: Sequence[TrueScene], count: int, rng: np.random.Generator) -> list[tuple[TrueScene, int]]:
    """Objects to ask for: round after round, one of each concept in random order."""
    by_concept: dict[str, list[tuple[TrueScene, int]]] = defaultdict(list)
    for scene in scenes:
        for number, one in enumerate(scene.objects):
            by_concept[one.concept].append((scene, number))
    piles = []
    for concept in sorted(by_concept):
        objects = by_concept[concept]
        if len({scene.key for scene, _ in objects}) > MIN_OTHER_IMAGES:
            piles.append([objects[place] for place in rng.permutation(len(objects))])
    rng.shuffle(piles)
    rounds = max((len(pile) for pile in piles), default=0)
    return [pile[turn] for turn in range(rounds) for pile in piles if turn < len(pile)][:count]


def _about_object(scene: TrueScene, target: int) -> list[SceneQuestion]:
    masks = true_masks(scene)
    wanted, mask = scene.objects[target], masks[target]
    point = innermost_point(mask)
    x1, y1, x2, y2 = wanted.box_xyxy
    prompts: dict[QuestionKind, Prompt] = {
        "point": Points((point,)),
        "points": Points((point, second_point(mask))),
        "background": Points((point,), background=(background_point(masks, target),)),
        "box": Box(x1, y1, x2, y2),
        "text": Text(wanted.concept.replace("-", " ")),
        "mask": Mask(mask),
    }
    return [SceneQuestion(kind, scene, target, prompt) for kind, prompt in prompts.items()]


def _whole_images(scenes: Sequence[TrueScene], count: int, rng: np.random.Generator) -> list[TrueScene]:
    answerable = [scene for scene in scenes if len(images_like(scene, scenes)) >= MIN_OTHER_IMAGES]
    return [answerable[place] for place in rng.permutation(len(answerable))[:count]]
