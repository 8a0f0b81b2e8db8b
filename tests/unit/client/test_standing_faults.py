"""Standing queries where clocks, webhooks, readers or settings misbehave: nothing is lost, and little comes twice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from fakes.http_servers import WebServer, web_server
from fakes.standing import RED, Hook, add_noise, draw, fetched, in_stretches, keys_of, opened

from searchanything.answers.standing_answers import NewMatches, StandingDelivery, StandingMatches, StandingQuery
from searchanything.cli.app import run
from searchanything.client import standing_delivery
from searchanything.client.client import Client
from searchanything.client.standing_memory import DELIVERED, StandingMemory
from searchanything.client.webhooks import Sender
from searchanything.core.errors import BackupError, IndexUnavailableError, RegionIndexError, UsageError, WebhookError
from searchanything.core.types import Filter
from searchanything.ingest import forget
from searchanything.service.deliveries import Deliveries
from searchanything.service.figures import WatchFigures
from searchanything.stores.memory import MemoryIndexStore

CLOCK = "searchanything.client.standing_queries.now_ms"
DAY_MS = 86_400_000


def without_pauses(client: Client) -> None:
    """As if the pauses after what failed were over."""
    memory = StandingMemory(client._parts.connection.indexes)
    memory.keep_looked(
        DELIVERED, {name: replace(one, not_before_ms=0) for name, one in memory.looked(DELIVERED).items()}
    )


def message_to(address: str) -> StandingMatches:
    return StandingMatches(StandingQuery("a" * 16, "red", "regions", 1e-4, 0, {}, webhook=address), ())


# --- clocks and the overlap


def test_a_clock_that_was_a_day_ahead_makes_nothing_come_again_and_again(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.standing.add("fetched", images / "0.png", RED)
    client.standing.add("sent", images / "0.png", RED, webhook=hook[2])
    draw(images / "new.png")
    client.index(images)
    monkeypatch.setattr(CLOCK, lambda: forget.now_ms() + DAY_MS)
    looks = [(fetched(client), client.standing.deliver().sent)]
    monkeypatch.setattr(CLOCK, forget.now_ms)
    looks += [(fetched(client), client.standing.deliver().sent) for _ in range(3)]
    once = {"fetched": ["new.png"]}, {"sent": 1}
    assert looks == [once, once, ({}, {}), ({}, {})], "once more, for what was noted is lost; never what was old"
    draw(images / "newer.png", red=31)
    client.index(images)
    assert (fetched(client), client.standing.deliver().sent) == ({"fetched": ["newer.png"]}, {"sent": 1})
    assert (fetched(client), client.standing.deliver().sent) == ({}, {})


def test_a_query_that_was_added_by_a_clock_ahead_is_asked_all_the_same(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CLOCK, lambda: forget.now_ms() + DAY_MS)
    client.standing.add("red", images / "0.png", RED)
    monkeypatch.setattr(CLOCK, forget.now_ms)
    draw(images / "new.png")
    client.index(images)
    assert "new.png" in fetched(client)["red"]
    assert fetched(client) == {}


def test_a_pause_that_was_noted_by_a_clock_ahead_ends(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    one.status = 500
    monkeypatch.setattr(CLOCK, lambda: forget.now_ms() + DAY_MS)
    assert client.standing.deliver().failed
    monkeypatch.setattr(CLOCK, forget.now_ms)
    one.status = 200
    assert client.standing.deliver().sent == {"red": 1}


@pytest.mark.parametrize("was_ahead", [False, True])
def test_a_longer_overlap_brings_up_nothing_old(images: Path, monkeypatch: pytest.MonkeyPatch, was_ahead: bool) -> None:
    """Nor where a clock that was ahead has noted that nothing of today is new: what was noted is lost then."""
    store = MemoryIndexStore()
    with opened(store, overlap_s=0) as short:
        short.index(images)
        add_noise(short)
        time.sleep(0.01)  # what was there was indexed before the query was added
        short.standing.add("red", images / "0.png", RED)
        draw(images / "new.png")
        short.index(images)
        assert fetched(short) == {"red": ["new.png"]}
        if was_ahead:
            monkeypatch.setattr(CLOCK, lambda: forget.now_ms() + DAY_MS)
            assert fetched(short) == {}
            monkeypatch.setattr(CLOCK, forget.now_ms)
    with opened(store, overlap_s=7 * 86_400) as long:
        assert fetched(long) == ({"red": ["new.png"]} if was_ahead else {})


def test_a_content_that_was_indexed_again_is_not_lost_with_the_message_it_was_for(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows lie in the last stretch of time, but its content is older than the first one."""
    one, server, address = hook
    in_stretches(monkeypatch, 2)
    client._parts.connection.settings.standing.overlap_s = 0
    client.standing.add("red", images / "0.png", RED, webhook=address)
    for name in ("old", "a", "b", "c"):
        draw(images / f"{name}.png")
        client.index(images)
        time.sleep(0.05)
    client.refresh(images, ["old.png"], force=True)

    def refuse_all_but_one() -> None:
        one.status = 500 if server.asked else 200

    assert client.standing.deliver(progress=refuse_all_but_one).failed
    one.status = 200
    without_pauses(client)
    client.standing.deliver()
    assert {key for asked in server.asked for key in keys_of(asked.body)} == {"old.png", "a.png", "b.png", "c.png"}


