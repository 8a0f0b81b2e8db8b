"""`watch --once` ends as `sync repair` does: with 3 where images failed, are exhausted or held back; and says which."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Completed

from searchanything.cli.app import run
from searchanything.ingest.reports import IndexReport, SyncReport
from searchanything.service import tree
from searchanything.service.reports import BatchReport, WaveReport, summary
from searchanything_flows import __main__ as processes

sync_flow = import_module("searchanything_flows.sync")


def test_a_sync_counts_the_images_that_it_no_longer_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    found, tried = SyncReport(failed=("a.jpg", "b.jpg", "c.jpg"), checked=3), []
    known = [SimpleNamespace(image=SimpleNamespace(key=key), given_up=key != "b.jpg") for key in found.failed]

    async def waves(_engine: Any, _source: str, keys: Sequence[str], **_: Any) -> WaveReport:
        tried.extend(keys)
        return WaveReport((BatchReport(IndexReport(indexed=len(keys)), 0.1, "host", 1, 1),))

    async def step(*_: Any) -> BatchReport:
        return BatchReport(IndexReport(), 0.1, "host", 1, 1)

    operations = SimpleNamespace(plan_sync=lambda _, forget: found, sweep_tiles=lambda _: None)  # noqa: ARG005
    client = SimpleNamespace(operations=operations, failures=lambda _: known)
    monkeypatch.setattr(sync_flow, "worker_client", lambda: client)
    monkeypatch.setattr(sync_flow, "index_in_waves", waves)
    monkeypatch.setattr(sync_flow, "_step", step)
    _, wave = asyncio.run(sync_flow._sync(None, "folder", repair=True))
    assert tried == ["b.jpg"]
    assert (wave.total.indexed, wave.total.given_up, wave.total.failed) == (1, 2, 0)
    assert summary(wave) == "1 indexed, 2 exhausted"


CASES = [
    (IndexReport(unchanged=4, skipped=2, empty=1, gone=1), 0, "up to date"),
    (IndexReport(failed=1), 3, "not all is up to date: 1 failed (searchanything failed list)"),
    (IndexReport(given_up=2), 3, "not all is up to date: 2 exhausted (searchanything failed list)"),
    (IndexReport(held=("a.jpg",), gone=1), 3, "not all is up to date: 1 held back"),
    (
        IndexReport(failed=1200, given_up=3, held=("a.jpg",)),
        3,
        "not all is up to date: 1,200 failed, 3 exhausted, 1 held back (searchanything failed list)",
    ),
]


@pytest.mark.parametrize(("report", "code", "last_line"), CASES)
def test_code_and_last_line_say_what_is_the_case(
    report: IndexReport,
    code: int,
    last_line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def sync(_: str, *, return_state: bool) -> Any:
        assert return_state
        return Completed(data=WaveReport(listing=report))

    class Workers:
        async def __aenter__(self) -> Any:
            return SimpleNamespace()

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(processes, "workers", lambda _: Workers())
    monkeypatch.setattr(processes, "_when_stdin_ends", lambda _: None)
    monkeypatch.setattr(processes, "sync", sync)
    assert asyncio.run(processes.bring_up_to_date("folder")) == code
    document = json.loads(capsys.readouterr().out)
    whole = SimpleNamespace(once=lambda: (code, document), lasting_ui_url=None)
    monkeypatch.setattr(tree, "check_watchable", lambda *_: None)
    monkeypatch.setattr(tree, "ServiceTree", lambda *_, **__: nullcontext(whole))
    assert run(["watch", "folder", "--once"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == last_line
