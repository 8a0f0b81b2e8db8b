"""Why is this image not among the hits, where the index alone was asked: by words, by marks, by several regions?

    indexed ─► words ─► region ─► filter ─► chance ─► near ─► codes ─► grouping ─► page ─► hit
               (words)                               (marks)

No pixels lead to such an answer, so the funnel starts at the index and needs neither models nor images. Without a box
the image is asked about: its first region in the ranking, or, where none is in it, the one that would come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from searchanything.answers.explanation import Explanation, Verdict
from searchanything.answers.results import SearchResults
from searchanything.core.codes import hamming
from searchanything.core.counting import counted
from searchanything.core.documents import rounded
from searchanything.core.errors import PromptError
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Candidate, Codes, Filter, Hit, ImageRef, RGBImage, Selection
from searchanything.explain import index_steps
from searchanything.explain.expected_region import MIN_FIT_IOU
from searchanything.explain.index_steps import Note, noted
from searchanything.explain.rank import Rank, Ranking, excluding_parts, is_of
from searchanything.explain.steps import Expected
from searchanything.explain.words_and_marks import MarksRanking, WordsRanking
from searchanything.prompts.prompt import check_box_units
from searchanything.search.search import PageRequest
from searchanything.search.stored import stored_regions

FIRST: Final = 50  # of the ranking are looked at, or as far as the page reaches


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """The answer that is asked about, as far as an explanation shows it. `shown` are the images of its hits."""

    prompt_description: Mapping[str, Any]
    selection: Selection
    fingerprint: str
    query_image: RGBImage | Callable[[], RGBImage]
    open_image: Callable[[ImageRef], RGBImage]
    shown: frozenset[ImageRef]

    @classmethod
    def of(cls, results: SearchResults) -> Subject:
        """An answer; one that was refined says by how many marks."""
        prompt = dict(results.prompt_description)
        if results.probe is not None:
            prompt["marks"] = {"right": len(results.probe.right), "wrong": len(results.probe.wrong)}
        return cls(
            prompt,
            results.selection,
            results.fingerprint,
            results.query_image,
            results.open_image,
            frozenset(hit.image for hit in results),
        )


@dataclass(frozen=True, slots=True, eq=False)
class IndexQuestion:
    """What was asked of the index: how it ranks, which stretch, and what a distance is from, in words.

    `codes` (R, B) are the regions that were asked with, where there are several.
    """

    ranking: Ranking | MarksRanking
    request: PageRequest
    filter: Filter | None
    origin: str
    codes: Codes | None = None


def explain_by_index(
    subject: Subject, question: IndexQuestion, expected: Expected, *, others: Iterable[RegionIndex] = ()
) -> Explanation:
    """Walk down the funnel for an expected image, up to the first step that explains.

    Raises: PromptError for a box where whole images were searched, or one that seems to be in shares of the image's
    size; FilterError, RegionIndexError.
    """
    ranking, image = question.ranking, expected.image
    if ranking.whole_images and expected.box_xyxy is not None:
        raise PromptError("whole images were searched, which have no regions: leave the expected box out")
    note, row = index_steps.indexed(
        ranking.index, image, others=others, whole_images=ranking.whole_images, was_hit=image in subject.shown
    )
    if row is not None and expected.box_xyxy is not None:
        check_box_units(expected.box_xyxy, row.image_height, row.image_width)
    walked, place = [note], None if row is None else _Situated(question, expected, row)
    for step in () if place is None else place.steps():
        walked.append(step)
        if step.verdict is not None:
            break
    target = None if place is None else place.region
    return Explanation(
        expected=image,
        expected_box_xyxy=expected.box_xyxy,
        verdict=next(one.verdict for one in walked if one.verdict is not None),
        steps=tuple(one.step for one in walked),
        selection=subject.selection,
        prompt_description=subject.prompt_description,
        fingerprint=subject.fingerprint,
        query_image=subject.query_image,
        expected_image=None if row is None else partial(subject.open_image, image),
        region=None if target is None else candidate_of_row(target),
    )


def candidate_of_row(row: RegionRow) -> Candidate:
    """An indexed region as it is drawn."""
    return Candidate(row.box_xyxy, row.area_px, row.score, row.mask)


@dataclass(frozen=True, eq=False)
class _Situated:
    """Where the expected image, or a region of it, ranks for a question. Each part is looked up once."""

    # Over 200 lines: each step of the walk looks at the same few parts, and each part is looked up once.

    question: IndexQuestion
    expected: Expected
    image: ImageRow

    @cached_property
    def rows(self) -> list[RegionRow]:
        """All regions of the image; none where whole images are searched."""
        ranking = self.question.ranking
        return [] if ranking.whole_images else stored_regions(ranking.index, self.image)

    @cached_property
    def coded(self) -> list[Hit]:
        """The image's rows that have a code for the question, the best first, whatever is left out of the answer."""
        ranking = self.question.ranking
        found = ranking.scored(ranking.rows(self.image, Filter()))
        return sorted(found, key=lambda hit: (-(hit.similarity or 0.0), hit.distance_bits, hit.region or 0))

    @cached_property
    def fitting(self) -> tuple[RegionRow | None, float]:
        """The region whose box fits the expected one best, with its IoU."""
        if self.expected.box_xyxy is None or not self.rows:
            return None, 0.0
        boxes = np.array([row.box_xyxy for row in self.rows], dtype=np.float32)
        ious = box_iou(boxes, np.array([self.expected.box_xyxy], dtype=np.float32))[:, 0]
        best = int(ious.argmax())
        return self.rows[best], float(ious[best])

    @cached_property
    def rank(self) -> Rank:
        """In the answer's own ranking: of the region in the box, or of the image, if that is what is shown."""
        question, request = self.question, self.question.request
        whole = request.group_by_image or self.expected.box_xyxy is None
        number = None if self.fitting[0] is None else self.fitting[0].region

        def is_it(hit: Hit) -> bool:
            return is_of(self.image, hit) and (whole or hit.region == number)

        first = min(max(FIRST, request.offset + request.limit), question.ranking.index.max_limit)
        return question.ranking.find(question.filter, is_it=is_it, first=first, group_by_image=request.group_by_image)

    @cached_property
    def target(self) -> Hit | None:
        """The row that is asked about, with its distance; None where it has no code for the question."""
        if self.expected.box_xyxy is not None:
            number = None if self.fitting[0] is None else self.fitting[0].region
        elif self.rank.hit is not None:
            number = self.rank.hit.region
        else:
            return self.coded[0] if self.coded else None
        return next((hit for hit in self.coded if hit.region == number), None)

    @property
    def region(self) -> RegionRow | None:
        """The region that is asked about, as it is drawn."""
        if self.expected.box_xyxy is not None:
            return self.fitting[0]
        return None if self.target is None else next((r for r in self.rows if r.region == self.target.region), None)

    def steps(self) -> Iterator[Note]:
        """The steps behind `indexed`, in their order."""
        for step in self._each():
            yield index_steps.unless_replaced(self.question.ranking.index, self.image, step)

    def _each(self) -> Iterator[Note]:
        question, request = self.question, self.question.request
        if isinstance(question.ranking, WordsRanking):
            yield self._words()
        if not question.ranking.whole_images:
            yield self._region()
        if self.target is None:
            yield index_steps.gone("codes")
            return
        if question.filter is not None:
            yield index_steps.passes_filter(self._excluded_by(self.target))
        if request.most_bits is not None:
            yield index_steps.chance(self.target.distance_bits, request.most_bits, self.rank.rank)
        if isinstance(question.ranking, MarksRanking):
            yield self._near(question.ranking, self.target)
        yield self._codes(self.target)
        if self.rank.rank is None or self.rank.hit is None:
            return
        if request.group_by_image and not question.ranking.whole_images:
            by_box = self.expected.box_xyxy is not None
            yield index_steps.grouping(self.target.region, self.rank.hit, self.rank.rank, by_box=by_box)
        yield self._page(self.rank.rank)

    def _words(self) -> Note:
        """Whether the image, or the region in the box, has a words code."""
        have = {hit.region for hit in self.coded}
        figures = {"regions": len(self.rows), "with_words_code": len(have)}
        cure = "index it again with --add-words"
        if not have:
            what = f"none of its {counted(len(self.rows), 'region')} has a words code"
            return noted("words", Verdict.NO_WORDS, f"{what}: {cure}", figures)
        wanted, iou = self.fitting
        if wanted is not None and iou >= MIN_FIT_IOU and wanted.region not in have:
            return noted("words", Verdict.NO_WORDS, f"region {wanted.region} has no words code: {cure}", figures)
        what = f"of its {counted(len(self.rows), 'region')} {len(have)} can be found by words"
        return noted("words", None, what, figures)

    def _region(self) -> Note:
        """Which region is asked about, and how near each of the image's best is."""
        figures: dict[str, Any] = {"regions": len(self.rows), "each": list(map(self._said, self.coded))}
        wanted, iou = self.fitting
        if self.expected.box_xyxy is not None:
            figures |= {"best_iou": round(iou, 4), "least_iou": MIN_FIT_IOU}
            if wanted is None or iou < MIN_FIT_IOU:
                what = f"no indexed region fits the box: the best has IoU {iou:.2f}, and {MIN_FIT_IOU} is the least"
                return noted("region", Verdict.NO_MASK, what, figures)
        if self.target is None:
            return noted("region", None, "its regions have no code now", figures)
        figures |= {"region": self.target.region, "box_xyxy": rounded(self.target.box_xyxy)}
        figures |= self._to_each(self.target)
        which = (
            f"no box was given, so the best of its {counted(len(self.rows), 'region')} is taken"
            if self.expected.box_xyxy is None
            else f"the best of its {counted(len(self.rows), 'region')} has IoU {iou:.2f} with the expected box"
        )
        return noted("region", None, f"{which}: region {self.target.region}, {self._how_near(self.target)}", figures)

    def _to_each(self, target: Hit) -> dict[str, Any]:
        """The distances to each of several regions that were asked with."""
        row = next((row for row in self.rows if row.region == target.region), None)
        code = self.image.code if target.region is None else None if row is None else row.code
        if self.question.codes is None or code is None:
            return {}
        own = np.frombuffer(code, dtype=np.uint8)[None]
        return {"bits_to_each": hamming(self.question.codes, own)[:, 0].tolist()}

    def _excluded_by(self, target: Hit) -> list[str]:
        if self.rank.hit is not None and self.rank.hit.region == target.region:
            return []
        return excluding_parts(self.question.ranking.rows, self.question.filter, self.image, target.region)

    def _near(self, ranking: MarksRanking, target: Hit) -> Note:
        """Whether the region lies near one of the codes that are searched for."""
        questions = len(ranking.probe.questions)
        row = next((row for row in self.rows if row.region == target.region), None)
        figures = {
            "questions": questions,
            "depth": ranking.depth,
            "looked_at": self.rank.looked_at,
            "bits_to_nearest": None if row is None else ranking.nearest_question_bits(row.code),
        }
        codes = f"the {counted(questions, 'code')} that are searched for"
        is_ranked = self.rank.hit is not None and self.rank.hit.region == target.region
        if is_ranked or ranking.is_near(target, self.question.filter):
            return noted("near", None, f"it is among the {ranking.depth:,} nearest to one of {codes}", figures)
        sentence = f"it lies beyond the {ranking.depth:,} regions nearest to each of {codes}, so marks did not rank it"
        return noted("near", Verdict.BEYOND, f"{sentence}: mark a hit that is more like it", figures)

    def _codes(self, target: Hit) -> Note:
        """Its rank."""
        rank, ranking = self.rank, self.question.ranking
        figures = {
            "rank": rank.rank,
            "looked_at": rank.looked_at,
            "exact": rank.exact,
            "bits": ranking.bits,
            **self._said(target),
            "nearest": self._named(rank.nearest[:1]),
        }
        sure = "" if rank.exact else " (the search was not exact)"
        if rank.rank is None:
            sentence = f"it lies beyond the first {rank.looked_at:,} of the ranking{sure}, {self._how_near(target)}"
            return noted("codes", Verdict.BEYOND, sentence, figures)
        return noted("codes", None, f"{self._by()} it is number {rank.rank:,}{sure}, {self._how_near(target)}", figures)

    def _by(self) -> str:
        ranking = self.question.ranking
        if isinstance(ranking, MarksRanking):
            right, wrong = len(ranking.probe.right), len(ranking.probe.wrong)
            return f"by {right} right and {counted(wrong, 'wrong mark')}"
        kind = "words code" if isinstance(ranking, WordsRanking) else "code"
        return f"by {kind}, the first {ranking.rescored} rescored," if ranking.rescored else f"by {kind}"

    def _page(self, rank: int) -> Note:
        request = self.question.request
        last = self.question.ranking.scored(self.rank.nearest[request.offset : request.offset + request.limit][-1:])
        besides = f"; the last that it shows is {self._how_near(last[0])}" if last else ""
        return index_steps.page(request, rank, besides=besides, figures={"last_shown": self._named(last)})

    def _how_near(self, hit: Hit) -> str:
        bits = f"{hit.distance_bits} of {self.question.ranking.bits} bits from {self.question.origin}"
        return bits if hit.similarity is None else f"{bits}, {self.question.ranking.measure} {hit.similarity:.3f}"

    def _said(self, hit: Hit) -> dict[str, Any]:
        """A row of the expected image as figures."""
        figures: dict[str, Any] = {"region": hit.region, "distance_bits": hit.distance_bits}
        score = None if hit.similarity is None else round(hit.similarity, 6)
        return figures | {self.question.ranking.measure: score}

    def _named(self, hits: Sequence[Hit]) -> dict[str, Any] | None:
        """The first of some hits as figures."""
        if not hits:
            return None
        (hit,) = self.question.ranking.scored(hits[:1])
        return {"bucket": hit.image.bucket, "key": hit.image.key, **self._said(hit)}