def test_what_is_deleted_and_uploaded_again_within_the_overlap_does_not_match_when_that_is_over(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.standing.add("fetched", images / "0.png", RED)
    client.standing.add("sent", images / "0.png", RED, webhook=hook[2])
    draw(images / "new.png")
    client.index(images)
    whole, began = (images / "new.png").read_bytes(), forget.now_ms()
    looks = [(fetched(client), client.standing.deliver().sent)]
    time.sleep(1)
    (images / "new.png").unlink()
    client.index(images, prune=True)
    (images / "new.png").write_bytes(whole)
    client.index(images)
    for later_ms in (0, 3_600_500, 3_600_900):  # the first upload's hour ends, the second one's does not
        monkeypatch.setattr(CLOCK, lambda at=began + later_ms: max(at, forget.now_ms()))
        looks.append((fetched(client), client.standing.deliver().sent))
    assert looks == [({"fetched": ["new.png"]}, {"sent": 1}), ({}, {}), ({}, {}), ({}, {})]


# --- webhooks


@pytest.mark.parametrize("status", ["200 OK", "500 Sorry"])
def test_an_answer_that_trickles_in_is_none(status: str) -> None:
    letters = f"HTTP/1.1 {status}\r\n".encode() + b"X-Slow: " + 60 * b"a" + b"\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                for letter in letters:
                    try:
                        connection.sendall(bytes([letter]))
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=trickle)
        thread.start()
        with pytest.raises(WebhookError, match=r"no answer within 0\.5 s"):
            Sender(0.5, None).send(message_to(f"http://127.0.0.1:{server.getsockname()[1]}/"), "memory://")
        thread.join()


def test_an_answer_that_does_not_come_is_said_to_be_so_though_the_timer_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine the socket's own timeout comes first."""
    monkeypatch.setattr(threading.Timer, "start", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(WebhookError, match=r"no answer within 0\.2 s"):
            Sender(0.2, None).send(message_to(address), "memory://")


def test_the_rest_of_an_answer_is_not_waited_for() -> None:
    """A refusal's text that never ends, after its status."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\n")
                while True:
                    try:
                        connection.sendall(b"a")
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(WebhookError, match="answered 503"):
            Sender(20.0, None).send(message_to(f"http://127.0.0.1:{server.getsockname()[1]}/"), "memory://")
        thread.join()


def test_all_addresses_of_a_name_have_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns the name gives it addresses at which nobody answers: those behind them are not even tried."""
    with ExitStack() as stack:
        full, live = (socket.create_server(("127.0.0.1", 0), backlog=backlog) for backlog in (0, 9))
        for one in (full, live):
            stack.enter_context(one).setblocking(False)
        for _ in range(4):  # a queue that is full: who comes now waits
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one.getsockname()) for one in (full, live)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        with pytest.raises(WebhookError, match=r"no answer within 0\.2 s"):
            Sender(0.2, None).send(message_to("http://hooks.example/"), "memory://")
        with pytest.raises(BlockingIOError):
            live.accept()


def test_an_address_that_the_webhook_repeats_is_not_shown() -> None:
    secret = "/services/T0AB12/B0CD34/sEcReT"
    with web_server(lambda asked: (404, {}, f"Cannot POST {asked.target}".encode())) as server:
        query = message_to(f"http://{server.endpoint}{secret}?token=hUsHhUsH")
        with pytest.raises(WebhookError) as caught:
            Sender(5.0, None).send(query, "memory://")
    assert str(caught.value) == f"http://{server.endpoint}/…: answered 404"
    assert "sEcReT" not in repr(query)
    assert "hush" not in repr(Sender(5.0, b"hush"))


