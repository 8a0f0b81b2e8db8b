"""Random histories against real servers: after kill -9 of anything, bucket and index agree exactly.

What a history does is printed with its seed. To live through one again, or through others:
`SEARCHANYTHING_CHAOS_SEEDS=17,18 pytest tests/chaos -s`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from chaos.histories import Victim, history
from chaos.ordeal import Ordeal
from chaos.parts import MortalLite, SyncingStack

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

_SEEDS_VARIABLE = "SEARCHANYTHING_CHAOS_SEEDS"
SHORT_SEEDS = (1, 2, 3)
AGREEMENT_S = 120.0
QUICK = {"SEARCHANYTHING_MILVUS__LITE_IDLE_S": "1", "SEARCHANYTHING_MODELS__THREADS": "1"}


def seeds(default: tuple[int, ...]) -> tuple[int, ...]:
    chosen = os.environ.get(_SEEDS_VARIABLE)
    return tuple(int(seed) for seed in chosen.split(",")) if chosen else default


@pytest.fixture(scope="module")
def syncing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    """A bucket, an embedded index and a process that syncs."""
    folder = tmp_path_factory.mktemp("syncing")
    with SyncingStack(folder, MortalLite(folder / "index.db"), more=QUICK) as stack:
        yield Ordeal(stack, say)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  pytest shows it for a failed test, and with -s


def live_through(ordeal: Ordeal, seed: int, *, deeds: int, victims: list[Victim]) -> None:
    start = time.monotonic()
    say(f"\nhistory {seed}: {deeds} deeds, the deaths of {', '.join(victims)}")
    try:
        ordeal.live_through(history(seed, deeds=deeds, victims=victims))
        agreed_s = ordeal.wait_for_agreement(AGREEMENT_S)
    except BaseException:
        say(ordeal.last_words())
        raise
    say(f"history {seed}: {time.monotonic() - start:.1f} s, bucket and index agree {agreed_s:.1f} s after its end")


@pytest.mark.parametrize("seed", seeds(SHORT_SEEDS))
def test_syncing_alone_heals(syncing: Ordeal, seed: int) -> None:
    live_through(syncing, seed, deeds=16, victims=[Victim.COORDINATOR, Victim.S3, Victim.MILVUS])
