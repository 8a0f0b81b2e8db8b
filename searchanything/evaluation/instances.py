"""The very same thing again: an annotated instance is the query, other images that show it are the answers.

As in ILIAS (Kordopatis-Zilos et al., CVPR 2025): positives by instance, any number of images without it among them, and
images are ranked, each by its nearest region. Beside the index's regions stands a grid of patches, which needs no
training and no segmenter's regions. `docs/evaluation.md` has the protocol.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.counting import counted
from searchanything.core.digests import Numbers
from searchanything.core.errors import UsageError
from searchanything.core.protocols import Segmentation
from searchanything.core.types import MEDIUM_AREA_PX, SMALL_AREA_PX, FloatArray, RGBImage, SizeClass
from searchanything.encode.encoder import Encoder, RegionJob
from searchanything.evaluation.evaluated import Evaluated
from searchanything.evaluation.image_ranking import ImageRows, RankedImages, RowsKept, rank_images
from searchanything.evaluation.measures import (
    Values,
    figure_interval,
    mean,
    nested,
    resampled_means,
    retrieval_values,
)
from searchanything.evaluation.overlaps import MIN_IOU, region_ious
from searchanything.evaluation.provenance import provenance
from searchanything.evaluation.query_table import JudgedQuery, QueryTable
from searchanything.evaluation.reading import OnImagesDone, Reading, annotated, found_below, read_batches
from searchanything.evaluation.truth import TrueImage, Truth
from searchanything.ingest.reports import Failure
from searchanything.prompts.choose import choose
from searchanything.prompts.prompt import Box

LEVELS: Final = (1, 2, 3, 4)  # so many rows and columns of patches: 30, where an index keeps 25 regions
_KINDS: Final = ("regions", "grid")
_SHOWN: Final = ("map_10", "map_100", "precision_1", "recall_10")
_DIGITS: Final = 5
_DIFFERENCE: Final = "regions_less_grid"
_BY_SIZE: Final = "by_size"


@dataclass(slots=True, eq=False)
class _Observed:
    """What all images gave: rows of each kind to search among, the queries, and who is on which image."""

    rows: Mapping[str, RowsKept]
    queries: RowsKept
    asked: list[JudgedQuery] = field(default_factory=list)
    images: int = 0
    distractors: int = 0

    @classmethod
    def by(cls, encoder: Encoder) -> _Observed:
        """Nothing yet."""
        return cls({kind: RowsKept(encoder) for kind in _KINDS}, RowsKept(encoder))


def evaluate_instances(
    truth: Truth,
    folders: tuple[Path, Path | None],
    encoder: Encoder,
    *,
    reading: Reading | None = None,
    seed: int = 0,
    progress: OnImagesDone | None = None,
) -> Evaluated:
    """The figures on annotated images, whose category is the instance, and on a folder of images that show none.

    `folders`: where the annotated images lie, and where the distractors do, if there are any. Images that cannot be
    read are left out and listed. Raises: UsageError where no instance is on two images, ModelError.
    """
    started = time.perf_counter()
    failures: list[Failure] = []
    names = sorted({one.category for image in truth.images for one in image.instances})
    wanted = annotated(truth, folders[0]) + ([] if folders[1] is None else found_below(folders[1]))
    with ExitStack() as stack:
        seen = _Observed.by(encoder)
        for rows in (*seen.rows.values(), seen.queries):
            stack.callback(rows.close)
        for images, files in read_batches(wanted, reading or Reading(), failures, progress):
            _take_in(seen, encoder, names, images, [file.truth for file in files])
        figures = _figures(seen, seed)
        queries = seen.queries.all_rows()
        possible = _possible(queries)
        means, ends = _summary(figures, queries.image, seed)
        counts = _counts(seen, possible)
    report = {
        "dataset": {**counts, "instances": len(names), "failed": len(failures)},
        **provenance(encoder, wanted),
        "seed": seed,
        **nested(means),
        "ci95": {".".join(path): pair for path, pair in ends.items()},
        "failures": [one.to_dict() for one in failures],
        "seconds": round(time.perf_counter() - started, 1),
    }
    whole = {".".join(path): values for path, values in figures.items() if path[0] != _BY_SIZE}
    return Evaluated(report, QueryTable(seen.asked, {"to_find": possible.astype(str).tolist()}, whole))


def _counts(seen: _Observed, possible: NDArray[np.int64]) -> dict[str, int]:
    return {
        "images": seen.images - seen.distractors,
        "distractors": seen.distractors,
        "queries": len(possible),
        "answerable": int((possible > 0).sum()),
        **{f"indexed_{kind}": rows.count for kind, rows in seen.rows.items()},
    }


def _take_in(
    seen: _Observed,
    encoder: Encoder,
    names: Sequence[str],
    images: Sequence[RGBImage],
    truths: Sequence[TrueImage | None],
) -> None:
    """A batch: its kept regions, its patches, and a query for each instance; None is annotated on distractors."""
    numbers = {name: number for number, name in enumerate(names)}
    segmentations = encoder.segmenter.segment(images)
    for image, segmentation, truth in zip(images, segmentations, truths, strict=True):
        kept = encoder.policy.keep(segmentation)
        jobs = {"regions": RegionJob.of_rows(image, segmentation, kept), "grid": patch_job(image, segmentation)}
        for kind, job in jobs.items():
            seen.rows[kind].add(seen.images, job, _on_instances(job, truth, numbers))
        if truth is not None:
            asked, shown = _query_job(encoder, image, segmentation, truth, numbers)
            seen.queries.add(seen.images, asked, shown)
            seen.asked += [JudgedQuery.about(truth.file_name, one) for one in truth.instances if not one.crowd]
        seen.images += 1
        seen.distractors += truth is None


def _on_instances(job: RegionJob, truth: TrueImage | None, numbers: Mapping[str, int]) -> list[tuple[int, int, float]]:
    """(row, instance, area) of every pair whose masks have an IoU of at least 0.5."""
    if truth is None:
        return []
    ious = region_ious(job.segmentation.letterbox, job.masks, truth)
    pairs = zip(*(found.tolist() for found in np.nonzero(ious >= MIN_IOU)), strict=True)
    solid = [(row, truth.instances[place]) for row, place in pairs if not truth.instances[place].crowd]
    return [(row, numbers[one.category], one.area_px) for row, one in solid]


def _query_job(
    encoder: Encoder, image: RGBImage, segmentation: Segmentation, truth: TrueImage, numbers: Mapping[str, int]
) -> tuple[RegionJob, list[tuple[int, int, float]]]:
    """What the box prompt selects of each instance, in the order of the annotations."""
    asked = [one for one in truth.instances if not one.crowd]
    chosen = [choose(Box(*one.box_xyxy), segmentation, box_min_iou=encoder.box_min_iou) for one in asked]
    masks = np.array([one.mask for one in chosen], dtype=np.bool_).reshape(-1, *segmentation.letterbox.grid_size)
    boxes = np.array([one.box_xyxy for one in chosen], dtype=np.float32).reshape(-1, 4)
    shown = [(row, numbers[one.category], one.area_px) for row, one in enumerate(asked)]
    return RegionJob(image, segmentation, masks, boxes), shown


def _possible(queries: ImageRows) -> NDArray[np.int64]:
    """(Q,) on how many other images each query's instance is."""
    shown = np.unique(np.stack([queries.shown, queries.image], axis=1), axis=0)
    counts = np.bincount(shown[:, 0], minlength=int(queries.shown.max(initial=-1)) + 1)
    return np.asarray(counts[queries.shown] - 1, dtype=np.int64)


