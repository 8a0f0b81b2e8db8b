"""How ingest, search, sync and status grow with the index: rows are made up, so no model is needed.

python benchmarks/growth.py [--index memory|lite|URI] [--regions 10000 30000 100000] [--rounds 5] [--json F] [--plot F]
python benchmarks/growth.py --regions 10000 100000 1000000    # a minute and 2 GB; 10000000 as well: ten and 10 GB

commit: 16 images of 25 regions, inserted, committed and their older rows looked for. search: `search_regions`; Milvus
alone: its own call; both right after a commit of one image, so that nothing is remembered and neither is warmer, and
each with another code. search again: the same code once more, while nobody writes. sync:
all image states read and found. status: `holdings`. The exponent is that of a power of the number of regions, fitted to
the three or more sizes: 0 does not grow, 1 grows as the index does, 2 with its square. A Milvus server at a URI gets
indexes of the kind that the settings say (`milvus.index_type`), and keeps them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from benchmarks.search import MANIFEST, PER_IMAGE, filled, made_codes
from searchanything.core.digests import KnownImages
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.settings import load_settings
from searchanything.core.types import ImageRef
from searchanything.ingest.garbage import holdings
from searchanything.search.search import PageRequest, search_regions
from searchanything.stores.memory import MemoryRegionIndex
from searchanything.stores.milvus_opening import open_milvus

COMMIT_IMAGES = 16
SEARCH, MILVUS, AGAIN = "search", "Milvus alone", "search again"
LIMITS = (10, 100)


def grown(source: MemoryRegionIndex, target: RegionIndex, first: int, last: int) -> None:
    """Insert the rows of images from one number up to another."""
    images = [ImageRef("bucket", f"photos/{number:08d}.jpg") for number in range(first, last)]
    for start in range(0, len(images), 200):
        part = images[start : start + 200]
        target.insert_regions(list(source.regions_of(part)))
        target.insert_images(list(source.newest(part).values()))


def committed(index: RegionIndex, rows: tuple[list[RegionRow], list[ImageRow]]) -> None:
    """Insert the rows of some images, commit them and look for older ones."""
    regions, images = rows
    index.insert_regions(regions)
    index.insert_images(images)
    index.delete_before({row.image: row.generation for row in images})


def calls_of(
    index: RegionIndex, spare: list[tuple[list[RegionRow], list[ImageRow]]]
) -> dict[str, Callable[[], object]]:
    queries = cycle(made_codes("clustered", 4096, seed=7))

    def sync() -> int:
        known = KnownImages(index.iterate_states())
        return len(known)

    def search(codes: Iterator[NDArray[np.uint8]], limit: int) -> Callable[[], object]:
        return lambda: search_regions(index, next(codes), PageRequest(limit), filter=None)

    same = repeat(next(queries))
    return {
        "commit": lambda: committed(index, spare.pop()),
        **{f"{SEARCH}, top {limit}": search(queries, limit) for limit in LIMITS},
        **({} if isinstance(index, MemoryRegionIndex) else bare_searches(index, queries)),
        **{f"{AGAIN}, top {limit}": search(same, limit) for limit in LIMITS},
        "sync": sync,
        "status": lambda: holdings(index),
    }


def bare_searches(index: RegionIndex, queries: Iterator[NDArray[np.uint8]]) -> dict[str, Callable[[], object]]:
    """Milvus' own answer: ids and distances alone, over the connection that the index uses."""
    client = index._connection._connected()  # type: ignore[attr-defined]  # noqa: SLF001 - nobody else needs it
    bare = partial(client.search, index.collections[0], anns_field="code", output_fields=[])

    def search(limit: int) -> Callable[[], object]:
        return lambda: bare(data=[next(queries).tobytes()], limit=limit)

    return {f"{MILVUS}, top {limit}": search(limit) for limit in LIMITS}


def measure(index: RegionIndex, source: MemoryRegionIndex, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows, done = [], 0
    unused = count(max(options.regions) // PER_IMAGE)
    spare: list[tuple[list[RegionRow], list[ImageRow]]] = []

    def more(images: int) -> tuple[list[RegionRow], list[ImageRow]]:
        refs = [ImageRef("bucket", f"photos/{number:08d}.jpg") for number in islice(unused, images)]
        return list(source.regions_of(refs)), list(source.newest(refs).values())

    def before(name: str) -> None:
        if name == "commit":
            spare.append(more(COMMIT_IMAGES))
        elif name.startswith(AGAIN):
            calls[name]()
        elif name.startswith((SEARCH, MILVUS)):
            committed(index, more(1))

    for regions in sorted(options.regions):
        images = regions // PER_IMAGE
        start = time.perf_counter()
        grown(source, index, done, images)
        print(f"{regions} regions after {time.perf_counter() - start:.1f} s", flush=True)
        done = images
        calls = calls_of(index, spare)
        for name, call in calls.items():
            before(name)
            call()
        best = measuring.best_ms(calls, rounds=options.rounds, before=before)
        rows += [{"what": name, "regions": regions, "ms": ms} for name, ms in best.items()]
    return rows


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The slope of a line through log milliseconds over log regions, for each call."""
    found = {}
    for name in dict.fromkeys(row["what"] for row in rows):
        points = [(row["regions"], row["ms"]) for row in rows if row["what"] == name]
        sizes, spent = np.log(np.array(points)).T
        found[name] = float(np.polyfit(sizes, spent, 1)[0]) if len(points) > 1 else float("nan")
    return found


def plot(rows: list[dict[str, Any]], powers: dict[str, float], file: Path) -> None:
    pyplot = measuring.plotting()
    figure, axes = pyplot.subplots(figsize=(8.4, 3.8))
    for name, power in powers.items():
        points = [(row["regions"], row["ms"]) for row in rows if row["what"] == name]
        axes.loglog(*zip(*points, strict=True), marker="o", label=f"{name}: power {power:.2f}")
    axes.set_xlabel("regions in the index")
    axes.set_ylabel("milliseconds")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    measuring.save_figure(figure, file)


def main() -> None:
    made = measuring.parser(__doc__, plots=True)
    made.add_argument("--index", default="memory")
    made.add_argument("--regions", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    made.add_argument("--rounds", type=int, default=5)
    options = made.parse_args()
    commits = COMMIT_IMAGES + 2 * len(LIMITS)  # images of a round
    more = len(options.regions) * (options.rounds + 1) * commits * PER_IMAGE
    source = filled(made_codes("clustered", max(options.regions) + more))
    if options.index == "memory":
        rows = measure(MemoryRegionIndex(MANIFEST), source, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            uri = str(Path(folder) / "growth.db") if options.index == "lite" else options.index
            settings = load_settings().milvus.model_copy(update={"uri": uri, "lite_idle_s": 1.0, "timeout_s": 300.0})
            with open_milvus(settings) as store:
                rows = measure(store.create(MANIFEST, b"none"), source, options)
    powers = exponents(rows)
    measuring.report("growth", [{**row, "power": powers[row["what"]]} for row in rows], options)
    if options.plot:
        plot(rows, powers, options.plot)


if __name__ == "__main__":
    main()
