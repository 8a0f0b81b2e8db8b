"""Batches that begin before Prefect is asked for their run: Prefect's server is real, the workers are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import pytest
from juicefs_gateway import held_port
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from urllib3 import PoolManager, make_headers

from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import Settings
from searchanything.ingest.reports import IndexReport
from searchanything.service.reports import BatchReport
from searchanything.service.tree import ServiceTree
from searchanything_flows import engine as engine_module
from searchanything_flows import index as index_flow
from searchanything_flows.index import run_index

pytestmark = pytest.mark.server
SOURCE = "s3://images"


class Prefect:
    """Prefect's server, as its API shows it."""

    def __init__(self, url: str, login: str) -> None:
        self._url, self._headers = url, make_headers(basic_auth=login)
        self._http = PoolManager(retries=False, timeout=30.0)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer."""
        return self._http.request("POST", f"{self._url}/{path}", json=body or {}, headers=self._headers).json()

    def runs(self) -> list[dict[str, Any]]:
        """The newest runs of flows first."""
        return list(self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"}))

    def cancel(self, run: str) -> None:
        """As somebody does on its page."""
        self.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})


class Begun:
    """Workers that note what they are handed, and how many runs Prefect had by then."""

    stopping = False

    def __init__(self, prefect: Prefect | None, *, waits: bool = False, errors: int = 0) -> None:
        self._prefect, self._waits, self._errors = prefect, waits, errors
        self.keys: list[list[str]] = []
        self.urgent: list[bool] = []
        self.runs_then: list[int] = []
        self.given_back = 0

    async def run(self, _: Callable[..., Any], asked: dict[str, Any], *, urgent: bool, timeout_s: float) -> Any:
        assert timeout_s == 1800
        self.keys.append(asked["keys"])
        self.urgent.append(urgent)
        if self._prefect is not None:
            self.runs_then.append(len(self._prefect.runs()))
        try:
            if self._waits:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_back += 1
            raise
        if len(self.keys) <= self._errors:
            raise StoreUnavailableError("away")
        return BatchReport(IndexReport(indexed=len(asked["keys"])), 0.1, "host", 1)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server of its own, which this process uses."""
    settings = Settings(_env_file=None)
    settings.milvus.uri = str(tmp_path_factory.mktemp("service") / "index.db")
    with (
        held_port() as settings.service.prefect_port,
        ServiceTree(SOURCE, settings) as tree,
        prefect_at(tree.api_url, str(tree.password)),
    ):
        yield Prefect(tree.api_url, str(tree.password))
        EventsWorker.drain_all()


@contextmanager
def prefect_at(url: str, login: str) -> Iterator[None]:
    """Where Prefect's client looks for its server."""
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: login}):
        yield


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Begun], Begun]:
    """Workers of this process."""

    def used(workers: Begun) -> Begun:
        monkeypatch.setattr(engine_module, "_open", [workers])
        return workers

    return used


async def given_back_of(workers: Begun, error: type[BaseException], text: str) -> int:
    """How many batches a run has given back when it has failed so; the end of the event loop cancels what is left."""
    with pytest.raises(error, match=text):
        await run_index(SOURCE, ["a"])
    assert index_flow._runner.get() is None, "the next run would take its batches"
    return workers.given_back


async def until(condition: Callable[[], Any]) -> Any:
    """What a condition finds, as soon as it finds anything."""
    async with asyncio.timeout(120):
        while not (found := await asyncio.to_thread(condition)):
            await asyncio.sleep(0.05)
    return found


