"""Answers beyond the ranking: how far chance explains each hit, and how marks refine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from searchanything.answers.matching import Scale
from searchanything.answers.results import SearchResults
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import CodeKind, Codes, Filter, RegionRef
from searchanything.search.calibration import Backgrounds, Rates
from searchanything.search.probe import Marked, Probe, layer_name, taught
from searchanything.search.refine import marked_regions, search_by_probe
from searchanything.search.search import PageRequest


@dataclass(frozen=True, slots=True, eq=False)
class Refinable:
    """A question whose answers marks refine; `own` are the codes of its own regions, None for words.

    `most` is its false-match rate: it bounds the distances to the probe's ideal code.
    """

    index: RegionIndex
    own: Callable[[], Marked | None]
    request: PageRequest
    filter: Filter | None
    most: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Judging:
    """Compares hits with samples of the index's own codes, which views of one index share. Thread-safe."""

    backgrounds: Backgrounds = field(default_factory=Backgrounds)

    def rates(self, index: RegionIndex, code: Codes) -> Rates | None:
        """By distance, the share of unrelated regions that are as near to a code (B,); None: too few are indexed."""
        return self.backgrounds.of(index).rates(code)

    def scale(self, index: RegionIndex, code: Codes, kind: CodeKind = "regions") -> Scale:
        """What chance explains at each distance of one kind of codes from a code (B,)."""
        return Scale.of(self.backgrounds.of(index, kind), code)

    def bounded(self, question: Refinable, probe: Probe) -> PageRequest:
        """The question's page by a probe, within the distance that its rate allows."""
        scale = self.scale(question.index, probe.questions[0])
        return replace(question.request, most_bits=scale.most_bits(question.most))

    def refine(
        self,
        question: Refinable,
        results: SearchResults,
        right: Sequence[RegionRef],
        wrong: Sequence[RegionRef],
        saved: Probe | None,
    ) -> SearchResults:
        """As `SearchResults.refine`."""
        index, layer = question.index, layer_name(question.index.words)
        marked = marked_regions(index, right, wrong)
        fingerprint = index.manifest.fingerprint
        probe = taught(results.probe or question.own(), marked, saved, fingerprint=fingerprint, layer=layer)
        bounded = self.bounded(question, probe)
        page = search_by_probe(index, probe, bounded, filter=question.filter)
        scale = self.scale(index, probe.questions[0])
        matching = scale.matching(page, question.most, before=bounded.offset)
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
