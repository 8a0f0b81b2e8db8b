"""Many keys in bounded waves: what `sync`, `reindex` and `retry-failed` have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace

from prefect.exceptions import CancelledRun

from searchanything.core.batching import batches
from searchanything.core.settings import load_settings
from searchanything.ingest.vanished import Said
from searchanything.service.reports import WaveReport, sum_waves

from .engine import Workers
from .index import report_of, run_index
from .publish import Progress


async def index_in_waves(
    engine: Workers, source: str, keys: Iterable[str], *, total: int, force: bool = False, said: Said = "listed"
) -> WaveReport:
    """Run the flow `index` over all keys, a few waves at a time; `keys` may block, and is read as needed.

    Raises: CancelledRun when a wave was cancelled or the process is to end; what the first failing wave raised.
    """
    settings = load_settings().service
    start = time.perf_counter()
    progress, ended, images = Progress(source, total), [WaveReport()], 0
    waves = iter(batches(keys, settings.wave_keys))
    running: set[asyncio.Task[WaveReport]] = set()
    try:
        while True:
            while len(running) < settings.waves and (wave := await asyncio.to_thread(next, waves, None)):
                running.add(asyncio.create_task(_wave(source, wave, force=force, said=said)))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            ended += [one.result() for one in done]
            images += sum(one.images for one in ended[-len(done) :])
            await progress.show(images)
            if engine.stopping:
                raise CancelledRun("the service is ending; the next sync goes on from here")
    finally:
        await asyncio.gather(*running, return_exceptions=True)
    return replace(sum_waves(ended), seconds=time.perf_counter() - start)


async def _wave(source: str, keys: list[str], *, force: bool, said: Said) -> WaveReport:
    return await report_of(await run_index(source, keys, force=force, urgent=False, said=said))
