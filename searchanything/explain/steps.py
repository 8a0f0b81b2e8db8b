"""The funnel's steps. Each takes what the steps before it found out, and gives a note and what it found out itself.

Steps that have no meaning (masks for a search of whole images, a filter where none was given) leave no note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchanything.answers.explanation import Step, Verdict
from searchanything.core.counting import counted
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import RegionIndex, Segmentation
from searchanything.core.types import BoxXYXY, Filter, Hit, ImageRef, ImageRow, Outcome, RGBImage
from searchanything.encode.encoder import EncodedQuery, RegionJob
from searchanything.explain.expected_region import TargetRegion, region_in_box, region_most_similar, region_on_page
from searchanything.explain.rank import Rank, Ranking, excluding_parts, find_rank
from searchanything.explain.reencode import SAME_REGION_IOU, RegionFeatures, SearchContext, cosines
from searchanything.prompts.prompt import Prompt, as_box
from searchanything.search.search import Asked, PageRequest


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuestion:
    """A query as it was asked: `image` (H, W, 3) uint8 RGB.

    `asked` is what was compared with the index where that is not the code of the image and its prompt: a stored one.
    """

    image: RGBImage
    prompt: Prompt
    request: PageRequest
    filter: Filter | None = None
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """The image that was expected among the hits, and where in it, in pixels of that image.

    Raises: PromptError for a box that is none.
    """

    image: ImageRef
    box_xyxy: BoxXYXY | None = None

    def __post_init__(self) -> None:
        if self.box_xyxy is not None:
            object.__setattr__(self, "box_xyxy", as_box(self.box_xyxy).xyxy)


@dataclass(frozen=True, slots=True, eq=False)
class Inquiry:
    """What is asked about an answer: the question encoded, its ranking, and N (`first`)."""

    context: SearchContext
    question: SearchQuestion
    expected: Expected
    query: EncodedQuery
    ranking: Ranking
    first: int
    others: Sequence[RegionIndex]

    def query_features(self) -> RegionFeatures:
        """Those of the query's own region, (1, …)."""
        return self.context.recollection.query_features(self.context, self.question.image, self.query)


@dataclass(frozen=True, slots=True)
class Note:
    """One step and, where it explains, the verdict."""

    step: Step
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The expected image, (H, W, 3) uint8 RGB, segmented again."""

    pixels: RGBImage
    segmentation: Segmentation


@dataclass(frozen=True, slots=True)
class Indexed:
    """The expected region's row in the index; `region` is None for the whole image."""

    region: int | None
    distance_bits: int


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Where the expected region ranks by code and by features, and the parts of the filter that exclude it."""

    rank: Rank
    features_rank: int
    first: int
    excluded_by: Sequence[str]
    too_far: bool = False

    @property
    def among_first(self) -> bool:
        """Whether it is one of the N nearest by code."""
        return self.rank.rank is not None and self.rank.rank <= self.first

    @property
    def filter_too(self) -> str:
        """What a sentence adds where the filter excludes it as well."""
        return f" (the filter excludes it as well, by {', '.join(self.excluded_by)})" if self.excluded_by else ""


def prompt(inquiry: Inquiry) -> Note:
    """Whether the prompt selects anything in the query image."""
    choice = inquiry.query.choice
    what = {"none": "nothing", "region": "a region", "image": "the whole image"}[choice.kind]
    verdict = Verdict.NOTHING_SELECTED if choice.kind == "none" else None
    figures = {"kind": choice.kind, "rule": choice.rule, "score": round(choice.score, 4)}
    return _note("prompt", verdict, f"the prompt selects {what}: {choice.reason}", figures)


def indexed(inquiry: Inquiry) -> tuple[Note, ImageRow | None]:
    """The expected image's row in the live index."""
    image = inquiry.expected.image
    row = inquiry.context.index.newest([image]).get(image)
    if row is None:
        return _elsewhere(inquiry), None
    figures = {"outcome": str(row.outcome), "regions": row.regions, "attempts": row.attempts}
    if row.outcome is Outcome.FAILED:
        figures |= {"error": row.error, "message": row.message}
        sentence = f"it failed ({counted(row.attempts, 'attempt')}), at last with {row.error}: {row.message}"
        return _note("indexed", Verdict.FAILED, sentence, figures), row
    if row.outcome is Outcome.EMPTY and not (inquiry.ranking.whole_images and row.is_findable):
        sentence = "it was indexed as empty: the segmenter found no region in it"
        return _note("indexed", Verdict.EMPTY, sentence, figures), row
    return _note("indexed", None, f"it is in the index with {counted(row.regions, 'region')}", figures), row


