"""What standing queries find and miss by their rate, and what a look costs: a table each, and JSON.

python -m benchmarks.standing [--scenes 240] [--questions 120] [--regions 100000] [--queries 1 100 1000] [--json FILE]

Found: half of so many generated scenes are indexed, the box of an object in each of them becomes a standing query, then
the other half is indexed. A match is right if its region covers an object of the same concept with an IoU of at least
0.5; what could be found are the new scenes that show the concept. Refused are queries whose code has so many neighbours
that no distance is so rare.

A look: on an embedded index of made-up regions of which those of the last thousand images are new. `deliver`, where
none matches; `fetch`, where one region matches each query, and was fetched before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks import measuring
from benchmarks.index_rows import image_row, region_row
from benchmarks.search import PER_IMAGE, made_codes
from searchanything.answers.standing_answers import StandingQuery
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.client.standing_memory import Kept, first_look
from searchanything.core.errors import UsageError
from searchanything.core.geometry import mask_of_size
from searchanything.core.types import Hit, ImageRef
from searchanything.demo.scenes import Scene, generate_demo_scenes
from searchanything.features.parquet import FeatureBatch
from searchanything.prompts.prompt import Box

RATES: Final = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6)
RIGHT_IOU: Final = 0.5


def concept_of(hit: Hit, scene: Scene) -> str | None:
    """The concept that a hit's region shows."""
    if hit.mask is None:
        return None
    found = mask_of_size(hit.mask, *scene.image.shape[:2])
    for one in scene.objects:
        union = int((found | one.mask).sum())
        if union and (found & one.mask).sum() / union >= RIGHT_IOU:
            return one.concept
    return None


