"""Which hits are right, and how many there are to find, against a statement with loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from searchanything.evaluation.evidence import Evidence, Instances, Rows
from searchanything.evaluation.relevance import Relevance

IMAGES, CATEGORIES, STYLES = 5, 12, ("flat", "noto", "open")  # more categories than images


def evidence(seed: int, *, rows: int = 60, instances: int = 40, matched: float = 0.4) -> Evidence:
    """Random rows and instances; some rows of an instance's image lie on it, by IoUs that are all different."""
    rng = np.random.default_rng(seed)
    row_image, image = np.sort(rng.integers(0, IMAGES, rows)), np.sort(rng.integers(0, IMAGES, instances))
    category = np.where(
        rng.random(instances) < 0.6, rng.integers(0, 3, instances), rng.integers(0, CATEGORIES, instances)
    )
    crowd = rng.random(instances) < 0.2
    category[-3:], crowd[-3:] = CATEGORIES - 1, [False, False, True]
    pairs = [
        (r, i) for r in range(rows) for i in range(instances) if row_image[r] == image[i] and rng.random() < matched
    ]
    ious = 500_000 + rng.permutation(500_000)[: len(pairs)]
    nothing = np.zeros(instances)
    return Evidence(
        Rows(row_image, np.ones(rows, bool), np.ones((rows, 1), bool), np.ones(rows, int), np.zeros((rows, 1)), {}, {}),
        Instances(
            *(image, category, crowd, nothing, nothing, nothing, np.zeros(instances, int), {}, {}),
            attributes={"style": rng.integers(0, len(STYLES), instances)},
            attribute_values={"style": STYLES},
        ),
        np.array([[*pair, iou] for pair, iou in zip(pairs, ious, strict=True)], dtype=np.int64).reshape(-1, 3).T,
        IMAGES,
        asked=(),
    )


class Loops:
    """The same answers, one query and one row at a time."""

    def __init__(self, of: Evidence, other: str | None) -> None:
        self.of, self.one = of, of.instances
        self.style = self.one.attributes["style"] if other else None

    def best(self, query: int, row: int, *, crowd: bool) -> int | None:
        """The instance of the query's category, or the crowd, on which the row lies best."""
        on = [
            (iou, place)
            for at, place, iou in self.of.matches.T.tolist()
            if at == row and self.one.crowd[place] == crowd and self.one.category[place] == self.one.category[query]
        ]
        return max(on)[1] if on else None

    def barred(self, query: int, row: int) -> bool:
        best = self.best(query, row, crowd=False)
        if self.of.rows.image[row] == self.one.image[query]:
            return True
        if best is None:
            return self.best(query, row, crowd=True) is not None
        return self.style is not None and self.style[best] == self.style[query]

    def possible(self, query: int, wanted: np.ndarray) -> int:
        return sum(
            bool(wanted[place])
            and not self.one.crowd[place]
            and self.one.category[place] == self.one.category[query]
            and self.one.image[place] != self.one.image[query]
            and (self.style is None or self.style[place] != self.style[query])
            for place in range(len(wanted))
        )

    def found(self, query: int, ranked: list[int]) -> list[int]:
        seen: list[int] = []
        for row in ranked:
            best = None if row == -1 else self.best(query, row, crowd=False)
            seen.append(-1 if best is None or best in seen else best)
        return seen


@pytest.mark.parametrize("other", [None, "style"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_a_statement_in_loops(seed: int, other: str | None) -> None:
    of = evidence(seed)
    queries = np.flatnonzero(~of.instances.crowd)
    relevance, loops = Relevance.of(of, queries, other=other), Loops(of, other)
    rng = np.random.default_rng(seed)
    everything = np.ones(len(of.instances.category), dtype=np.bool_)
    some = rng.random(len(everything)) < 0.5
    some[of.instances.category == CATEGORIES - 1] = False
    assert relevance.possible.tolist() == [loops.possible(query, everything) for query in queries]
    assert relevance.countable(some).tolist() == [loops.possible(query, some) for query in queries]
    rows, places = rng.permutation(len(of.rows.image))[:45], rng.permutation(len(queries))[:15]
    expected = [[loops.barred(queries[place], row) for row in rows] for place in places]
    np.testing.assert_array_equal(relevance.barred(places, rows), expected)
    ranked = np.stack([rng.permutation(len(of.rows.image))[:20] for _ in queries])
    ranked[:, 17:] = -1
    expected_found = [loops.found(query, one) for query, one in zip(queries, ranked.tolist(), strict=True)]
    np.testing.assert_array_equal(relevance.found(ranked), expected_found)


def test_a_crowd_on_the_last_row_is_left_out_and_nothing_else() -> None:
    """Rows 1 and 2 of the second image: the second one lies on a crowd, of the third category."""
    of = evidence(0, rows=3, instances=3)
    of.rows.image[:], of.instances.image[:] = [0, 1, 1], [0, 1, 1]
    of.instances.category[:], of.instances.crowd[:] = [2, 2, 4], [False, True, False]
    of = replace(of, matches=np.array([[0, 0, 900_000], [2, 1, 900_000]]).T, images=2)
    relevance = Relevance.of(of, np.array([0]))
    assert relevance.barred(np.array([0]), np.array([0, 1, 2])).tolist() == [[True, False, True]]
    assert relevance.barred(np.array([0]), np.array([1])).tolist() == [[False]]
    assert relevance.possible.tolist() == [0]


def test_where_no_row_lies_on_anything_nothing_is_found() -> None:
    of = evidence(1, matched=0)
    queries = np.flatnonzero(~of.instances.crowd)
    relevance = Relevance.of(of, queries)
    assert relevance.possible.any()
    assert set(relevance.found(np.zeros((len(queries), 4), dtype=np.int64)).ravel().tolist()) == {-1}
