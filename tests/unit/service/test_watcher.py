"""The watcher's loop without Prefect, Dask or a server: what it starts when, and what it never forgets."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.figures import read
from fastapi.testclient import TestClient
from pydantic import SecretStr
from urllib3 import PoolManager

from searchanything.core.errors import EventsNotOfferedError, SettingsError, StoreUnavailableError
from searchanything.core.settings import ServiceSettings, Settings
from searchanything.images.scopes import Scope
from searchanything.service.listening import HintFilter, Listener
from searchanything.service.watcher import SyncClock, Watcher, Work
from searchanything.service.waves import WaveQueue
from searchanything.service.webhook import webhook_app, webhook_of

RECORD = b'{"s3": {"bucket": {"name": "images"}, "object": {"key": "a.png"}}}'


class Crew:
    """What the loop starts, noted down; each call may be told to fail."""

    def __init__(self) -> None:
        self.waves: list[tuple[str, ...]] = []
        self.syncs = 0
        self.fail_waves = self.fail_syncs = self.stop_syncs = 0
        self.again: Sequence[str] = ()
        self.running = self.most = 0

    async def index_wave(self, keys: Sequence[str]) -> Sequence[str]:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.02)
        self.running -= 1
        self.waves.append(tuple(keys))
        if self.fail_waves:
            self.fail_waves -= 1
            raise ConnectionError("no index")
        again, self.again = self.again, ()
        return again

    async def sync(self) -> bool:
        self.syncs += 1
        await asyncio.sleep(0)
        if self.fail_syncs:
            self.fail_syncs -= 1
            raise ConnectionError("no store")
        self.stop_syncs -= 1
        return self.stop_syncs < 0


def run_watcher(
    folder: Path, monkeypatch: pytest.MonkeyPatch, crew: Crew, *, hints: Sequence[str], enough: Callable[[], bool]
) -> None:
    """Watch `folder`, hint at keys once the first sync is through, stop when it is enough."""
    monkeypatch.setattr("searchanything.service.watcher._PAUSES_S", (0.05, 0.1))
    settings = Settings(_env_file=None)
    settings.service = ServiceSettings(quiet_s=0.01, longest_wait_s=0.05, wave_keys=4, waves=2, poll_s=30)

    async def main() -> None:
        watcher = Watcher(str(folder), settings)
        loop = asyncio.create_task(watcher.run(Work(crew.index_wave, crew.sync)))
        async with asyncio.timeout(30):
            while not crew.syncs:
                await asyncio.sleep(0.005)
            watcher.queue.put(hints)
            while not enough():
                await asyncio.sleep(0.005)
        watcher.stop()
        await loop
        watcher.close()

    asyncio.run(main())


def test_it_begins_with_a_sync_and_turns_hints_into_waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew()
    keys = [f"k{number}" for number in range(10)]
    run_watcher(tmp_path, monkeypatch, crew, hints=keys, enough=lambda: sum(map(len, crew.waves)) == 10)
    assert sorted(key for wave in crew.waves for key in wave) == keys
    assert max(map(len, crew.waves)) == 4
    assert (crew.most, crew.syncs) == (2, 1)


def test_a_failed_wave_asks_for_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew()
    crew.fail_waves = 1
    run_watcher(tmp_path, monkeypatch, crew, hints=["a"], enough=lambda: crew.syncs == 2)
    assert crew.waves == [("a",)]


def test_a_failed_sync_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew()
    crew.fail_syncs = 3
    failed, kinds = SyncClock.failed, list[str]()
    monkeypatch.setattr(SyncClock, "failed", lambda clock, kind: (kinds.append(kind), failed(clock, kind)))
    run_watcher(tmp_path, monkeypatch, crew, hints=(), enough=lambda: crew.syncs == 4)
    assert kinds == ["sync"] * 3, "the pause grows"


def test_a_sync_that_somebody_stopped_has_shown_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be reached still cannot as far as anybody knows; the regular sync is the next."""
    monkeypatch.setattr("searchanything.service.watcher._PAUSES_S", (0.05, 0.1))
    settings, crew = Settings(_env_file=None), Crew()
    settings.service = ServiceSettings(poll_s=9000)
    crew.stop_syncs = 1
    stopped, due_s = asyncio.Event(), list[float]()
    plain = SyncClock.stopped
    monkeypatch.setattr(SyncClock, "stopped", lambda clock: (plain(clock), stopped.set()))

    async def sync() -> bool:
        if crew.syncs == 0:
            crew.syncs += 1
            raise StoreUnavailableError("no answer")
        return await crew.sync()

    async def main() -> None:
        watcher = Watcher(str(tmp_path), settings)
        loop = asyncio.create_task(watcher.run(Work(crew.index_wave, sync)))
        await asyncio.wait_for(stopped.wait(), 30)
        assert watcher._outages.away == ("the source",)
        assert read(watcher.figures.exposition())["last_sync_timestamp_seconds"] == 0
        due_s.append(watcher.clock.due_in_s(pending=bool(watcher._pending)))
        watcher.queue.request_sync("an event was lost")
        while not read(watcher.figures.exposition())["last_sync_timestamp_seconds"]:
            await asyncio.sleep(0.005)
        assert watcher._outages.away == ()
        watcher.stop()
        await loop
        watcher.close()

    asyncio.run(main())
    assert 1000 < due_s[0] <= 9000, "it does not come back at once"
    assert crew.syncs == 3


