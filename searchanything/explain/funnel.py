"""Why is this image not among the hits? The funnel, step by step, up to the first step that explains.

    prompt ─► indexed ─► unchanged ─► mask ─► kept ─► features ─► codes ─► filter ─► grouping ─► page ─► hit
    (query)   (row of    (object)     (seg-   (policy) (float,    (Hamming,
               the index)              menter)          no hash)   all rows)

Features and codes are judged by one measure: a place among the first N. The N nearest by code, the candidates, are
encoded again. What stands behind all N of them by its float features is not similar enough for the models; what does
not, and yet has no place among the first N by code, was lost by hashing. A rank by features is one among the
candidates: the true one may be larger, never smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchanything.answers.explanation import Explanation, Step, Verdict
from searchanything.core.errors import ObjectNotFoundError, PromptError
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import RegionIndex, Segmentation
from searchanything.core.types import BoxXYXY, Filter, Hit, ImageRef, ImageRow, Outcome, RegionMatch, RGBImage
from searchanything.encode.encoder import RegionJob
from searchanything.explain.expected_region import NO_REGIONS, Meant, region_in_box, region_most_similar, region_on_page
from searchanything.explain.rank import Race, Standing, excluding_parts, standing
from searchanything.explain.reencode import SAME_REGION_IOU, RegionFeatures, SearchContext, cosines
from searchanything.prompts.choose import candidates, describe
from searchanything.prompts.prompt import Prompt, as_box, describe_prompt
from searchanything.search.search import PageRequest

CANDIDATES: Final = 50  # N, unless the page reaches further


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query as it was asked: `image` (H, W, 3) uint8 RGB."""

    image: RGBImage
    prompt: Prompt
    request: PageRequest
    filter: Filter | None = None


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


def explain(
    context: SearchContext,
    question: Question,
    expected: Expected,
    *,
    others: Sequence[RegionIndex] = (),
    first: int = CANDIDATES,
) -> Explanation:
    """Walk down the funnel for an expected image. `others` are indexes of other fingerprints, `first` is N.

    Without an expected box, the image's region on the page is meant, or else the one most similar to the query.

    Raises: PromptError (also for a box outside the expected image), FilterError, UsageError, StoreError, ImageError,
    RegionIndexError.
    """
    funnel = _Funnel(context, question, expected, others=others, first=first)
    steps = [funnel.prompt, funnel.indexed, funnel.unchanged, funnel.mask, funnel.kept]
    steps += [funnel.features, funnel.codes, funnel.filter, funnel.grouping]
    verdict = next((verdict for step in steps if (verdict := step()) is not None), None) or funnel.page()
    return funnel.explanation(verdict)