def _elsewhere(inquiry: Inquiry) -> Note:
    """The image is not in the live index: it may be in one of another fingerprint."""
    image, live = inquiry.expected.image, inquiry.context.index.manifest.fingerprint
    found = [other.manifest for other in inquiry.others if image in other.newest([image])]
    figures = {"fingerprint": live, "other_fingerprints": [one.fingerprint for one in found]}
    if not found:
        return _note("indexed", Verdict.NOT_INDEXED, f"{image} is not in the index", figures)
    sentence = (
        f"it is indexed under fingerprint {found[0].fingerprint} (preset {found[0].preset}) only, "
        f"while {live} is live: index it again"
    )
    return _note("indexed", Verdict.OTHER_FINGERPRINT, sentence, figures)


def unchanged(inquiry: Inquiry, row: ImageRow) -> tuple[Note, View | None]:
    """The object as it is now, if it is the one that was indexed."""
    figures: dict[str, Any] = {"etag_indexed": row.etag, "etag_now": None}
    try:
        etag, pixels = inquiry.context.read_image(inquiry.expected.image)
    except ObjectNotFoundError as error:
        sentence = f"its object is gone since it was indexed ({error}), so nothing can be computed again"
        return _note("unchanged", Verdict.CHANGED, sentence, figures), None
    figures["etag_now"] = etag
    if etag != row.etag:
        sentence = "its object has changed since it was indexed, so hits show the old one: index it again"
        return _note("unchanged", Verdict.CHANGED, sentence, figures), None
    view = View(pixels, inquiry.context.encoder.segmenter.segment([pixels])[0])
    return _note("unchanged", None, "its object is the one that was indexed", figures), view


def mask(inquiry: Inquiry, view: View) -> tuple[Note, TargetRegion]:
    """The region that is expected: in the box, or else the one on the page, or else the most similar one."""
    box = inquiry.expected.box_xyxy
    target = _without_box(inquiry, view) if box is None else region_in_box(box, view.segmentation)
    return _note("mask", None if target.found else Verdict.NO_MASK, target.sentence, target.figures), target


def _without_box(inquiry: Inquiry, view: View) -> TargetRegion:
    encoder = inquiry.context.encoder
    page = inquiry.ranking.page(inquiry.question.request, inquiry.question.filter)
    shown = next((hit for hit in page.hits if hit.image == inquiry.expected.image), None)
    found = None if shown is None else region_on_page(shown, view.segmentation, encoder)
    return found or region_most_similar(inquiry.query_features(), view.pixels, view.segmentation, encoder)


def kept(inquiry: Inquiry, image: ImageRow, view: View, row: int) -> tuple[Note, Indexed | None]:
    """The index's row of the region in this `row` of the segmentation, if the policy keeps it."""
    policy = inquiry.context.encoder.policy
    areas = view.segmentation.letterbox.areas_px(view.segmentation.masks)
    rows = policy.keep(view.segmentation).tolist()
    rank = int(np.flatnonzero(np.argsort(-areas, kind="stable") == row)[0]) + 1
    place = f"its region is number {rank} of {len(areas)} by area ({areas[row]:,.0f} px)"
    figures = {
        "area_px": round(float(areas[row])),
        "area_rank": rank,
        "regions": len(areas),
        "kept": len(rows),
        "policy": policy.name,
        "count": policy.count,
    }
    if row not in rows:
        sentence = f"{place}, and policy {policy.name} keeps {policy.count}: it has no code"
        return _note("kept", Verdict.NOT_KEPT, sentence, figures), None
    match = _indexed_region(inquiry.ranking.rows(image, Filter()), view.segmentation, row, rows.index(row))
    if match is None:
        sentence = f"{place}, kept on this machine, yet the index holds no such region: index it again with --force"
        return _note("kept", Verdict.NOT_KEPT, sentence, figures), None
    sentence = f"{place}, so it is kept: region {match.region} in the index"
    found = Indexed(match.region, match.distance_bits)
    return _note("kept", None, sentence, figures | {"region": match.region}), found


