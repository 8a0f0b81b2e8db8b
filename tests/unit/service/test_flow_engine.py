"""What the flows do when workers die or hang, without Prefect's server, Dask's scheduler or a worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import KilledWorker
from prefect.states import exception_to_failed_state

from searchanything.core.codes import next_generation
from searchanything.core.errors import DeviceError, ImageError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.settings import ServiceSettings
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.scopes import Scope
from searchanything.ingest.reports import Failure, IndexReport, SyncReport
from searchanything.service.cluster import running_tasks, worker_process
from searchanything.service.reports import BatchReport, WaveReport, sync_markdown
from searchanything.service.work import check_worker, refresh_keys, tidy
from searchanything_flows import engine as engine_module
from searchanything_flows import index as index_flow
from searchanything_flows.automations import _ENDS
from searchanything_flows.engine import HungTaskError, Workers


class FakeFuture:
    """A future of Dask's that is done when the test says so."""

    key = "task-1"

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], None]] = []
        self.released = False

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def finish(self) -> None:
        for callback in self._callbacks:
            callback(self)

    def result(self) -> str:
        with pytest.raises(RuntimeError):  # it may take long, so not in the thread of the event loop
            asyncio.get_running_loop()
        return "a report"

    def release(self) -> None:
        self.released = True


class FakeDask:
    """A scheduler's client: one task, on the workers that the test names."""

    processes: dict[str, tuple[str, int]] = {"tcp://a": ("host", 11), "tcp://b": ("host", 12)}  # noqa: RUF012

    def __init__(self) -> None:
        self.future = FakeFuture()
        self.working: dict[str, tuple[str, ...]] = {}  # the first of each runs, the others wait behind it
        self.looks, self.ends_at = 0, 4
        self.silent = ""  # a worker that does not answer
        self.unwanted = ""  # a task that was taken back, and runs on
        self.restarted: list[str] = []
        self.priorities: list[int] = []

    def submit(self, *_: Any, priority: int, **__: Any) -> FakeFuture:
        self.priorities.append(priority)
        return self.future

    def processing(self) -> dict[str, tuple[str, ...]]:
        self.looks += 1
        if self.looks == self.ends_at:
            self.future.finish()
        return {} if self.future.released and self.looks > 3 else self.working  # what is said arrives later

    def run(
        self, function: Callable[..., Any], *, workers: Sequence[str] = (), on_error: str = "raise"
    ) -> dict[str, tuple[str, ...]]:
        if function is worker_process:
            return self.processes
        assert (function, on_error) == (running_tasks, "ignore")
        return {
            worker: {key: key != self.unwanted for key in self.working[worker][:1]}
            for worker in workers
            if worker != self.silent
        }

    def restart_workers(self, workers: list[str], *, raise_for_error: bool) -> None:
        assert not raise_for_error
        if self.working and not self.unwanted:
            assert self.future.released
            assert self.processing() == {}, "the worker that follows would take the task"
        self.restarted += workers


def run(dask: FakeDask, *, urgent: bool = False) -> Any:
    workers = Workers("tcp://nowhere", dask)  # type: ignore[arg-type]
    running = workers.run(str, {}, urgent=urgent, timeout_s=0.02)
    return asyncio.run(asyncio.wait_for(running, 20))


