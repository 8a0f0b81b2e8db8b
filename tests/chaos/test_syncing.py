"""Random histories of a bucket that nothing but a sync looks at, apart from `test_chaos`: its process never rests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chaos.chaos_run import ChaosRun
from chaos.histories import Victim, seeds
from chaos.parts import MortalLite, SyncingStack
from chaos.test_chaos import QUICK, SHORT_SEEDS, live_through, say

pytestmark = [pytest.mark.server, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def syncing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosRun]:
    """A bucket, an embedded index and a process that syncs."""
    folder = tmp_path_factory.mktemp("syncing")
    with SyncingStack(folder, MortalLite(folder / "index.db"), more=QUICK) as stack:
        yield ChaosRun(stack, say)


@pytest.mark.parametrize("seed", seeds(SHORT_SEEDS[:1]))
def test_syncing_alone_heals(syncing: ChaosRun, seed: int) -> None:
    live_through(syncing, seed, deeds=16, victims=[Victim.COORDINATOR, Victim.S3, Victim.MILVUS])