def _figures(seen: _Observed, seed: int) -> dict[tuple[str, ...], Values]:
    """Every figure by its path, a value for each query. Raises: UsageError where none has an answer."""
    queries = seen.queries.all_rows()
    possible = _possible(queries)
    if not (possible > 0).any():
        raise UsageError(
            f"nothing to evaluate: of {counted(len(possible), 'query', 'queries')} on "
            f"{counted(seen.images, 'readable image')} none has an instance that is on two images; name the "
            "annotations' key that holds the instance: --instance KEY"
        )
    on_image = np.unique(queries.shown * seen.images + queries.image)
    figures: dict[tuple[str, ...], Values] = {}
    for kind, kept in seen.rows.items():
        rows = kept.all_rows()
        for space, ranked in rank_images(queries, rows, images=seen.images, seed=seed):
            wanted = queries.shown[:, None] * seen.images + ranked.images
            right = np.isin(wanted, on_image) & (ranked.images >= 0)
            values = retrieval_values(right, possible)
            figures |= {(kind, space, name): values[name] for name in _SHOWN}
            located = retrieval_values(right & _located(ranked, rows, queries), possible)
            figures |= {(kind, space, f"located_{name}"): located[name] for name in ("map_10", "precision_1")}
    for path in [path for path in figures if path[0] == "regions"]:
        figures[_DIFFERENCE, *path[1:]] = figures[path] - figures["grid", *path[1:]]
    return figures | _by_size(figures, queries.area_px)


