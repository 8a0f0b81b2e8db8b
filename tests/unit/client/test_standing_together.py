"""Standing queries that several processes change and fetch at once: nothing of anybody's is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.http_servers import WebServer
from fakes.standing import RED, Hook, draw, fetched, opened

from searchanything.answers.standing_answers import StandingQuery
from searchanything.client import standing_memory
from searchanything.client.client import Client
from searchanything.client.lease import Lease
from searchanything.client.standing_memory import DELIVERED, FETCHED, Looked, StandingMemory
from searchanything.core.errors import RegionIndexError, UsageError
from searchanything.core.types import Filter
from searchanything.stores.memory import MemoryIndexStore


def at_a_look(monkeypatch: pytest.MonkeyPatch, note: str, *, at: int, then: Callable[[], object]) -> None:
    """What another process does right before this one looks at a note for the so-manieth time."""
    recall, looks = MemoryIndexStore.recall, 0

    def recalled(self: MemoryIndexStore, name: str) -> bytes:
        nonlocal looks
        looks += name == note
        if name == note and looks == at:
            then()
        return recall(self, name)

    monkeypatch.setattr(MemoryIndexStore, "recall", recalled)


def notes_of_queries(client: Client) -> list[str]:
    store: Any = client._parts.connection.indexes
    return [name for name, kept in store._notes.items() if name.startswith("standing-") and kept]


def hold(client: Client, note: str) -> Callable[[], None]:
    """Another process changes a note from now on; until what is returned is called."""
    store, lease = client._parts.connection.indexes, f"{note}-lease"
    taken = {"by": "another", "at": time.time(), "of": [], "machine": "elsewhere", "pid": 1}
    store.remember(lease, json.dumps(taken).encode())
    return lambda: store.remember(lease, b"")


@pytest.mark.parametrize("name", ["red", "blue"])
def test_of_two_that_add_at_once_both_are_kept_or_the_name_is_taken(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def meanwhile() -> None:
        with opened(client._parts.connection.indexes) as other:  # type: ignore[arg-type]
            other.standing.add(name, images / "0.png", (50, 20))

    at_a_look(monkeypatch, "standing-lease", at=1, then=meanwhile)
    if name == "red":
        with pytest.raises(UsageError, match="there is a standing query 'red'"):
            client.standing.add("red", images / "0.png", RED)
    else:
        client.standing.add("red", images / "0.png", RED)
    queries = [one.query for one in client.standing.list()]
    assert {one.name for one in queries} == {name, "red"}
    assert len(notes_of_queries(client)) == 2 * len(queries), "nothing is left of what was refused"


def test_who_adds_waits_for_who_does(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    release = hold(client, "standing")
    at_a_look(monkeypatch, "standing-lease", at=2, then=lambda: waited.append(1) or release())
    client.standing.add("red", images / "0.png", RED)
    assert waited
    assert [one.query.name for one in client.standing.list()] == ["red"]


def test_who_gave_way_for_long_enough_says_so_and_leaves_nothing(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_memory, "EDIT_WAIT_S", 0.0)
    at_a_look(monkeypatch, "standing-lease", at=2, then=lambda: hold(client, "standing"))
    with pytest.raises(RegionIndexError, match="this one gives way"):
        client.standing.add("red", images / "0.png", RED)
    assert notes_of_queries(client) == ["standing-lease"], "that of the other one"


def test_who_fetches_waits_for_who_notes_what_was_fetched(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    with monkeypatch.context() as patched:
        at_a_look(patched, f"{FETCHED}-lease", at=2, then=hold(client, FETCHED))
        assert fetched(client) == {"red": ["new.png"]}
    assert fetched(client) == {}


@pytest.mark.usefixtures("advancing")
def test_who_lost_the_lease_notes_nothing(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process took it over in a look in which no message was sent: what that one notes is what counts."""
    client.standing.add("red", images / "0.png", RED, webhook=hook[2])
    at_a_look(monkeypatch, f"{DELIVERED}-lease", at=4, then=lambda: hold(client, DELIVERED))
    with pytest.raises(RegionIndexError, match="this one gives way"):
        client.standing.deliver()
    assert client._parts.connection.indexes.recall(DELIVERED) == b""


def test_what_was_fetched_of_one_stays_so_when_another_one_is(client: Client, images: Path) -> None:
    for name in ("here", "there"):
        client.standing.add(name, images / "0.png", RED, filter=Filter(bucket=str(images), key_prefix=name))
    for name in ("here", "there"):
        draw(images / f"{name}.png")
        client.index(images)
        assert fetched(client) == {name: [f"{name}.png"]}
    assert fetched(client) == {}