@pytest.fixture(autouse=True)
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is seen to run for a second time hangs."""
    monkeypatch.setattr(engine_module, "TASK_LOOKS", 1)


def test_a_task_that_hangs_is_seen_to_after_a_quarter_more_than_it_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "TASK_LOOKS", 4)
    dask = FakeDask()
    dask.working, dask.ends_at = {"tcp://b": ("task-1",)}, 100
    with pytest.raises(HungTaskError):
        run(dask)
    assert dask.looks == 5 + 2  # the last two: that it was taken back


def test_a_task_that_hangs_costs_its_worker() -> None:
    dask = FakeDask()
    dask.working = {"tcp://a": ("other",), "tcp://b": ("task-1",)}
    with pytest.raises(HungTaskError, match="ran for longer"):
        run(dask)
    assert (dask.restarted, dask.future.released) == (["tcp://b"], True)


def test_a_task_that_waits_for_a_worker_is_left_alone() -> None:
    dask = FakeDask()
    assert run(dask) == "a report"
    assert (dask.restarted, dask.looks) == ([], 4)


def test_a_task_that_waits_behind_another_is_left_alone() -> None:
    dask = FakeDask()
    dask.working = {"tcp://b": ("other", "task-1")}
    assert run(dask) == "a report"
    assert (dask.restarted, dask.looks) == ([], 4)


def test_a_task_behind_one_that_was_taken_back_and_hangs_is_freed_from_it() -> None:
    """Nobody else looks at that one: its run has ended."""
    dask = FakeDask()
    dask.working, dask.unwanted = {"tcp://b": ("cut off", "task-1")}, "cut off"
    assert run(dask) == "a report"
    assert (dask.restarted, dask.looks) == (["tcp://b"], 4)


def test_a_task_that_ends_while_its_worker_is_asked_has_not_hung() -> None:
    class Ending(FakeDask):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            if self.looks == 2:
                self.future.finish()
            return super().run(*args, **kwargs)

    dask = Ending()
    dask.working = {"tcp://b": ("task-1",)}
    assert run(dask) == "a report"
    assert (dask.restarted, dask.looks) == ([], 2)


def test_a_task_whose_worker_has_died_is_left_alone() -> None:
    """It is on another one by the next look."""

    class Dying(FakeDask):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            found = super().run(*args, **kwargs)
            self.working = {"tcp://c": ("other", "task-1")}
            return found

    dask = Dying()
    dask.working, dask.silent = {"tcp://b": ("task-1",)}, "tcp://b"
    assert run(dask) == "a report"
    assert (dask.restarted, dask.looks) == ([], 4)


def test_a_worker_that_cannot_be_asked_runs_what_it_was_given() -> None:
    """Dask leaves it out of the answer, as after a connection that is not taken in time."""
    dask = FakeDask()
    dask.working, dask.silent = {"tcp://b": ("task-1",)}, "tcp://b"
    with pytest.raises(HungTaskError):
        run(dask)
    assert dask.restarted == ["tcp://b"]


def test_a_worker_that_does_not_answer_runs_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that never lets go of Python's lock keeps its whole process from answering."""
    dask, ended = FakeDask(), threading.Event()
    dask.working = {"tcp://b": ("other", "task-1")}
    monkeypatch.setattr(engine_module, "_ANSWER_S", 0.02)

    def unanswered(*_: Any, **__: Any) -> None:
        assert ended.wait(10), "it is waited for"

    monkeypatch.setattr(dask, "run", unanswered)
    restart = dask.restart_workers
    monkeypatch.setattr(dask, "restart_workers", lambda *args, **kwargs: (restart(*args, **kwargs), ended.set()))
    with pytest.raises(HungTaskError):
        run(dask)
    assert dask.restarted == ["tcp://b"]


def test_a_worker_is_replaced_by_the_number_of_its_process() -> None:
    dask = FakeDask()
    workers = Workers("tcp://nowhere", dask)  # type: ignore[arg-type]
    asyncio.run(workers.replace("host", 12))
    assert dask.restarted == ["tcp://b"]
    asyncio.run(workers.replace("elsewhere", 11))
    asyncio.run(workers.replace("host", 13))
    assert dask.restarted == ["tcp://b"]


def test_urgent_tasks_go_first() -> None:
    dask = FakeDask()
    run(dask, urgent=True)
    run_again = FakeDask()
    run(run_again)
    assert dask.priorities > run_again.priorities


def killed() -> KilledWorker:
    """What Dask says of a task whose workers all died."""
    return KilledWorker("task", None, 2)  # type: ignore[no-untyped-call]


