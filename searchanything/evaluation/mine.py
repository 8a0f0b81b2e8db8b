"""How well an index recognises its own regions: no labels, only altered copies that must find what they were made of.

index ─► some images ─► some regions of each ─► altered copies ─► query by box ─► rank of the region itself
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np

from searchanything.core.codes import hamming, pack_signs
from searchanything.core.counting import counted
from searchanything.core.errors import ImageError, ObjectNotFoundError, StoreError, UsageError
from searchanything.core.geometry import box_iou, box_of_mask, mask_of_size
from searchanything.core.protocols import Segmentation
from searchanything.core.rows import Outcome, RegionRow
from searchanything.core.types import BoolMask, Hit, ImageRef, RegionRef, RGBImage, SizeClass, size_class_of
from searchanything.encode.encoder import RegionJob
from searchanything.evaluation.copies import ALTERATIONS, Copy
from searchanything.evaluation.evaluated import Report
from searchanything.evaluation.measures import Values, figure_interval, mean, nested, resampled_means, share
from searchanything.evaluation.overlaps import MIN_IOU
from searchanything.explain.reencode import SearchContext
from searchanything.ingest.reports import Failure
from searchanything.prompts.choose import Choice, choose
from searchanything.prompts.prompt import Box
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import PageRequest, search_regions
from searchanything.search.stored import stored_image, stored_regions

OnRegionsDone: TypeAlias = Callable[[int, int, int], None]  # regions done, of how many, images failed

REGIONS: Final = 200
REGIONS_OF_AN_IMAGE: Final = 4
_DEPTH: Final = 10
_TWINS: Final = 100  # regions of one code that are looked for
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class MineOptions:
    """Which regions are tried: about `regions`, drawn by `seed` from a bucket and prefix, or from all.

    `rescore` is how many of the nearest are rescored, as in a query.
    """

    regions: int = REGIONS
    seed: int = 0
    bucket: str | None = None
    key_prefix: str = ""
    rescore: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """One region and what its copies came to, by alteration: rank of the region itself (None: beyond the first ten),
    bits from its stored code, and whether the box selected it. An alteration that left nothing of it is missing.
    """

    row: RegionRow
    ranks: dict[str, int | None]
    bits: dict[str, int]
    selected: dict[str, bool]


def evaluate_mine(context: SearchContext, options: MineOptions, *, progress: OnRegionsDone | None = None) -> Report:
    """The report on an index. Images that cannot be read, or changed since, are left out and listed.

    Raises: UsageError where no region could be tried; RegionIndexError, ModelError.
    """
    started = time.perf_counter()
    tried: list[_Tried] = []
    failures: list[Failure] = []
    for image in _drawn_images(context, options):
        if len(tried) >= options.regions:
            break
        try:
            tried += _tried_regions(context, image, options)[: options.regions - len(tried)]
        except (ImageError, StoreError, ObjectNotFoundError) as error:
            failures.append(Failure(str(image), type(error).__name__, str(error)))
        if progress is not None:
            progress(len(tried), options.regions, len(failures))
    if not tried:
        why = f"; {counted(len(failures), 'image')} failed, the first: {failures[0].message}" if failures else ""
        raise UsageError(f"there is no indexed region to try{why}; index some images, or name another source")
    return {
        "preset": context.index.manifest.preset,
        "fingerprint": context.index.manifest.fingerprint,
        "among_regions": context.index.count_regions(),
        "images": len({one.row.image for one in tried}),
        "rescore": options.rescore,
        "seed": options.seed,
        **_figures(tried, options.seed),
        "failures": [one.to_dict() for one in failures],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _drawn_images(context: SearchContext, options: MineOptions) -> list[ImageRef]:
    """Indexed images in an order drawn by the seed, as many as there may be regions: memory holds no more."""

    def places() -> Iterator[tuple[bytes, ImageRef]]:
        states = context.index.iterate_states(bucket=options.bucket, key_prefix=options.key_prefix)
        for state in states:
            if state.outcome is Outcome.INDEXED:
                name = f"{options.seed} {state.image.image_id}".encode()
                yield blake2b(name, digest_size=16).digest(), state.image

    drawn = heapq.nsmallest(2 * options.regions, places())  # an image may be there in two generations
    return list(dict.fromkeys(image for _, image in drawn))


def _tried_regions(context: SearchContext, image: ImageRef, options: MineOptions) -> list[_Tried]:
    """Up to four regions of an image."""
    state = stored_image(context.index, image)
    rows = stored_regions(context.index, state)
    etag, decode = context.read_image(image)
    if etag != state.etag:
        raise StoreError(f"{image} changed since it was indexed; sync repair brings the index up to date")
    pixels = decode()
    generator = np.random.default_rng([options.seed, int(image.image_id[:15], 16)])
    chosen = generator.permutation(len(rows))[:REGIONS_OF_AN_IMAGE]
    return _asked(context, pixels, [rows[place] for place in sorted(chosen.tolist())], options) if len(chosen) else []


def _asked(context: SearchContext, image: RGBImage, rows: Sequence[RegionRow], options: MineOptions) -> list[_Tried]:
    tried = [_Tried(row, {}, {}, {}) for row in rows]
    masks = [mask_of_size(row.mask, *image.shape[:2]) for row in rows]
    themselves = [_same_things(context, row) for row in rows]
    for name, alter in ALTERATIONS.items():
        copies = alter(image, masks)
        for place, probe, selected in _probes(context, copies):
            stored = np.frombuffer(rows[place].code, dtype=np.uint8)
            request = PageRequest(limit=_DEPTH, rescore=options.rescore)
            page = search_regions(context.index, probe, request, filter=None)
            tried[place].ranks[name] = _rank(page.hits, rows[place], themselves[place])
            tried[place].bits[name] = int(hamming(probe.code[None], stored[None])[0, 0])
            tried[place].selected[name] = selected
    return tried


def _probes(context: SearchContext, copies: Sequence[Copy]) -> Iterator[tuple[int, QueryValues, bool]]:
    """What asking for each region by its box in the copy gives; a region of which nothing is left is not asked for."""
    encoder = context.encoder
    images = {id(image): image for image, _ in copies}
    segmentations = dict(zip(images, encoder.segmenter.segment(list(images.values())), strict=True))
    places, choices, jobs = [], [], []
    for place, (image, mask) in enumerate(copies):
        box = box_of_mask(mask)
        if box is not None:
            segmentation = segmentations[id(image)]
            choice = choose(Box(*box), segmentation, box_min_iou=encoder.box_min_iou)
            places.append(place)
            choices.append(_lies_on(choice, segmentation, mask))
            jobs.append(RegionJob.of_choice(image, segmentation, choice))
    if not jobs:
        return
    projections = encoder.hasher.project(encoder.pool_masks(jobs), encoder.embed_regions(jobs))
    for place, selected, code, projection in zip(places, choices, pack_signs(projections), projections, strict=True):
        yield place, QueryValues(code, projection), selected


def _lies_on(choice: Choice, segmentation: Segmentation, mask: BoolMask) -> bool:
    wanted = segmentation.letterbox.grid_mask(mask)
    both, either = (wanted & choice.mask).sum(), (wanted | choice.mask).sum()
    return bool(either and both / either >= MIN_IOU)


def _same_things(context: SearchContext, row: RegionRow) -> set[RegionRef]:
    """The region itself, and others of the very same code: identical images are no mistake of the search."""
    code = np.frombuffer(row.code, dtype=np.uint8)
    page = search_regions(context.index, code, PageRequest(limit=_TWINS), filter=None)
    return {RegionRef(row.image, row.region)} | {hit.ref for hit in page.hits if hit.distance_bits == 0}


def _rank(hits: Sequence[Hit], row: RegionRow, themselves: set[RegionRef]) -> int | None:
    """The first place, from 0, at which the region itself stands, or one at the same place in its image."""
    own = np.array([row.box_xyxy], dtype=np.float32)
    for place, hit in enumerate(hits):
        if hit.ref in themselves:
            return place
        if hit.image == row.image and box_iou(own, np.array([hit.box_xyxy], dtype=np.float32))[0, 0] >= MIN_IOU:
            return place
    return None


def _figures(tried: Sequence[_Tried], seed: int) -> Report:
    """Shares over regions: of each region, the mean over its copies. Intervals: resampled images."""
    values = _values(tried)
    _, images = np.unique([one.row.image.image_id for one in tried], return_inverse=True)
    resampled = resampled_means(values, seed=seed, images=images)
    ends = {name: figure_interval(values[name], one, images) for name, one in resampled.items()}
    means = {name: mean(one) for name, one in values.items()}
    rounded = {tuple(name.split(".")): None if one is None else round(one, _DIGITS) for name, one in means.items()}
    report: Report = {"regions": len(tried), **nested(rounded)}
    for size, part in report["by_size"].items():
        part["regions"] = sum(_size_of(one) == size for one in tried)
    for name, part in report["by_copy"].items():
        apart = [one.bits[name] for one in tried if name in one.bits]
        part["median_bits"] = float(np.median(apart)) if apart else None
    report["ci95"] = {name: [round(end, _DIGITS) for end in pair] for name, pair in ends.items() if pair is not None}
    return report


def _values(tried: Sequence[_Tried]) -> dict[str, Values]:
    """By the dotted name of the figure, a value for each region, NaN where it does not apply."""
    sizes = np.array([_size_of(one) for one in tried])
    groups = {"": np.ones(len(tried), dtype=np.bool_)}
    groups |= {f"by_size.{size.value}.": sizes == size.value for size in SizeClass}
    tables = _tables(tried)
    values = {
        f"{prefix}{figure}": np.where(members, _row_means(table), np.nan)
        for prefix, members in groups.items()
        for figure, table in tables.items()
    }
    return values | {
        f"by_copy.{name}.{figure}": table[:, column]
        for column, name in enumerate(ALTERATIONS)
        for figure, table in tables.items()
    }


def _size_of(one: _Tried) -> str:
    return size_class_of(one.row.box_xyxy).value


def _tables(tried: Sequence[_Tried]) -> dict[str, Values]:
    """By figure (regions, alterations), NaN where a copy was not asked for."""

    def table(value: Callable[[_Tried, str], float]) -> Values:
        rows = [[value(one, name) if name in one.ranks else np.nan for name in ALTERATIONS] for one in tried]
        return np.array(rows, dtype=np.float64)

    return {
        "recall_1": table(lambda one, name: float(one.ranks[name] == 0)),
        "recall_10": table(lambda one, name: float(one.ranks[name] is not None)),
        "selected": table(lambda one, name: float(one.selected[name])),
    }


def _row_means(table: Values) -> Values:
    asked = ~np.isnan(table)
    return share(np.where(asked, table, 0.0).sum(axis=1), asked.sum(axis=1))