def test_a_match_that_comes_again_with_others_has_the_same_id(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str]
) -> None:
    one, server, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    one.status = 500  # after it has done its work
    client.standing.deliver()
    draw(images / "newer.png", red=31)
    client.index(images)
    one.status = 200
    without_pauses(client)
    client.standing.deliver()
    first, second = ({m["key"]: m["match_id"] for m in json.loads(a.body)["data"]["matches"]} for a in server.asked)
    assert first.keys() == {"new.png"}
    assert second.keys() == {"new.png", "newer.png"}
    assert first["new.png"] == second["new.png"] != second["newer.png"]


def test_a_query_that_is_removed_while_matches_are_sent_gets_no_more(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_delivery, "LIST_S", 0.0)
    for name in ("first", "second", "third"):
        client.standing.add(name, images / "0.png", RED, webhook=hook[2])
    draw(images / "new.png")
    client.index(images)
    assert client.standing.deliver(progress=lambda: _remove(client, "second")).sent == {"first": 1, "third": 1}


@pytest.mark.parametrize("is_new", [True, False])
def test_a_query_that_cannot_be_asked_is_said_to_be_so_and_stops_no_message(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], is_new: bool
) -> None:
    """Also where nothing is to be sent."""
    client.standing.add("red", images / "0.png", RED, webhook=hook[2])
    memory = StandingMemory(client._parts.connection.indexes)
    [query] = memory.queries()
    bad = replace(query, id="b" * 16, name="bad", filter=Filter(expression="nothing ="))
    lost = replace(query, id="c" * 16, name="lost")
    if is_new:
        draw(images / "new.png")
        client.index(images)
    for other, failing in ((bad, "bad"), (lost, "lost")):
        memory.keep_query(other)
        if other is bad:
            memory.keep(bad, memory.kept(query))
        done = client.standing.deliver()
        assert done.failed.keys() == {failing}
        assert {one.query.name: bool(one.error) for one in client.standing.list()} == {failing: True, "red": False}
        memory.forget(other)
    assert len(hook[1].asked) == is_new


