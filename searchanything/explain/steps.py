"""The funnel's steps that need pixels. Each takes what those before it found out, and adds a note and its own finding.

Steps that do not apply (masks for a search of whole images, a filter where none was given) leave no note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchanything.answers.explanation import Verdict
from searchanything.core.counting import counted
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import RegionIndex, Segmentation
from searchanything.core.rows import ImageRow
from searchanything.core.types import BoxXYXY, Filter, Hit, ImageRef, RGBImage
from searchanything.encode.encoder import EncodedQuery, RegionJob
from searchanything.encode.given_segmentation import GivenSegmentation
from searchanything.explain.expected_region import TargetRegion, region_in_box, region_most_similar, region_on_page
from searchanything.explain.index_steps import Note, noted
from searchanything.explain.rank import Rank, Ranking, excluding_parts, is_of
from searchanything.explain.reencode import SAME_REGION_IOU, RegionFeatures, SearchContext, cosines
from searchanything.images.given_regions import GivenRegions
from searchanything.images.sidecars import SIDECAR_REGIONS, has_given_regions
from searchanything.prompts.prompt import Mask, Prompt, as_box, describe_prompt
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

    @property
    def description(self) -> dict[str, Any]:
        """What was asked with, as the answer describes it: a stored region is one, although its mask is the prompt."""
        if self.asked is not None and isinstance(self.prompt, Mask):
            return {"kind": "region"}
        return describe_prompt(self.prompt)


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
    """What is asked about an answer: the question encoded, its ranking, and N (`first`): so many are encoded again."""

    context: SearchContext
    question: SearchQuestion
    expected: Expected
    query: EncodedQuery
    ranking: Ranking
    first: int
    others: Iterable[RegionIndex]

    @property
    def reach(self) -> int:
        """How far the ranking is looked at first: N, or where the page ends. What is nearer is not lost."""
        request = self.question.request
        return min(max(self.first, request.offset + request.limit), self.context.index.max_limit)

    def query_features(self) -> RegionFeatures:
        """Those of the query's own region, (1, …)."""
        return self.context.recollection.query_features(self.context, self.question.image, self.query)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The expected image, (H, W, 3) uint8 RGB, segmented again; or with its sidecar's regions, which `origin` says."""

    pixels: RGBImage
    segmentation: Segmentation
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Indexed:
    """The expected region's row in the index; `region` is None for the whole image."""

    region: int | None
    distance_bits: int


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Where the expected region ranks by code and by features, and the parts of the filter that exclude it.

    `reach`: see `Inquiry`.
    """

    rank: Rank
    features_rank: int
    reach: int
    excluded_by: Sequence[str]

    @property
    def among_first(self) -> bool:
        """Whether it is one of the N nearest by code, or on the page or before it."""
        return self.rank.rank is not None and self.rank.rank <= self.reach

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
    return noted("prompt", verdict, f"the prompt selects {what}: {choice.reason}", figures)


def unchanged(inquiry: Inquiry, row: ImageRow) -> tuple[Note, View | None]:
    """The object as it is now, if it is the one that was indexed: another one is not even decoded."""
    figures: dict[str, Any] = {"etag_indexed": row.etag, "etag_now": None}
    try:
        etag, decode = inquiry.context.read_image(inquiry.expected.image)
    except ObjectNotFoundError as error:
        sentence = f"its object is gone since it was indexed ({error}), so nothing can be computed again"
        return noted("unchanged", Verdict.CHANGED, sentence, figures), None
    figures["etag_now"] = etag
    if etag != row.etag:
        sentence = "its object has changed since it was indexed, so hits show the old one: index it again"
        return noted("unchanged", Verdict.CHANGED, sentence, figures), None
    pixels = decode()
    view = View(pixels, inquiry.context.encoder.segmenter.segment([pixels])[0])
    if has_given_regions(row.metadata) and not inquiry.ranking.whole_images:
        view = _with_its_own(view, row, inquiry.ranking.rows(row, Filter()))
    return noted("unchanged", None, "its object is the one that was indexed", figures), view


def _with_its_own(view: View, row: ImageRow, regions: Sequence[Hit]) -> View:
    """The image with the regions that its sidecar gave, as the index has them: the sidecar may say others by now."""
    given = counted(int(row.metadata[SIDECAR_REGIONS]), "region")
    origin = f"of {given} that its sidecar gave, {row.regions} are indexed: "
    return View(view.pixels, GivenSegmentation(view.segmentation, GivenRegions.of_hits(regions)), origin)


def mask(inquiry: Inquiry, view: View) -> tuple[Note, TargetRegion]:
    """The region that is expected: in the box, or else the one on the page, or else the most similar one."""
    box = inquiry.expected.box_xyxy
    target = _without_box(inquiry, view) if box is None else region_in_box(box, view.segmentation)
    sentence = f"{view.origin}{target.sentence}"
    return noted("mask", None if target.found else Verdict.NO_MASK, sentence, target.figures), target


def _without_box(inquiry: Inquiry, view: View) -> TargetRegion:
    encoder = inquiry.context.encoder
    page = inquiry.ranking.page(inquiry.question.request, inquiry.question.filter)
    shown = next((hit for hit in page.hits if hit.image == inquiry.expected.image), None)
    found = None if shown is None else region_on_page(shown, view.segmentation, encoder)
    return found or region_most_similar(inquiry.query_features(), view.pixels, view.segmentation, encoder)


def kept(inquiry: Inquiry, image: ImageRow, view: View, row: int) -> tuple[Note, Indexed | None]:
    """The index's row of the region in this `row` of the segmentation, if the policy keeps it."""
    policy = inquiry.context.encoder.policy
    areas = view.segmentation.areas_px
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
        return noted("kept", Verdict.NOT_KEPT, sentence, figures), None
    match = _indexed_region(inquiry.ranking.rows(image, Filter()), view.segmentation, row, rows.index(row))
    if match is None:
        sentence = f"{place}, kept on this machine, yet the index holds no such region: index it again with --force"
        return noted("kept", Verdict.NOT_KEPT, sentence, figures), None
    sentence = f"{place}, so it is kept: region {match.region} in the index"
    found = Indexed(match.region, match.distance_bits)
    return noted("kept", None, sentence, figures | {"region": match.region}), found