def test_a_batch_is_begun_once_and_before_prefect_has_its_run(
    prefect: Prefect, use: Callable[[Begun], Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCHANYTHING_SERVICE__BATCH_KEYS", "2")
    before = len(prefect.runs())
    workers = use(Begun(prefect))
    state = asyncio.run(run_index(SOURCE, ["a", "b", "c"], urgent=False, said="listed"))
    assert workers.keys == [["a", "b"], ["c"]]
    assert workers.runs_then == [before, before]
    assert workers.urgent == [False, False]
    assert (state.name, state.message) == ("Completed", "3 indexed")
    run = prefect.runs()[0]
    assert (run["name"], run["state_type"]) == (f"3 images of {SOURCE}", "COMPLETED")
    asked = {"source": SOURCE, "keys": ["a", "b", "c"], "force": False, "urgent": False, "said": "listed"}
    assert run["parameters"] == asked  # who runs it again asks for the same
    within = {"flow_runs": {"id": {"any_": [run["id"]]}}}

    def tasks() -> list[dict[str, Any]]:
        """Prefect hears of them by events, which may come after the run's end."""
        found = [one for one in prefect.ask("task_runs/filter", within) if one["state_type"] == "COMPLETED"]
        return found if len(found) == 2 else []

    assert {one["name"] for one in asyncio.run(until(tasks))} == {"a and 1 more", "c"}
    [artifact] = prefect.ask("artifacts/filter", within)
    assert artifact["key"] == "index-images"

    def events() -> list[dict[str, Any]]:
        """One for each batch, as the documentation promises."""
        runs = {"id": [f"prefect.flow-run.{run['id']}"]}
        wanted = {"event": {"name": ["searchanything.batch.done"]}, "related": runs}
        found = list(prefect.ask("events/filter", {"filter": wanted})["events"])
        return found if len(found) == 2 else []

    sent = asyncio.run(until(events))
    assert {one["resource"]["prefect.resource.id"] for one in sent} == {f"searchanything.source.{SOURCE}"}
    counts = [{"indexed": 1}, {"indexed": 2}]
    assert sorted((one["payload"] for one in sent), key=itemgetter("indexed")) == [
        {**count, "seconds": 0.1, "worker": "host:1"} for count in counts
    ]


def test_a_begun_batch_that_fails_for_io_is_handed_over_again(
    prefect: Prefect, use: Callable[[Begun], Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_flow, "index_batch", index_flow.index_batch.with_options(retry_delay_seconds=0))
    workers = use(Begun(prefect, errors=2))
    state = asyncio.run(run_index(SOURCE, ["a"]))
    assert state.message == "1 indexed"
    assert workers.keys == [["a"]] * 3
    assert workers.urgent == [True] * 3


def test_a_run_that_is_cancelled_gives_its_batch_back(prefect: Prefect, use: Callable[[Begun], Begun]) -> None:
    workers = use(Begun(prefect, waits=True))

    async def cancelled() -> Any:
        before = len(prefect.runs())
        running = asyncio.create_task(run_index(SOURCE, ["a"]))
        await until(lambda: len(prefect.runs()) > before and prefect.runs()[0]["state_type"] == "RUNNING")
        prefect.cancel(prefect.runs()[0]["id"])
        state = await running
        assert workers.given_back == 1
        return state

    assert asyncio.run(cancelled()).is_cancelled()
    assert workers.keys == [["a"]]


@pytest.mark.usefixtures("prefect")
def test_a_run_that_fails_before_it_begins_gives_its_batch_back(
    use: Callable[[Begun], Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect asks for the run's name when it has made the run, and says then that it begins."""

    def no_name() -> str:
        raise ValueError("no name")

    monkeypatch.setattr(index_flow, "index", index_flow.index.with_options(flow_run_name=no_name))
    workers = use(Begun(None, waits=True))
    assert asyncio.run(given_back_of(workers, ValueError, "no name")) == 1
    assert workers.keys == [["a"]]


def test_without_prefect_the_wave_fails_and_its_batch_is_given_back(use: Callable[[Begun], Begun]) -> None:
    workers = use(Begun(None, waits=True))
    with held_port() as port, prefect_at(f"http://127.0.0.1:{port}/api", ""):
        assert asyncio.run(given_back_of(workers, RuntimeError, "Failed to reach API")) == 1
    assert workers.keys == [["a"]]


def test_a_wave_that_is_cut_off_before_it_has_a_run_gives_its_batch_back(
    use: Callable[[Begun], Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a period, while Prefect's server does not answer."""
    workers = use(Begun(None, waits=True))

    async def cut_off() -> None:
        asked = asyncio.Event()

        async def unanswered(*_: Any, **__: Any) -> None:
            asked.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(index_flow, "index", unanswered)
        running = asyncio.create_task(run_index(SOURCE, ["a"]))
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert workers.given_back == 1

    asyncio.run(cut_off())
    assert workers.keys == [["a"]]
