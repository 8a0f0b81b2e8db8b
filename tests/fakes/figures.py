"""Figures for Prometheus, as it reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

PREFIX = "searchanything_watch_"


def read(exposition: bytes) -> dict[str, float]:
    """The samples with their labels: `images_total{indexed}`."""
    found = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for one in family.samples:
            labels = ",".join(value for name, value in sorted(one.labels.items()) if name != "le")
            bound = f"<={one.labels['le']}" if "le" in one.labels else ""
            name = one.name.removeprefix(PREFIX)
            found[f"{name}{{{labels}}}{bound}" if labels or bound else name] = one.value
    return found