class Sick:
    """Workers of which the first so many have a sick device; `replace` brings the next one."""

    def __init__(self, sick: int, *, deadly: bool = False) -> None:
        self._sick, self._deadly = sick, deadly
        self.replaced: list[tuple[str, int]] = []

    async def run(self, _function: Any, parameters: dict[str, Any], **_: Any) -> BatchReport:
        if self._deadly:
            raise killed()
        if len(self.replaced) < self._sick:
            raise DeviceError("CUDA error", host="host", pid=len(self.replaced))
        return BatchReport(IndexReport(indexed=len(parameters["keys"])), 0.1, "host", 1)

    async def replace(self, host: str, pid: int) -> None:
        self.replaced.append((host, pid))


def test_a_sick_worker_is_replaced_and_its_batch_tried_again(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]]
) -> None:
    sick = Sick(2)
    wave = index_wave(sick, ["a", "b"], monkeypatch)
    assert (wave.total.indexed, wave.total.failed, lost) == (2, 0, [])
    assert sick.replaced == [("host", 0), ("host", 1)]


@pytest.mark.parametrize("deadly", [False, True])
def test_where_all_workers_are_sick_the_wave_fails_and_no_image_with_it(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]], deadly: bool
) -> None:
    sick = Sick(99, deadly=deadly)
    with pytest.raises(DeviceError):
        index_wave(sick, ["a", "b"], monkeypatch)
    assert lost == []
    assert len(sick.replaced) == (0 if deadly else index_flow.DEVICE_TRIES)


class Deadly:
    """Workers that die of one key, or hang, and say of the others that they are indexed.

    A task that runs beside the deadly one is blamed as well: `beside` names what of it. Where the store hangs, too,
    so does the look at whether it answers.
    """

    def __init__(self, key: str, beside: str = "", *, hangs: bool = False, store_hangs: bool = False) -> None:
        self._key, self._beside, self._store_hangs = key, beside, store_hangs
        self._fault = partial(HungTaskError, "it ran for longer than 1800 s") if hangs else killed
        self.sizes: list[int] = []
        self.tiles: list[int] = []
        self.said: set[str] = set()

    async def run(self, function: Any, parameters: dict[str, Any], *, urgent: bool, timeout_s: float) -> Any:
        assert urgent
        assert timeout_s == 1800
        if function is check_worker:  # the built-in image is sound
            assert parameters == {"source": "s3://images", "key": self._key}
            if self._store_hangs:
                raise HungTaskError("the store")
            return None
        keys = parameters["keys"]
        self.sizes.append(len(keys))
        self.tiles.append(parameters["tiles"])
        self.said.add(parameters["said"])
        if self._beside in keys and len(keys) == 1:
            self._beside = ""  # the next time it runs alone
            raise killed()
        if self._key in keys:
            raise self._fault()
        return BatchReport(IndexReport(indexed=len(keys)), 0.1, "host", 1)


@pytest.fixture
def committed() -> dict[str, int]:
    """Generations in which others have committed images meanwhile."""
    return {}


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch, committed: dict[str, int]) -> list[tuple[Any, ...]]:
    """What is recorded as lost with its workers."""
    recorded: list[tuple[Any, ...]] = []

    class Recorder:
        @property
        def operations(self) -> Recorder:
            return self

        def record_failure(self, source: str, key: str, *, error: str, message: str, begun: int) -> bool:
            if begun < committed.get(key, 0):
                return False
            recorded.append((source, key, error, message))
            return True

    monkeypatch.setattr(index_flow, "publish_batch", lambda *_: None)
    monkeypatch.setattr(index_flow, "worker_client", Recorder)
    return recorded