class _Funnel:
    """What is known so far about the expected image. Each step adds to it, and returns the verdict or None.

    Steps that have no meaning (masks for a search of whole images, a filter where none was given) leave no trace.
    """

    _row: ImageRow
    _looked_at = False  # whether there are pixels and their segmentation
    _pixels: RGBImage
    _segmentation: Segmentation
    _meant: Meant = NO_REGIONS
    _region: int | None = None  # its number in the index; None for the whole image
    _distance_bits: int
    _excluded_by: Sequence[str] = ()
    _features: RegionFeatures
    _features_rank: int
    _standing: Standing

    def __init__(
        self,
        context: SearchContext,
        question: Question,
        expected: Expected,
        *,
        others: Sequence[RegionIndex],
        first: int,
    ) -> None:
        self._context, self._question, self._expected, self._others = context, question, expected, others
        self._encoder = context.encoder
        self._query = context.recollection.query(context, question.image, question.prompt)
        self._whole_images = self._query.choice.kind == "image"
        if self._whole_images and expected.box_xyxy is not None:
            raise PromptError("whole images are searched without a prompt: leave the expected box out, or add a prompt")
        self._race = Race(context, self._query.code, self._whole_images)
        self._end = question.request.offset + question.request.limit
        self._first = min(max(first, self._end), context.max_limit)
        self._steps: list[Step] = []

    def explanation(self, verdict: Verdict) -> Explanation:
        """What was found out, once a step has given the verdict."""
        meant = [] if self._meant.row is None else [self._meant.row]
        regional = self._looked_at and not self._whole_images
        kept = self._encoder.policy.keep(self._segmentation).tolist() if regional else []
        regions = candidates(self._segmentation, meant + kept) if regional else []
        return Explanation(
            expected=self._expected.image,
            expected_box_xyxy=self._expected.box_xyxy,
            verdict=verdict,
            steps=tuple(self._steps),
            selection=describe(self._query.choice, self._query.segmentation),
            prompt_description=describe_prompt(self._question.prompt),
            fingerprint=self._context.index.manifest.fingerprint,
            query_image=self._question.image,
            expected_image=self._pixels if self._looked_at else None,
            region=regions[0] if meant else None,
            kept=tuple(regions[len(meant) :]),
        )

    def prompt(self) -> Verdict | None:
        choice = self._query.choice
        nothing = choice.kind == "none"
        what = {"none": "nothing", "region": "a region", "image": "the whole image"}[choice.kind]
        verdict = Verdict.NOTHING_SELECTED if nothing else None
        figures = {"kind": choice.kind, "rule": choice.rule, "score": round(choice.score, 4)}
        return self._noted("prompt", verdict, f"the prompt selects {what}: {choice.reason}", figures)

    def indexed(self) -> Verdict | None:
        image, index = self._expected.image, self._context.index
        row = index.newest([image]).get(image)
        if row is None:
            return self._unknown()
        self._row = row
        figures = {"outcome": str(row.outcome), "regions": row.regions, "attempts": row.attempts}
        if row.outcome is Outcome.FAILED:
            figures |= {"error": row.error, "message": row.message}
            sentence = f"it failed ({row.attempts} attempts), at last with {row.error}: {row.message}"
            return self._noted("indexed", Verdict.FAILED, sentence, figures)
        if row.outcome is Outcome.EMPTY and not (self._whole_images and row.is_findable):
            sentence = "it was indexed as empty: the segmenter found no region in it"
            return self._noted("indexed", Verdict.EMPTY, sentence, figures)
        return self._noted("indexed", None, f"it is in the index with {row.regions} regions", figures)

    def _unknown(self) -> Verdict | None:
        image = self._expected.image
        live = self._context.index.manifest.fingerprint
        found = [other.manifest for other in self._others if image in other.newest([image])]
        figures = {"fingerprint": live, "other_fingerprints": [one.fingerprint for one in found]}
        if not found:
            return self._noted("indexed", Verdict.NOT_INDEXED, f"{image} is not in the index", figures)
        sentence = (
            f"it is indexed under fingerprint {found[0].fingerprint} (preset {found[0].preset}) only, "
            f"while {live} is live: index it again"
        )
        return self._noted("indexed", Verdict.OTHER_FINGERPRINT, sentence, figures)

    def unchanged(self) -> Verdict | None:
        figures: dict[str, Any] = {"etag_indexed": self._row.etag, "etag_now": None}
        try:
            etag, pixels = self._context.read_image(self._expected.image)
        except ObjectNotFoundError as error:
            sentence = f"its object is gone since it was indexed ({error}), so nothing can be computed again"
            return self._noted("unchanged", Verdict.CHANGED, sentence, figures)
        figures["etag_now"] = etag
        if etag != self._row.etag:
            sentence = "its object has changed since it was indexed, so hits show the old one: index it again"
            return self._noted("unchanged", Verdict.CHANGED, sentence, figures)
        self._looked_at, self._pixels = True, pixels
        self._segmentation = self._encoder.segmenter.segment([pixels])[0]
        return self._noted("unchanged", None, "its object is the one that was indexed", figures)

    def mask(self) -> Verdict | None:
        if self._whole_images:
            return None
        box = self._expected.box_xyxy
        self._meant = self._without_box() if box is None else region_in_box(box, self._segmentation)
        verdict = None if self._meant.found else Verdict.NO_MASK
        return self._noted("mask", verdict, self._meant.sentence, self._meant.figures)

    def _without_box(self) -> Meant:
        page = self._race.page(self._question.request, self._question.filter)
        shown = next((hit for hit in page.hits if hit.image == self._expected.image), None)
        found = None if shown is None else region_on_page(shown, self._segmentation, self._encoder)
        return found or region_most_similar(self._query_features(), self._pixels, self._segmentation, self._encoder)

    def kept(self) -> Verdict | None:
        row, policy = self._meant.row, self._encoder.policy
        if row is None:
            return None
        areas = self._segmentation.letterbox.areas_px(self._segmentation.masks)
        kept = policy.keep(self._segmentation).tolist()
        rank = int(np.flatnonzero(np.argsort(-areas, kind="stable") == row)[0]) + 1
        place = f"its region is number {rank} of {len(areas)} by area ({areas[row]:,.0f} px)"
        figures = {
            "area_px": round(float(areas[row])),
            "area_rank": rank,
            "regions": len(areas),
            "kept": len(kept),
            "policy": policy.name,
            "count": policy.count,
        }
        if row not in kept:
            sentence = f"{place}, and policy {policy.name} keeps {policy.count}: it has no code"
            return self._noted("kept", Verdict.NOT_KEPT, sentence, figures)
        match = self._indexed_region(row, kept.index(row))
        if match is None:
            sentence = f"{place}, kept on this machine, yet the index holds no such region: index it again with --force"
            return self._noted("kept", Verdict.NOT_KEPT, sentence, figures)
        self._region, self._distance_bits = match.region, match.distance_bits
        sentence = f"{place}, so it is kept: region {match.region} in the index"
        return self._noted("kept", None, sentence, figures | {"region": match.region})

    def _indexed_region(self, row: int, number: int) -> RegionMatch | None:
        """The index' row of a region: the one with the same box, of that number where boxes tie."""
        rows = [one for one in self._race.rows(self._row, Filter()) if isinstance(one, RegionMatch)]
        if not rows:
            return None
        boxes = np.array([one.box_xyxy for one in rows], dtype=np.float32)
        ious = box_iou(boxes, self._segmentation.boxes_xyxy[[row]])[:, 0].round(3)
        best = max(range(len(rows)), key=lambda place: (ious[place], rows[place].region == number))
        return rows[best] if ious[best] >= SAME_REGION_IOU else None

    def features(self) -> Verdict | None:
        if self._whole_images:
            self._distance_bits = self._race.rows(self._row, Filter())[0].distance_bits
        self._excluded_by = excluding_parts(self._race, self._question.filter, self._row, self._region)
        self._standing = self._standing_by_code()
        query, own = self._query_features(), self._own_features()
        rivals = [hit for hit in self._standing.nearest if not self._is_it(hit)]
        encoded, left_out = self._context.recollection.features(self._context, rivals)
        cosine = float(own.cosines(query)[0])
        others = encoded.cosines(query).tolist()
        self._features_rank = rank = 1 + sum(one > cosine for one in others)
        figures = {
            "candidates": len(rivals),
            "encoded_again": len(others),
            "left_out": left_out,
            "rank": rank,
            "cosine": round(cosine, 4),
            "cosine_mask_features": round(float(cosines(own.mask_features, query.mask_features)[0]), 4),
            "cosine_image_features": round(float(cosines(own.image_features, query.image_features)[0]), 4),
            "best_cosine": round(max([cosine, *others]), 4),
            "filter_applied": self._race_filter() is not None,
        }
        what = f"by features (cosine {cosine:.3f}) it is number {rank} of {len(others)} candidates by code and itself"
        if rank <= max(1, len(others)) or self._among_first():
            return self._noted("features", None, what, figures)
        sentence = f"{what}: each of them is more similar to the query, before any hashing{self._filter_too()}"
        return self._noted("features", Verdict.DISSIMILAR, sentence, figures)

    def codes(self) -> Verdict | None:
        place, bits = self._standing, self._context.index.manifest.bits
        figures = {
            "rank": place.rank,
            "looked_at": place.looked_at,
            "exact": place.exact,
            "distance_bits": self._distance_bits,
            "bits": bits,
            "features_rank": self._features_rank,
            "first": self._first,
            "filter_applied": self._race_filter() is not None,
        }
        number = f"beyond the first {place.looked_at:,}" if place.rank is None else f"number {place.rank:,}"
        sure = "" if place.exact else " (the search was not exact)"
        what = f"by code it is {number}{sure}, {self._distance_bits} of {bits} bits from the query"
        if self._among_first():
            return self._noted("codes", None, what, figures)
        sentence = (
            f"{what}: hashing lost it, which is number {self._features_rank} by features and "
            f"not among the first {self._first} by code{self._filter_too()}"
        )
        return self._noted("codes", Verdict.HASHING, sentence, figures)

    def filter(self) -> Verdict | None:
        if self._question.filter is None:
            return None
        figures = {"excluded_by": list(self._excluded_by)}
        if not self._excluded_by:
            return self._noted("filter", None, "the filter lets it pass", figures)
        sentence = f"the filter excludes it by {', '.join(self._excluded_by)}"
        return self._noted("filter", Verdict.FILTER, sentence, figures)

    def grouping(self) -> Verdict | None:
        shown = self._standing.hit
        if not self._question.request.group_by_image or self._whole_images or shown is None:
            return None
        figures = {"region": self._region, "shown_region": shown.region, "rank": self._standing.rank}
        if shown.region == self._region or self._expected.box_xyxy is None:
            return self._noted("grouping", None, f"its image is shown by region {shown.region}", figures)
        sentence = (
            f"its image stands at number {self._standing.rank} by the nearer region {shown.region}, and with "
            f"--group-by-image its other regions are not shown"
        )
        return self._noted("grouping", Verdict.GROUPING, sentence, figures)

    def page(self) -> Verdict:
        """The last step: it always has a verdict."""
        rank, offset, end = self._standing.rank or 0, self._question.request.offset, self._end
        figures = {"rank": rank, "offset": offset, "limit": self._question.request.limit}
        if offset < rank <= end:
            self._noted("page", Verdict.HIT, f"it is among the hits, number {rank}", figures)
            return Verdict.HIT
        cure = f"an offset below {rank}" if rank <= offset else f"--limit {rank - offset}"
        what = f"it is number {rank}, and the page shows {offset + 1} to {end}: {cure} would show it"
        self._noted("page", Verdict.PAGING, f"{what} (by features it is number {self._features_rank})", figures)
        return Verdict.PAGING

    def _noted(self, name: str, verdict: Verdict | None, sentence: str, figures: Mapping[str, Any]) -> Verdict | None:
        """Note a step, and hand back its verdict."""
        self._steps.append(Step(name, verdict in (None, Verdict.HIT), dict(figures), sentence))
        return verdict

    def _standing_by_code(self) -> Standing:
        group = self._question.request.group_by_image
        return standing(self._race, self._race_filter(), is_it=self._is_it, first=self._first, group_by_image=group)

    def _race_filter(self) -> Filter | None:
        """The filter, unless it excludes the expected region: then the race without it shows where it would stand."""
        return None if self._excluded_by else self._question.filter

    def _is_it(self, hit: Hit) -> bool:
        same_region = self._question.request.group_by_image or hit.region == self._region
        return hit.image == self._expected.image and same_region

    def _among_first(self) -> bool:
        return self._standing.rank is not None and self._standing.rank <= self._first

    def _filter_too(self) -> str:
        return f" (the filter excludes it as well, by {', '.join(self._excluded_by)})" if self._excluded_by else ""

    def _query_features(self) -> RegionFeatures:
        return self._context.recollection.query_features(self._context, self._question.image, self._query)

    def _own_features(self) -> RegionFeatures:
        rows = np.array([] if self._meant.row is None else [self._meant.row], dtype=np.intp)
        job = RegionJob.of_rows(self._pixels, self._segmentation, rows, whole_image=self._whole_images)
        return RegionFeatures.of_job(self._encoder, job)