def _indexed_region(regions: Sequence[Hit], segmentation: Segmentation, row: int, number: int) -> Hit | None:
    """The index's row of a region: the one with the same box, of that number where boxes tie."""
    if not regions:
        return None
    boxes = np.array([one.box_xyxy for one in regions], dtype=np.float32)
    ious = box_iou(boxes, segmentation.boxes_xyxy[[row]])[:, 0].round(3)
    best = max(range(len(regions)), key=lambda place: (ious[place], regions[place].region == number))
    return regions[best] if ious[best] >= SAME_REGION_IOU else None


def whole_image(inquiry: Inquiry, image: ImageRow) -> Indexed | None:
    """The index's row of the whole image, if it is there still."""
    rows = inquiry.ranking.rows(image, Filter())
    return Indexed(None, rows[0].distance_bits) if rows else None


def features(inquiry: Inquiry, image: ImageRow, view: View, row: int | None, found: Indexed) -> tuple[Note, RankPlace]:
    """The region's place by float features among the N nearest by code (`row` is None for the whole image)."""
    excluded_by = excluding_parts(inquiry.ranking.rows, inquiry.question.filter, image, found.region)
    is_it = _recogniser(inquiry, image, found)
    applied = None if excluded_by else inquiry.question.filter  # an excluding filter would hide where it ranks
    too_far = (most_bits := inquiry.question.request.most_bits) is not None and found.distance_bits > most_bits
    ranking = inquiry.ranking.without_bound() if too_far else inquiry.ranking  # and so would the bound
    grouped = inquiry.question.request.group_by_image
    rank = ranking.find(applied, is_it=is_it, first=inquiry.reach, group_by_image=grouped)
    rivals = [hit for hit in rank.nearest[: inquiry.first] if not is_it(hit)]
    encoded, missing = inquiry.context.recollection.features(inquiry.context, rivals)
    query, own = inquiry.query_features(), _own_features(inquiry, view, row)
    cosine, others = float(own.cosines(query)[0]), encoded.cosines(query).tolist()
    number = 1 + sum(one > cosine for one in others)
    place = RankPlace(rank, number, inquiry.reach, excluded_by)
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
        return noted("features", None, what, figures), place
    sentence = f"{what}: each of them is more similar to the query, before any hashing{place.filter_too}"
    return noted("features", Verdict.DISSIMILAR, sentence, figures), place


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
        "first": place.reach,
        "filter_applied": inquiry.question.filter is not None and not place.excluded_by,
    }
    number = f"beyond the first {rank.looked_at:,}" if rank.rank is None else f"number {rank.rank:,}"
    sure = "" if rank.exact else " (the search was not exact)"
    by = f"by code, the first {rescore} rescored," if (rescore := inquiry.ranking.rescored) else "by code"
    what = f"{by} it is {number}{sure}, {found.distance_bits} of {bits} bits from the query"
    if place.among_first:
        return noted("codes", None, what, figures)
    sentence = (
        f"{what}: hashing lost it, which is number {place.features_rank} by features and "
        f"not among the first {place.reach:,} by code{place.filter_too}"
    )
    return noted("codes", Verdict.HASHING, sentence, figures)


def _recogniser(inquiry: Inquiry, image: ImageRow, found: Indexed) -> Callable[[Hit], bool]:
    grouped = inquiry.question.request.group_by_image
    return lambda hit: is_of(image, hit) and (grouped or hit.region == found.region)


def _own_features(inquiry: Inquiry, view: View, row: int | None) -> RegionFeatures:
    rows = np.array([] if row is None else [row], dtype=np.intp)
    job = RegionJob.of_rows(view.pixels, view.segmentation, rows, whole_image=row is None)
    return RegionFeatures.of_job(inquiry.context.encoder, job)