def index_wave(workers: Any, keys: list[str], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> WaveReport:
    """A wave, of whose tasks Prefect does not hear."""
    for name, value in settings.items():
        monkeypatch.setenv(f"SEARCHANYTHING_SERVICE__{name}".upper(), str(value))
    monkeypatch.setattr(index_flow, "in_prefect", lambda task, *given: task.fn(*given))
    runner = index_flow._BatchRunner(workers, "s3://images", force=False, urgent=True, said="named")
    return asyncio.run(index_flow._wave(runner, keys))


def test_an_image_that_kills_its_workers_is_set_apart_and_recorded(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]]
) -> None:
    deadly = Deadly("k5")
    wave = index_wave(deadly, [f"k{number}" for number in range(8)], monkeypatch, batch_keys=8, sheet_images=3)
    assert (wave.total.indexed, wave.total.failed) == (7, 1)
    assert [one.key for one in wave.lost] == ["k5"]
    assert deadly.sizes == [8, 4, 4, 2, 1, 1, 2, 1]  # the last: alone, once more
    assert deadly.tiles == [3, 3, 0, 0, 0, 0, 0, 0]  # halves make no more tiles than the whole
    [(source, key, error, message)] = lost
    assert (source, key, error) == ("s3://images", "k5", "WorkerLostError")
    assert "died" in message


def test_an_image_that_hangs_is_set_apart_and_recorded(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]]
) -> None:
    deadly = Deadly("k5", hangs=True)
    wave = index_wave(deadly, [f"k{number}" for number in range(8)], monkeypatch, batch_keys=8)
    assert (wave.total.indexed, wave.total.failed) == (7, 1)
    assert deadly.sizes == [8, 4, 4, 2, 1, 1, 2]  # not once more: it takes hours
    assert lost == [("s3://images", "k5", "WorkerHungError", "it ran for longer than 1800 s")]


@pytest.mark.parametrize("hangs", [False, True])
def test_an_image_that_another_has_indexed_meanwhile_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]], committed: dict[str, int], hangs: bool
) -> None:
    """The object was replaced by a sound one, while a worker hung of what it had been."""
    deadly = Deadly("b", hangs=hangs)
    check = index_flow._BatchRunner._check_workers

    async def meanwhile(runner: Any, key: str) -> None:
        committed["b"] = next_generation()
        await check(runner, key)

    monkeypatch.setattr(index_flow._BatchRunner, "_check_workers", meanwhile)
    wave = index_wave(deadly, ["a", "b", "c"], monkeypatch)
    assert (wave.total.indexed, wave.total.failed, lost) == (2, 0, [])


def test_where_the_store_hangs_the_wave_fails_and_no_image_with_it(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]]
) -> None:
    with pytest.raises(HungTaskError, match="the store"):
        index_wave(Deadly("b", hangs=True, store_hangs=True), ["a", "b", "c"], monkeypatch)
    assert lost == []


def test_an_image_beside_the_one_that_kills_is_not_blamed_for_it(
    monkeypatch: pytest.MonkeyPatch, lost: list[tuple[Any, ...]]
) -> None:
    wave = index_wave(Deadly("k5", beside="k2"), ["k2", "k5"], monkeypatch, batch_keys=1)
    assert (wave.total.indexed, wave.total.failed) == (1, 1)
    assert [key for _, key, _, _ in lost] == ["k5"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StoreUnavailableError("away"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("late"), True),
        (HungTaskError("its batch is halved"), False),
        (ImageError("a.jpg", "broken"), False),
        (ValueError("a defect"), False),
    ],
)
def test_only_io_errors_are_tried_again(error: Exception, again: bool) -> None:
    state = asyncio.run(exception_to_failed_state(error))  # as Prefect makes it of what a task raises
    assert asyncio.run(index_flow.is_io(None, None, state)) is again  # type: ignore[arg-type]


