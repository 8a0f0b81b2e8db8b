"""Where batches run: Dask, one cluster and one connection for the whole process. Prefect shows them as its tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from prefect import tags
from prefect.context import TagsContext

from searchanything.core.settings import load_settings
from searchanything.service.cluster import (
    Client,
    cluster_security,
    local_cluster,
    run_in_worker,
    running_tasks,
    warm,
    worker_process,
)

if TYPE_CHECKING:
    from distributed import Future
    from prefect import Task

TAG: Final = "searchanything"
TASK_LOOKS: Final = 4  # at what a task's worker runs, in the time that it may run it
_TAKING_BACK_S: Final = 0.05  # between looks; what a client says reaches its scheduler within milliseconds
_ANSWER_S: Final = 30.0  # a worker that does not say within this time what it runs counts as running what it was given
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
logger = logging.getLogger(__name__)


class HungTaskError(TimeoutError):
    """A worker ran a task for longer than it may, and was replaced."""


class Workers:
    """A connection to a Dask scheduler."""

    def __init__(self, address: str, client: Client) -> None:
        self.address = address
        self.stopping = False
        """Set when the process is to end: long runs stop between waves."""
        self._client = client

    @property
    def lost(self) -> bool:
        """True once the connection to the scheduler is closed for good."""
        return str(self._client.status) in ("closing", "closed")

    async def run(
        self, function: Callable[..., _Result], parameters: Mapping[str, Any], *, urgent: bool, timeout_s: float
    ) -> _Result:
        """What a function returns in a worker; urgent ones go before all that wait.

        One that a worker runs for longer than `timeout_s`, a quarter more at most, fails, and its worker process is
        replaced: a thread that hangs in a model or a driver cannot be interrupted otherwise. The time that it waits
        behind others does not count.

        Raises: what the function raised; KilledWorker if too many workers died under it; HungTaskError; CancelledError
        if the scheduler went away.
        """
        work, priority = partial(function, **parameters), 10 if urgent else 0
        future = self._client.submit(run_in_worker, work, pure=False, priority=priority)
        try:
            await self._settled(future, timeout_s)
            # It fetches from the worker, which takes as long as it takes.
            result: _Result = await asyncio.to_thread(future.result)
            return result
        finally:
            future.release()  # type: ignore[no-untyped-call]

    async def replace(self, host: str, pid: int) -> None:
        """End the worker that is this process, and wait for the one that follows it; nothing if it is gone already."""
        there = await asyncio.to_thread(self._client.run, worker_process)
        workers = [worker for worker, process in there.items() if tuple(process) == (host, pid)]
        if workers:
            await self._restart(workers)

    async def _restart(self, workers: list[str]) -> None:
        with contextlib.suppress(KeyError):  # as Dask says of one that is gone by now
            await asyncio.to_thread(self._client.restart_workers, workers, raise_for_error=False)

    async def _settled(self, future: Future[Any], timeout_s: float) -> None:
        loop, settled, key = asyncio.get_running_loop(), asyncio.Event(), str(future.key)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(settled.set))  # type: ignore[no-untyped-call]
        looks: dict[tuple[str, str], int] = {}
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(settled.wait(), timeout_s / TASK_LOOKS)
            now = set() if settled.is_set() else await self._held_by(key)
            if settled.is_set():  # it may have ended while the workers were asked
                return
            looks = {one: looks.get(one, 0) + 1 for one in now}
            held = {one for one in now if looks[one] > TASK_LOOKS}  # first seen `timeout_s` ago
            hung = any(running == key for _, running in held)
            if hung:
                await self._taken_back(future)
            if held:
                await self._restart([worker for worker, _ in held])
            if hung:
                raise HungTaskError(f"it ran for longer than {timeout_s:.0f} s; its worker was replaced")
            looks = {one: number for one, number in looks.items() if one not in held}

    async def _taken_back(self, future: Future[Any]) -> None:
        """Wait until no worker is to have this task: else the next one would take it, and hang unseen."""
        future.release()  # type: ignore[no-untyped-call]
        while await asyncio.to_thread(self._given_to, str(future.key)):
            await asyncio.sleep(_TAKING_BACK_S)

    def _given_to(self, key: str) -> set[str]:
        """The workers that have this task: one runs it, or will when it is done with another."""
        found = self._client.processing()  # type: ignore[no-untyped-call]
        return {worker for worker, keys in found.items() if key in keys}

    async def _held_by(self, key: str) -> set[tuple[str, str]]:
        """The workers that have this task and either run it, or run one that was taken back, with what they run.

        A task that was taken back, as at the end of a run, runs on, and may hang; nobody else looks at it. A worker
        that does not answer counts as running this task.
        """
        given = await asyncio.to_thread(self._given_to, key)
        if not given:
            return set()
        ask = partial(self._client.run, running_tasks, workers=list(given), on_error="ignore")
        found: dict[str, dict[str, bool]] = {}
        with contextlib.suppress(TimeoutError):
            found = await asyncio.wait_for(asyncio.to_thread(ask), _ANSWER_S)
        return {
            (worker, running)
            for worker in given
            for running, wanted in found.get(worker, {key: True}).items()
            if running == key or not wanted
        }


async def in_prefect(
    task: Task[_Given, Coroutine[Any, Any, _Result]], *args: _Given.args, **kwargs: _Given.kwargs
) -> _Result:
    """The result of a task of Prefect's, which shows it in the run.

    It has no tag of ours: for a tag, Prefect is asked for a slot, which takes 2 s where its SQLite is busy.
    """
    with TagsContext(current_tags=set()):
        return await task(*args, **kwargs)


_open: list[Workers] = []


@contextlib.asynccontextmanager
async def workers(source: str) -> AsyncIterator[Workers]:
    """The workers of this process: the outermost block connects, or starts a cluster, and ends it.

    Runs that begin inside are tagged as ours.
    """
    if _open:
        yield _open[0]
        return
    settings = load_settings().service
    with contextlib.ExitStack() as stack:
        stack.enter_context(tags(TAG))
        security = cluster_security(settings)
        named = settings.scheduler
        cluster = contextlib.nullcontext(named) if named else local_cluster(settings, security)
        address = str(await asyncio.to_thread(stack.enter_context, cluster))
        connect = partial(Client, address, security=security, set_as_default=False, timeout=30)
        client = await asyncio.to_thread(connect)
        stack.callback(client.close)
        warming = asyncio.create_task(asyncio.to_thread(warm, address, security, source))
        _open.append(Workers(address, client))
        try:
            yield _open[0]
        finally:
            _open.clear()
            await asyncio.gather(warming, return_exceptions=True)
