"""Steps that need the index alone: is the image in it, what leaves its region out, and where the region then stands.

Whatever was asked takes them: a question that pixels lead to (`steps`) and one that the index alone answers
(`by_index`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from searchanything.answers.explanation import Step, Verdict
from searchanything.core.counting import counted
from searchanything.core.errors import RegionIndexError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.types import Hit, ImageRef
from searchanything.images.sidecars import has_given_regions
from searchanything.search.search import PageRequest


@dataclass(frozen=True, slots=True)
class Note:
    """One step and, where it explains, the verdict."""

    step: Step
    verdict: Verdict | None


def noted(name: str, verdict: Verdict | None, sentence: str, figures: Mapping[str, Any]) -> Note:
    """A step; one that explains is one that was not passed, unless it says that the image is a hit."""
    return Note(Step(name, verdict in (None, Verdict.HIT), dict(figures), sentence), verdict)


def indexed(
    index: RegionIndex, image: ImageRef, *, others: Iterable[RegionIndex], whole_images: bool, was_hit: bool = False
) -> tuple[Note, ImageRow | None]:
    """The expected image's row in the index, None where it has no region, or no code of its own, to be found by.

    `others` are gone through, and so opened, only where it is not in this one.
    """
    row = index.newest([image]).get(image)
    if row is None:
        return _elsewhere(index, image, others, was_hit=was_hit), None
    figures: dict[str, Any] = {"outcome": str(row.outcome), "regions": row.regions, "attempts": row.attempts}
    if row.outcome is Outcome.FAILED:
        figures |= {"error": row.error, "message": row.message}
        sentence = f"it failed ({counted(row.attempts, 'attempt')}), at last with {row.error}: {row.message}"
        return noted("indexed", Verdict.FAILED, sentence, figures), None
    if row.outcome is Outcome.EMPTY and not (whole_images and row.is_findable):
        given = has_given_regions(row.metadata)
        why = "its sidecar gives it no region" if given else "the segmenter found no region in it"
        sentence = f"it was indexed as empty: {why}"
        return noted("indexed", Verdict.EMPTY, sentence, figures), None
    return noted("indexed", None, f"it is in the index with {counted(row.regions, 'region')}", figures), row


def _holds(index: RegionIndex, image: ImageRef) -> bool:
    """Whether an index of another fingerprint has the image; one that cannot be asked explains nothing."""
    try:
        return image in index.newest([image])
    except RegionIndexError:
        return False


def _elsewhere(index: RegionIndex, image: ImageRef, others: Iterable[RegionIndex], *, was_hit: bool) -> Note:
    """The image is not in the index: it may be in one of another fingerprint, or have been in this one."""
    live = index.manifest.fingerprint
    found = [other.manifest for other in others if _holds(other, image)]
    figures = {"fingerprint": live, "other_fingerprints": [one.fingerprint for one in found]}
    if not found:
        since = ": it was among the hits, and has been deleted since" if was_hit else ""
        return noted("indexed", Verdict.NOT_INDEXED, f"{image} is not in the index{since}", figures)
    sentence = (
        f"it is indexed under fingerprint {found[0].fingerprint} (preset {found[0].preset}) only, "
        f"while {live} is live: index it again"
    )
    return noted("indexed", Verdict.OTHER_FINGERPRINT, sentence, figures)


def gone(name: str) -> Note:
    """A step that found none of the image's rows, or rows of another generation than those before it."""
    sentence = "it was indexed again, or deleted, while this was looked up: ask again"
    return noted(name, Verdict.CHANGED, sentence, {})


def unless_replaced(index: RegionIndex, image: ImageRow, note: Note) -> Note:
    """The step; where it explains by what is not there, and the image was replaced meanwhile, that this is why."""
    if note.verdict in (None, Verdict.HIT, Verdict.CHANGED):
        return note
    return note if index.generations([image.image]).get(image.image) == image.generation else gone(note.step.name)


def passes_filter(excluded_by: Sequence[str]) -> Note:
    """Whether the filter lets the region pass."""
    figures = {"excluded_by": list(excluded_by)}
    if not excluded_by:
        return noted("filter", None, "the filter lets it pass", figures)
    return noted("filter", Verdict.FILTER, f"the filter excludes it by {', '.join(excluded_by)}", figures)


def chance(distance_bits: int, most_bits: int, rank: int | None) -> Note:
    """Whether the region is as near as `max_false_match` demands."""
    figures = {"distance_bits": distance_bits, "most_bits": most_bits, "rank": rank}
    if distance_bits <= most_bits:
        return noted("chance", None, f"max_false_match lets {counted(most_bits, 'bit')} pass", figures)
    allowed = "nothing" if most_bits == -1 else f"at most {counted(most_bits, 'bit')}"
    sentence = (
        f"it is {counted(distance_bits, 'bit')} from the query, and max_false_match lets {allowed} pass: "
        "chance explains it as well"
    )
    return noted("chance", Verdict.CHANCE, sentence, figures)


def grouping(region: int | None, shown: Hit, rank: int | None, *, by_box: bool) -> Note:
    """Whether its image is shown by this very region; another one explains only where this one was asked for."""
    figures = {"region": region, "shown_region": shown.region, "rank": rank}
    if shown.region == region or not by_box:
        return noted("grouping", None, f"its image is shown by region {shown.region}", figures)
    sentence = (
        f"its image stands at number {rank} by the nearer region {shown.region}, and with "
        f"--group-by-image its other regions are not shown"
    )
    return noted("grouping", Verdict.GROUPING, sentence, figures)


def page(request: PageRequest, rank: int, *, besides: str = "", figures: Mapping[str, Any] | None = None) -> Note:
    """The last step: it always has a verdict. `besides` is added for what is not on the page."""
    offset, end = request.offset, request.offset + request.limit
    found = {"rank": rank, "offset": offset, "limit": request.limit, **(figures or {})}
    if offset < rank <= end:
        return noted("page", Verdict.HIT, f"it is among the hits, number {rank}", found)
    cure = f"an offset below {rank}" if rank <= offset else f"--limit {rank - offset}"
    what = f"it is number {rank}, and the page shows {offset + 1} to {end}: {cure} would show it"
    return noted("page", Verdict.PAGING, f"{what}{besides}", found)