def found(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Precision and recall of the matches, by rate."""
    scenes = dict(generate_demo_scenes(options.scenes, seed=options.seed))
    names = list(scenes)
    old, new = names[: len(names) // 2], names[len(names) // 2 :]
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder, connect("memory://", preset=options.preset) as client:
        for name in old:
            Image.fromarray(scenes[name].image).save(Path(folder) / name, quality=95)
        client.index(folder)
        asked = [(name, scenes[name].objects[int(rng.integers(len(scenes[name].objects)))]) for name in old]
        asked = asked[: options.questions]
        refused = dict.fromkeys(RATES, 0)
        for rate in RATES:
            for number, (name, wanted) in enumerate(asked):
                box = Box(*wanted.box_xyxy)
                try:
                    client.standing.add(f"{rate:g} {number}", Path(folder) / name, box, max_false_match=rate)
                except UsageError:
                    refused[rate] += 1
        for name in new:
            Image.fromarray(scenes[name].image).save(Path(folder) / name, quality=95)
        client.index(folder)
        with client.standing.new_matches() as matches:
            hits = {one.query.name: [match.hit for match in one.matches] for one in matches.matches}
    showing = [{one.concept for one in scenes[name].objects} for name in new]
    could = [sum(wanted.concept in shown for shown in showing) for _, wanted in asked]
    for rate in RATES:
        mine = [hits.get(f"{rate:g} {number}", []) for number in range(len(asked))]
        right = [
            sum(concept_of(hit, scenes[hit.image.key]) == wanted.concept for hit in some)
            for some, (_, wanted) in zip(mine, asked, strict=True)
        ]
        total = sum(map(len, mine))
        yield {
            "rate": f"{rate:g}",
            "queries": len(asked) - refused[rate],
            "refused": refused[rate],
            "matches": total,
            "precision": sum(right) / total if total else float("nan"),
            "recall": sum(right) / sum(could),
            "queries with a right match": sum(one > 0 for one, able in zip(right, could, strict=True) if able)
            / sum(1 for able in could if able),
        }


def looks(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds of a look at which nothing matches, or nothing that was not dealt with, by number of queries."""
    with tempfile.TemporaryDirectory() as folder, connect(f"{folder}/index.db", preset=options.preset) as client:
        for name, scene in generate_demo_scenes(12, seed=options.seed):
            Image.fromarray(scene.image).save(Path(folder) / name)
        client.index(folder)
        index = client._parts.connection.read_index()  # noqa: SLF001 - rows are made up
        codes, now = made_codes("uniform", options.regions, seed=1), time.time_ns() // 1_000_000
        for first in range(0, len(codes), PER_IMAGE * 200):
            regions, images = [], []
            for start in range(first, min(first + PER_IMAGE * 200, len(codes)), PER_IMAGE):
                image, part = ImageRef("made-up", f"{start:09d}.jpg"), codes[start : start + PER_IMAGE]
                at = now if start >= len(codes) - 1000 * PER_IMAGE else 1
                regions += [
                    region_row(image, 1, number, code.tobytes(), indexed_at_ms=at) for number, code in enumerate(part)
                ]
                images.append(image_row(image, 1, part[0].tobytes(), regions=len(part), first_at_ms=at, last_at_ms=at))
            index.insert_regions(regions)
            index.insert_images(images)
        query = client.standing.add("one", next(Path(folder).glob("*.jpg")), webhook="http://127.0.0.1:9/")
        memory, rng = client.standing.memory, np.random.default_rng(2)
        [made] = memory.kept(query).features.values()
        for count in options.queries:
            queries = [replace(query, id=f"{number:016x}", name=str(number), kind="regions") for number in range(count)]
            for one in queries:
                mask, crop = (rng.normal(size=part.shape).astype(np.float32) for part in (made.mask, made.image))
                features = FeatureBatch(mask, crop)
                memory.keep(one, Kept(b"", {client.manifest.feature_fingerprint: features}))
            keep_alone(client, queries)
            if client.standing.deliver().failed:
                raise SystemExit("a made-up query matches a made-up region")
            best = measuring.best_ms({"look": client.standing.deliver}, rounds=5)
            fetched = [replace(one, webhook=None) for one in queries]
            yield {
                "regions": options.regions,
                "queries": count,
                "look_ms": best["look"],
                "look_after_matches_ms": look_after_matches_ms(client, fetched),
            }


def keep_alone(client: Client, queries: Sequence[StandingQuery]) -> None:
    """Have these queries there, and no others."""
    memory, wanted = client.standing.memory, {one.id for one in queries}
    for other in memory.queries():
        if other.id not in wanted:
            memory.forget(other)
    for one in queries:
        memory.keep_query(one)


def look_after_matches_ms(client: Client, queries: Sequence[StandingQuery]) -> float:
    """Milliseconds of a look at queries each of which one new region matches, after they were fetched."""
    keep_alone(client, queries)
    index, now = client._parts.connection.read_index(), time.time_ns() // 1_000_000  # noqa: SLF001 - rows are made up
    regions, images = [], []
    for one in queries:
        wanted = client.standing._look([one]).wanted(one, first_look(one)).wanted  # noqa: SLF001
        code = b"" if wanted is None else wanted.code.tobytes()
        image = ImageRef("matched", f"{len(queries)}-{one.id}.jpg")
        regions.append(region_row(image, 1, 0, code, indexed_at_ms=now))
        images.append(image_row(image, 1, code, regions=1, first_at_ms=now, last_at_ms=now))
    index.insert_regions(regions)
    index.insert_images(images)
    with client.standing.new_matches() as found:
        if len(found.matches) != len(queries) or found.failed:
            raise SystemExit("a query did not find the region that was made up for it")

    def look() -> None:
        if client.standing.fetch().matches:
            raise SystemExit("a match came twice")

    best = measuring.best_ms({"look": look}, rounds=3)
    index.delete_images([one.image for one in images])
    return best["look"]


def main() -> None:
    """Print both tables; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--regions", type=int, default=100_000)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100, 1000])
    options = parser.parse_args()
    tables: list[list[dict[str, Any]]] = []
    for asked, measured in ((options.scenes, found), (options.regions, looks)):
        tables.append(list(measured(options)) if asked else [])
        if tables[-1]:
            measuring.report("standing", tables[-1], argparse.Namespace(json=None))
    matches, costs = tables
    measuring.write({"benchmark": "standing", "matches": matches, "looks": costs}, options.json)


if __name__ == "__main__":
    main()
