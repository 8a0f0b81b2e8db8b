"""How Prefect's database grows: rows and bytes per run of the flow `index`, over waves of 32 and of 256 images.

python -m benchmarks.prefect_growth [--waves 5] [--json FILE]

The service of `benchmarks/service.py`. The images are indexed beforehand and unchanged then: what a wave leaves in the
database depends on its batches of 32, not on what is done in them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import searchanything
from benchmarks import measuring
from benchmarks.service import BATCH, SOURCE, jpeg, shared_environment, started
from searchanything.demo.scenes import generate_demo_scenes

SIZES: Final = (32, 256)
SETTLE_S: Final = 8.0  # events and logs reach the database a little later
INDEXED_S: Final = 600.0


def contents(database: Path) -> tuple[dict[str, int], int]:
    """Rows by table, and the bytes of all pages."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
        [(pages,)], [(size,)] = (connection.execute(f"PRAGMA {what}") for what in ("page_count", "page_size"))
    return rows, int(pages) * int(size)


async def growth(database: Path, keys: list[str], waves: int) -> list[dict[str, Any]]:
    """What each size of waves adds, per wave. A first wave of each size is not counted."""
    from searchanything_flows.engine import workers
    from searchanything_flows.index import index, report_of

    found = []
    async with workers(SOURCE):
        for size in SIZES:
            await report_of(await index(SOURCE, keys[:size], return_state=True))
            await asyncio.sleep(SETTLE_S)
            rows, size_bytes = contents(database)
            for _ in range(waves):
                await report_of(await index(SOURCE, keys[:size], return_state=True))
            await asyncio.sleep(SETTLE_S)
            more_rows, more_bytes = contents(database)
            added = {name: (count - rows.get(name, 0)) / waves for name, count in sorted(more_rows.items())}
            found.append(
                {
                    "images": size,
                    "batches": -(-size // BATCH),
                    "bytes": (more_bytes - size_bytes) / waves,
                    "rows": {name: count for name, count in added.items() if count},
                }
            )
    return found


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--waves", type=int, default=5)
    options = parser.parse_args()
    images = [jpeg(scene.image) for _, scene in generate_demo_scenes(BATCH, seed=1)]
    keys = [f"{number:03}.jpg" for number in range(max(SIZES))]
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_:
        settings, store, tree = started(Path(name), "pico", open_)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: store.upload(keys[number], images[number % BATCH]), range(len(keys))))
        client = open_.enter_context(searchanything.connect(settings=settings))
        deadline = time.monotonic() + INDEXED_S
        while client.status().images < len(keys):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(keys)} images were not indexed within {INDEXED_S:.0f} s")
            time.sleep(1.0)
        os.environ |= shared_environment(tree)
        found = asyncio.run(growth(tree.folder / "prefect" / "prefect.db", keys, options.waves))
    for wave in found:
        print(f"wave of {wave['images']} images, {wave['batches']} batches: {wave['bytes'] / 1024:.0f} KiB; rows:")
        print("  " + ", ".join(f"{name} {count:g}" for name, count in wave["rows"].items()))
    measuring.write(found, options.json)


if __name__ == "__main__":
    main()