def test_its_figures_are_read_over_http_and_say_what_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchanything.service.watcher._PAUSES_S", (0.05, 0.1))
    settings, crew = Settings(_env_file=None), Crew()
    settings.service = ServiceSettings(poll_s=30, metrics_port=0)
    looked: list[dict[str, float]] = []

    def asked(url: str) -> dict[str, float]:
        with PoolManager(retries=False, timeout=30.0) as http:
            return read(http.request("GET", url).data)

    async def main() -> None:
        watcher = Watcher(str(tmp_path), settings)
        url = str(watcher.metrics_url)

        async def sync() -> bool:
            looked.append(await asyncio.to_thread(asked, url))
            if len(looked) == 1:
                raise StoreUnavailableError("no answer")
            return True

        loop = asyncio.create_task(watcher.run(Work(crew.index_wave, sync)))
        async with asyncio.timeout(30):
            while not (await asyncio.to_thread(asked, url))["last_sync_timestamp_seconds"]:
                await asyncio.sleep(0.005)
        looked.append(await asyncio.to_thread(asked, url))
        watcher.stop()
        await loop
        watcher.close()

    asyncio.run(main())
    assert [one["reachable{source}"] for one in looked] == [1, 0, 1]
    assert [one["reachable{index}"] for one in looked] == [1, 1, 1]
    assert [one.get("runs_total{failed,sync}", 0) for one in looked] == [0, 1, 1]
    assert [one["last_sync_timestamp_seconds"] > 0 for one in looked] == [False, False, True]


def test_keys_that_kept_changing_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew()
    crew.again = ("a",)
    run_watcher(tmp_path, monkeypatch, crew, hints=["a"], enough=lambda: len(crew.waves) == 2)
    assert crew.waves == [("a",), ("a",)]


def test_syncs_by_the_clock() -> None:
    now = [100.0]
    clock = SyncClock(60.0, clock=lambda: now[0])
    assert (clock.due_in_s(pending=False), clock.due_in_s(pending=True)) == (60.0, 0.0)
    clock.interval_s = 10.0
    assert clock.due_in_s(pending=False) == 10.0
    clock.failed("sync")
    assert clock.due_in_s(pending=True) == 2.0
    clock.failed("sync")
    assert clock.due_in_s(pending=True) == 4.0
    now[0] += 4
    clock.succeeded()
    assert (clock.due_in_s(pending=False), clock.due_in_s(pending=True)) == (10.0, 0.0)


