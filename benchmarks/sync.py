"""How long a sync of a bucket against an index takes, and how much memory, without models and without a bucket.

python benchmarks/sync.py [--objects 100000] [--index memory|lite] [--differing 0.001] [--json FILE]

The listing is made up as it is read; image rows as `index` writes them (without regions) are put into the index
beforehand. Time and memory are those of `sync_images` alone: what lies in this process before is not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path

from benchmarks import measuring
from benchmarks.index_rows import image_row
from searchanything.core.codes import next_generation
from searchanything.core.manifest import IndexManifest
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.scopes import Scope
from searchanything.ingest.plan import IndexingOptions
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.stores.memory import MemoryIndexStore
from searchanything.stores.milvus_opening import open_milvus

BITS = 256
INSERT_ROWS = 2000


class MadeUpStore:
    """A bucket of so many objects, listed out of order; each one in `every` differs from what was indexed."""

    bucket = "benchmark"

    def __init__(self, objects: int, every: int) -> None:
        self._objects = objects
        self._every = every

    def object(self, number: int) -> StoredObject:
        """The object as it was indexed."""
        ref = ImageRef(self.bucket, f"2026/{number % 365:03}/camera-{number % 11}/image-{number:09}.jpg")
        etag = md5(ref.key.encode(), usedforsecurity=False).hexdigest()
        return StoredObject(ref, etag, 2_000_000, 1_700_000_000_000 + number * 1000)

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:  # noqa: ARG002
        """The listing, odd numbers first."""
        for number in (*range(1, self._objects, 2), *range(0, self._objects, 2)):
            found = self.object(number)
            if found.ref.key.startswith(prefix):
                yield replace(found, etag="new") if self._every and number % self._every == 0 else found

    def stat(self, key: str) -> StoredObject | None:
        """As it is listed first."""
        return self.object(int(key[-13:-4]))

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        """Bytes that are no image: a check reads none."""
        return self.object(int(key[-13:-4])), b""


def fill(index: RegionIndex, store: MadeUpStore, objects: int) -> None:
    """Image rows as `index` writes them."""
    for first in range(0, objects, INSERT_ROWS):
        index.insert_images([row_of(store.object(n)) for n in range(first, min(objects, first + INSERT_ROWS))])


def row_of(stored: StoredObject) -> ImageRow:
    """The row of an image that is up to date, without regions."""
    rest = {"etag": stored.etag, "modified_at_ms": stored.modified_at_ms}
    return image_row(stored.ref, next_generation(), bytes(BITS // 8), outcome=Outcome.EMPTY, **rest)


def memory_mb(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most since `forget_peak`) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def forget_peak() -> None:
    """Let `VmHWM` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--index", choices=["memory", "lite"], default="lite")
    parser.add_argument("--differing", type=float, default=0.001, help="share of objects that changed")
    options = parser.parse_args()
    every = round(1 / options.differing) if options.differing else 0
    bucket = MadeUpStore(options.objects, every)
    manifest = IndexManifest("b" * 32, "b" * 32, "none", BITS, "none", False, 2, 0)  # noqa: FBT003
    with tempfile.TemporaryDirectory() as folder:
        store: IndexStore = MemoryIndexStore()
        if options.index == "lite":
            store = open_milvus(MilvusSettings(uri=f"{folder}/sync.db", lite_idle_s=1))
        with store:
            index = store.create(manifest, b"none")
            fill(index, bucket, options.objects)
            forget_peak()
            before = memory_mb("VmRSS")
            start, cpu = time.perf_counter(), time.process_time()
            report = sync_images(SyncJob(bucket, index, Scope(), IndexingOptions()))
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            peak = memory_mb("VmHWM") - before
    result = {
        "objects": options.objects,
        "index": options.index,
        "stale_found": len(report.stale),
        "stale_made": -(-options.objects // every) if every else 0,
        "checked": report.checked,
        "seconds": round(seconds, 2),
        "cpu_seconds_here": round(cpu, 2),
        "objects_per_s": round(options.objects / seconds),
        "memory_above_start_mb": round(peak, 1),
    }
    for key, value in result.items():
        print(f"{key:24} {value}")
    measuring.write(result, options.json)


if __name__ == "__main__":
    main()
