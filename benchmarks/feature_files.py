"""Kept features in a bucket: our Parquet files against a Lance dataset, each with two writers at once.

Batches of 32 images of 10 regions (pico: f_M of 64 and f_I of 256 values, float16) are written by two processes, a
tenth of the images is deleted, what is left is compacted, and all of it is read, before the compaction and after it.
The server is a local one, or with `--configured` the one that the settings name. CPU seconds are those of the
processes that do the work, requests those that the local server counted. `rows` are those whose writing succeeded, or
that were read: a whole image is a row in Lance alone. The first round warms up.

It needs pylance, which is no dependency of ours: run it where that is installed beside this package.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import re
import resource
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks import measuring
from benchmarks.index_rows import image_row
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import ImageFeatures
from searchanything.core.settings import Settings, StorageSettings, load_settings
from searchanything.core.types import ImageRef
from searchanything.demo.local_s3 import LocalS3
from searchanything.features.compact import compact
from searchanything.features.keep import FILE_ROWS, ParquetKeeper
from searchanything.features.layout import FeatureCache
from searchanything.features.parquet import IMAGE_COLUMN, MASK_COLUMN
from searchanything.stores.memory import MemoryRegionIndex
from searchanything.stores.s3 import S3Store
from searchanything.wiring import open_feature_cache, open_features

BATCHES: Final = 40
IMAGES: Final = 32  # of a batch
REGIONS: Final = 10  # of an image
WRITERS: Final = 2
MASK_DIM, IMAGE_DIM = 64, 256
_OF_AN_IMAGE: Final = ("image", "etag", "generation")
GONE: Final = range(0, BATCHES * IMAGES, 10)  # a tenth of the images
MANIFEST = IndexManifest("f" * 64, "a" * 64, "pico", 64, "d" * 64, hash_trained=True, schema_version=1, created_at_ms=1)


def named(bucket: str, number: int) -> ImageRef:
    """An image, by its number; its generation is one more."""
    return ImageRef(bucket, f"{number:06}.jpg")


def batch(bucket: str, number: int) -> list[ImageFeatures]:
    """The features of a batch's images, the same each time."""
    rng = np.random.default_rng(number)
    shapes = ((REGIONS + 1, MASK_DIM), (REGIONS + 1, IMAGE_DIM))
    return [
        ImageFeatures(named(bucket, at), "etag", at + 1, *(rng.standard_normal(shape, np.float32) for shape in shapes))
        for at in range(number * IMAGES, (number + 1) * IMAGES)
    ]


@dataclass(frozen=True)
class Ours:
    """A file per batch, judged by the index, as `ingest.keep_features` has it."""

    storage: StorageSettings
    bucket: str

    @functools.cached_property
    def settings(self) -> Settings:
        settings = Settings(_env_file=None)
        settings.storage = self.storage
        return settings

    @property
    def cache(self) -> FeatureCache:
        return open_feature_cache(self.bucket, MANIFEST, self.settings)

    def write(self, writer: int) -> int:
        keeper, mine = ParquetKeeper(self.cache), range(writer, BATCHES, WRITERS)
        for number in mine:
            keeper.keep(batch(self.bucket, number))
        return len(mine) * IMAGES * REGIONS

    def delete(self, _: int) -> None:
        ParquetKeeper(self.cache).add_tombstones(dict.fromkeys((named(self.bucket, at) for at in GONE), 10**9))

    def compact(self, _: int) -> None:
        compact(self.cache, self.index, age_s=0)

    def read(self, _: int) -> int:
        source = open_features(self.cache.files.location, mask_dimension=None, settings=self.settings)
        return sum(len(one.mask) for one in source.batches())

    @functools.cached_property
    def index(self) -> MemoryRegionIndex:
        """The images that are left."""
        index = MemoryRegionIndex(MANIFEST)
        left = sorted(set(range(BATCHES * IMAGES)) - set(GONE))
        index.insert_images([image_row(named(self.bucket, at), at + 1, bytes(8), regions=REGIONS) for at in left])
        return index


