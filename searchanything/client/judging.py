"""Answers beyond the ranking: how far chance explains each hit, and how marks refine them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from searchanything.answers.matching import Matching
from searchanything.answers.results import Refiner, SearchResults
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, Filter, Hit, RegionRef
from searchanything.search.calibration import Backgrounds, Rates
from searchanything.search.probe import Probe, taught
from searchanything.search.refine import codes_of, search_by_probe
from searchanything.search.search import PageRequest


@dataclass(frozen=True, slots=True, eq=False)
class Judging:
    """Compares hits with samples of the index's own codes, which views of one index share. Thread-safe."""

    max_limit: int
    backgrounds: Backgrounds = field(default_factory=Backgrounds)

    def rates(self, index: RegionIndex, code: Codes) -> Rates | None:
        """By distance, the share of unrelated regions that are as near to a code (B,); None: too few are indexed."""
        return self.backgrounds.of(index).rates(code)

    def judged(
        self, index: RegionIndex, code: Codes, hits: tuple[Hit, ...], *, whole_images: bool, most: float | None
    ) -> Matching:
        """The hits with the share of unrelated rows that are as near; those above `most` are left out."""
        background = self.backgrounds.of(index, whole_images=whole_images)
        return Matching.of(hits, background.rates(code), background, most)

    def refiner(self, index: RegionIndex, codes: Codes, request: PageRequest, *, filter: Filter | None) -> Refiner:
        """What answers `SearchResults.refine` for a question by regions' codes (R, B); none for words."""
        fingerprint = index.manifest.fingerprint
        own = Probe(codes, codes[:0], fingerprint) if len(codes) else None

        def refine(
            results: SearchResults, right: Sequence[RegionRef], wrong: Sequence[RegionRef], saved: Probe | None
        ) -> SearchResults:
            known = results.probe or own
            probe = taught(known, codes_of(index, right), codes_of(index, wrong), saved, fingerprint=fingerprint)
            page = search_by_probe(index, probe, request, filter=filter, max_limit=self.max_limit)
            matching = self.judged(index, probe.questions[0], page.hits, whole_images=False, most=None)
            return replace(
                results,
                hits=matching.hits,
                matching=matching,
                exact=page.exact,
                stages=page.stages,
                collection=index.collections[0],
                probe=probe,
                positions=None,
            )

        return refine
