"""An image that hangs in its worker costs itself alone: real S3 server, real Prefect, real Dask, real Milvus Lite."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_bench import HEAL_S, SOURCE, png, service_bench, until

from searchanything.core.rows import Outcome

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1800)]
RED = {"red": (8, 8, 40, 40)}
BATCH_TIMEOUT_S = 15.0  # more than a batch takes on a machine that has much to do


def test_an_image_that_hangs_is_found_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHANYTHING_SERVICE__BATCH_TIMEOUT_S", str(BATCH_TIMEOUT_S))
    monkeypatch.setenv("FAKE_HANGS", "1")
    with service_bench(tmp_path, monkeypatch) as bench:
        bench.store.upload("watched/p6.png", png(deadly=True, **RED))
        etags = {f"watched/p{n:02}.png": bench.store.upload(f"watched/p{n:02}.png", png(**RED)) for n in range(12)}
        bench.until_indexed(etags, timeout_s=10 * HEAL_S)
        until(lambda: bench.row("watched/p6.png") is not None, "the image is recorded", timeout_s=10 * HEAL_S)
        later = {"watched/later.png": bench.store.upload("watched/later.png", png(**RED))}
        bench.until_indexed(later, timeout_s=10 * HEAL_S)
        [failed] = bench.client.failures(SOURCE)
        assert (failed.image.key, failed.error) == ("watched/p6.png", "WorkerHungError")
        row = bench.row("watched/p6.png")
        assert row is not None
        assert (row.outcome, row.attempts) == (Outcome.FAILED, failed.attempts)