@dataclass(frozen=True)
class Lance:
    """One dataset with the image's key, etag and generation in each row; region -1 is the whole image."""

    storage: StorageSettings
    bucket: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/features.lance"

    @functools.cached_property
    def options(self) -> dict[str, str]:
        access, secret = self.storage.access_key, self.storage.secret_key
        if access is None or secret is None:
            raise ValueError("the settings name no keys")
        return {
            "aws_endpoint": f"http://{self.storage.endpoint}",
            "aws_access_key_id": access.get_secret_value(),
            "aws_secret_access_key": secret.get_secret_value(),
            "aws_region": "us-east-1",
            "allow_http": "true",
        }

    @property
    def dataset(self) -> Any:  # noqa: ANN401  pylance has no types
        return importlib.import_module("lance").dataset(self.uri, storage_options=self.options)

    def create(self) -> None:
        self._append(self._table(0)[:0], mode="create")

    def write(self, writer: int) -> int:
        written = 0
        for number in range(writer, BATCHES, WRITERS):
            table = self._table(number)
            with contextlib.suppress(OSError):  # as it says a conflict
                self._append(table, mode="append")
                written += len(table)
        return written

    def delete(self, _: int) -> None:
        keys = ", ".join(f"'{named(self.bucket, at).key}'" for at in GONE)
        self.dataset.delete(f"key in ({keys})")

    def compact(self, _: int) -> None:
        dataset = self.dataset
        dataset.optimize.compact_files(target_rows_per_fragment=FILE_ROWS)
        dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    def read(self, _: int) -> int:
        batches = self.dataset.to_batches(columns=[MASK_COLUMN, IMAGE_COLUMN])
        return sum(len(one) for one in batches)

    def _append(self, table: pa.Table, *, mode: str) -> None:
        lance = importlib.import_module("lance")
        lance.write_dataset(table, self.uri, mode=mode, storage_options=self.options)

    def _table(self, number: int) -> pa.Table:
        images = batch(self.bucket, number)
        repeated = {name: [getattr(one, name) for one in images for _ in range(REGIONS + 1)] for name in _OF_AN_IMAGE}
        columns = {"key": [one.key for one in repeated.pop("image")], **repeated}
        columns["region"] = [*range(REGIONS), -1] * len(images)
        for name in (MASK_COLUMN, IMAGE_COLUMN):
            rows = np.concatenate([getattr(one, name) for one in images]).astype(np.float16)
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        return pa.table(columns)


def step(work: Callable[[int], int | None], number: int) -> tuple[float, int]:
    """CPU seconds of a piece of work in this process, and what it counted."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    counted = work(number)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, counted or 0


class CountingS3(LocalS3):
    """A local server that counts its requests."""

    def _flags(self) -> list[str]:
        self.metrics_port = self._ports["s3"] + 1
        return [*super()._flags(), f"-metricsPort={self.metrics_port}", "-metricsIp=127.0.0.1"]

    def requests(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as page:
            text = page.read().decode()
        return sum(int(float(one)) for one in re.findall(r"^SeaweedFS_s3_request_total\{[^}]*\} (\S+)", text, re.M))


def stored(store: S3Store) -> tuple[int, int]:
    """Objects and bytes of a bucket."""
    sizes = [one.size_bytes for one in store.list()]
    return len(sizes), sum(sizes)


def measure(
    kind: Ours | Lance, store: S3Store, pool: ProcessPoolExecutor, requests: Callable[[], int]
) -> Iterator[dict[str, Any]]:
    """A row a step."""
    if isinstance(kind, Lance):
        pool.submit(kind.create).result()
    steps: Sequence[tuple[str, Callable[[int], int | None], int]] = (
        ("write", kind.write, WRITERS),
        ("read", kind.read, 1),
        ("delete", kind.delete, 1),
        ("compact", kind.compact, 1),
        ("read after it", kind.read, 1),
    )
    for name, work, workers in steps:
        asked, start = requests(), time.perf_counter()
        done = list(pool.map(step, [work] * workers, range(workers)))
        wall_s, asked = time.perf_counter() - start, requests() - asked
        objects, size_bytes = stored(store)
        yield {
            "kind": type(kind).__name__.lower(), "step": name, "cpu_s": sum(cpu_s for cpu_s, _ in done),
            "wall_s": wall_s, "requests": asked, "rows": sum(count for _, count in done) or "", "objects": objects,
            "mb": size_bytes / 1e6,
        }  # fmt: skip


def main() -> None:
    made = measuring.parser(__doc__)
    made.add_argument("--configured", action="store_true", help="in new buckets of the server that the settings name")
    made.add_argument("--rounds", type=int, default=5)
    options = made.parse_args()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        local = None
        if not options.configured:
            local = stack.enter_context(CountingS3(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        storage = load_settings().storage if local is None else local.settings()
        spawning = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(WRITERS, mp_context=spawning))
        for number in range(options.rounds):
            for kind in (Ours, Lance):
                store = S3Store(storage, f"{kind.__name__.lower()}-{number}-{time.time_ns():x}")
                store.make_bucket()
                measured = measure(kind(storage, store.bucket), store, pool, local.requests if local else lambda: 0)
                rows += [{"round": number, **row} for row in measured]
    measuring.report("feature_files", rows, options)


if __name__ == "__main__":
    main()
