"""Workers: Dask's scheduler and its worker processes. The only place that imports `distributed`; import it late.

A worker is one process with one task at a time (the pipeline inside is concurrent by itself) under a nanny that starts
it again when it dies; the scheduler then gives its tasks to others, so a batch may be done twice, which the commit
rule makes harmless. Each worker loads the models before it takes its first task.

Who may connect may run code, so connections ask for the cluster's key (`certificates`) on both sides. Where somebody
else's scheduler is named and no key, Dask's own settings hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import dask
from distributed import Client as Client  # of the flows, too
from distributed import KilledWorker as KilledWorker  # likewise
from distributed import LocalCluster, Nanny, Worker, WorkerPlugin
from distributed.comm.addressing import get_address_host
from distributed.scheduler import DEFAULT_EXTENSIONS
from distributed.security import Security
from distributed.utils import get_ip

from searchanything.core.errors import SearchAnythingError, SettingsError
from searchanything.core.reading import kind_at
from searchanything.core.settings import ENV_PREFIX, ServiceSettings
from searchanything.service.work import warm_up

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
ALLOWED_DEATHS: Final = 2  # of workers under one task; after one more it is given back, and the flow halves it
KEY_SETTING: Final = f"{ENV_PREFIX}SERVICE__CLUSTER_KEY_FILE"
_ROLES: Final = ("client", "scheduler", "worker")
_CONNECT_S: Final = 30.0
_PAUSE_S: Final = 2.0
_DASK: Final[dict[str, Any]] = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    # So long after each death the cluster looks whether the worker is back, and ends its nanny if it is dead just
    # then: where an image kills one worker after the other, nobody would be left. Nannies alone are to see to it.
    "distributed.deploy.lost-worker-timeout": "3650 days",
    "distributed.scheduler.http.routes": ["distributed.http.health"],  # the rest tells names, addresses and logs to all
    "distributed.worker.http.routes": ["distributed.http.health"],
    "distributed.nanny.pre-spawn-environ": {},  # Dask would give each model a single thread
    "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
    "distributed.admin.low-level-log-length": 20,  # of messages among others: Dask keeps 1,000, with Prefect's tasks
    # Statistics that nobody reads: a worker's stacks 100 times a second, the delay of each event loop 50 times.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}


class NoSpans:
    """In place of Dask's statistics of spans, which keep a group of each task for ever; the service reads none."""

    def __init__(self, _scheduler: object) -> None: ...

    def observe_tasks(self, *_: object, **__: object) -> dict[str, Any]:
        """The annotations of new tasks that changed: none."""
        return {}

    def heartbeat(self, *_: object, **__: object) -> None:
        """What a worker has measured is not kept."""


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


def cluster_security(settings: ServiceSettings) -> Security:
    """Who may connect: those with the key that is set; for a cluster of our own, those with one that nobody else gets.

    Raises: SettingsError for a file that is not there, or for a scheduler that asks for a key when none is set.
    """
    file = settings.cluster_key_file
    if file is not None:
        if kind_at(file, "the cluster's key", raised=SettingsError) != "file":
            raise SettingsError(
                f"{ENV_PREFIX}SERVICE__CLUSTER_KEY_FILE: expected the cluster's key, got no file: {file}"
            )
        roles = {f"tls_{role}_{part}": str(file) for role in _ROLES for part in ("cert", "key")}
        return Security(require_encryption=True, tls_ca_file=str(file), **roles)  # type: ignore[no-untyped-call]
    if settings.scheduler is None:
        return Security.temporary()  # type: ignore[no-untyped-call,no-any-return]
    if settings.scheduler.startswith("tls://") and dask.config.get("distributed.comm.tls.ca-file") is None:
        raise SettingsError(
            f"{settings.scheduler} asks for the cluster's key; set {KEY_SETTING} to the file that the scheduler was "
            f"started with"
        )
    return Security()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def local_cluster(settings: ServiceSettings, security: Security) -> Iterator[str]:
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
            scheduler_kwargs={
                "dashboard_address": "127.0.0.1:0",  # of its health, and no fixed port
                "extensions": DEFAULT_EXTENSIONS | {"spans": NoSpans},
            },
            memory_limit=0,  # models are large, and a paused worker helps nobody
            silence_logs=logging.ERROR,
            security=security,
            env={threads: each},
        ) as cluster,
    ):
        yield str(cluster.scheduler_address)


def warm(address: str, security: Security, source: str) -> None:
    """See to it that all workers of a scheduler, present and future, load their models; waits for the present ones."""
    with Client(address, security=security, set_as_default=False, timeout=_CONNECT_S) as client:  # type: ignore[no-untyped-call]
        client.register_plugin(WarmModels(source))


def run_in_worker(work: Callable[[], _Result]) -> _Result:
    """What `work` returns, in a worker. Raises: what it raises, without its causes.

    Dask sends causes along, and where one cannot be pickled, as those of gRPC and S3, it sends an `Exception` in place
    of the error: nobody would know any more that it may go away.
    """
    try:
        return work()
    except Exception as error:
        error.__cause__ = error.__context__ = None
        raise


def worker_process() -> tuple[str, int]:
    """Where a worker runs: its machine's name and its process number, as a `DeviceError` has them."""
    return socket.gethostname(), os.getpid()


def running_tasks(dask_worker: Worker) -> dict[str, bool]:
    """What this worker runs now, by Dask's keys, and whether anyone waits for it; what waits here is not named.

    A thread cannot be interrupted: a task that was taken back runs on.
    """
    return {str(task.key): task.state != "cancelled" for task in dask_worker.state.executing}


async def run_worker(address: str, settings: ServiceSettings) -> None:
    """Be a worker of that scheduler until cancelled; a scheduler that goes away is waited for.

    The key is read again each time: `watch` makes a new one whenever it starts. Raises: SettingsError.
    """
    with dask.config.set(_DASK):
        while True:
            try:
                host = _own_host(address)
                security = cluster_security(settings)
                options = {"nthreads": 1, "memory_limit": 0, "dashboard": False}
                async with Nanny(address, host=host, security=security, **options) as nanny:
                    logger.info("worker %s of %s is ready", nanny.worker_address, address)
                    await nanny.finished()
            except (OSError, RuntimeError) as error:
                if not _is_of_a_connection(error):
                    raise
                logger.info("no scheduler at %s: %s", address, error.__cause__ or error)
            logger.info("waiting for a scheduler at %s", address)
            await asyncio.sleep(_PAUSE_S)


def _is_of_a_connection(error: BaseException) -> bool:
    """Dask raises a RuntimeError because of whatever ended a start."""
    return isinstance(error, OSError) or (error.__cause__ is not None and _is_of_a_connection(error.__cause__))


def _own_host(address: str) -> str:
    """This machine's address towards a scheduler: a worker runs what it is sent, so it listens nowhere else."""
    return str(get_ip(get_address_host(address)))  # type: ignore[no-untyped-call]
