"""Figures for Prometheus. Labels are of closed sets: a route's template, never a path; no key, no image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from searchanything.core.byte_cache import ByteCache
from searchanything.serve.gates import Gate

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["route", "method", "status"]
        prefix = "searchanything"
        self._requests = Counter(f"{prefix}_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            f"{prefix}_request_seconds", "Time to an answer.", ["route"], buckets=SECONDS, registry=self._registry
        )
        self._queries = Counter(f"{prefix}_queries", "Questions answered.", ["kind"], registry=self._registry)
        self._stages = Histogram(
            f"{prefix}_stage_seconds", "Stages of a question.", ["stage"], buckets=SECONDS, registry=self._registry
        )

    def answered(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def asked(self, kind: str, timings_ms: Mapping[str, float]) -> None:
        """One question was answered."""
        self._queries.labels(kind).inc()
        for stage, milliseconds in timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def watch(self, gates: Iterable[Gate], thumbnails: ByteCache[bytes], *, models_loaded: Callable[[], bool]) -> None:
        """Show what these hold whenever the figures are read."""
        inside = Gauge("searchanything_inside", "Requests that work or wait.", ["gate"], registry=self._registry)
        for gate in gates:
            inside.labels(gate.name).set_function(lambda gate=gate: float(gate.inside))  # type: ignore[misc]
        for name, value in (
            ("thumbnail_bytes", lambda: float(thumbnails.held_bytes)),
            ("thumbnail_hits", lambda: float(thumbnails.hits)),
            ("thumbnail_misses", lambda: float(thumbnails.misses)),
            ("models_loaded", lambda: float(models_loaded())),
        ):
            Gauge(f"searchanything_{name}", name.replace("_", " "), registry=self._registry).set_function(value)

    def exposition(self) -> tuple[bytes, str]:
        """The figures, and their content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
