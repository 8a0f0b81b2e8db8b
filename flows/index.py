"""The flow `index`: one bounded wave of keys, in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import CancelledRun
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed
from prefect.tasks import Task

from searchanything.core.batching import batches
from searchanything.core.codes import next_generation
from searchanything.core.counting import counted
from searchanything.core.errors import DeviceError, IndexUnavailableError, StoreUnavailableError
from searchanything.core.patience import PAUSES_S
from searchanything.core.settings import load_settings, reading_settings
from searchanything.ingest.reports import Failure
from searchanything.ingest.vanished import Said
from searchanything.service.cluster import KilledWorker
from searchanything.service.reports import BatchReport, WaveReport, sum_waves, summary
from searchanything.service.wave_lines import WAVES_LOGGER, wave_line
from searchanything.service.work import check_worker, refresh_keys, worker_client

from .engine import HungTaskError, Workers, in_prefect, workers
from .publish import last_state, publish_batch, publish_wave, stop_if_cancelled

logger = logging.getLogger(__name__)
waves_logger = logging.getLogger(WAVES_LOGGER)

NO_IMAGE: Final = "No image"
DEVICE_TRIES: Final = 3  # at a batch, each in a fresh worker
RETRY_PAUSES_S: Final = PAUSES_S[:6]
"""Before each retry of a batch; the last also before all further ones. No worker waits in them."""
RESULTS: Final = get_current_settings().results.local_storage_path
"""For errors alone. Named, as each run asks Prefect's server twice otherwise where results would be kept."""
_Result = TypeVar("_Result")
_runner: ContextVar[_BatchRunner | None] = ContextVar("runner", default=None)  # of the run that is being made