def test_what_two_fetch_at_once_is_noted_of_both(client: Client, images: Path) -> None:
    """The other one looks later, and notes first."""
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    with opened(client._parts.connection.indexes) as other, client.standing.new_matches() as first:  # type: ignore[arg-type]
        draw(images / "newer.png", red=31)
        client.index(images)
        assert fetched(other) == {"red": ["new.png", "newer.png"]}
    assert [match.hit.image.key for one in first.matches for match in one.matches] == ["new.png"]
    assert fetched(client) == {}


def test_what_another_one_notes_while_this_one_reads_is_not_written_over(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one is paused for so long that the other one takes its lease over."""
    red, blue = (client.standing.add(name, images / "0.png", RED) for name in ("red", "blue"))
    draw(images / "new.png")
    client.index(images)
    taken, read, pauses = client.standing.fetch().taken, StandingMemory.queries, [True]

    def paused(memory: StandingMemory) -> list[StandingQuery]:
        if pauses:
            pauses.clear()
            release = hold(client, FETCHED)
            memory.keep_looked(FETCHED, {blue.id: Looked(*taken[blue.id])})
            at_a_look(monkeypatch, f"{FETCHED}-lease", at=3, then=release)
        return read(memory)

    monkeypatch.setattr(StandingMemory, "queries", paused)
    client.standing.take({red.id: taken[red.id]})
    noted = client.standing.memory.looked(FETCHED)
    assert all(one.seen.items() <= noted[name].seen.items() for name, one in taken.items())


@pytest.mark.parametrize("name", ["red", "blue"])
def test_a_write_that_comes_late_undoes_nothing(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Both saw the lease free at the same moment, and the other one added and was done while this one's write hung."""
    remember, late = MemoryIndexStore.remember, [True]

    def remembered(self: MemoryIndexStore, note: str, data: bytes) -> None:
        if b'"name": "red"' in data and late.pop():
            with monkeypatch.context() as patched, opened(self) as other:
                patched.setattr(Lease, "check_free", lambda *_, **__: None)
                late.append(False)
                other.standing.add(name, images / "0.png", (50, 20))
        remember(self, note, data)

    monkeypatch.setattr(MemoryIndexStore, "remember", remembered)
    if name == "red":
        with pytest.raises(UsageError, match="there is a standing query 'red'"):
            client.standing.add("red", images / "0.png", RED)
    else:
        client.standing.add("red", images / "0.png", RED)
    queries = [one.query for one in client.standing.list()]
    assert sorted(one.name for one in queries) == sorted({name, "red"})
    assert len(notes_of_queries(client)) == 2 * len(queries), "nothing is left of what was refused"


def test_a_removal_that_comes_late_undoes_nothing(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.standing.add("red", images / "0.png", RED)
    remember, late = MemoryIndexStore.remember, [True]

    def remembered(self: MemoryIndexStore, note: str, data: bytes) -> None:
        if not data and "lease" not in note and late:
            late.clear()
            with monkeypatch.context() as patched, opened(self) as other:
                patched.setattr(Lease, "check_free", lambda *_, **__: None)
                other.standing.add("blue", images / "0.png", (50, 20))
        remember(self, note, data)

    monkeypatch.setattr(MemoryIndexStore, "remember", remembered)
    client.standing.remove("red")
    assert [one.query.name for one in client.standing.list()] == ["blue"]


def test_nothing_is_left_of_what_is_removed_while_its_features_are_made(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look by other models reads its picture, encodes it, and keeps it with what they made of it."""
    client.standing.add("red", images / "0.png", RED)
    [query], memory = client.standing.queries(), StandingMemory(client._parts.connection.indexes)
    memory.keep(query, replace(memory.kept(query), features={}))
    draw(images / "new.png")
    client.index(images)
    remember = MemoryIndexStore.remember

    def remembered(self: MemoryIndexStore, note: str, data: bytes) -> None:
        if data and note == f"standing-{query.id}":
            client.standing.remove("red")
        remember(self, note, data)

    monkeypatch.setattr(MemoryIndexStore, "remember", remembered)
    with opened(client._parts.connection.indexes) as later:  # type: ignore[arg-type]
        later.standing.fetch()
    assert notes_of_queries(client) == []
