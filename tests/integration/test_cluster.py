"""Who reaches the cluster without its key runs no code there: a real scheduler, a real worker, and a stranger."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from dask._task_spec import Task
from distributed import Client, Scheduler
from distributed.comm import connect
from distributed.core import Server
from distributed.protocol.serialize import ToPickle
from distributed.scheduler import TaskGroup
from distributed.security import Security
from juicefs_gateway import held_port
from service_bench import worker_pids

from searchanything.core.errors import SettingsError, StoreUnavailableError
from searchanything.core.settings import ServiceSettings
from searchanything.service import cluster
from searchanything.service.certificates import make_cluster_key
from searchanything.service.cluster import cluster_security, local_cluster, run_worker
from searchanything_flows.engine import TASK_LOOKS, Workers

pytestmark = pytest.mark.server
SILENT_S = 6.0  # who has not answered by then does not: to connect and to read have 2 s each


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "cluster.pem"
    assert make_cluster_key(file, replace=False)
    return file


@pytest.fixture(scope="module")
def others() -> set[int]:
    """Ports on which servers of other tests listen already."""
    return ports()


@pytest.fixture(scope="module")
def address(key: Path, others: set[int]) -> Iterator[str]:  # noqa: ARG001  what listens before the cluster does
    settings = ServiceSettings(cluster_key_file=key)
    with local_cluster(settings, cluster_security(settings)) as address:
        yield address


def ports() -> set[int]:
    """All ports on which this process and its children listen: scheduler, nanny, worker and their pages."""
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    found: set[int] = set()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found |= {one.laddr.port for one in process.net_connections() if one.status == "LISTEN"}
    return found


def strangers(folder: Path) -> list[Security]:
    """What somebody without the key may come with: keys of his own."""
    other = folder / "other.pem"
    make_cluster_key(other, replace=True)
    return [Security.temporary(), cluster_security(ServiceSettings(cluster_key_file=other))]


def test_whoever_has_the_key_may(address: str, key: Path) -> None:
    assert address.startswith("tls://127.0.0.1:")
    [worker] = worker_pids(address, cluster_security(ServiceSettings(cluster_key_file=key)))
    assert worker.startswith("tls://127.0.0.1:")
    asyncio.run(came_in(address, cluster_security(ServiceSettings(cluster_key_file=key)), within_s=60.0))


def test_a_stranger_runs_no_code_on_any_port(address: str, others: set[int], tmp_path: Path) -> None:
    own = ports() - others
    assert int(address.rpartition(":")[2]) in own
    assert len(own) >= 3
    tries = [(f"tcp://127.0.0.1:{port}", None) for port in own]
    tries += [(f"tls://127.0.0.1:{port}", one) for port in own for one in strangers(tmp_path)]
    assert asyncio.run(attempts(tries)) == []


async def attempts(tries: list[tuple[str, Security | None]]) -> list[str]:
    """Those addresses that answered."""
    done = await asyncio.gather(*(asyncio.wait_for(came_in(*one), SILENT_S) for one in tries), return_exceptions=True)
    assert all(one is None or isinstance(one, OSError) for one in done), done
    return [address for (address, _), one in zip(tries, done, strict=True) if one is None]


async def came_in(address: str, security: Security | None, *, within_s: float = 2.0) -> None:
    """Connect, and have the other side answer."""
    options = {} if security is None else security.get_connection_args("client")
    connection = await connect(address, timeout=within_s, **options)
    try:
        await connection.write({"op": "identity", "reply": True})
        await asyncio.wait_for(connection.read(), within_s)
    finally:
        connection.abort()


def test_a_key_is_its_owners_alone_and_is_kept(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = tmp_path / "cluster.pem"
        assert make_cluster_key(file, replace=False)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    first = file.read_bytes()
    assert not make_cluster_key(file, replace=False)
    assert file.read_bytes() == first
    assert make_cluster_key(file, replace=True)
    assert file.read_bytes() != first
    with pytest.raises(SettingsError, match="cannot be written"):
        make_cluster_key(tmp_path / "nowhere" / "cluster.pem", replace=False)


def test_a_missing_key_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CLUSTER_KEY_FILE"):
        cluster_security(ServiceSettings(cluster_key_file=tmp_path / "none.pem"))
    with pytest.raises(SettingsError, match="CLUSTER_KEY_FILE"):
        cluster_security(ServiceSettings(scheduler="tls://10.0.0.5:8786"))
    assert not cluster_security(ServiceSettings(scheduler="tcp://10.0.0.5:8786")).require_encryption


def fail_as_an_outage() -> None:
    """Raise what a store that is away raises: its cause, as a gRPC call, holds what cannot be pickled."""
    try:
        raise ConnectionError(threading.Lock())
    except ConnectionError as error:
        raise StoreUnavailableError("away") from error


def test_an_error_of_a_worker_is_what_it_was_whatever_its_cause_holds(address: str, key: Path) -> None:
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    connected = Client(address, security=security, set_as_default=False, timeout=30)
    with connected as client, pytest.raises(StoreUnavailableError, match="away"):  # which is tried again
        asyncio.run(Workers(address, client).run(fail_as_an_outage, {}, urgent=False, timeout_s=60.0))


def hang(folder: Path) -> None:
    """Note the process that has begun this, and never end."""
    (folder / str(os.getpid())).touch()
    threading.Event().wait()


def test_a_task_that_hangs_is_not_given_to_the_worker_that_follows(address: str, key: Path, tmp_path: Path) -> None:
    """It would hang there as well, and no one would look."""
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    with Client(address, security=security, set_as_default=False, timeout=30) as client:
        workers = Workers(address, client)
        with pytest.raises(TimeoutError, match="its worker was replaced"):
            asyncio.run(workers.run(hang, {"folder": tmp_path}, urgent=False, timeout_s=1.0))
        asyncio.run(workers.run(os.getpid, {}, urgent=False, timeout_s=60.0))
    [hung] = [int(file.name) for file in tmp_path.iterdir()]
    assert hung not in worker_pids(address, security).values()


def wait_for(file: Path) -> None:
    """End when the file is there."""
    while not file.exists():
        threading.Event().wait(0.05)


def test_the_time_that_a_task_waits_behind_another_does_not_count(address: str, key: Path, tmp_path: Path) -> None:
    """Dask hands a worker its next task ahead of time."""
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    with Client(address, security=security, set_as_default=False, timeout=30) as client:
        workers = Looking(address, client)

        async def one_behind_the_other() -> int:
            first = workers.run(wait_for, {"file": tmp_path / "end"}, urgent=True, timeout_s=600)
            running = asyncio.create_task(first)
            await until(lambda: given(client) == 1)
            second = asyncio.create_task(workers.run(os.getpid, {}, urgent=False, timeout_s=0.2))
            await until(lambda: given(client) == 2)
            await until(lambda: workers.looks > TASK_LOOKS + 1 or second.done())  # it would be one that hangs
            (tmp_path / "end").touch()
            await running
            return await second

        [pid] = worker_pids(address, security).values()
        assert asyncio.run(one_behind_the_other()) == pid


def test_a_task_that_was_cut_off_and_hangs_does_not_hold_up_those_that_follow(
    address: str, key: Path, tmp_path: Path
) -> None:
    """So it is at the end of a run of `watch`: its wave is cut off, and nobody looks at its batch any more."""
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    with Client(address, security=security, set_as_default=False, timeout=30) as client:
        workers = Workers(address, client)

        async def one_after_the_other() -> int:
            first = workers.run(hang, {"folder": tmp_path}, urgent=True, timeout_s=600)
            cut = asyncio.create_task(first)
            await until(lambda: any(tmp_path.iterdir()))
            cut.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cut
            return await workers.run(os.getpid, {}, urgent=False, timeout_s=1.0)

        pid = asyncio.run(one_after_the_other())
    [hung] = [int(file.name) for file in tmp_path.iterdir()]
    assert list(worker_pids(address, security).values()) == [pid]
    assert pid != hung


class Looking(Workers):
    """Workers that count the looks at what they run."""

    looks = 0

    async def _held_by(self, key: str) -> set[tuple[str, str]]:
        found = await super()._held_by(key)
        self.looks += 1
        return found


def given(client: Client) -> int:
    """How many tasks the workers have."""
    return sum(map(len, client.processing().values()))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_worker_that_went_by_itself_is_no_error(address: str, key: Path) -> None:
    """One that hangs may be ended by the kernel just before it is replaced."""
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    gone = SimpleNamespace(run=lambda _: {"tls://127.0.0.1:9": ("host", 11)})
    with Client(address, security=security, set_as_default=False, timeout=30) as client:
        gone.restart_workers = client.restart_workers
        asyncio.run(Workers(address, gone).replace("host", 11))  # type: ignore[arg-type]


@pytest.fixture
def port() -> Iterator[int]:
    """Where a scheduler may listen, again and again."""
    with held_port() as port:
        yield port


@pytest.mark.filterwarnings("ignore:(?s).*unclosed <socket:pytest.PytestUnraisableExceptionWarning")  # of strangers
def test_a_worker_waits_for_a_scheduler_that_is_away(
    key: Path, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the beginning and later: for longer than it takes to connect."""
    monkeypatch.setitem(cluster._DASK, "distributed.comm.timeouts.connect", "1s")
    caplog.set_level("INFO", cluster.__name__)
    settings = ServiceSettings(cluster_key_file=key, scheduler=f"tls://127.0.0.1:{port}")
    options = {"port": port, "protocol": "tls", "security": cluster_security(settings), "dashboard": False}

    async def until(ready: Callable[[], object], worker: asyncio.Task[None]) -> None:
        while not ready():
            assert not worker.done(), worker.exception()
            await asyncio.sleep(0.05)

    async def outlive() -> None:
        worker = asyncio.create_task(run_worker(str(settings.scheduler), settings))
        for _ in range(2):
            await until(lambda: "no scheduler at" in caplog.text, worker)
            async with Scheduler(host="127.0.0.1", **options) as scheduler:
                await until(lambda scheduler=scheduler: scheduler.workers, worker)
                await until(lambda: f"of {settings.scheduler} is ready" in caplog.text, worker)
            caplog.clear()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(asyncio.wait_for(outlive(), 300))