def test_a_sync_that_is_asked_for_again_and_again_comes_now_and_then() -> None:
    now = [100.0]
    clock = SyncClock(900.0, clock=lambda: now[0])
    for left_s in (30.0, 20.0, 10.0, 0.0):
        clock.ask_within(30.0)
        assert clock.due_in_s(pending=False) == left_s
        now[0] += 10
    clock.began()
    clock.ask_within(30.0)  # while it runs
    clock.succeeded()
    assert clock.due_in_s(pending=False) == 30.0
    clock.began()
    clock.succeeded()
    assert clock.due_in_s(pending=False) == 900.0


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b'{"Records": [null, %s]}' % RECORD, 200)])
def test_what_is_unreadable_of_a_notification_to_the_webhook_is_followed_by_a_sync(
    tmp_path: Path, body: bytes, status: int
) -> None:
    settings, crew = Settings(_env_file=None), Crew()
    settings.service = ServiceSettings(poll_s=0.2, sync_s=9000, webhook_port=0, webhook_token=SecretStr("secret"))

    def post(url: str, token: str) -> int:
        with PoolManager(retries=False, timeout=30.0) as http:
            return http.request("POST", url, body=body, headers={"Authorization": token}).status

    async def main() -> None:
        watcher = Watcher(str(tmp_path), settings)
        loop = asyncio.create_task(watcher.run(Work(crew.index_wave, crew.sync)))
        async with asyncio.timeout(30):
            while watcher.clock.due_in_s(pending=False) < 8000:  # the first has succeeded
                await asyncio.sleep(0.005)
            assert await asyncio.to_thread(post, str(watcher.webhook_url), "wrong") == 401
            assert watcher.clock.due_in_s(pending=False) > 8000
            assert await asyncio.to_thread(post, str(watcher.webhook_url), "secret") == status
            while crew.syncs < 2:
                await asyncio.sleep(0.005)
        watcher.stop()
        await loop
        watcher.close()

    asyncio.run(main())


def test_waves_that_fail_do_not_put_off_the_sync_that_finds_their_images() -> None:
    now = [100.0]
    clock = SyncClock(60.0, clock=lambda: now[0])
    for left_s in (2.0, 1.0):
        for _ in range(10):
            clock.failed("wave")
        assert clock.due_in_s(pending=True) == left_s
        now[0] += 1
    assert clock.due_in_s(pending=True) == 0.0
    clock.failed("sync")
    clock.failed("sync")
    clock.failed("wave")
    assert clock.due_in_s(pending=True) == 4.0, "nor hasten it"


class Events:
    """Notifications that end with an error, as a broken stream does."""

    def __init__(self, error: Exception | None, notifications: Sequence[dict[str, Any]] = ()) -> None:
        self._error, self._notifications = error, notifications
        self._closed = threading.Event()
        self.connected = not isinstance(error, EventsNotOfferedError)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self._notifications
        if self._error is not None:
            self._closed.wait(0.1)  # long enough for a server to be called connected
            raise self._error
        self._closed.wait(10)

    def close(self) -> None:
        self._closed.set()


def listen(streams: list[Events], *, offers: int) -> tuple[WaveQueue, list[Any], list[bool]]:
    """Listen to one stream after the other until so many offers were told: queue, notifications, offers."""
    queue, told = WaveQueue(ServiceSettings()), threading.Semaphore(0)
    got: list[Any] = []
    offered: list[bool] = []

    def on_offer(offer: bool) -> None:
        offered.append(offer)
        told.release()

    waiting = iter(streams)
    listener = Listener(lambda: next(waiting), got.append, queue, on_offer=on_offer)
    listener.start()
    assert all(told.acquire(timeout=20) for _ in range(offers))
    listener.stop()
    return queue, got, offered


@pytest.mark.parametrize("error", [StoreUnavailableError("broken"), AttributeError("nobody foresaw it")])
def test_a_broken_stream_is_opened_again_and_asks_for_a_sync(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("searchanything.service.listening._PAUSES_S", (0.01, 0.02))
    streams = [Events(error, [{"n": 1}]), Events(None, [{"n": 2}, {"n": 3}])]
    queue, got, offers = listen(streams, offers=2)
    assert got == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert offers == [True, True]
    assert set(queue.take_pending()) == {"listening began", "listening broke off"}


def test_a_server_that_offers_nothing_is_asked_once() -> None:
    queue, got, offers = listen([Events(EventsNotOfferedError("no"))], offers=1)
    assert (got, offers, queue.take_pending()) == ([], [False], ())


def test_nobody_waits_for_a_stream_that_is_over() -> None:
    """Not until `stop`, which is weeks away: the thread would look fifty times a second."""
    before = set(threading.enumerate())
    listener = Listener(lambda: Events(EventsNotOfferedError("no")), list[Any]().append, WaveQueue(ServiceSettings()))
    listener.start()
    listener._thread.join(20)
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)


