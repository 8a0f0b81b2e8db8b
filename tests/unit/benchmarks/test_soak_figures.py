"""What the soak (`benchmarks/soak.py`) concludes from its samples, and how it waits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks import soak
from benchmarks.soak import known, slopes
from searchanything.ingest.reports import IndexStatus


def test_an_image_that_failed_is_waited_for_no_longer() -> None:
    client = SimpleNamespace(status=lambda: IndexStatus("x.db", images=5, failed=2, empty=1))
    assert known(client) == 8  # type: ignore[arg-type]


def test_a_burst_ends_where_an_image_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SETTLE_S", 0.05)
    monkeypatch.setattr(soak, "LOOK_S", 0.01)
    counts = iter([0, 1, 2])
    client = SimpleNamespace(
        status=lambda: IndexStatus("x.db", images=next(counts, 2), failed=0, empty=0),
        sync=lambda _: SimpleNamespace(differs=True),
    )
    store = SimpleNamespace(upload=lambda *_: None)
    found = soak.burst(client, store, [b"one"], 3)  # type: ignore[arg-type]
    assert (found["missing"], found["settled_s"]) == (1, None)


def test_the_slope_is_that_of_the_later_half() -> None:
    samples = [{"at_s": 5.0 * n, "workers": 900.0 if n < 50 else 1000.0 + n, "watcher": 100.0} for n in range(100)]
    found = slopes(samples)
    assert found["workers"]["mb_per_hour"] == pytest.approx(720.0)  # 1 MB each 5 s
    assert found["watcher"]["mb_per_hour"] == pytest.approx(0.0)
    assert slopes(samples[:3]) == {}
