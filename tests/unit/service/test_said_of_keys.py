"""What was said of keys reaches the client that indexes them, through waves and batches, without a server or a worker.

Where it is lost on the way, keys of a listing count as named, and any number of them may be forgotten.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from searchanything.ingest.reports import IndexReport
from searchanything.ingest.vanished import Said
from searchanything.service import work
from searchanything.service.reports import WaveReport
from searchanything_flows import index as index_flow
from searchanything_flows import many

KEYS = [f"{number}.jpg" for number in range(5)]


class Here:
    """Does the work of workers in this thread."""

    stopping = False

    async def run(self, function: Any, parameters: dict[str, Any], **_: Any) -> Any:
        return function(**parameters)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """By key, what the client was told."""
    told: dict[str, str] = {}

    def refresh(_: str, keys: list[str], *, said: str = "nothing", **__: Any) -> tuple[IndexReport, tuple[()]]:
        told.update(dict.fromkeys(keys, said))
        return IndexReport(indexed=len(keys)), ()

    async def at_once(awaited: Any) -> Any:
        return await awaited

    flow = index_flow.index.fn

    async def index(*args: Any, return_state: bool, **parameters: Any) -> Any:
        assert return_state
        return await flow(*args, **parameters)

    async def show(*_: Any) -> None:
        pass

    client = SimpleNamespace(operations=SimpleNamespace(refresh_with_sheet=refresh))
    monkeypatch.setenv("SEARCHANYTHING_SERVICE__BATCH_KEYS", "2")
    monkeypatch.setattr(work, "worker_client", lambda: client)
    monkeypatch.setattr(index_flow, "index", index)
    monkeypatch.setattr(index_flow, "in_prefect", lambda task, *given: task.fn(*given))
    monkeypatch.setattr(many, "Progress", lambda *_: SimpleNamespace(show=show))
    monkeypatch.setattr(index_flow, "workers", lambda _: nullcontext(Here()))
    monkeypatch.setattr(index_flow, "stop_if_cancelled", at_once)
    monkeypatch.setattr(index_flow, "publish_batch", lambda *_: None)
    monkeypatch.setattr(index_flow, "publish_wave", show)
    return told


@pytest.mark.parametrize("said", ["listed", "named", "gone"])
def test_waves_and_batches_hand_it_on(asked: dict[str, str], said: Said) -> None:
    asyncio.run(many.index_in_waves(Here(), "folder", KEYS, total=5, said=said))  # type: ignore[arg-type]
    assert asked == dict.fromkeys(KEYS, said)


def test_what_many_keys_come_from_is_a_listing_and_an_event_names_its_own(asked: dict[str, str]) -> None:
    asyncio.run(many.index_in_waves(Here(), "folder", KEYS, total=5))  # type: ignore[arg-type]
    assert asked == dict.fromkeys(KEYS, "listed")
    asyncio.run(index_flow.run_index("folder", KEYS))
    assert asked == dict.fromkeys(KEYS, "named")


def test_a_retry_names_its_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asks for it, perhaps because they have deleted what failed."""
    module, told = import_module("searchanything_flows.retry_failed"), []

    async def waves(*_: Any, said: str = "listed", **__: Any) -> WaveReport:
        told.append(said)
        return WaveReport()

    async def publish_run(*_: Any) -> None:
        pass

    monkeypatch.setattr(module, "index_in_waves", waves)
    monkeypatch.setattr(module, "worker_client", lambda: SimpleNamespace(failures=lambda _: []))
    monkeypatch.setattr(module, "workers", lambda _: nullcontext())
    monkeypatch.setattr(module, "stop_if_cancelled", lambda work: work)
    monkeypatch.setattr(module, "publish_run", publish_run)
    asyncio.run(module.retry_failed.fn("folder"))
    assert told == ["named"]
