"""The flow `index`: one bounded wave of keys, in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

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
from searchanything.core.settings import ServiceSettings, load_settings, reading_settings
from searchanything.ingest.reports import Failure
from searchanything.ingest.vanished import Said
from searchanything.service.cluster import KilledWorker
from searchanything.service.reports import BatchReport, WaveReport, sum_waves, summary
from searchanything.service.wave_lines import WAVES_LOGGER, wave_line
from searchanything.service.work import check_worker, refresh_keys, worker_client

from .engine import HungTaskError, Workers, workers
from .publish import publish_batch, publish_wave, stop_if_cancelled

logger = logging.getLogger(__name__)
waves_logger = logging.getLogger(WAVES_LOGGER)

NO_IMAGE: Final = "No image"
DEVICE_TRIES: Final = 3  # at a batch, each in a fresh worker
RETRY_PAUSES_S: Final = PAUSES_S[:6]
"""Before each retry of a batch; the last also before all further ones. Its worker waits."""
RESULTS: Final = get_current_settings().results.local_storage_path
"""For errors alone. Named, as each run asks Prefect's server twice otherwise where results would be kept."""


def is_io(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only errors that may go away are retried."""
    try:
        state.result()
    except (StoreUnavailableError, IndexUnavailableError, ConnectionError, TimeoutError):
        return True
    except Exception:  # noqa: BLE001  no other error goes away by a retry
        return False
    return False


@task(
    name="index batch",
    task_run_name="{label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_delay_seconds=list(RETRY_PAUSES_S),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_io,
)
def index_batch(
    source: str,
    keys: list[str],
    force: bool,  # noqa: FBT001
    tiles: int,
    said: Said,
    reading: dict[str, str],
    label: str,  # noqa: ARG001
) -> BatchReport:
    """Bring these keys up to date. Runs in a worker; `label` is what Prefect shows."""
    return refresh_keys(source, keys, force=force, tiles=tiles, said=said, reading=reading)


@task(name="check worker", cache_policy=NO_CACHE, persist_result=False)
def check_built_in(source: str, key: str) -> bool:
    """Encode a built-in image, and ask for this one; True, or what that raises. Runs in a worker."""
    check_worker(source, key)
    return True  # Prefect knows no result that is None


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
            work = _wave(engine, source, keys, force=force, urgent=urgent, said=said)
            wave = await stop_if_cancelled(work)
        except CancelledRun as stopped:
            waves_logger.info("%s: %s", counted(len(keys), "image"), stopped)
            return Cancelled(message=str(stopped))
        except Exception as error:
            waves_logger.info("%s: the wave failed, the next sync tries again: %s", counted(len(keys), "image"), error)
            raise
    waves_logger.info("%s", wave_line(len(keys), wave))
    await publish_wave(source, wave)
    return finished(wave)


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


async def _wave(
    engine: Workers, source: str, keys: Sequence[str], *, force: bool, urgent: bool, said: Said = "named"
) -> WaveReport:
    """All batches at once; one that fails does not stop the others. Raises: what the first that failed raised."""
    start = time.perf_counter()
    all_settings = load_settings()
    settings = all_settings.service
    asked = {"source": source, "force": force, "said": said, "reading": reading_settings(all_settings)}
    runner = _BatchRunner(engine, asked, settings, urgent=urgent)
    parts = list(batches(keys, settings.batch_keys))
    tiles = [len(range(number, settings.sheet_images, len(parts))) for number in range(len(parts))]
    done = await asyncio.gather(*map(runner.run, parts, tiles), return_exceptions=True)
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

    def __init__(self, engine: Workers, asked: Mapping[str, Any], settings: ServiceSettings, *, urgent: bool) -> None:
        """`asked` are the parameters that all batches have in common."""
        self._engine, self._asked, self._source, self._urgent = engine, asked, str(asked["source"]), urgent
        self._task = index_batch.with_options(retries=settings.retries)
        self._timeout_s = settings.batch_timeout_s
        self.suspects: list[str] = []

    async def run(self, keys: list[str], tiles: int) -> WaveReport:
        """Index these keys, with up to `tiles` on the contact sheet. Raises: what the task raised."""
        begun = next_generation()
        try:
            return await self._run(keys, tiles)
        except HungTaskError as error:
            if len(keys) == 1:
                return await self._failed(keys[0], error, begun=begun)
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
        begun = next_generation()
        try:
            return await self._run([key], 0)
        except (KilledWorker, HungTaskError) as error:
            return await self._failed(key, error, begun=begun)

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
        try:
            state = await self._engine.run(check_built_in, asked, urgent=self._urgent, timeout_s=self._timeout_s)
        except KilledWorker as error:
            raise DeviceError("the death of each worker that took it", host="every worker's machine", pid=0) from error
        await state.aresult()

    async def _once(self, keys: list[str], tiles: int) -> WaveReport:
        label = keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
        parameters = {**self._asked, "keys": keys, "tiles": tiles, "label": label}
        state = await self._engine.run(self._task, parameters, urgent=self._urgent, timeout_s=self._timeout_s)
        report: BatchReport = await state.aresult()
        publish_batch(self._source, report)
        return WaveReport((report,))

    async def _failed(self, key: str, error: KilledWorker | HungTaskError, *, begun: int) -> WaveReport:
        """An image that no worker survived is a failure like others, so that its attempts are exhausted one day.

        What was committed since the generation `begun` stays as it is: the object may have been replaced meanwhile.
        Raises: as `_check_workers`.
        """
        await self._check_workers(key)
        if isinstance(error, HungTaskError):
            failure = Failure(key, "WorkerHungError", str(error))
        else:
            failure = Failure(key, "WorkerLostError", f"all {error.allowed_failures + 1} workers that took it died")
        record = partial(worker_client().operations.record_failure, self._source, key, begun=begun)
        recorded = await asyncio.to_thread(record, error=failure.error, message=failure.message)
        return WaveReport(lost=(failure,) if recorded else ())
