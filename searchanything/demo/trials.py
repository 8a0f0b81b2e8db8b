"""Asks the demo's questions through the public client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from searchanything.client.client import Client
from searchanything.core.types import Filter, Hit, ImageRef, Selection
from searchanything.demo.bucket import BUCKET
from searchanything.demo.examiner import Examiner
from searchanything.demo.judging import AMONG_FIRST, hit_among_first
from searchanything.demo.questions import SceneQuestion

ASKING_THREADS: Final = 2  # one query reads and searches while the other one's models run


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A question and its answer.

    `document` is the answer's JSON document; `right` says of each hit whether it is right, `selected` whether the
    prompt selected what was meant. `chance` is the probability that five regions (images) drawn blindly hold a right
    one.
    """

    question: SceneQuestion
    hits: tuple[Hit, ...]
    selection: Selection
    document: Mapping[str, Any]
    right: tuple[bool, ...]
    selected: bool
    chance: float

    @property
    def found(self) -> bool:
        """Whether a right hit is among the first five."""
        return hit_among_first(self.right)


def ask(
    client: Client, questions: Sequence[SceneQuestion], examiner: Examiner, *, done: Callable[[int, int], None]
) -> list[Trial]:
    """Ask every question about its image in the bucket, which is itself excluded. `done` is told how many are done."""

    def trial(question: SceneQuestion) -> Trial:
        image = ImageRef(BUCKET, question.scene.key)
        others = Filter(bucket=BUCKET, exclude=(image,))
        results = client.query(image, question.prompt, limit=AMONG_FIRST, filter=others)
        return Trial(
            question=question,
            hits=results.hits,
            selection=results.selection,
            document=results.to_dict(),
            right=examiner.right(question, results.hits),
            selected=examiner.selected(question, results.selection),
            chance=examiner.chance(question),
        )

    trials = []
    with ThreadPoolExecutor(ASKING_THREADS) as pool:
        for one in pool.map(trial, questions):
            trials.append(one)
            done(len(trials), len(questions))
    return trials