def test_the_scheduler_keeps_little_of_tasks_that_are_done(address: str, key: Path) -> None:
    """`watch` runs for months. Dask keeps the groups of its last 100 computations, and here a few messages."""
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    with Client(address, security=security, set_as_default=False, timeout=30) as client:
        for number in range(150):
            future = client.submit(abs, -1, key=f"batch{number}", pure=False)  # a group of its own
            assert future.result(60) == 1
            future.release()
    assert len(kept_of_scheduler(TaskGroup)) <= 110
    assert len([sent for sent in kept_of_scheduler(ToPickle) if isinstance(sent.data, Task)]) <= 40


def kept_of_scheduler(kind: type) -> list[Any]:
    """The objects of this kind in this process, in which the scheduler runs."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is kind]


def test_a_cluster_without_work_hardly_wakes(address: str, key: Path) -> None:
    """Dask would look at the stacks of a worker every 10 ms, and at each event loop every 20: 4 % of a core."""
    security = cluster_security(ServiceSettings(cluster_key_file=key))
    with Client(address, security=security, set_as_default=False, timeout=30) as client:
        of_workers = client.run(often_of_worker)
        assert [*of_workers.values(), *client.run(often_of_worker, nanny=True).values()] == [[], []]
        assert client.run_on_scheduler(often_of_scheduler) == []


def often_of_worker(dask_worker: Server) -> list[str]:
    """What it does more than five times a second, by Dask's names."""
    return [name for name, one in dask_worker.periodic_callbacks.items() if one.callback_time < 200]


def often_of_scheduler(dask_scheduler: Server) -> list[str]:
    """The same of a scheduler."""
    return often_of_worker(dask_scheduler)
