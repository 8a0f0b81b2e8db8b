"""Why an image stands where it does, for answers that the index alone gave: words, marks, several regions, parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from searchanything.answers.combined import CombinedResults
from searchanything.answers.explanation import Explanation
from searchanything.answers.results import Refiner, SearchResults
from searchanything.client.connection import Connection
from searchanything.client.stored_questions import StoredQuestion
from searchanything.core.counting import counted
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import BoxXYXY, Codes, Filter, RegionRef
from searchanything.explain.by_index import IndexQuestion, Subject, explain_by_index
from searchanything.explain.parts import PartsQuestion, explain_parts
from searchanything.explain.rank import Ranking
from searchanything.explain.steps import Expected
from searchanything.explain.words_and_marks import MarksRanking, WordsRanking
from searchanything.search.locate import IndexedImage, find_image
from searchanything.search.probe import Probe
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import PageRequest


def other_indexes(connection: Connection, live: str) -> list[RegionIndex]:
    """The indexes of other fingerprints: an image may be in one of them."""
    others = []
    for manifest in connection.indexes.manifests():
        if manifest.fingerprint != live:
            with contextlib.suppress(IndexMismatchError, IndexNotFoundError):  # of another version, or half dropped
                others.append(connection.scoped(connection.indexes.open(manifest.fingerprint)))
    return others


def with_reasons(
    results: SearchResults, connection: Connection, question: Callable[[], IndexQuestion]
) -> SearchResults:
    """An answer of the index alone that can be asked why an image is where it is in it; what was asked is made then."""
    subject = Subject.of(results)

    def explain(image: IndexedImage, box_xyxy: BoxXYXY | None) -> Explanation:
        asked = question()
        index = asked.ranking.index
        others = other_indexes(connection, index.manifest.fingerprint)
        expected = Expected(find_image(image, [index, *others]), box_xyxy)
        return explain_by_index(subject, asked, expected, others=others)

    return replace(results, explainer=explain)


def explain_in(
    connection: Connection, question: PartsQuestion, results: CombinedResults, image: IndexedImage
) -> Explanation:
    """Why an image is where it is among those that hold several things."""
    others = other_indexes(connection, question.index.manifest.fingerprint)
    return explain_parts(question, results, find_image(image, [question.index, *others]), others=others)


def words_question(
    index: RegionIndex, values: QueryValues, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> IndexQuestion:
    """A text alone."""
    ranking = WordsRanking(index, max_limit, values, request.rescore, request.most_bits)
    return IndexQuestion(ranking, request, filter, "the words")


def several_question(
    index: RegionIndex, question: StoredQuestion, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> IndexQuestion:
    """Several regions of the index as one question, or several whole images."""
    whole = question.whole_images
    ranking = Ranking.of(index, question.asked, request, whole_images=whole, max_limit=max_limit)
    what = counted(len(question.rows), "image" if whole else "region")
    return IndexQuestion(ranking, request, filter, f"what the {what} have in common", question.codes)


@dataclass(frozen=True, slots=True, eq=False)
class MarkedQuestion:
    """A question whose answers are refined; `bound` is what `max_false_match` comes to, in bits from a code."""

    connection: Connection
    index: RegionIndex
    request: PageRequest
    filter: Filter | None
    bound: Callable[[Codes], int | None]

    def with_reasons(self, refine: Refiner) -> Refiner:
        """A refiner whose answers can be asked why an image is where it is in them."""

        def refined(
            results: SearchResults, right: Sequence[RegionRef], wrong: Sequence[RegionRef], saved: Probe | None
        ) -> SearchResults:
            found = refine(results, right, wrong, saved)
            if found.probe is None:
                return found
            return with_reasons(found, self.connection, partial(self._question, found.probe))

        return refined

    def _question(self, probe: Probe) -> IndexQuestion:
        request = replace(self.request, most_bits=self.bound(probe.questions[0]))
        ranking = MarksRanking(self.index, self.connection.indexes.max_limit, probe, request)
        return IndexQuestion(ranking, request, self.filter, "the code that marks taught")