@pytest.mark.parametrize("retries", [3, 20])
def test_tries_after_io_errors_have_growing_pauses(monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    """As Prefect has them of the task that runs: a server that is started again takes some seconds."""
    monkeypatch.setenv("SEARCHANYTHING_SERVICE__RETRIES", str(retries))
    task = index_flow._BatchRunner(None, "s3://images", force=False, urgent=True, said="named")._task  # type: ignore[arg-type]
    delays = task.retry_delay_seconds
    pauses = [delays[min(number, len(delays) - 1)] for number in range(task.retries)]  # Prefect repeats the last
    assert (task.retries, pauses[:3], task.retry_condition_fn) == (retries, [1, 2, 4], index_flow.is_io)
    assert pauses == sorted(pauses)


class Unreadable:
    """An image store whose listing cannot look into `locked/`, and passes over a pipe."""

    bucket = "images"

    def list(self, prefix: str, omissions: Omissions) -> Iterator[StoredObject]:
        for key in ("a.jpg", "b.jpg"):
            yield StoredObject(ImageRef(self.bucket, prefix + key), "etag", 1)
        omissions.skip("pipe.jpg", "a pipe")
        omissions.miss("locked/", "Permission denied")


class Waves:
    """Indexes whatever it is given, and notes it."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.said: dict[str, str] = {}

    async def __call__(
        self, _engine: Any, _source: str, keys: Iterable[str], said: str = "listed", **_: Any
    ) -> WaveReport:
        keys = list(keys)
        self.keys += keys
        self.said.update(dict.fromkeys(keys, said))
        return WaveReport((BatchReport(IndexReport(indexed=len(self.keys)), 0.1, "host", 1),))


def test_reindex_does_what_is_listed_and_tells_what_could_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    module, waves = import_module("searchanything_flows.reindex"), Waves()
    counts = SimpleNamespace(images=2)
    monkeypatch.setattr(module, "index_in_waves", waves)
    monkeypatch.setattr(module, "worker_client", lambda: SimpleNamespace(status=lambda: counts))
    monkeypatch.setattr(module.wiring, "open_scoped", lambda *_: (Unreadable(), Scope()))
    wave = asyncio.run(module._reindex(None, "folder"))
    assert waves.keys == ["a.jpg", "b.jpg"]
    assert [one.key for one in wave.total.failures] == ["locked/"]
    assert (wave.total.failed, wave.total.skipped, wave.images) == (1, 1, 2)
    assert index_flow.finished(wave).name == "Some failed"


GONE = tuple(f"{number:02}.jpg" for number in range(30))


@pytest.mark.parametrize("forget", [False, True])
def test_a_sync_hands_on_what_may_be_forgotten_and_ends_held_back(
    monkeypatch: pytest.MonkeyPatch, forget: bool
) -> None:
    module, waves, asked = import_module("searchanything_flows.sync"), Waves(), []
    found = SyncReport(missing=("new.jpg",), orphaned=(*GONE, "old.jpg"), held=() if forget else GONE, checked=1)
    told: dict[str, Any] = {}

    def plan_sync(_: str, *, forget: bool) -> SyncReport:
        asked.append(forget)
        return found

    async def step(*_: Any) -> BatchReport:
        return BatchReport(IndexReport(), 0.1, "host", 1)

    async def publish_run(_kind: str, _source: str, text: str) -> None:
        told["artifact"] = text

    client = SimpleNamespace(operations=SimpleNamespace(plan_sync=plan_sync, sweep_tiles=lambda _: None))
    monkeypatch.setattr(module, "worker_client", lambda: client)
    monkeypatch.setattr(module, "index_in_waves", waves)
    monkeypatch.setattr(module, "_step", step)
    monkeypatch.setattr(module, "workers", lambda _: nullcontext())
    monkeypatch.setattr(module, "stop_if_cancelled", lambda work: work)
    monkeypatch.setattr(module, "_tidied", set())
    monkeypatch.setattr(module, "publish_run", publish_run)
    events: dict[str, Any] = {}
    emitted = import_module("searchanything_flows.publish")
    monkeypatch.setattr(emitted, "emit_event", lambda name, payload, **_: events.update({name: payload}))
    state = asyncio.run(module.sync.fn("folder", repair=True, forget=forget))
    assert asked == [forget]
    assert waves.keys == (["new.jpg", *GONE, "old.jpg"] if forget else ["new.jpg", "old.jpg"])
    assert waves.said == {key: "listed" if key == "new.jpg" else "gone" for key in waves.keys}
    assert state.name == ("Completed" if forget else "Held back")
    assert state.is_completed()
    assert ("**Held back: 30 images are gone" in told["artifact"]) is not forget
    assert ("- 09.jpg" in told["artifact"]) is not forget
    assert "- 10.jpg" not in told["artifact"]
    assert events == ({} if forget else {"searchanything.sync.held": {"images": 30, "examples": list(GONE[:10])}})
    assert "Held back" in _ENDS


def test_a_pass_over_the_rows_may_take_longer_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows with the index. Ended with its worker, it would begin anew at each sync, and never be done."""
    module, allowed = import_module("searchanything_flows.sync"), {}

    class Engine:
        async def run(self, function: Any, _: Any, *, timeout_s: float, urgent: bool) -> BatchReport:
            assert not urgent
            allowed[function] = timeout_s
            return BatchReport(IndexReport(), 0.1, "host", 1)

    monkeypatch.setattr(module, "in_prefect", lambda task, *given: task.fn(*given))
    for step in ("make index", "tidy"):
        asyncio.run(module._step(Engine(), "s3://images", step))
    assert allowed[tidy] > 10 * ServiceSettings().batch_timeout_s
    assert allowed[refresh_keys] == ServiceSettings().batch_timeout_s


@pytest.mark.parametrize("repair", [False, True])
def test_a_sync_tells_places_that_could_not_be_listed(monkeypatch: pytest.MonkeyPatch, repair: bool) -> None:
    missed = Failure("locked/", "StoreError", "Permission denied")
    found = SyncReport(missing=("a.jpg",), checked=1, unlisted=(missed,))
    module = import_module("searchanything_flows.sync")
    tidied = BatchReport(IndexReport(), 0.1, "host", 1)

    async def step(*_: Any) -> BatchReport:
        return tidied

    operations = SimpleNamespace(plan_sync=lambda _, forget: found, sweep_tiles=lambda _: None)  # noqa: ARG005
    client = SimpleNamespace(sync=lambda _: found, operations=operations)
    monkeypatch.setattr(module, "worker_client", lambda: client)
    monkeypatch.setattr(module, "index_in_waves", Waves())
    monkeypatch.setattr(module, "_step", step)
    monkeypatch.setattr(module, "_tidied", set())
    told, wave = asyncio.run(module._sync(None, "folder", repair=repair))
    assert told is found
    assert (wave.total.indexed, wave.total.failures) == (int(repair), (missed,))
    assert index_flow.finished(wave).name == "Some failed"
    text = sync_markdown("folder", found.to_dict(), wave)
    assert "| places that could not be listed (see the failures below) | 1 |" in text
    assert "| locked/ | StoreError | Permission denied |" in text


def test_many_waves_are_summed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch of each wave is added up a few times, however many waves there are."""
    module, reports = import_module("searchanything_flows.many"), import_module("searchanything.service.reports")
    added, shown = 0, []
    plain_sum = reports.sum_reports

    def counting_sum(summed: Iterable[IndexReport]) -> IndexReport:
        nonlocal added
        every = list(summed)
        added += len(every)
        return plain_sum(every)

    async def wave(_source: str, keys: list[str], **_: Any) -> WaveReport:
        failed = tuple(Failure(key, "ImageError", "bad") for key in keys)
        return WaveReport((BatchReport(IndexReport(failed=len(keys), failures=failed), 0.1, "host", 1),))

    class Shown:
        def __init__(self, *_: object) -> None: ...

        async def show(self, images: int) -> None:
            shown.append(images)

    monkeypatch.setattr(reports, "sum_reports", counting_sum)
    monkeypatch.setattr(module, "_wave", wave)
    monkeypatch.setattr(module, "Progress", Shown)
    monkeypatch.setattr(module, "load_settings", lambda: SimpleNamespace(service=ServiceSettings(wave_keys=2, waves=2)))
    keys = [f"{number:03}" for number in range(400)]
    report = asyncio.run(module.index_in_waves(SimpleNamespace(stopping=False), "folder", keys, total=400))
    assert sorted(one.key for one in report.total.failures) == keys
    assert (shown[-1], len(report.batches)) == (400, 200)
    assert added < 5 * 200 * 2
