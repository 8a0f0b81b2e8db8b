"""WatchFigures of `watch` for Prometheus, over a socket and as it reads them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from fakes.figures import read
from urllib3 import PoolManager

from searchanything.answers.standing_answers import StandingDelivery
from searchanything.core.errors import SettingsError
from searchanything.ingest.reports import Failure, IndexReport
from searchanything.service.figures import WatchFigures
from searchanything.service.http_thread import HttpThread
from searchanything.service.reports import BatchReport, WaveReport


@pytest.fixture
def figures() -> WatchFigures:
    return WatchFigures()


def wave(report: IndexReport, seconds: float = 2.0) -> WaveReport:
    return WaveReport(batches=(BatchReport(report, seconds, "host", 1),), seconds=seconds)


def test_runs_are_counted_by_what_became_of_the_images(figures: WatchFigures) -> None:
    assert read(figures.exposition())["images_total{indexed}"] == 0, "from the start"
    did = IndexReport(indexed=3, empty=1, failed=2, exhausted=1, deleted=4, unchanged=9, regions=70)
    lost = Failure("a.png", "WorkerLost", "no worker survives it")
    figures.did("wave", replace(wave(did), lost=(lost,)))
    figures.did("sync", WaveReport(seconds=0.1))
    figures.failed("sync")
    found = read(figures.exposition())
    images = {name: found[f"images_total{{{name}}}"] for name in ("indexed", "empty", "failed", "exhausted", "deleted")}
    assert images == {"indexed": 3, "empty": 1, "failed": 3, "exhausted": 1, "deleted": 4}
    assert found["regions_total"] == 70
    assert found["runs_total{done,wave}"] == found["runs_total{done,sync}"] == found["runs_total{failed,sync}"] == 1
    assert found["run_seconds_sum{wave}"] == 2.0
    assert "run_seconds_sum{sync}" not in found, "nothing was to be done"


def test_what_waits_and_what_is_away_is_as_it_is_when_read(figures: WatchFigures) -> None:
    away: list[str] = []
    figures.watch(queued=lambda: 5, hints=lambda: 17, away=lambda: away)
    assert (read(figures.exposition())["queued_keys"], read(figures.exposition())["hints"]) == (5, 17)
    assert read(figures.exposition())["reachable{source}"] == read(figures.exposition())["reachable{index}"] == 1
    away.append("the source")
    assert (read(figures.exposition())["reachable{source}"], read(figures.exposition())["reachable{index}"]) == (0, 1)


def test_the_last_sync_and_deliveries(figures: WatchFigures) -> None:
    assert read(figures.exposition())["last_sync_timestamp_seconds"] == 0
    figures.synced()
    assert abs(read(figures.exposition())["last_sync_timestamp_seconds"] - time.time()) < 60
    figures.delivered(StandingDelivery({"a": 2, "b": 3}, {"c": "answered 500"}))
    figures.delivered(StandingDelivery({}, {"c": "answered 500", "d": "no answer"}))
    found = read(figures.exposition())
    assert (found["standing_matches_sent_total"], found["standing_queries_failing"]) == (5, 2)


def ask(url: str, method: str = "GET") -> tuple[int, bytes]:
    with PoolManager(retries=False, timeout=30.0) as http:
        answer = http.request(method, url)
        return answer.status, answer.data


def test_they_are_read_over_http_and_nothing_else_is(figures: WatchFigures) -> None:
    with HttpThread("metrics", figures.app, "127.0.0.1", 0) as server:
        status, body = ask(f"{server.url}/metrics")
        assert status == 200
        assert b"searchanything_watch_images_total" in body
        assert b"process_resident_memory_bytes" in body
        assert ask(f"{server.url}/metrics", "HEAD") == (200, b"")
        for path, method in (("/", "GET"), ("/events", "POST"), ("/metrics", "POST")):
            assert ask(f"{server.url}{path}", method)[0] == 404


def test_a_port_that_is_taken_is_said(figures: WatchFigures) -> None:
    with HttpThread("metrics", figures.app, "127.0.0.1", 0) as server:
        port = int(server.url.rpartition(":")[2])
        with (
            pytest.raises(SettingsError, match="the metrics cannot listen"),
            HttpThread("metrics", figures.app, "127.0.0.1", port),
        ):
            pass
