"""How words and marks rank what is in an index: by words codes, and by what marks taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from searchanything.core.codes import hamming
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, row_id
from searchanything.core.types import CodeKind, Filter, Hit
from searchanything.explain.rank import IsIt, Rank, Ranking, with_scores
from searchanything.search.by_words import search_words
from searchanything.search.probe import Probe
from searchanything.search.refine import allowed, near_probe, probe_depth, probe_scores, ranked_by_probe
from searchanything.search.search import Page, PageRequest, query_code_of


@dataclass(frozen=True, slots=True, eq=False)
class WordsRanking(Ranking):
    """A text against all words codes, at most `most_bits` away, of which the first `rescore` are ordered by score."""

    @property
    def bits(self) -> int:
        return 8 * len(query_code_of(self.asked))

    @property
    def kind(self) -> CodeKind:
        return "words"

    def page(self, request: PageRequest, filter: Filter | None) -> Page:
        return search_words(self.index, self.asked, request, filter=filter)

    def rows(self, image: ImageRow, filter: Filter) -> list[Hit]:
        """The regions of one image that have a words code and match a filter, nearest first."""
        wanted = replace(filter, images=(image.image,))
        found = self.index.search_words(query_code_of(self.asked)[None], limit=self.index.max_limit, filter=wanted)[0]
        own = [one for one in found if one.generation == image.generation]
        rows = self.index.regions([one.id for one in own])
        return [Hit.of(rows[one.id], one.distance_bits) for one in own if one.id in rows]


@dataclass(frozen=True, slots=True, eq=False)
class MarksRanking:
    """What marks taught against the regions that lie near its questions; `request` is what the answer was asked for."""

    measure: ClassVar[str] = "score"
    whole_images: ClassVar[bool] = False
    index: RegionIndex
    probe: Probe
    request: PageRequest

    @property
    def bits(self) -> int:
        return self.index.manifest.bits

    @property
    def depth(self) -> int:
        """How many regions each question brings."""
        return probe_depth(self.index, self.request)

    def rows(self, image: ImageRow, filter: Filter) -> list[Hit]:
        """The committed regions of one image that match a filter, nearest to the ideal code first."""
        wanted = replace(filter, images=(image.image,))
        found = self.index.search(self.probe.questions[:1], limit=self.index.max_limit, filter=wanted)[0]
        return [match for match in found if match.generation == image.generation]

    def scored(self, hits: Sequence[Hit]) -> list[Hit]:
        """Hits with their score by what marks taught."""
        return with_scores(self.index, hits, partial(probe_scores, self.index, self.probe), of="regions")

    def find(self, filter: Filter | None, *, is_it: IsIt, first: int, group_by_image: bool) -> Rank:
        """Among all regions that the answer looked at: what they are depends on its page alone."""
        request = replace(self.request, group_by_image=group_by_image)
        near, exact = ranked_by_probe(self.index, self.probe, request, filter=filter)
        ranked = allowed(near, request)
        number = next((number for number, hit in enumerate(ranked) if is_it(hit)), None)
        return Rank(
            rank=None if number is None else number + 1,
            hit=None if number is None else ranked[number],
            nearest=tuple(ranked[:first]),
            looked_at=len(near),
            exact=exact,
        )

    def nearest_question_bits(self, code: bytes) -> int:
        """How far a code is from the nearest of the codes that are searched for."""
        own = np.frombuffer(code, dtype=np.uint8)[None]
        return int(hamming(self.probe.questions, own).min())

    def is_near(self, region: Hit, filter: Filter | None) -> bool:
        """Whether one of the questions brings the region."""
        found, _ = near_probe(self.index, self.probe, limit=self.depth, filter=filter)
        return row_id(region.image, region.generation, region.region) in found
