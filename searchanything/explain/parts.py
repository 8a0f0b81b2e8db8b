"""Why is this image not among those that hold several things? Part by part, up to the first that explains.

indexed ─► filter ─► all 1 … any 1 ─► none 1 … ─► near ─► page ─► hit
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from searchanything.answers.combined import CombinedResults
from searchanything.answers.explanation import Explanation, Verdict
from searchanything.answers.matching import one_in, rounded_rate
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow
from searchanything.core.types import Filter, ImageRef, RGBImage
from searchanything.explain import index_steps
from searchanything.explain.by_index import candidate_of_row
from searchanything.explain.index_steps import Note, noted
from searchanything.explain.rank import GROWTH, Ranking, excluding_parts
from searchanything.search.combination import (
    Combination,
    CombinedPage,
    Examined,
    PartMatch,
    examine,
    search_combined,
)
from searchanything.search.search import PageRequest


@dataclass(frozen=True, slots=True, eq=False)
class PartsQuestion:
    """What was asked of several parts, and where."""

    index: RegionIndex
    combination: Combination
    limit: int
    filter: Filter | None
    open_image: Callable[[ImageRef], RGBImage]

    def page(self, limit: int) -> CombinedPage:
        """The best images. Raises: FilterError, RegionIndexError."""
        return search_combined(self.index, self.combination, limit=limit, filter=self.filter)

    def place_of(self, image: ImageRef) -> tuple[int | None, CombinedPage]:
        """The image's rank, at first as the answer has it, then in ever longer ones; None where it is in none."""
        limit = self.limit
        while True:
            page = self.page(limit)
            number = next((number for number, hit in enumerate(page.hits, start=1) if hit.image == image), None)
            if number is not None or len(page.hits) < limit:
                return number, page
            limit *= GROWTH


def explain_parts(
    question: PartsQuestion, results: CombinedResults, image: ImageRef, *, others: Iterable[RegionIndex] = ()
) -> Explanation:
    """Walk through the parts for an expected image. Raises: FilterError, RegionIndexError."""
    was_hit = image in {hit.image for hit in results}
    note, row = index_steps.indexed(question.index, image, others=others, whole_images=False, was_hit=was_hit)
    walked, found = [note], None
    if row is not None:
        found = examine(question.index, question.combination, image, filter=question.filter)
        for step in _steps(question, row, found):
            walked.append(index_steps.unless_replaced(question.index, row, step))
            if step.verdict is not None:
                break
    return Explanation(
        expected=image,
        expected_box_xyxy=None,
        verdict=next(one.verdict for one in walked if one.verdict is not None),
        steps=tuple(one.step for one in walked),
        selection=None,
        prompt_description={"kind": "parts", "parts": list(results.parts)},
        fingerprint=results.fingerprint,
        query_image=None,
        expected_image=None if row is None else partial(question.open_image, image),
        parts=() if found is None else tuple((one.part, candidate_of_row(one.row)) for one in found.hit.parts),
    )


def _steps(question: PartsQuestion, row: ImageRow, found: Examined | None) -> Iterator[Note]:
    """The steps behind `indexed`, in their order."""
    if found is None:
        yield index_steps.gone("near")
        return
    if question.filter is not None:
        ranking = Ranking(question.index, question.combination.wanted[0].code)
        region = found.nearest[0].row.region
        yield index_steps.passes_filter(excluding_parts(ranking.rows, question.filter, row, region))
    for nearest in found.nearest:
        yield _wanted(question.combination, found, nearest)
    for match in found.unwanted:
        yield _unwanted(question.combination, match)
    yield _near(found)
    rank, page = question.place_of(row.image)
    if rank is None:
        sentence = f"it is none of the {page.looked_at:,} images that were compared whole"
        yield noted("near", Verdict.BEYOND, sentence, {"looked_at": page.looked_at, "exact": page.exact})
        return
    yield _page(question, found, rank, page)


def _wanted(asked: Combination, found: Examined, nearest: PartMatch) -> Note:
    """Which region stands for a part, and whether it is near enough."""
    stands = next((one for one in found.hit.parts if one.part == nearest.part), None)
    figures: dict[str, Any] = {"nearest": _said(nearest), "stands": None, "cost": None, "most": asked.max_false_match}
    is_any = nearest.part in {part.name for part in asked.any_of}
    if stands is None:
        reason = "another part of any_of is nearer" if is_any else "no further region is left to stand for it"
        verdict = Verdict.CHANCE if not is_any and asked.max_false_match is not None else None
        return noted(nearest.part, verdict, f"its nearest region is {_near_by(nearest)}: {reason}", figures)
    cost = found.costs[nearest.part]
    figures |= {"stands": _said(stands), "cost": round(cost, 4)}
    sentence = f"{_near_by(stands)} stands for it, cost {cost:.2f}"
    if stands.row.region != nearest.row.region:
        sentence += f"; its nearest, {_near_by(nearest)}, stands for another part"
    if asked.max_false_match is not None and (stands.false_match or 0.0) > asked.max_false_match:
        sentence += f": max_false_match asks for {one_in(asked.max_false_match)}, so it does not show this part"
        return noted(nearest.part, Verdict.CHANCE, sentence, figures)
    return noted(nearest.part, None, sentence, figures)


def _unwanted(asked: Combination, match: PartMatch) -> Note:
    """Whether a region is one of what must not be there."""
    figures = {"nearest": _said(match), "none_rate": asked.none_rate}
    allowed = f"none_rate {asked.none_rate:g}"
    if match.false_match is not None and match.false_match <= asked.none_rate:
        return noted(match.part, Verdict.UNWANTED, f"it holds this: {_near_by(match)}, within {allowed}", figures)
    return noted(
        match.part, None, f"it does not hold this: its nearest is {_near_by(match)}, beyond {allowed}", figures
    )


def _near(found: Examined) -> Note:
    """Which parts' nearest regions hold one of the image."""
    figures = {"depth": found.depth, "brought_by": list(found.brought_by)}
    if not found.brought_by:
        sentence = f"it is not among the {found.depth:,} nearest regions of any part, so it was not compared whole"
        return noted("near", Verdict.BEYOND, sentence, figures)
    names = ", ".join(found.brought_by)
    return noted("near", None, f"a region of it is among the {found.depth:,} nearest of {names}", figures)


def _page(question: PartsQuestion, found: Examined, rank: int, page: CombinedPage) -> Note:
    """The total and the rank."""
    last = page.hits[min(question.limit, len(page.hits)) - 1]
    figures = {
        "score": round(found.hit.score, 4),
        "last_shown": {"bucket": last.image.bucket, "key": last.image.key, "score": round(last.score, 4)},
        "looked_at": page.looked_at,
        "exact": page.exact,
    }
    besides = f"; its score is {found.hit.score:.2f}, and the last that is shown has {last.score:.2f}"
    return index_steps.page(PageRequest(limit=question.limit), rank, besides=besides, figures=figures)


def _near_by(match: PartMatch) -> str:
    rate = "" if match.false_match is None else f" (chance: {one_in(match.false_match)})"
    return f"region {match.row.region} at {match.distance_bits} bits{rate}"


def _said(match: PartMatch) -> dict[str, Any]:
    return {
        "region": match.row.region,
        "distance_bits": match.distance_bits,
        "false_match": rounded_rate(match.false_match),
    }