def _indexed_region(regions: Sequence[Hit], segmentation: Segmentation, row: int, number: int) -> Hit | None:
    """The index's row of a region: the one with the same box, of that number where boxes tie."""
    if not regions:
        return None
    boxes = np.array([one.box_xyxy for one in regions], dtype=np.float32)
    ious = box_iou(boxes, segmentation.boxes_xyxy[[row]])[:, 0].round(3)
    best = max(range(len(regions)), key=lambda place: (ious[place], regions[place].region == number))
    return regions[best] if ious[best] >= SAME_REGION_IOU else None


def whole_image(inquiry: Inquiry, image: ImageRow) -> Indexed:
    """The index's row of the whole image."""
    return Indexed(None, inquiry.ranking.rows(image, Filter())[0].distance_bits)


def features(inquiry: Inquiry, image: ImageRow, view: View, row: int | None, found: Indexed) -> tuple[Note, RankPlace]:
    """The region's place by float features among the N nearest by code (`row` is None for the whole image)."""
    excluded_by = excluding_parts(inquiry.ranking, inquiry.question.filter, image, found.region)
    is_it = _recogniser(inquiry, found)
    applied = None if excluded_by else inquiry.question.filter  # an excluding filter would hide where it ranks
    too_far = (most_bits := inquiry.question.request.most_bits) is not None and found.distance_bits > most_bits
    ranking = inquiry.ranking.without_bound() if too_far else inquiry.ranking  # and so would the bound
    grouped = inquiry.question.request.group_by_image
    rank = find_rank(ranking, applied, is_it=is_it, first=inquiry.first, group_by_image=grouped)
    rivals = [hit for hit in rank.nearest if not is_it(hit)]
    encoded, missing = inquiry.context.recollection.features(inquiry.context, rivals)
    query, own = inquiry.query_features(), _own_features(inquiry, view, row)
    cosine, others = float(own.cosines(query)[0]), encoded.cosines(query).tolist()
    number = 1 + sum(one > cosine for one in others)
    place = RankPlace(rank, number, inquiry.first, excluded_by, too_far)
    figures = {
        "candidates": len(rivals),
        "encoded_again": len(others),
        "left_out": missing,
        "rank": number,
        "cosine": round(cosine, 4),
        "cosine_mask_features": round(float(cosines(own.mask_features, query.mask_features)[0]), 4),
        "cosine_image_features": round(float(cosines(own.image_features, query.image_features)[0]), 4),
        "best_cosine": round(max([cosine, *others]), 4),
        "filter_applied": applied is not None,
    }
    among = f"{counted(len(others), 'candidate')} by code"
    what = f"by features (cosine {cosine:.3f}) it is number {number} of {among} and itself"
    if number <= max(1, len(others)) or place.among_first:
        return _note("features", None, what, figures), place
    sentence = f"{what}: each of them is more similar to the query, before any hashing{place.filter_too}"
    return _note("features", Verdict.DISSIMILAR, sentence, figures), place


