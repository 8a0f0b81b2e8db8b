"""Answers beyond the ranking: how far chance explains each hit, and how marks refine them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from searchanything.answers.matching import Scale
from searchanything.answers.results import Refiner, SearchResults
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, Filter, RegionRef
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

    def scale(self, index: RegionIndex, code: Codes, *, whole_images: bool = False) -> Scale:
        """What chance explains at each distance from a code (B,) of regions, or of whole images."""
        background = self.backgrounds.of(index, whole_images=whole_images)
        return Scale(background, background.rates(code))

    def refiner(
        self, index: RegionIndex, codes: Codes, request: PageRequest, *, filter: Filter | None, most: float | None
    ) -> Refiner:
        """What answers `SearchResults.refine` for a question by regions' codes (R, B); none for words.

        `most` is the false-match rate of the question: it bounds the distances to the probe's ideal code.
        """
        fingerprint = index.manifest.fingerprint
        own = Probe(codes, codes[:0], fingerprint) if len(codes) else None

        def refine(
            results: SearchResults, right: Sequence[RegionRef], wrong: Sequence[RegionRef], saved: Probe | None
        ) -> SearchResults:
            known = results.probe or own
            probe = taught(known, codes_of(index, right), codes_of(index, wrong), saved, fingerprint=fingerprint)
            scale = self.scale(index, probe.questions[0])
            bounded = replace(request, most_bits=scale.most_bits(most))
            page = search_by_probe(index, probe, bounded, filter=filter, max_limit=self.max_limit)
            matching = scale.matching(page, most, before=request.offset)
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
