"""How long a warm query takes: the image segmented and the models loaded before, so what is left is the index.

python benchmarks/query.py [--uri FILE|http://host:port] [--images 40] [--queries 100] [--at-most-ms N] [--json FILE]

Pictogram scenes are indexed with preset `pico` (into collections of their own, `bench…`), then one
click is asked again and again. `--at-most-ms` makes the program fail where the median is above.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.settings import load_settings
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.stores.milvus import MilvusIndexStore, open_milvus


def made_images(folder: Path, count: int) -> list[Path]:
    """So many scenes as files."""
    files = []
    for name, scene in generate_demo_scenes(count, seed=5):
        files.append(folder / name)
        Image.fromarray(scene.image).save(files[-1], quality=92)
    return files


def timed(count: int, call: object) -> list[float]:
    """Milliseconds of so many calls."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        call()  # type: ignore[operator]
        spent.append((time.perf_counter() - start) * 1000)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", help="a Milvus server, or a file; a temporary file by default")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--at-most-ms", type=float)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), options)
    for name, figures in table.items():
        print(f"{name:18} median {figures['median_ms']:7.1f} ms   p95 {figures['p95_ms']:7.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    median = table["query"]["median_ms"]
    if options.at_most_ms is not None and median > options.at_most_ms:
        sys.exit(f"the median query took {median:.1f} ms, at most {options.at_most_ms:g} ms are allowed")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The table: whole queries, and the calls to the index that they are made of."""
    images = folder / "images"
    images.mkdir()
    files = made_images(images, options.images)
    settings = load_settings()
    settings.models.preset = "pico"
    milvus = settings.milvus
    milvus.uri = options.uri or str(folder / "bench.db")
    milvus.collection_prefix, milvus.lite_idle_s = f"bench{uuid4().hex[:6]}_", 1.0
    with connect(settings=settings) as client, open_milvus(milvus) as store:
        start = time.perf_counter()
        client.index(images)
        indexed_ms = (time.perf_counter() - start) * 1000
        table = figures_of(client, store, files[0], options.queries)
        table["index all"] = {"median_ms": indexed_ms, "p95_ms": indexed_ms}
    return table


def figures_of(client: Client, store: MilvusIndexStore, image: Path, count: int) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each call."""

    def query() -> object:
        return client.query(image, (150, 150), limit=10)

    query()
    index = store.open(client.status().manifest.fingerprint)
    row = next(index.iterate_images())
    calls = {"query": query, "live index": store.live, "image rows": lambda: index.newest([row.image])}
    return {name: summary(timed(count, call)) for name, call in calls.items()}


def summary(spent: list[float]) -> dict[str, float]:
    return {"median_ms": statistics.median(spent), "p95_ms": statistics.quantiles(spent, n=20)[-1]}


if __name__ == "__main__":
    main()