def codes(inquiry: Inquiry, found: Indexed, place: RankPlace) -> Note:
    """The region's rank by code."""
    rank, bits = place.rank, inquiry.context.index.manifest.bits
    figures = {
        "rank": rank.rank,
        "looked_at": rank.looked_at,
        "exact": rank.exact,
        "distance_bits": found.distance_bits,
        "bits": bits,
        "features_rank": place.features_rank,
        "first": place.first,
        "filter_applied": inquiry.question.filter is not None and not place.excluded_by,
    }
    number = f"beyond the first {rank.looked_at:,}" if rank.rank is None else f"number {rank.rank:,}"
    sure = "" if rank.exact else " (the search was not exact)"
    by = f"by code, the first {rescore} rescored," if (rescore := inquiry.ranking.rescored) else "by code"
    what = f"{by} it is {number}{sure}, {found.distance_bits} of {bits} bits from the query"
    if place.among_first:
        return _note("codes", None, what, figures)
    sentence = (
        f"{what}: hashing lost it, which is number {place.features_rank} by features and "
        f"not among the first {place.first} by code{place.filter_too}"
    )
    return _note("codes", Verdict.HASHING, sentence, figures)


def passes_filter(place: RankPlace) -> Note:
    """Whether the filter lets the region pass."""
    figures = {"excluded_by": list(place.excluded_by)}
    if not place.excluded_by:
        return _note("filter", None, "the filter lets it pass", figures)
    return _note("filter", Verdict.FILTER, f"the filter excludes it by {', '.join(place.excluded_by)}", figures)


def chance(inquiry: Inquiry, found: Indexed, place: RankPlace) -> Note:
    """Whether the region is as near as `max_false_match` demands."""
    most_bits = inquiry.question.request.most_bits
    figures = {"distance_bits": found.distance_bits, "most_bits": most_bits, "rank": place.rank.rank}
    if not place.too_far:
        return _note("chance", None, f"max_false_match lets {counted(most_bits or 0, 'bit')} pass", figures)
    allowed = "nothing" if most_bits == -1 else f"at most {counted(most_bits or 0, 'bit')}"
    sentence = (
        f"it is {counted(found.distance_bits, 'bit')} from the query, and max_false_match lets {allowed} pass: "
        "chance explains it as well"
    )
    return _note("chance", Verdict.CHANCE, sentence, figures)


def grouping(inquiry: Inquiry, found: Indexed, place: RankPlace, shown: Hit) -> Note:
    """Whether its image is shown by this very region."""
    figures = {"region": found.region, "shown_region": shown.region, "rank": place.rank.rank}
    if shown.region == found.region or inquiry.expected.box_xyxy is None:
        return _note("grouping", None, f"its image is shown by region {shown.region}", figures)
    sentence = (
        f"its image stands at number {place.rank.rank} by the nearer region {shown.region}, and with "
        f"--group-by-image its other regions are not shown"
    )
    return _note("grouping", Verdict.GROUPING, sentence, figures)


def page(inquiry: Inquiry, place: RankPlace) -> Note:
    """The last step: it always has a verdict."""
    request = inquiry.question.request
    rank, offset, end = place.rank.rank or 0, request.offset, request.offset + request.limit
    figures = {"rank": rank, "offset": offset, "limit": request.limit}
    if offset < rank <= end:
        return _note("page", Verdict.HIT, f"it is among the hits, number {rank}", figures)
    cure = f"an offset below {rank}" if rank <= offset else f"--limit {rank - offset}"
    what = f"it is number {rank}, and the page shows {offset + 1} to {end}: {cure} would show it"
    return _note("page", Verdict.PAGING, f"{what} (by features it is number {place.features_rank})", figures)


def _recogniser(inquiry: Inquiry, found: Indexed) -> Callable[[Hit], bool]:
    image, grouped = inquiry.expected.image, inquiry.question.request.group_by_image
    return lambda hit: hit.image == image and (grouped or hit.region == found.region)


def _own_features(inquiry: Inquiry, view: View, row: int | None) -> RegionFeatures:
    rows = np.array([] if row is None else [row], dtype=np.intp)
    job = RegionJob.of_rows(view.pixels, view.segmentation, rows, whole_image=row is None)
    return RegionFeatures.of_job(inquiry.context.encoder, job)


def _note(name: str, verdict: Verdict | None, sentence: str, figures: Mapping[str, Any]) -> Note:
    return Note(Step(name, verdict in (None, Verdict.HIT), dict(figures), sentence), verdict)