def test_what_another_process_sent_for_a_query_that_was_added_meanwhile_is_not_sent_again(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between this one's list of queries and its lease."""
    _, server, address = hook
    client.standing.add("first", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    store: Any = client._parts.connection.indexes
    recall, sent = MemoryIndexStore.recall, dict[str, int]()

    def meanwhile(self: MemoryIndexStore, name: str) -> bytes:
        if name == f"{DELIVERED}-lease" and not sent:
            sent["..."] = 0
            with opened(store) as other:
                other.standing.add("second", images / "0.png", RED, webhook=address)
                draw(images / "newer.png", red=31)
                other.index(images)
                sent.update(other.standing.deliver().sent)
        return recall(self, name)

    monkeypatch.setattr(MemoryIndexStore, "recall", meanwhile)
    assert client.standing.deliver().sent == {}
    assert sent == {"...": 0, "first": 2, "second": 1}
    assert client.standing.deliver().sent == {}
    assert len(server.asked) == 2


def test_who_lost_the_lease_in_a_slow_message_sends_no_further_one(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server, address = hook
    monkeypatch.setattr(standing_delivery, "MATCHES_AT_ONCE", 1)
    client.standing.add("red", images / "0.png", RED, webhook=address)
    for name in ("a", "b"):
        draw(images / f"{name}.png")
    client.index(images)
    lease = f"{DELIVERED}-lease"
    taken = json.dumps({"by": "another", "at": time.time(), "of": [], "machine": "elsewhere", "pid": 1}).encode()

    def taken_over() -> None:
        if server.asked:
            client._parts.connection.indexes.remember(lease, taken)

    with pytest.raises(RegionIndexError, match="this one gives way"):
        client.standing.deliver(progress=taken_over)
    assert len(server.asked) == 1
    assert client.standing.deliver().sent == {}, "it is the other one's to send"
    client._parts.connection.indexes.remember(lease, b"")
    assert client.standing.deliver().sent == {"red": 1}


def test_a_match_among_old_ones_is_sent(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are stretches of time in which nothing is new."""
    client.standing.add("red", images / "0.png", RED, webhook=hook[2])
    draw(images / "new.png")
    client.index(images)
    in_stretches(monkeypatch, 2)
    assert client.standing.deliver().sent == {"red": 1}


def test_an_index_that_is_away_is_no_failure_of_a_query(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.standing.add("red", images / "0.png", RED, webhook=hook[2])
    draw(images / "new.png")
    client.index(images)

    def away(*_: object) -> bytes:
        raise IndexUnavailableError("away")

    with opened(client._parts.connection.indexes) as later:  # type: ignore[arg-type]
        with monkeypatch.context() as patched:
            patched.setattr(MemoryIndexStore, "hash_layer", away)
            with pytest.raises(IndexUnavailableError):
                later.standing.deliver()
        assert later.standing.deliver().sent == {"red": 1}, "there is no pause"


def _remove(client: Client, name: str) -> None:
    if any(one.query.name == name for one in client.standing.list()):
        client.standing.remove(name)


def test_what_fails_is_a_line_once_in_the_service(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    one, _, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    one.status = 500
    deliveries = Deliveries(lambda: client, 30.0, WatchFigures())
    deliveries.once()
    deliveries.once()  # not its turn
    without_pauses(client)
    deliveries.once()  # refused again
    assert caplog.text.count("tried again later") == 1


def test_who_is_to_end_sends_no_further_message(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str]
) -> None:
    _, server, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    deliveries = Deliveries(lambda: client, 30.0, WatchFigures())
    deliveries.end()
    deliveries.once()
    assert server.asked == []
    assert client.standing.deliver().sent == {"red": 1}


def test_the_library_that_sets_up_logging_is_imported_before_the_thread_of_deliveries() -> None:
    """In that thread it waited for Prefect's log handler, which waited for it, and `watch` stood still for good."""
    made = "import sys; from searchanything.service.deliveries import Deliveries; Deliveries(None, 30.0, None); "
    subprocess.run([sys.executable, "-c", made + "assert 'pymilvus' in sys.modules"], check=True)


# --- the command line


def test_what_nobody_read_is_printed_again(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = client._parts.connection.indexes
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    ends = os.pipe()
    os.close(ends[0])
    with TextIOWrapper(os.fdopen(ends[1], "wb"), encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert run(["standing", "check"], connect=lambda _uri, _preset: opened(store)) == 1
        monkeypatch.undo()
    assert fetched(client) == {"red": ["new.png"]}


def test_names_that_look_like_markup(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    store: Any = client._parts.connection.indexes
    name = "[red]x[/blue]"
    client.standing.add(name, text="a [/] b", max_false_match=1.0)
    assert run(["standing", "list"], connect=lambda _uri, _preset: opened(store)) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert "a [/] b" in shown


@pytest.mark.parametrize("arrives", [True, False])
def test_a_query_that_could_not_be_added_is_there_whole_or_not_at_all(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """The server breaks off while the query is written, which may have arrived."""
    remember = MemoryIndexStore.remember

    def broken(self: MemoryIndexStore, name: str, data: bytes) -> None:
        if not name.startswith("standing-query-") or not data:
            return remember(self, name, data)
        if arrives:
            remember(self, name, data)
        raise IndexUnavailableError("the server is gone")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryIndexStore, "remember", broken)
        with pytest.raises(IndexUnavailableError):
            client.standing.add("red", images / "0.png", RED)
    left = client._parts.connection.indexes.recall_all("standing-")
    assert len(left) == (2 if arrives else 0), "what it was made of goes with it"
    draw(images / "new.png")
    client.index(images)
    with opened(client._parts.connection.indexes) as later:  # type: ignore[arg-type]
        assert fetched(later) == ({"red": ["new.png"]} if arrives else {})
        if not arrives:
            later.standing.add("red", images / "0.png", RED)


def test_where_nothing_stands_no_index_is_asked() -> None:
    """`watch` delivers before there is any."""
    with opened(MemoryIndexStore()) as client:
        assert client.standing.deliver() == StandingDelivery()
        assert client.standing.fetch() == NewMatches()


def test_a_wrong_name_does_not_list_all_of_a_thousand(client: Client, images: Path) -> None:
    client.standing.add("q", images / "0.png", RED)
    memory = StandingMemory(client._parts.connection.indexes)
    [query] = memory.queries()
    for number in range(1000):
        memory.keep_query(replace(query, id=f"{number:016}", name=f"q{number}"))
    memory.forget(query)
    with pytest.raises(UsageError, match="'q9' and 990 more"):
        client.standing.remove("q")


def test_an_index_that_is_too_small_is_said_to_be_so_and_nothing_is_written(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milvus Lite holds in memory what it was sent, also after it was deleted, until its server ends."""
    with opened(MemoryIndexStore()) as small:
        small.index(images)
        monkeypatch.setattr(MemoryIndexStore, "remember", lambda *_: pytest.fail("written"))
        with pytest.raises(UsageError, match=r"at least 200 images, .* this one has 3$"):
            small.standing.add("whole", images / "0.png", filter=Filter(bucket="b"))


def test_a_backup_leaves_no_note_of_another_kind(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandingMemory, "notes", lambda _: {"presets-before": b"[]"})
    client.backup(tmp_path / "b.tar")
    with opened(MemoryIndexStore()) as other:
        with pytest.raises(BackupError):
            other.restore(tmp_path / "b.tar")
        assert other._parts.connection.indexes.recall("presets-before") == b""
