"""`watch --once` ends as `sync repair` does: with 3 where images failed, are exhausted or held back, or there are none;
and says which.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from searchanything.cli.app import run
from searchanything.core.skips import Skipped
from searchanything.core.types import ImageRef
from searchanything.ingest.reports import FailedImage, IndexReport, SyncReport
from searchanything.service import tree
from searchanything.service.reports import BatchReport, WaveReport, summary
from searchanything_flows import __main__ as processes
from searchanything_flows.index import finished, finished_without_image

sync_flow = import_module("searchanything_flows.sync")


def test_a_sync_counts_the_images_that_it_does_not_try(monkeypatch: pytest.MonkeyPatch) -> None:
    found, tried = SyncReport(failed=("a.jpg", "b.jpg", "c.jpg", "waits.jpg"), checked=4), []
    ref, now_ms = partial(ImageRef, "folder"), time.time_ns() // 1_000_000
    known = [
        FailedImage(ref("a.jpg"), "e", "ImageError", "", 3, now_ms, now_ms, exhausted=True),
        FailedImage(ref("b.jpg"), "e", "ImageError", "", 2, now_ms, now_ms, exhausted=False),
        FailedImage(ref("c.jpg"), "e", "ObjectNotSentError", "", 9, now_ms - 3_600_000, now_ms, exhausted=True),
        FailedImage(ref("waits.jpg"), "e", "ObjectNotSentError", "", 9, now_ms - 3_000_000, now_ms, exhausted=False),
    ]

    async def waves(_engine: Any, _source: str, keys: Sequence[str], **_: Any) -> WaveReport:
        tried.extend(keys)
        return WaveReport((BatchReport(IndexReport(indexed=len(keys)), 0.1, "host", 1),))

    async def step(*_: Any) -> BatchReport:
        return BatchReport(IndexReport(), 0.1, "host", 1)

    operations = SimpleNamespace(plan_sync=lambda _, forget: found, sweep_tiles=lambda _: None)  # noqa: ARG005
    client = SimpleNamespace(operations=operations, failures=lambda _: known)
    monkeypatch.setattr(sync_flow, "worker_client", lambda: client)
    monkeypatch.setattr(sync_flow, "index_in_waves", waves)
    monkeypatch.setattr(sync_flow, "_step", step)
    _, wave = asyncio.run(sync_flow._sync(None, "folder", repair=True))
    assert tried == ["b.jpg"]
    assert (wave.total.indexed, wave.total.exhausted, wave.total.failed) == (1, 2, 1)
    assert summary(wave) == "1 indexed, 1 failed, 2 exhausted"


CASES = [
    (IndexReport(unchanged=4, skipped=2, empty=1, gone=1), 0, "up to date"),
    (IndexReport(failed=1), 3, "not all is up to date: 1 failed (searchanything failed list)"),
    (IndexReport(exhausted=2), 3, "not all is up to date: 2 exhausted (searchanything failed list)"),
    (IndexReport(held=("a.jpg",), gone=1), 3, "not all is up to date: 1 held back"),
    (
        IndexReport(failed=1200, exhausted=3, held=("a.jpg",)),
        3,
        "not all is up to date: 1,200 failed, 3 exhausted, 1 held back (searchanything failed list)",
    ),
]


def ending_in(state: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """The exit code of `watch folder --once` where the run of `sync` ends in a state, and what was printed."""

    async def sync(_: str, *, return_state: bool) -> Any:
        assert return_state
        return state

    class Workers:
        async def __aenter__(self) -> Any:
            return SimpleNamespace()

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(processes, "workers", lambda _: Workers())
    monkeypatch.setattr(processes, "_when_stdin_ends", lambda _: None)
    monkeypatch.setattr(processes, "sync", sync)
    code = asyncio.run(processes.bring_up_to_date("folder"))
    document = json.loads(capsys.readouterr().out)
    whole = SimpleNamespace(once=lambda: (code, document), lasting_ui_url=None)
    monkeypatch.setattr(tree, "check_watchable", lambda *_: None)
    monkeypatch.setattr(tree, "ServiceTree", lambda *_, **__: nullcontext(whole))
    assert run(["watch", "folder", "--once"]) == code
    return code, capsys.readouterr()


@pytest.mark.parametrize(("report", "code", "last_line"), CASES)
def test_code_and_last_line_say_what_is_the_case(
    report: IndexReport,
    code: int,
    last_line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended, printed = ending_in(finished(WaveReport(listing=report)), monkeypatch, capsys)
    assert (ended, printed.out.splitlines()[-1]) == (code, last_line)
    assert "nothing under" not in printed.err


TEXTS = Skipped("is no image", 2, ("a.txt", "b.txt"), ((".txt", 2),))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (IndexReport(), "nothing under folder: 0 objects; check the bucket and the prefix, or the folder"),
        (IndexReport(skipped=2, skips=(TEXTS,)), "2 files under folder, none is an image: 2 .txt"),
    ],
    ids=["nothing", "other files"],
)
def test_a_source_without_any_image_ends_as_index_and_sync_end_there(
    report: IndexReport, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = finished_without_image("folder", WaveReport(listing=report))
    code, printed = ending_in(state, monkeypatch, capsys)
    assert (code, printed.out.splitlines()[-1]) == (3, "nothing to do: there is no image")
    assert said in printed.err
