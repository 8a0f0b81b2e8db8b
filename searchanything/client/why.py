"""Why an image stands where it does, for answers that the index alone gave: words, marks, several regions, parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from searchanything.answers.combined import CombinedResults
from searchanything.answers.explanation import Explanation
from searchanything.answers.results import Refiner, SearchResults
from searchanything.client.connection import Connection
from searchanything.client.refining import Judging, Refinable
from searchanything.client.stored_questions import StoredQuestion
from searchanything.core.counting import counted
from searchanything.core.errors import IndexMismatchError, RegionIndexError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import BoxXYXY, Filter, ImageRef, RegionRef
from searchanything.explain.by_index import IndexQuestion, Subject, explain_by_index
from searchanything.explain.parts import PartsQuestion, explain_parts
from searchanything.explain.rank import Ranking
from searchanything.explain.steps import Expected
from searchanything.explain.words_and_marks import MarksRanking, WordsRanking
from searchanything.search.locate import IndexedImage, find_image
from searchanything.search.probe import Probe
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import PageRequest


@dataclass(frozen=True, slots=True)
class OtherIndexes:
    """The indexes of other fingerprints than an answer's: an image may be in one of them.

    Each is opened when it is come to: an explanation of what the live index has opens none.
    """

    connection: Connection
    fingerprint: str

    def __iter__(self) -> Iterator[RegionIndex]:
        for manifest in self.connection.indexes.manifests():
            if manifest.fingerprint != self.fingerprint:
                try:
                    found = self.connection.indexes.open(manifest.fingerprint)
                except RegionIndexError:  # of another version, half dropped, or not to be reached
                    continue
                yield self.connection.scoped(found)

    def named(self, image: IndexedImage, index: RegionIndex) -> ImageRef:
        """The image of this name: as the answer's index names it, else as another one does that can be asked.

        Raises: as `find_image`; RegionIndexError of the answer's index.
        """
        found = find_image(image, [index])
        if isinstance(image, ImageRef) or index.newest([found]):
            return found
        for other in self:
            with contextlib.suppress(RegionIndexError):
                elsewhere = find_image(image, [other])
                if other.newest([elsewhere]):
                    return elsewhere
        return found


def others_of(connection: Connection, fingerprint: str) -> OtherIndexes:
    """The other indexes, where an answer is of the one that is live by now.

    Raises: IndexMismatchError where it is not: ranks and distances would be of other codes than the answer's.
    """
    live = connection.read_index().manifest.fingerprint
    if live != fingerprint:
        raise IndexMismatchError(
            f"the answer is of the index of fingerprint {fingerprint}, and by now {live} is live: ask again, and have "
            "that answer explained"
        )
    return OtherIndexes(connection, fingerprint)


def with_reasons(
    results: SearchResults, connection: Connection, question: Callable[[], IndexQuestion]
) -> SearchResults:
    """An answer of the index alone that can be asked why an image is where it is in it; what was asked is made then."""
    subject = Subject.of(results)

    def explain(image: IndexedImage, box_xyxy: BoxXYXY | None) -> Explanation:
        others = others_of(connection, subject.fingerprint)
        asked = question()
        expected = Expected(others.named(image, asked.ranking.index), box_xyxy)
        return explain_by_index(subject, asked, expected, others=others)

    return replace(results, explainer=explain)


def explain_in(
    connection: Connection, question: PartsQuestion, results: CombinedResults, image: IndexedImage
) -> Explanation:
    """Why an image is where it is among those that hold several things."""
    others = others_of(connection, results.fingerprint)
    return explain_parts(question, results, others.named(image, question.index), others=others)


def words_question(
    index: RegionIndex, values: QueryValues, request: PageRequest, *, filter: Filter | None
) -> IndexQuestion:
    """A text alone."""
    ranking = WordsRanking.of(index, values, request, whole_images=False)
    return IndexQuestion(ranking, request, filter, "the words")


def stored_question(
    index: RegionIndex, question: StoredQuestion, request: PageRequest, *, filter: Filter | None
) -> IndexQuestion:
    """A region of the index, or several as one question; or whole images."""
    whole = question.whole_images
    ranking = Ranking.of(index, question.asked, request, whole_images=whole)
    name = "image" if whole else "region"
    if len(question.rows) == 1:
        return IndexQuestion(ranking, request, filter, f"the {name}")
    what = f"what the {counted(len(question.rows), name)} have in common"
    return IndexQuestion(ranking, request, filter, what, question.codes)


def refiner_with_reasons(connection: Connection, judging: Judging, question: Refinable) -> Refiner:
    """What refines a question; its answers can be asked why an image is where it is in them."""

    def asked(probe: Probe) -> IndexQuestion:
        request = judging.bounded(question, probe)
        ranking = MarksRanking(question.index, probe, request)
        return IndexQuestion(ranking, request, question.filter, "the code that marks taught")

    def refined(
        results: SearchResults, right: Sequence[RegionRef], wrong: Sequence[RegionRef], saved: Probe | None
    ) -> SearchResults:
        found = judging.refine(question, results, right, wrong, saved)
        return found if found.probe is None else with_reasons(found, connection, partial(asked, found.probe))

    return refined