def test_the_webhook_asks_for_its_token() -> None:
    got: list[Any] = []

    def hint(notification: Any) -> int:
        got.append(notification)
        return 1

    client = TestClient(webhook_app(hint, "secret", lambda _: None))
    body = json.dumps({"Records": []})
    assert client.post("/events", content=body).status_code == 401
    assert client.post("/events", content=body, headers={"Authorization": "Bearer other"}).status_code == 401
    assert got == []
    right = {"Authorization": "Bearer secret"}
    assert client.post("/events", content=body, headers=right).json() == {"hints": 1}
    assert client.post("/events", content=b"[" * 100_000, headers=right).status_code == 400
    assert client.get("/health").json() == {"ok": True}


def test_a_webhook_without_a_token_is_refused() -> None:
    with pytest.raises(SettingsError, match="WEBHOOK_TOKEN"):
        webhook_of(ServiceSettings(webhook_port=0), lambda _: 0, lambda _: None)


def test_keys_of_a_wave_that_the_end_of_a_period_cut_off_request_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searchanything.service.watcher._GRACE_S", 0.05)

    began = asyncio.Event()

    async def endless(_keys: Sequence[str]) -> Sequence[str]:
        began.set()
        await asyncio.sleep(60)
        return ()

    async def main() -> set[str]:
        watcher = Watcher(str(tmp_path), Settings(_env_file=None))
        watcher.queue.put(["a.png"])
        while not began.is_set():
            await watcher.run(Work(endless, Crew().sync), until=time.monotonic() + 1.0)
        watcher.close()
        return set(watcher.queue.take_pending())

    assert asyncio.run(main()) == {"a wave was cut off"}


def test_a_sync_that_the_end_of_a_period_cut_off_stays_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchanything.service.watcher._GRACE_S", 0.05)
    began = asyncio.Event()
    syncs = Crew()

    async def endless() -> bool:
        began.set()
        await asyncio.sleep(60)
        return True

    async def main() -> None:
        watcher = Watcher(str(tmp_path), Settings(_env_file=None))
        period = asyncio.create_task(watcher.run(Work(syncs.index_wave, endless)))
        await asyncio.wait_for(began.wait(), 20)
        period.cancel()
        await asyncio.gather(period, return_exceptions=True)
        while not syncs.syncs:
            await watcher.run(Work(syncs.index_wave, syncs.sync), until=time.monotonic() + 0.1)
        watcher.close()

    asyncio.run(main())
    assert syncs.syncs == 1


def test_where_nobody_tells_any_more_of_changes_syncs_are_frequent_again(tmp_path: Path) -> None:
    async def main() -> None:
        settings = Settings(_env_file=None)
        watcher = Watcher(str(tmp_path), settings)
        intervals, pending = [], []
        for offered in (True, False, False, True):
            watcher.queue.take_pending()
            watcher._offered(offered)
            intervals.append(watcher.clock.interval_s)
            pending.append(len(watcher.queue.take_pending()))
        watcher.close()
        often, seldom = settings.service.poll_s, settings.service.sync_s
        assert intervals == [seldom, often, often, seldom]
        assert pending == [0, 1, 0, 0]  # one notification that cannot be read after the other requests one sync

    asyncio.run(main())


def test_a_notification_that_cannot_be_read_is_skipped_and_asks_for_a_sync() -> None:
    queue, offered, sound = WaveQueue(ServiceSettings()), [], threading.Event()
    hint = HintFilter(queue, "images", Scope())
    record = {"s3": {"bucket": {"name": "images"}, "object": {"key": "a.jpg"}}}
    events = Events(None, [{}, {"Records": [None]}, {"Records": [record]}, {"Records": []}])
    events.connected = False  # what is offered is said of the notifications alone

    def take(notification: Any) -> None:
        hint(notification)
        if notification == {"Records": []}:
            sound.set()

    listener = Listener(lambda: events, take, queue, on_offer=offered.append)
    listener.start()
    assert sound.wait(20)
    listener.stop()
    assert queue.take() == ("a.jpg",)
    assert offered == [False, False, True]
    assert queue.take_pending() == ("a notification could not be read",)
