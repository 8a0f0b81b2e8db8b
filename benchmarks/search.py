"""The index in memory beside faiss on the same codes: whole scans, filters, grouping, and faiss' approximate kinds.

python benchmarks/search.py [--regions 100000 1000000] [--codes clustered uniform] [--rounds 15] [--json F] [--plot F]

Milliseconds of CPU are the best of so many rounds in which all calls take turns, of one query on one thread, so that
other programs count little. The limit is the time in which the codes can be read from memory once (a sum over them).
`recall` counts hits that are as near as the 100th nearest. 10^7 regions need 12 GB of memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from benchmarks.index_rows import image_row, region_row
from searchanything.core.codes import hamming
from searchanything.core.manifest import SCHEMA_VERSION, IndexManifest
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Filter, ImageRef
from searchanything.search.search import PageRequest, search_regions
from searchanything.stores.memory import MemoryRegionIndex

BITS, PER_IMAGE, TOP = 256, 25, 100
MANIFEST = IndexManifest("f" * 64, "a" * 64, "pico", BITS, "d" * 64, True, SCHEMA_VERSION, 0, {})  # noqa: FBT003


def made_codes(kind: str, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random codes, or such as differ in about an eighth of their bits from one of count / 500 centres."""
    random = np.random.default_rng(seed)
    if kind == "uniform":
        return random.integers(0, 256, (count, BITS // 8), dtype=np.uint8)
    centres = np.random.default_rng(99).integers(0, 256, (max(1, count // 500), BITS // 8), dtype=np.uint8)
    noise = [random.integers(0, 256, (count, BITS // 8), dtype=np.uint8) for _ in range(3)]
    return centres[random.integers(0, len(centres), count)] ^ (noise[0] & noise[1] & noise[2])


def filled(codes: NDArray[np.uint8]) -> MemoryRegionIndex:
    """An index of images with 25 regions each; every other image has the colour red."""
    index = MemoryRegionIndex(MANIFEST)
    colours = ({"colour": "red"}, {"colour": "blue"})
    regions: list[RegionRow] = []
    images: list[ImageRow] = []
    for first in range(0, len(codes), PER_IMAGE):
        number = first // PER_IMAGE
        image = ImageRef("bucket", f"photos/{number:08d}.jpg")
        colour = colours[number % 2]
        part = codes[first : first + PER_IMAGE]
        regions += [
            region_row(image, 1, at, code.tobytes(), area_px=900 + at, metadata=colour) for at, code in enumerate(part)
        ]
        images.append(image_row(image, 1, bytes(BITS // 8), regions=len(part), metadata=colour))
    index.insert_regions(regions)
    index.insert_images(images)
    return index


def calls_of(
    index: MemoryRegionIndex, flat: faiss.IndexBinaryFlat, query: NDArray[np.uint8]
) -> dict[str, Callable[[], object]]:
    def pages(request: PageRequest, asked: Filter | None = None) -> Callable[[], object]:
        return lambda: search_regions(index, query[0], request, filter=asked)

    red, folder = Filter(metadata={"colour": "red"}), Filter(bucket="bucket", key_prefix="photos/000000")
    return {
        "faiss flat": lambda: flat.search(query, TOP),
        "index.search": lambda: index.search(query, limit=TOP),
        "search_regions top 10": pages(PageRequest(10)),
        "search_regions top 100": pages(PageRequest(TOP)),
        "grouped by image": pages(PageRequest(TOP, group_by_image=True)),
        "metadata filter (half)": pages(PageRequest(TOP), red),
        "key prefix filter": pages(PageRequest(TOP), folder),
    }


def peers_of(codes: NDArray[np.uint8]) -> dict[str, Any]:
    """faiss' approximate kinds with the usual parameters."""
    quantizer = faiss.IndexBinaryFlat(BITS)
    lists = faiss.IndexBinaryIVF(quantizer, BITS, 1024)
    lists.train(codes[:: max(1, len(codes) // 100_000)])
    lists.add(codes)
    lists.nprobe = 32
    hashes = faiss.IndexBinaryHash(BITS, 20)
    hashes.add(codes)
    hashes.nflip = 2
    return {"faiss IVF 1024/32": lists, "faiss hash 20/2": hashes}


def recall(found: NDArray[np.int32], query: NDArray[np.uint8], codes: NDArray[np.uint8]) -> float:
    """Share of the first hits that are as near as the last of the true ones."""
    farthest = np.partition(hamming(query, codes)[0], TOP - 1)[TOP - 1]
    return float((found[0] <= farthest).sum() / TOP)


def measure(kind: str, count: int, rounds: int) -> list[dict[str, Any]]:
    codes = made_codes(kind, count)
    query = made_codes(kind, 1, seed=7)
    flat = faiss.IndexBinaryFlat(BITS)
    flat.add(codes)
    start = time.perf_counter()
    index = filled(codes)
    filled_s = time.perf_counter() - start
    words = codes.view(np.uint64)
    peers = peers_of(codes)
    calls = calls_of(index, flat, query) | {
        "limit: read the codes once": lambda: words.sum(),
        **{name: partial(one.search, query, TOP) for name, one in peers.items()},
    }
    for call in calls.values():
        call()
    spent = measuring.best_ms(calls, rounds=rounds, least_s=2.0, clock=time.thread_time)
    recalls = {name: recall(one.search(query, TOP)[0], query, codes) for name, one in peers.items()}
    print(f"{kind}, {count} regions: filled in {filled_s:.1f} s")
    return [
        {
            "codes": kind, "regions": count, "what": name, "ms": ms, "over faiss": ms / spent["faiss flat"],
            "recall": recalls.get(name, "" if name.startswith("limit") else 1.0),
        }
        for name, ms in spent.items()
    ]  # fmt: skip


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    pyplot = measuring.plotting()
    largest = max(row["regions"] for row in rows)
    shown = [row for row in rows if row["regions"] == largest and row["codes"] == rows[0]["codes"]]
    shown.sort(key=lambda row: row["ms"], reverse=True)
    figure, axes = pyplot.subplots()
    colours = ["#9aa5b1" if row["what"].startswith(("faiss", "limit")) else "#2f6f8f" for row in shown]
    bars = axes.barh([row["what"] for row in shown], [row["ms"] for row in shown], color=colours)
    axes.bar_label(bars, fmt=" %.2f ms")
    axes.set_xlabel(f"ms of CPU per query, one core\n(top {TOP} of {largest:,} {rows[0]['codes']} codes)")
    axes.margins(x=0.25)
    measuring.save_figure(figure, file)


def main() -> None:
    made = measuring.parser(__doc__, plots=True)
    made.add_argument("--regions", type=int, nargs="+", default=[100_000, 1_000_000])
    made.add_argument("--codes", nargs="+", default=["clustered", "uniform"])
    made.add_argument("--rounds", type=int, default=15)
    options: argparse.Namespace = made.parse_args()
    faiss.omp_set_num_threads(1)
    rows = [one for kind in options.codes for count in options.regions for one in measure(kind, count, options.rounds)]
    measuring.report("search", rows, options)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
