"""What indexing a source would take, from its listing and a sample of its images.

The sample goes through the very pipeline that `index` is, into an index in memory that is thrown away. Sizes are those
of the rows written, with what Milvus Lite adds to each: 60,000 rows of 360 bytes took 1,027 bytes each on disk and
890 bytes each of its server's memory. Words codes have rows of their own, like these but for the mask.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from searchanything.core.omissions import Omissions
from searchanything.core.rows import RegionRow
from searchanything.core.types import StoredObject
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import Estimate, OnProgress

DISK_BYTES_PER_ROW: Final = 670  # beyond what the row holds
MEMORY_BYTES_PER_ROW: Final = 530
NUMBERS_BYTES: Final = 80  # of a region row: box, area, score, sizes, times, generation
IDS_BYTES: Final = 64
_SEED: Final = 0


def estimate_images(
    job: IndexingJob, *, sample: int, words_bits: int = 0, progress: OnProgress | None = None
) -> Estimate:
    """List everything, index a random sample of it into the job's index, and extrapolate.

    The job's index is a scratch one: it is filled. `words_bits` are those of words codes, where the index is to have
    them. Free disk is left for the caller to tell.

    Raises: as `index_images`.
    """
    start = time.perf_counter()
    candidates, candidate_bytes, chosen = _sample(job, sample)
    listed_s = time.perf_counter() - start
    start = time.perf_counter()
    job.open_encoder().encode_images([np.zeros((64, 64, 3), dtype=np.uint8)])  # models are loaded at the first need
    load_s = time.perf_counter() - start
    report = index_images(job, chosen, total=len(chosen), progress=progress)
    done = report.indexed + report.empty + report.failed
    share = done / len(chosen) if chosen else 0.0  # of objects without a suffix the listing tells no type
    images = round(candidates * share)
    rate = done / report.seconds if done else 0.0
    rows = list(job.index.iterate_regions())
    regions = round(images * len(rows) / done) if done else 0
    number, held = _estimated_rows(rows, regions, images, words_bits)
    return Estimate(
        images=images,
        bytes=round(candidate_bytes * share),
        regions=regions,
        images_per_s=rate,
        seconds=listed_s + load_s + (images / rate if rate else 0.0),
        disk_bytes=round(held + number * DISK_BYTES_PER_ROW),
        index_memory_bytes=round(held + number * MEMORY_BYTES_PER_ROW),
        worker_memory_bytes=_peak_memory_bytes(),
        sample=report,
        load_seconds=load_s,
    )


def _sample(job: IndexingJob, size: int) -> tuple[int, int, list[StoredObject]]:
    """Number and bytes of the objects that may be images, and a random sample of them, from one pass."""
    chance = random.Random(_SEED)  # noqa: S311  a sample, no secret; the same each time
    chosen: list[StoredObject] = []
    count = total_bytes = 0
    for one in job.store.list(job.scope.prefix, Omissions()):
        if not job.scope.may_be_image(one.ref.key):
            continue
        count += 1
        total_bytes += one.size_bytes
        place = len(chosen) if len(chosen) < size else chance.randrange(count)
        if place < size:
            chosen[place : place + 1] = [one]
    return count, total_bytes, chosen


def _estimated_rows(sample: Sequence[RegionRow], regions: int, images: int, words_bits: int) -> tuple[int, float]:
    """How many rows so many regions and images have, and how many bytes these hold, by a sample of region rows."""
    if not sample:
        return images, 0.0
    rows = regions + images
    held = rows * sum(_bytes_beside_code(row) + len(row.mask.counts) + len(row.code) for row in sample) / len(sample)
    if not words_bits:
        return rows, held
    words = regions * (sum(map(_bytes_beside_code, sample)) / len(sample) + words_bits / 8)
    return rows + regions, held + words


def _bytes_beside_code(row: RegionRow) -> int:
    """What a region row holds beside its code and mask."""
    texts: Iterable[str] = (
        row.image.bucket,
        row.image.key,
        row.etag,
        json.dumps(dict(row.metadata), ensure_ascii=False),
    )
    return NUMBERS_BYTES + IDS_BYTES + sum(len(text.encode()) for text in texts)


def _peak_memory_bytes() -> int:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