def _located(ranked: RankedImages, rows: ImageRows, queries: ImageRows) -> NDArray[np.bool_]:
    """(Q, K) whether the row that an image was ranked by lies on the query's instance."""
    keys = rows.pairs[:, 0] * (int(queries.shown.max(initial=0)) + 1) + rows.pairs[:, 1]
    wanted = ranked.rows * (int(queries.shown.max(initial=0)) + 1) + queries.shown[:, None]
    return np.isin(wanted, keys) & (ranked.rows >= 0)


def _by_size(figures: Mapping[tuple[str, ...], Values], area_px: NDArray[np.float64]) -> dict[tuple[str, ...], Values]:
    ends = (float("-inf"), float(SMALL_AREA_PX), float(MEDIUM_AREA_PX), float("inf"))
    found: dict[tuple[str, ...], Values] = {}
    for size, low, high in zip(SizeClass, ends, ends[1:], strict=False):
        members = (area_px > low) & (area_px <= high)
        found |= {
            (_BY_SIZE, size.value, *path): np.where(members, values, np.nan)
            for path, values in figures.items()
            if path[-1] in ("map_10", "precision_1")
        }
    return found


def _summary(
    figures: Mapping[tuple[str, ...], Values], images: Numbers, seed: int
) -> tuple[dict[tuple[str, ...], float | None], dict[tuple[str, ...], list[float]]]:
    """Means over queries, and 95 % intervals by their images (Q,)."""
    resampled = resampled_means({".".join(path): values for path, values in figures.items()}, seed=seed, images=images)
    means = {path: mean(values) for path, values in figures.items()}
    ends = {
        path: figure_interval(values, again, images, is_share=_DIFFERENCE not in path)
        for (path, values), again in zip(figures.items(), resampled.values(), strict=True)
    }
    return (
        {path: None if value is None else round(value, _DIGITS) for path, value in means.items()},
        {path: [round(end, _DIGITS) for end in pair] for path, pair in ends.items() if pair is not None},
    )


def patch_boxes(height: int, width: int) -> FloatArray:
    """All patches of an image of (height, width) pixels, (30, 4) float32 xyxy: the whole of it first."""
    boxes = [
        (width * column / level, height * row / level, width * (column + 1) / level, height * (row + 1) / level)
        for level in LEVELS
        for row in range(level)
        for column in range(level)
    ]
    return np.array(boxes, dtype=np.float32)


def patch_job(image: RGBImage, segmentation: Segmentation) -> RegionJob:
    """The patches as regions: boxes filled to the rim, so that both features are those of the patch."""
    boxes = patch_boxes(*image.shape[:2])
    masks = [segmentation.letterbox.box_mask(tuple(box)) for box in boxes.tolist()]
    return RegionJob(image, segmentation, np.stack(masks), boxes)
