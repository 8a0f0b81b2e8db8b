"""The figures of `watch` for Prometheus: what was indexed, what waits, what cannot be reached, what was not sent.

Labels are of closed sets, and no name of a bucket, image or query is among them, so they may be read without a key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from searchanything.answers.standing_answers import StandingDelivery
from searchanything.service.http_thread import AsgiMessage, AsgiReceive, AsgiSend
from searchanything.service.reports import WaveReport

RunKind = Literal["wave", "sync"]
OUTCOMES: Final = ("indexed", "empty", "failed", "exhausted", "deleted")  # of images: counts of an `IndexReport`
_SECONDS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


class WatchFigures:
    """The figures of one `watch`, from when its coordinator began. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._images = self._counter("images", "Images that runs were done with.", ["outcome"])
        self._regions = self._counter("regions", "Regions written.", [])
        self._runs = self._counter("runs", "Runs that ended.", ["kind", "ended"])
        self._sent = self._counter("standing_matches_sent", "Matches of standing queries that a webhook took.", [])
        self._failing = self._gauge("standing_queries_failing", "Standing queries whose matches could not be sent.")
        self._synced = self._gauge("last_sync_timestamp_seconds", "When source and index were last found in step.")
        self._seconds = Histogram(
            "searchanything_watch_run_seconds",
            "Length of runs with batches.",
            ["kind"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        for outcome in OUTCOMES:
            self._images.labels(outcome)  # from the start, so that a rate is known from the first one on

    def watch(
        self, *, queued: Callable[[], int], hints: Callable[[], int], away: Callable[[], Collection[str]]
    ) -> None:
        """Whenever figures are read, show what these say: waiting keys, hints so far, parts that cannot be reached."""
        self._gauge("queued_keys", "Keys that wait or are worked on.").set_function(lambda: float(queued()))
        self._gauge("hints", "Hints at keys so far.").set_function(lambda: float(hints()))
        up = Gauge("searchanything_watch_reachable", "Whether it can be reached.", ["part"], registry=self._registry)
        for part in ("source", "index"):
            up.labels(part).set_function(lambda part=part: float(f"the {part}" not in away()))  # type: ignore[misc]

    def did(self, kind: RunKind, report: WaveReport) -> None:
        """A run ended, with what it did."""
        total = report.total
        for outcome in OUTCOMES:
            self._images.labels(outcome).inc(getattr(total, outcome))
        self._regions.inc(total.regions)
        self._runs.labels(kind, "done").inc()
        if report.batches:
            self._seconds.labels(kind).observe(report.seconds)

    def cancelled(self, kind: RunKind) -> None:
        """A run was stopped by somebody."""
        self._runs.labels(kind, "cancelled").inc()

    def failed(self, kind: RunKind) -> None:
        """A run ended with an error."""
        self._runs.labels(kind, "failed").inc()

    def synced(self) -> None:
        """Source and index are in step."""
        self._synced.set(time.time())

    def delivered(self, done: StandingDelivery) -> None:
        """A look at the standing queries with webhooks."""
        self._sent.inc(sum(done.sent.values()))
        self._failing.set(len(done.failed))

    def exposition(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self._registry)

    async def app(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:  # noqa: ARG002 - an application's form
        """`GET /metrics`, as an ASGI application."""
        found = scope["type"] == "http" and scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD")
        body, kind = (self.exposition(), CONTENT_TYPE_LATEST) if found else (b"see /metrics", "text/plain")
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _counter(self, name: str, about: str, labels: list[str]) -> Counter:
        return Counter(f"searchanything_watch_{name}", about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"searchanything_watch_{name}", about, registry=self._registry)
