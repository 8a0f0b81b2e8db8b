"""The name of a run's last state says what the exit code of the same command says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from searchanything.core.skips import Skipped
from searchanything.core.types import ImageRef
from searchanything.ingest.reports import FailedImage, IndexReport, SyncReport
from searchanything.service.reports import BatchReport, WaveReport
from searchanything_flows.automations import _ENDS

EXHAUSTED = FailedImage(ImageRef("images", "bad.jpg"), "e", "ImageError", "no image", 3, 0, 0, exhausted=True)
TEXTS = Skipped("is no image", 2, ("a.txt", "b.txt"))


async def no_waves(_engine: Any, _source: str, keys: Sequence[str], **_: Any) -> WaveReport:
    assert list(keys) == []
    return WaveReport()


def ends_of_sync(
    monkeypatch: pytest.MonkeyPatch, found: SyncReport, *, repair: bool, tidied: IndexReport
) -> tuple[str | None, str | None]:
    """Name and message of the last state of the first sync of a process that finds this, and tidies so."""
    module = import_module("searchanything_flows.sync")

    async def tidy(*_: Any) -> BatchReport:
        return BatchReport(tidied, 0.1, "host", 1)

    async def publish_run(*_: Any) -> None: ...

    operations = SimpleNamespace(plan_sync=lambda _, forget: found, sweep_tiles=lambda _: None)  # noqa: ARG005
    client = SimpleNamespace(sync=lambda _: found, operations=operations, failures=lambda _: [EXHAUSTED])
    monkeypatch.setattr(module, "worker_client", lambda: client)
    monkeypatch.setattr(module, "index_in_waves", no_waves)
    monkeypatch.setattr(module, "_step", tidy)
    monkeypatch.setattr(module, "_tidied", set())
    monkeypatch.setattr(module, "publish_run", publish_run)
    monkeypatch.setattr(module, "workers", lambda _: nullcontext())
    monkeypatch.setattr(module, "stop_if_cancelled", lambda work: work)
    state = asyncio.run(module.sync.fn("folder", repair=repair))
    assert state.is_completed()
    assert state.name in _ENDS
    return state.name, state.message


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(
    ("found", "name", "message"),
    [
        (SyncReport(checked=4), "Completed", "nothing to do"),
        (SyncReport(checked=4, skips=(TEXTS,)), "Completed", "2 skipped"),
        (SyncReport(checked=4, failed=("bad.jpg",)), "Some failed", "1 exhausted"),
        (SyncReport(), "No image", "no image under folder: nothing to do"),
        (SyncReport(skips=(TEXTS,)), "No image", "no image under folder: 2 skipped"),
    ],
)
def test_a_sync_ends_as_the_code_of_sync_repair_says(
    monkeypatch: pytest.MonkeyPatch, found: SyncReport, name: str, message: str, repair: bool
) -> None:
    """0: completed. 3: images are exhausted, and known failures of a check; or there is no image at all."""
    ends = ends_of_sync(monkeypatch, found, repair=repair, tidied=IndexReport())
    assert ends == (name, message if repair else message.replace("exhausted", "failed"))


@pytest.mark.parametrize(
    ("tidied", "name"),
    [
        (IndexReport(), "No image"),
        (IndexReport(indexed=1), "Completed"),
        (IndexReport(deleted=1), "Completed"),
        (IndexReport(failed=1), "Some failed"),
    ],
)
@pytest.mark.parametrize("found", [SyncReport(), SyncReport(skips=(TEXTS,))])
def test_a_sync_ends_by_images_that_came_after_it_had_compared(
    monkeypatch: pytest.MonkeyPatch, found: SyncReport, tidied: IndexReport, name: str
) -> None:
    """Another run indexed them, and was killed: to tidy is to index them again."""
    ends = ends_of_sync(monkeypatch, found, repair=True, tidied=tidied)
    assert ends[0] == name


@pytest.mark.parametrize(
    ("batch", "name"),
    [
        (IndexReport(skipped=2), "No image"),
        (IndexReport(skipped=2, unchanged=1), "Completed"),
        (IndexReport(gone=1), "No image"),
        (IndexReport(deleted=1), "Completed"),
        (IndexReport(exhausted=1), "Some failed"),
        (IndexReport(failed=1), "Some failed"),
    ],
)
def test_a_reindex_ends_as_the_code_of_index_says(
    monkeypatch: pytest.MonkeyPatch, batch: IndexReport, name: str
) -> None:
    module = import_module("searchanything_flows.reindex")

    async def reindex(*_: Any) -> WaveReport:
        return WaveReport((BatchReport(batch, 0.1, "host", 1),))

    async def publish_run(*_: Any) -> None: ...

    monkeypatch.setattr(module, "_reindex", reindex)
    monkeypatch.setattr(module, "publish_run", publish_run)
    monkeypatch.setattr(module, "workers", lambda _: nullcontext())
    monkeypatch.setattr(module, "stop_if_cancelled", lambda work: work)
    assert asyncio.run(module.reindex.fn("folder")).name == name
