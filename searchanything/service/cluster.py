"""Workers: Dask's scheduler and its worker processes. The only place that imports `distributed`; import it late.

A worker is one process with one task at a time (the pipeline inside is concurrent by itself) under a nanny that starts
it again when it dies; the scheduler then gives its tasks to others, so a batch may be done twice, which the commit
rule makes harmless. Each worker loads the models before it takes its first task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Final

import dask
from distributed import Client, KilledWorker, LocalCluster, Nanny, Worker, WorkerPlugin
from distributed.comm.addressing import get_address_host
from distributed.utils import get_ip

from searchanything.core.errors import SearchAnythingError
from searchanything.core.settings import ENV_PREFIX, ServiceSettings
from searchanything.service.work import warm_up

__all__ = ["KilledWorker", "WarmModels", "local_cluster", "run_worker", "warm", "worker_pids"]

logger = logging.getLogger(__name__)

ALLOWED_DEATHS: Final = 2  # of workers under one task; after one more it is given back, and the flow halves it
_CONNECT_S: Final = 30.0
_PAUSE_S: Final = 2.0
_DASK: Final[dict[str, Any]] = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    # So long after each death the cluster looks whether the worker is back, and ends its nanny if it is dead just
    # then: where an image kills one worker after the other, nobody would be left. Nannies alone are to see to it.
    "distributed.deploy.lost-worker-timeout": "3650 days",
    "distributed.nanny.pre-spawn-environ": {},  # Dask would give each model a single thread
    "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
}


class WarmModels(WorkerPlugin):
    """The models are loaded when a worker starts, and again in each that replaces it."""

    name = "searchanything-models"

    def __init__(self, source: str) -> None:
        self._source = source

    async def setup(self, worker: Worker) -> None:
        """Load in a thread: the worker's own must answer the scheduler meanwhile."""
        try:
            await asyncio.to_thread(warm_up, self._source)
        except SearchAnythingError as error:  # the first batch will say it to more people
            logger.warning("worker %s is not warm yet: %s", worker.address, error)


@contextlib.contextmanager
def local_cluster(settings: ServiceSettings) -> Iterator[str]:
    """A scheduler and `settings.workers` worker processes for the length of a block; the scheduler's address."""
    threads = f"{ENV_PREFIX}MODELS__THREADS"
    each = os.environ.get(threads) or str(max(1, (os.cpu_count() or 1) // settings.workers))
    with (
        dask.config.set(_DASK),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=settings.workers,
            threads_per_worker=1,
            host=settings.scheduler_host,
            scheduler_port=settings.scheduler_port,
            dashboard_address=None,
            memory_limit=0,  # models are large, and a paused worker helps nobody
            silence_logs=logging.ERROR,
            env={threads: each},
        ) as cluster,
    ):
        yield str(cluster.scheduler_address)


def warm(address: str, source: str) -> None:
    """See to it that all workers of a scheduler, present and future, load their models; waits for the present ones."""
    with Client(address, set_as_default=False, timeout=_CONNECT_S) as client:  # type: ignore[no-untyped-call]
        client.register_plugin(WarmModels(source))


def worker_pids(address: str) -> dict[str, int]:
    """The process number of each worker that is there now, by its address."""
    with Client(address, set_as_default=False, timeout=_CONNECT_S) as client:  # type: ignore[no-untyped-call]
        return dict(client.run(os.getpid))


async def run_worker(address: str) -> None:
    """Be a worker of that scheduler until cancelled; a scheduler that goes away is waited for."""
    with dask.config.set(_DASK):
        while True:
            try:
                host = _own_host(address)
                async with Nanny(address, nthreads=1, memory_limit=0, host=host, dashboard=False) as nanny:
                    logger.info("worker %s of %s is ready", nanny.worker_address, address)
                    await nanny.finished()
            except OSError as error:
                logger.info("no scheduler at %s: %s", address, error)
            logger.info("waiting for a scheduler at %s", address)
            await asyncio.sleep(_PAUSE_S)


def _own_host(address: str) -> str:
    """This machine's address towards a scheduler: a worker runs what it is sent, so it listens nowhere else."""
    return str(get_ip(get_address_host(address)))  # type: ignore[no-untyped-call]
