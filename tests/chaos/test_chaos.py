"""Random histories against real servers: after kill -9 of anything, bucket and index agree exactly.

What a history does is printed with its seed. To live through one again, or through others:
`SEARCHANYTHING_CHAOS_SEEDS=17,18 pytest tests/chaos -s`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from chaos.chaos_run import ChaosRun
from chaos.histories import Victim, history, seeds
from chaos.parts import MortalLite, with_fakes
from integration.milvus_server import MilvusServer

from deploy.local import Stack

pytestmark = [pytest.mark.server, pytest.mark.timeout(1500)]

SHORT_SEEDS = (1, 2, 3)
AGREEMENT_S = 600.0  # a quiet machine needs a minute, one with twenty other programs five
QUICK = {
    "SEARCHANYTHING_MILVUS__LITE_IDLE_S": "1",
    "SEARCHANYTHING_INGEST__GARBAGE_AGE_S": "15",  # rows that a kill left of images deleted since: else after a day
    "SEARCHANYTHING_INGEST__FORGET_AFTER_S": "5",  # a history may end with nothing: else held back for three days
    "SEARCHANYTHING_SERVICE__SYNC_S": "5",  # events that died with the S3 server are found by the next sync
}
SERVICE_VICTIMS = {
    1: [Victim.WORKER, Victim.S3, Victim.DEVICE],
    2: [Victim.COORDINATOR, Victim.MILVUS],
    3: [Victim.SCHEDULER, Victim.PREFECT],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosRun]:
    """The whole service as docker-compose.yml has it, on an embedded index; its workers have fake models."""
    folder = tmp_path_factory.mktemp("service")
    with Stack(folder, MortalLite(folder / "index.db"), more=QUICK | with_fakes(folder)) as stack:
        yield ChaosRun(stack, say)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  pytest shows it for a failed test, and with -s


def live_through(run: ChaosRun, seed: int, *, deeds: int, victims: list[Victim]) -> None:
    start = time.monotonic()
    say(f"\nhistory {seed}: {deeds} deeds, the deaths of {', '.join(victims)}")
    try:
        run.live_through(history(seed, deeds=deeds, victims=victims))
        agreed_s = run.wait_for_agreement(AGREEMENT_S)
    except BaseException:
        say(run.last_words())
        raise
    say(f"history {seed}: {time.monotonic() - start:.1f} s, bucket and index agree {agreed_s:.1f} s after its end")


@pytest.mark.parametrize("seed", seeds(SHORT_SEEDS))
def test_the_service_heals(service: ChaosRun, seed: int) -> None:
    live_through(service, seed, deeds=12, victims=SERVICE_VICTIMS.get(seed, list(Victim)))


@pytest.fixture(scope="module")
def service_on_a_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosRun]:
    """The whole service on a Milvus server, with two workers."""
    folder = tmp_path_factory.mktemp("on-a-server")
    milvus = MilvusServer(folder / "milvus", channels=32)
    with Stack(folder, milvus, workers=2, more=QUICK | with_fakes(folder)) as stack:
        yield ChaosRun(stack, say)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(SHORT_SEEDS))
def test_the_service_heals_on_a_milvus_server(service_on_a_server: ChaosRun, seed: int) -> None:
    live_through(service_on_a_server, seed, deeds=30, victims=list(Victim))
