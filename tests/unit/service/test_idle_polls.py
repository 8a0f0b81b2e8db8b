"""A poll of a source that nobody changed costs no run in Prefect and no artifact."""

from __future__ import annotations

import asyncio
import math
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.figures import read
from prefect.exceptions import ParameterTypeError

from searchanything.core.errors import StoreUnavailableError
from searchanything.core.types import ImageRef
from searchanything.ingest.reports import FailedImage, Failure, IndexReport, SyncReport, failed_too_often
from searchanything.service.figures import WatchFigures
from searchanything.service.reports import BatchReport, WaveReport

watch_flow = import_module("searchanything_flows.watch")
sync_flow = import_module("searchanything_flows.sync")


def client(found: SyncReport | Exception, failures: tuple[Any, ...] = ()) -> SimpleNamespace:
    def plan_sync(_source: str) -> SyncReport:
        if isinstance(found, Exception):
            raise found
        return found

    operations = SimpleNamespace(plan_sync=plan_sync)
    return SimpleNamespace(operations=operations, failures=lambda _source: list(failures))


def failed_image(key: str, error: str, first_at_ms: int, last_at_ms: int, *, attempts: int) -> FailedImage:
    row = SimpleNamespace(error=error, attempts=attempts, first_at_ms=first_at_ms, last_at_ms=last_at_ms)
    exhausted = failed_too_often(row, 3)  # type: ignore[arg-type]
    return FailedImage(ImageRef("b", key), "etag", error, "", attempts, first_at_ms, last_at_ms, exhausted)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SyncReport(checked=5), True),
        (SyncReport(missing=("a",)), False),
        (SyncReport(stale=("a",)), False),
        (SyncReport(orphaned=("a",)), False),
        (SyncReport(held=("a",)), False),
        (SyncReport(checked=5, lost=1), False),
        (SyncReport(unlisted=(Failure("a/", "StoreError", "gone"),)), False),
        (SyncReport(failed=("exhausted",)), True),
        (SyncReport(failed=("exhausted", "worth a try")), False),
        (StoreUnavailableError("the disk is away"), False),
    ],
)
def test_what_is_worth_a_run(found: SyncReport | Exception, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    exhausted = failed_image("exhausted", "ImageError", 0, 60_000, attempts=3)
    monkeypatch.setattr(sync_flow, "worker_client", lambda: client(found, (exhausted,)))
    assert sync_flow.is_in_step("folder") is expected


@pytest.mark.parametrize("ahead_ms", [0, 86_400_000], ids=["one clock", "the workers' is a day ahead"])
def test_an_image_that_is_not_sent_costs_fewer_and_fewer_runs(ahead_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried for an hour: with a run for each poll these were more than a hundred, of a source without changes."""
    now_ms, poll_ms, began_ms = 0, 30_000, 1_800_000_000_000
    tried_ms = [0]

    def known() -> tuple[Any, ...]:
        last_ms, attempts = began_ms + tried_ms[-1], len(tried_ms)
        return (failed_image("a", "ObjectNotSentError", began_ms, last_ms, attempts=attempts),)

    monkeypatch.setattr(sync_flow, "worker_client", lambda: client(SyncReport(failed=("a",)), known()))
    monkeypatch.setattr(sync_flow, "time", SimpleNamespace(time=lambda: (began_ms - ahead_ms + now_ms) / 1000))
    for now_ms in range(poll_ms, 7_200_000, poll_ms):
        tried_ms += [] if sync_flow.is_in_step("bucket") else [now_ms]
    assert known()[0].exhausted
    if ahead_ms:  # what a clock says is of no use: it is tried as long, and no longer
        assert tried_ms[-1] == 3_600_000
    else:
        minutes = [0, 0.5, 1, 2, 4, 8, 16, 26, 36, 46, 56, 66]
        assert tried_ms == [60_000 * one for one in minutes]


def test_what_a_run_did_is_in_the_figures_unless_it_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    report = BatchReport(IndexReport(indexed=3, regions=20), 1.0, "host", 1)

    async def run_index(_source: str, keys: list[str]) -> SimpleNamespace:
        return SimpleNamespace(is_cancelled=lambda: keys == ["cancelled"])

    async def report_of(_state: object) -> WaveReport:
        return WaveReport((report,), seconds=1.0)

    monkeypatch.setattr(watch_flow, "run_index", run_index)
    monkeypatch.setattr(watch_flow, "report_of", report_of)
    figures = WatchFigures()
    period = watch_flow._Period("folder", figures)
    for key in ("a", "cancelled"):
        asyncio.run(period.index_wave([key]))
    found = read(figures.exposition())
    assert (found["images_total{indexed}"], found["regions_total"], found["runs_total{done,wave}"]) == (3, 20, 1)
    assert found["runs_total{cancelled,wave}"] == 1


def test_only_the_first_poll_of_a_period_and_those_with_changes_are_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    in_step = iter([True, True, False, True])

    async def run(source: str, *, return_state: bool) -> str:
        assert return_state
        runs.append(source)
        return "state"

    ends = iter([None, WaveReport(), WaveReport()])

    async def done(_period: object, _kind: object, _state: object) -> WaveReport | None:
        return next(ends)

    monkeypatch.setattr(watch_flow, "sync", run)
    monkeypatch.setattr(watch_flow, "is_in_step", lambda _source: next(in_step))
    monkeypatch.setattr(watch_flow._Period, "_done", done)

    async def polls() -> tuple[Any, list[bool]]:
        period = watch_flow._Period("folder", WatchFigures())
        return period, [await period.sync() for _ in range(6)]

    period, done_ones = asyncio.run(polls())
    assert runs == ["folder"] * 3, "the first, which was cancelled, another first, and the one with changes"
    assert (period.syncs, period.looks) == (3, 3)
    assert done_ones == [False, True, True, True, True, True]


@pytest.mark.parametrize("period_s", [math.nan, math.inf, 0, -1.0, "nan"])
def test_a_period_without_an_end_or_a_length_is_refused(period_s: object) -> None:
    with pytest.raises(ParameterTypeError, match="period_s: Input should be"):
        watch_flow.watch.validate_parameters({"source": "folder", "period_s": period_s})
    assert watch_flow.watch.validate_parameters({"source": "folder", "period_s": 5})["period_s"] == 5.0