async def is_io(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only errors that may go away are retried. A batch that hung is not: it is halved."""
    error = await state.aresult(raise_on_failure=False)
    may_go_away = (StoreUnavailableError, IndexUnavailableError, ConnectionError, TimeoutError)
    return isinstance(error, may_go_away) and not isinstance(error, HungTaskError)


@task(
    name="index batch",
    task_run_name="{label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_delay_seconds=list(RETRY_PAUSES_S),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_io,
)
async def index_batch(work: Callable[[], Awaitable[BatchReport]], label: str) -> BatchReport:  # noqa: ARG001
    """Wait for a batch that a worker brings up to date; `label` is what Prefect shows."""
    return await work()


@task(name="check worker", cache_policy=NO_CACHE, persist_result=False)
async def check_built_in(work: Callable[[], Awaitable[None]]) -> None:
    """Wait for a worker that encodes a built-in image, and asks for one of the store. Raises: what that raises."""
    await work()


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    keys = parameters["keys"]
    return f"{counted(len(keys), 'image')} of {parameters['source']}"


@flow(name="index", flow_run_name=_run_name, persist_result=False, result_storage=RESULTS, validate_parameters=True)
async def index(
    source: str,
    keys: list[str],
    force: bool = False,  # noqa: FBT001, FBT002
    urgent: bool = True,  # noqa: FBT001, FBT002
    said: Said = "named",
) -> State[WaveReport]:
    """Bring the index up to date with these keys: present objects are indexed, absent ones forgotten.

    Args:
        source: s3://bucket/prefix, or a folder.
        keys: Object keys, whole, as the bucket has them; a few hundred at most.
        force: Index images again that have not changed.
        urgent: Go before the batches that are waiting already.
        said: Which keys are forgotten where they are gone: any number if they were "named" by an event or by you, but
            for all images of a folder; none if a listing named them ("listed"), as the next one decides; all if a
            listing showed them to be "gone".
    """
    async with workers(source) as engine:
        try:
            runner = _runner.get() or _BatchRunner(engine, source, force=force, urgent=urgent, said=said)
            wave = await stop_if_cancelled(_wave(runner, keys))
        except CancelledRun as stopped:
            waves_logger.info("%s: %s", counted(len(keys), "image"), stopped)
            return Cancelled(message=str(stopped))
        except Exception as error:
            waves_logger.info("%s: the wave failed, the next sync tries again: %s", counted(len(keys), "image"), error)
            raise
    waves_logger.info("%s", wave_line(len(keys), wave))
    await publish_wave(source, wave)
    return finished(wave)


async def run_index(
    source: str, keys: list[str], *, force: bool = False, urgent: bool = True, said: Said = "named"
) -> State[Any]:
    """The last state of a run of the flow `index`, whose batches begin before Prefect is asked for the run.

    Its requests take as long as some images. What has begun for a run that does not come about is given back: what a
    worker has committed by then stays. Raises: what Prefect raises where it makes no run.
    """
    async with workers(source) as engine:
        runner = _BatchRunner(engine, source, force=force, urgent=urgent, said=said)
        token = _runner.set(runner)
        try:
            await runner.begin(keys)
            return await last_state(index(source, keys, force=force, urgent=urgent, said=said, return_state=True))
        finally:
            _runner.reset(token)
            await runner.give_back()


def finished(wave: WaveReport) -> State[WaveReport]:
    """The last state of a run: its message says what was done, its name whether images failed, now or too often."""
    total = wave.total
    name = "Some failed" if total.failed or total.exhausted else "Completed"
    return Completed(name=name, message=summary(wave), data=wave)


def finished_without_image(source: str, wave: WaveReport) -> State[WaveReport]:
    """The last state of a run over a source that holds no image, as one does whose name is mistyped."""
    return Completed(name=NO_IMAGE, message=f"no image under {source}: {summary(wave)}", data=wave)


async def report_of(state: State[Any]) -> WaveReport:
    """What a run returned. Raises: what it raised; CancelledRun."""
    report = await state.aresult()
    if not isinstance(report, WaveReport):
        raise TypeError(f"expected a WaveReport of the run, got {type(report).__name__}")
    return report


async def _wave(runner: _BatchRunner, keys: Sequence[str]) -> WaveReport:
    """All batches at once; one that fails does not stop the others. Raises: what the first that failed raised."""
    start = time.perf_counter()
    done = await asyncio.gather(*(runner.run(*part) for part in runner.parts(keys)), return_exceptions=True)
    done += [await runner.run_alone(key) for key in runner.suspects]
    for one in done:
        if isinstance(one, BaseException):
            raise one
    wave = sum_waves(one for one in done if isinstance(one, WaveReport))
    return WaveReport(wave.batches, wave.lost, time.perf_counter() - start)


class _BatchRunner:
    """Runs batches of one wave; a batch that kills its workers, or hangs, is halved until the image at fault is alone.

    A worker that dies takes the batches along that wait on it, and Dask blames them all. So the images that are left
    of the halving are only suspects: each is tried once more when nothing else of the wave runs. A worker that hangs
    says which batch it runs, so the image that is left of that is tried no more.

    A worker that cannot encode a built-in image either is replaced, and its batch tried again, a few times; then the
    wave fails, and no image with it.
    """

    def __init__(self, engine: Workers, source: str, *, force: bool, urgent: bool, said: Said) -> None:
        settings = load_settings()
        self._settings = settings.service
        self._engine, self._source, self._urgent = engine, source, urgent
        self._asked = {"source": source, "force": force, "said": said, "reading": reading_settings(settings)}
        self._task = index_batch.with_options(retries=self._settings.retries)
        self._since = next_generation()
        self._begun: dict[tuple[str, ...], asyncio.Task[BatchReport]] = {}
        self.suspects: list[str] = []

    def parts(self, keys: Sequence[str]) -> list[tuple[list[str], int]]:
        """The batches of a wave, and up to how many tiles of the contact sheet each makes."""
        parts = list(batches(keys, self._settings.batch_keys))
        images = self._settings.sheet_images
        return [(part, len(range(number, images, len(parts)))) for number, part in enumerate(parts)]

    async def begin(self, keys: Sequence[str]) -> None:
        """Hand over all batches of a wave; the first try at each waits for what has begun."""
        for part, tiles in self.parts(keys):
            self._begun[tuple(part)] = asyncio.create_task(self._handed_over(part, tiles))
        await asyncio.sleep(0)  # now, and not when Prefect first waits for its server

    async def give_back(self) -> None:
        """Stop waiting for batches that were begun and that no try has taken."""
        for one in self._begun.values():
            one.cancel()
        await asyncio.gather(*self._begun.values(), return_exceptions=True)

    async def run(self, keys: list[str], tiles: int) -> WaveReport:
        """Index these keys, with up to `tiles` on the contact sheet. Raises: what the task raised."""
        try:
            return await self._run(keys, tiles)
        except HungTaskError as error:
            if len(keys) == 1:
                return await self._failed(keys[0], error)
        except KilledWorker:
            if len(keys) == 1:
                self.suspects += keys
                return WaveReport()
        middle = len(keys) // 2
        return await self.run(keys[:middle], tiles) + await self.run(keys[middle:], 0)

    async def run_alone(self, key: str) -> WaveReport:
        """Index a suspect; the workers that die now die of it, unless they die of a built-in image as well.

        Raises: what the task raised.
        """
        try:
            return await self._run([key], 0)
        except (KilledWorker, HungTaskError) as error:
            return await self._failed(key, error)

    async def _run(self, keys: list[str], tiles: int) -> WaveReport:
        left = DEVICE_TRIES
        while True:
            try:
                return await self._once(keys, tiles)
            except DeviceError as error:
                logger.warning("a worker is replaced: %s", error)
                await self._engine.replace(error.host, error.pid)
                left -= 1
                if not left:
                    raise

    async def _check_workers(self, key: str) -> None:
        """Raises: DeviceError if the workers are at fault; HungTaskError, StoreUnavailableError if the store may be."""
        asked = {"source": self._source, "key": key}
        work = partial(self._run_in_worker, check_worker, asked)
        try:
            await in_prefect(check_built_in, work)
        except KilledWorker as error:
            raise DeviceError("the death of each worker that took it", host="every worker's machine", pid=0) from error

    async def _once(self, keys: list[str], tiles: int) -> WaveReport:
        label = keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"

        def work() -> Awaitable[BatchReport]:
            return self._begun.pop(tuple(keys), None) or self._handed_over(keys, tiles)

        report = await in_prefect(self._task, work, label)
        publish_batch(self._source, report)
        return WaveReport((report,))

    async def _handed_over(self, keys: list[str], tiles: int) -> BatchReport:
        return await self._run_in_worker(refresh_keys, {**self._asked, "keys": keys, "tiles": tiles})

    async def _run_in_worker(self, function: Callable[..., _Result], asked: dict[str, Any]) -> _Result:
        timeout_s = self._settings.batch_timeout_s
        return await self._engine.run(function, asked, urgent=self._urgent, timeout_s=timeout_s)

    async def _failed(self, key: str, error: KilledWorker | HungTaskError) -> WaveReport:
        """An image that no worker survived is a failure like others, so that its attempts are exhausted one day.

        What was committed since the wave began stays as it is: the object may have been replaced meanwhile.
        Raises: as `_check_workers`.
        """
        await self._check_workers(key)
        if isinstance(error, HungTaskError):
            failure = Failure(key, "WorkerHungError", str(error))
        else:
            failure = Failure(key, "WorkerLostError", f"all {error.allowed_failures + 1} workers that took it died")
        record = partial(worker_client().operations.record_failure, self._source, key, begun=self._since)
        recorded = await asyncio.to_thread(record, error=failure.error, message=failure.message)
        return WaveReport(lost=(failure,) if recorded else ())
