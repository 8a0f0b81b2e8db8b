"""`watch` says once that the source or the index is away, and once that it is back, however often it is tried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from searchanything.core.errors import ImageError, IndexUnavailableError, ObjectNotFoundError, StoreUnavailableError
from searchanything.core.settings import Settings
from searchanything.service.outages import Outages
from searchanything.service.watcher import Watcher, Work
from searchanything.service.wave_lines import WAVES_LOGGER

AWAY = "s3.example.org:9000: connection refused"
STORE_LINE = f"the source cannot be reached, and is tried again until it can: {AWAY}"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == WAVES_LOGGER]


def test_the_loop_tells_an_outage_and_its_end_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first sync is fine; then a wave and three syncs fail; the fifth sync succeeds, and a wave and a sixth."""
    caplog.set_level(logging.INFO, WAVES_LOGGER)
    monkeypatch.setattr("searchanything.service.watcher._PAUSES_S", (0.01, 0.02))
    settings, syncs, waves, told = Settings(_env_file=None), [0], [0], []
    settings.service = settings.service.model_copy(update={"quiet_s": 0.01, "longest_wait_s": 0.05, "poll_s": 30})

    async def index_wave(_: Sequence[str]) -> Sequence[str]:
        waves[0] += 1
        if waves[0] == 1:
            raise StoreUnavailableError(AWAY)
        return ()

    async def sync() -> bool:
        syncs[0] += 1
        told.append(lines_of(caplog))
        if 2 <= syncs[0] <= 4:
            raise StoreUnavailableError(AWAY)
        return True

    async def main() -> None:
        watcher = Watcher(str(tmp_path), settings)
        loop = asyncio.create_task(watcher.run(Work(index_wave, sync)))
        async with asyncio.timeout(30):
            while syncs[0] < 1:
                await asyncio.sleep(0.005)
            watcher.queue.put(["a"])
            while syncs[0] < 5:
                await asyncio.sleep(0.005)
            watcher.queue.put(["b"])
            while waves[0] < 2:
                await asyncio.sleep(0.005)
            watcher.queue.request_sync("a test")
            while syncs[0] < 6:
                await asyncio.sleep(0.005)
        watcher.stop()
        await loop
        watcher.close()

    asyncio.run(main())
    assert told[:5] == [[], *([[STORE_LINE]] * 4)]
    assert lines_of(caplog) == [STORE_LINE, "the source can be reached again, and a sync has found what was missed"]


def test_source_and_index_are_told_apart_and_other_errors_are_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, WAVES_LOGGER)
    outages = Outages()
    outages.failed(ImageError("a.jpg", "the file is cut off"))
    outages.synced()
    assert lines_of(caplog) == []
    for error in (IndexUnavailableError("no answer"), StoreUnavailableError(AWAY), IndexUnavailableError("no answer")):
        outages.failed(error)
    outages.synced()
    outages.synced()
    assert lines_of(caplog) == [
        "the index cannot be reached, and is tried again until it can: no answer",
        STORE_LINE,
        "the index and the source can be reached again, and a sync has found what was missed",
    ]


def test_a_folder_or_bucket_that_is_gone_is_an_outage_of_the_source(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages()
    outages.failed(ObjectNotFoundError("/photos: no such folder"))
    assert lines_of(caplog) == [
        "the source cannot be reached, and is tried again until it can: /photos: no such folder"
    ]
