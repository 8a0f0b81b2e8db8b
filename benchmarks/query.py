"""How long a query takes: cold and warm, per kind of prompt, for one client and for sixteen at once.

python benchmarks/query.py [--uri FILE|http://host:port] [--images 40] [--queries 40] [--at-most-ms N]
                           [--json F] [--plot F]

Pictogram scenes are indexed with preset `pico` (into collections of their own, `bench…`). Cold: the first query of a
process, its imports, models and segmentation included. Warm: the image was segmented before, so what is left is prompt,
encoder and index. Another image: the models are loaded, the image is new. Of a list: the same by `query_many`, and
the time of all divided by their number. `--at-most-ms` makes the program fail where the median of warm clicks is above.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image

from benchmarks import measuring
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.settings import load_settings
from searchanything.core.types import RegionRef
from searchanything.demo.scenes import generate_demo_scenes

CLIENTS = 16


def made_images(folder: Path, count: int) -> list[Path]:
    """So many scenes as files."""
    files = []
    for name, scene in generate_demo_scenes(count, seed=5):
        files.append(folder / name)
        Image.fromarray(scene.image).save(files[-1], quality=92)
    return files


def timed(count: int, call: Callable[[], object]) -> list[float]:
    """Milliseconds of so many calls."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        spent.append((time.perf_counter() - start) * 1000)
    return spent


def by_many(count: int, call: Callable[[], object]) -> list[float]:
    """Milliseconds of calls that sixteen threads make at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = pool.map(lambda _: timed(max(2, count // CLIENTS), call), range(CLIENTS))
        return [one for part in parts for one in part]


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The table."""
    images = folder / "images"
    images.mkdir()
    files = made_images(images, options.images)
    settings = load_settings()
    settings.models.preset = "pico"
    milvus = settings.milvus
    milvus.uri = options.uri or str(folder / "bench.db")
    milvus.collection_prefix, milvus.lite_idle_s = f"bench{uuid4().hex[:6]}_", 5.0
    with connect(settings=settings) as client:
        client.index(images)
        point = thing_in(client, files[0])
        rows = of_prompts(client, files, point, options.queries)
    if options.uri is None:
        asked = ["query", str(files[0]), "--point", f"{point[0]},{point[1]}", "--uri", milvus.uri, "--format", "json"]
        named = {"SEARCHANYTHING_MILVUS__COLLECTION_PREFIX": milvus.collection_prefix}
        rows += [row_of("click, cold process", 1, timed(2, lambda: run_cold(asked, named)))]
    return rows


def run_cold(arguments: list[str], variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "searchanything", *arguments]
    subprocess.run(command, check=True, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)


def thing_in(client: Client, image: Path) -> tuple[int, int]:
    """A point on which a click finds something: the middle of the surest region that is met there."""
    middles = [
        (round((left + right) / 2), round((top + bottom) / 2))
        for left, top, right, bottom in (region.box_xyxy for region in client.segment(image))
    ]
    return next(one for one in middles if client.query(image, one, limit=1).hits)


def of_prompts(client: Client, files: list[Path], point: tuple[int, int], count: int) -> list[dict[str, Any]]:
    """Warm queries of each kind, and clicks by many clients."""
    image, others, unseen = files[0], iter(files[1::2] * count), files[2::2]
    first = client.query(image, point, limit=1).hits[0]
    stored = RegionRef(first.image, first.region)
    kinds: dict[str, Callable[[], object]] = {
        "click, warm": lambda: client.query(image, point, limit=10),
        "box, warm": lambda: client.query(image, (100, 100, 220, 220), limit=10),
        "text, warm": lambda: client.query(image, "a red apple", limit=10),
        "whole image, warm": lambda: client.query(image, limit=10),
        "stored region": lambda: client.query(stored, limit=10),
        "click, another image": lambda: client.query(next(others), (150, 150), limit=10),
    }
    rows = []
    for name, call in kinds.items():
        call()
        rows.append(row_of(name, 1, timed(count, call)))
    rows.append(row_of("click, warm", CLIENTS, by_many(count, kinds["click, warm"])))
    return [*rows, *from_lists(client, unseen, stored, count)]


def from_lists(client: Client, unseen: list[Path], stored: RegionRef, count: int) -> list[dict[str, Any]]:
    """Questions by `query_many`, of images not asked about before: the mean of each, as a batch is answered at once."""
    lists: dict[str, list[Any]] = {
        "click, another image, of a list": [(file, (150, 150)) for file in unseen[:count]],
        "stored region, of a list": [stored] * count,
    }
    rows = []
    for name, questions in lists.items():
        start = time.perf_counter()
        answered = sum(1 for _ in client.query_many(questions, limit=10))
        rows.append(row_of(name, 1, [(time.perf_counter() - start) * 1000 / answered] * answered))
    return rows


def row_of(name: str, clients: int, spent: list[float]) -> dict[str, Any]:
    return {"what": name, "clients": clients, "queries": len(spent), **measuring.percentiles(spent)}


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    pyplot = measuring.plotting()
    shown = [row for row in rows if "cold" not in row["what"]][::-1]
    figure, axes = pyplot.subplots(figsize=(4.9, 3))
    names = [row["what"] + (f", {row['clients']} clients" if row["clients"] > 1 else "") for row in shown]
    axes.barh(names, [row["p95_ms"] for row in shown], color="#c9d6de", label="95th percentile")
    axes.barh(names, [row["p50_ms"] for row in shown], color="#2f6f8f", label="median")
    axes.set_xlabel("milliseconds")
    axes.legend(frameon=False)
    measuring.save_figure(figure, file)


def main() -> None:
    made = measuring.parser(__doc__, plots=True)
    made.add_argument("--uri", help="a Milvus server, or a file; a temporary file by default")
    made.add_argument("--images", type=int, default=40)
    made.add_argument("--queries", type=int, default=40)
    made.add_argument("--at-most-ms", type=float)
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    measuring.report("query", rows, options)
    if options.plot:
        plot(rows, options.plot)
    median = rows[0]["p50_ms"]
    if options.at_most_ms is not None and median > options.at_most_ms:
        sys.exit(f"the median query took {median:.1f} ms, at most {options.at_most_ms:g} ms are allowed")


if __name__ == "__main__":
    main()
