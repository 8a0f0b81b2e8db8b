"""How often a Milvus server is asked, and at which level: a strong read of one takes a fifth of a second and more."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from contracts.index_rows import HASH_LAYER, manifest_of
from fakes.recording_server import RecordingServer
from pymilvus import MilvusException

from searchanything.core.errors import IndexDamagedError, IndexMismatchError, IndexNotFoundError
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef
from searchanything.stores.code_memory import CodeMemory
from searchanything.stores.generation_memory import GenerationMemory
from searchanything.stores.milvus import MilvusIndexStore
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_consistency import BOUNDED_AFTER_S, ReadLevels, levels_of
from searchanything.stores.milvus_index import MilvusRegionIndex

F, G = "f" * 64, "0" * 64


@pytest.fixture
def server() -> RecordingServer:
    return RecordingServer()


@pytest.fixture
def store(server: RecordingServer) -> MilvusIndexStore:
    store = MilvusIndexStore(server, "")  # type: ignore[arg-type]
    for fingerprint in (F, G):
        store.create(manifest_of(fingerprint), HASH_LAYER)
    store.switch(F)
    return store


def test_a_warm_question_after_the_live_index_is_one_look_at_the_alias(
    server: RecordingServer, store: MilvusIndexStore
) -> None:
    assert store.live() == manifest_of(F)
    server.requests.clear()
    for _ in range(3):
        assert store.live() == manifest_of(F)
        store.open(F)
    assert server.requests == [("alias",)] * 3


def test_a_question_soon_after_another_asks_for_nothing(server: RecordingServer, store: MilvusIndexStore) -> None:
    assert store.live(within_s=60) == manifest_of(F)
    server.requests.clear()
    assert store.live(within_s=60) == manifest_of(F)
    assert server.requests == []
    store.switch(G)
    assert store.live(within_s=60) == manifest_of(G), "this process's own switch is seen at once"
    assert store.live(within_s=0) == manifest_of(G)
    assert server.requests[-1] == ("alias",)


def test_a_code_is_read_once(server: RecordingServer) -> None:
    row = {"id": "a", "code": [b"1", b"2"]}
    server.collections = {"regions": [row], "images": []}
    index = MilvusRegionIndex(server, manifest_of(F), ("regions", "images"), kind="BIN_FLAT")  # type: ignore[arg-type]
    for _ in range(3):
        assert index.codes_of(["a"]) == {"a": b"12"}
    assert server.requests == [("read", "regions")]
    server.collections["regions"].clear()
    index.delete_before({ImageRef("b", "1"): 1})
    assert index.codes_of(["a"]) == {}, "after a deletion it is read again"


def test_the_codes_asked_for_longest_ago_make_room() -> None:
    memory = CodeMemory(most=2)
    memory.keep("regions", {"a": b"1", "b": b"2"})
    assert memory.find("regions", ["a"]) == {"a": b"1"}
    memory.keep("regions", {"c": b"3"})
    assert memory.find("regions", ["a", "b", "c"]) == {"a": b"1", "c": b"3"}
    assert memory.find("images", ["a"]) == {}


def test_what_is_committed_is_asked_once_while_nobody_writes(server: RecordingServer) -> None:
    one, two, none = (ImageRef("b", name) for name in ("1", "2", "none"))
    rows = [{"image_id": image.image_id, "generation": age} for image, age in ((one, 3), (one, 4), (two, 7))]
    server.collections, server.state = {"regions": [], "images": rows}, 1
    index = MilvusRegionIndex(server, manifest_of(F), ("regions", "images"), kind="BIN_FLAT")  # type: ignore[arg-type]
    for _ in range(2):
        assert index.generations([one, none]) == {one: 4}
    assert index.generations([one, two, none]) == {one: 4, two: 7}
    assert server.requests == [("read", "images")] * 2, "the second time for what is new"
    rows.append({"image_id": none.image_id, "generation": 8})
    server.state = 2
    assert index.generations([one, two, none]) == {one: 4, two: 7, none: 8}
    server.state = None
    for _ in range(2):
        assert index.generations([one]) == {one: 4}
    assert server.requests == [("read", "images")] * 5, "where nobody knows of writes it is asked each time"


def test_a_state_is_looked_at_before_rows_are(server: RecordingServer) -> None:
    image = ImageRef("b", "1")
    rows = [{"image_id": image.image_id, "generation": 1}]
    server.collections, server.state = {"regions": [], "images": rows}, 1
    index = MilvusRegionIndex(server, manifest_of(F), ("regions", "images"), kind="BIN_FLAT")  # type: ignore[arg-type]
    query = server.query

    def write_meanwhile(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        answer = query(*arguments, **options)
        rows[0] = rows[0] | {"generation": 2}
        server.state = 2
        return answer

    server.query = write_meanwhile  # type: ignore[method-assign]
    assert index.generations([image]) == {image: 1}
    assert index.generations([image]) == {image: 2}


def test_generations_of_another_state_make_room_and_so_do_too_many() -> None:
    memory = GenerationMemory(most=3)
    memory.keep(1, {"a": 1, "b": 0})
    assert memory.find(1, ["a", "b", "c"]) == {"a": 1, "b": 0}
    assert memory.find(2, ["a"]) == {}
    memory.keep(1, {"c": 3, "d": 4})
    assert memory.find(1, ["a", "c", "d"]) == {"c": 3, "d": 4}
    memory.keep(2, {"a": 5})
    assert memory.find(1, ["c"]) == {}
    assert memory.find(2, ["a", "c"]) == {"a": 5}
    memory.keep(None, {"a": 6})
    assert memory.find(None, ["a"]) == {}


def test_another_live_index_is_noticed_at_once(server: RecordingServer, store: MilvusIndexStore) -> None:
    other = MilvusIndexStore(server, "")  # type: ignore[arg-type]
    assert store.live() == manifest_of(F)
    other.switch(G)
    assert store.live() == manifest_of(G)
    other.create(manifest_of("9" * 64), HASH_LAYER)  # made since this store looked
    other.switch("9" * 64)
    assert store.live() == manifest_of("9" * 64)


def test_what_is_not_live_any_more_leaves_the_memory_after_a_while(
    server: RecordingServer, store: MilvusIndexStore
) -> None:
    store.switch(G)
    assert store.release_replaced(1000.0) == []
    assert server.released == set()
    assert store.release_replaced(0.0) == [F]
    assert server.released == {f"regions_{F[:16]}", f"images_{F[:16]}"}
    assert store.release_replaced(0.0) == [], "it is out of memory already"
    store.open(F)
    assert server.released == set()


def test_an_index_that_another_process_dropped_is_not_found(server: RecordingServer, store: MilvusIndexStore) -> None:
    store.open(G)
    MilvusIndexStore(server, "").drop(G)  # type: ignore[arg-type]
    with pytest.raises(IndexNotFoundError, match="gone"):
        store.open(G)


def test_an_alias_to_what_has_no_manifest_is_told(server: RecordingServer, store: MilvusIndexStore) -> None:
    server.alias = "regions_somebody_elses"
    with pytest.raises(IndexMismatchError, match="no manifest"):
        store.live()


def test_a_hash_layer_is_read_without_a_strong_read_where_the_manifest_is_known(
    server: RecordingServer, store: MilvusIndexStore
) -> None:
    store.live()
    server.requests.clear()
    assert store.hash_layer(F) == HASH_LAYER
    assert server.requests == [("read", "meta")]


def test_pieces_that_such_a_read_lacks_are_read_strongly(
    server: RecordingServer, store: MilvusIndexStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(name: str, expression: str, fields: list[str], *, strong: bool = False) -> list[dict[str, Any]]:
        return RecordingServer.query(server, name, expression, fields, strong=strong) if strong else []

    store.live()
    monkeypatch.setattr(server, "query", late)
    assert store.hash_layer(F) == HASH_LAYER
    for row in server.collections["meta"]:
        if row["kind"] == "hash":
            row["body"] = "AAAA"
    with pytest.raises(IndexDamagedError, match="backup"):
        store.hash_layer(F)


def test_where_there_is_nothing_old_a_commit_deletes_nothing(server: RecordingServer) -> None:
    server.collections = {"regions": [], "images": []}
    index = MilvusRegionIndex(server, manifest_of(F), ("regions", "images"), kind="BIN_FLAT")  # type: ignore[arg-type]
    index.delete_before({ImageRef("b", str(number)): 5 for number in range(100)})
    assert server.requests == [("read", "images"), ("read", "regions")]


def test_only_older_rows_are_deleted_by_their_ids_images_first(server: RecordingServer) -> None:
    one, two = ImageRef("b", "1"), ImageRef("b", "2")
    rows = [
        {"id": f"{name}{generation}", "image_id": image.image_id, "generation": generation}
        for name, image in (("a", one), ("b", two))
        for generation in (3, 4, 5)
    ]
    server.collections = {"regions": rows, "images": rows[:1]}
    index = MilvusRegionIndex(server, manifest_of(F), ("regions", "images"), kind="BIN_FLAT")  # type: ignore[arg-type]
    index.delete_before({one: 4, two: 5})
    deletions = [request[1:] for request in server.requests if request[0] == "delete"]
    assert deletions == [("images", 'id in ["a3"]'), ("regions", 'id in ["a3", "b3", "b4"]')]


def test_older_rows_are_all_looked_for_before_any_is_deleted(server: RecordingServer) -> None:
    """The look after a deletion is strong, and waits some tenths of a second."""
    images = [ImageRef("b", str(number)) for number in range(300)]
    rows = [{"id": image.key, "image_id": image.image_id, "generation": 3} for image in images]
    server.collections = {"regions": rows, "images": rows}
    index = MilvusRegionIndex(server, manifest_of(F), ("regions", "images"), kind="BIN_FLAT")  # type: ignore[arg-type]
    index.delete_before({image: 4 + number % 2 for number, image in enumerate(images)})
    asked = [request[:2] for request in server.requests]
    assert asked == [(what, name) for name in ("images", "regions") for what in ("read", "read", "read", "delete")]


def test_the_first_read_after_deletions_is_strong() -> None:
    levels = ReadLevels()
    for _ in range(3):
        levels.deleted("regions")
    levels.inserted("regions")
    for expected in ("Strong", "Session"):
        with levels.reading("regions", "Session") as level:
            assert level == expected
    with levels.reading("images", "Bounded") as level:
        assert level == "Bounded"


def test_who_inserted_nothing_lately_waits_for_what_others_wrote() -> None:
    """A restarted server answers Session reads of such a process as if nothing were there."""
    now = [100.0]
    levels = ReadLevels(clock=lambda: now[0])
    told = []
    for moment in (0.0, 0.0, BOUNDED_AFTER_S - 1, BOUNDED_AFTER_S + 1):
        now[0] = 100.0 + moment
        with levels.reading("regions", "Session") as level:
            told.append(level)
        if len(told) == 1:
            levels.inserted("regions")
    assert told == ["Bounded", "Session", "Session", "Bounded"]
    for usual in ("Strong", "Eventually"):
        with levels.reading("images", usual) as level:
            assert level == usual


def test_a_connection_reads_strongly_after_its_own_deletion_once(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[str] = []

    class Client:
        def delete(self, name: str, **_: Any) -> None: ...

        def rows(self, *_: str, level: str, **__: float) -> list[dict[str, Any]]:
            levels.append(level)
            return []

    connection = MilvusConnection(MilvusSettings(uri="http://127.0.0.1:1"))
    monkeypatch.setattr(connection, "_connect", lambda _: Client())
    connection.query("regions", "", ["id"])
    for identity in "ab":
        connection.delete("regions", f'id in ["{identity}"]')
    for _ in range(2):
        connection.query("regions", "", ["id"])
    assert levels == ["Bounded", "Strong", "Bounded"]


def test_a_read_as_of_a_time_is_strong_after_a_deletion_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int | None]] = []

    class Client:
        def now(self, timeout_s: float) -> int:  # noqa: ARG002
            return 7

        def delete(self, name: str, **_: Any) -> None: ...

        def rows(self, *_: str, level: str, as_of: int | None, **__: float) -> list[dict[str, Any]]:
            asked.append((level, as_of))
            return []

    connection = MilvusConnection(MilvusSettings(uri="http://127.0.0.1:1"))
    monkeypatch.setattr(connection, "_connect", lambda _: Client())
    as_of = connection.now()
    connection.delete("regions", 'id in ["a"]')
    for _ in range(2):
        connection.query("regions", "", ["id"], as_of=as_of)
    assert asked == [("Strong", None), ("Bounded", 7)]


def test_connections_to_one_server_show_each_others_writes() -> None:
    """As pymilvus' Session does, which keeps the times of insertions for the process."""
    uri = f"http://{uuid4().hex}:1"
    levels_of(uri, "default").inserted("regions")
    for place, expected in {
        (uri, "default"): "Session",
        (uri, "other"): "Bounded",
        (f"{uri}9", "default"): "Bounded",
    }.items():
        with levels_of(*place).reading("regions", "Session") as level:
            assert level == expected


@pytest.mark.parametrize(
    ("described", "aliases", "target"),
    [
        ({"live": "regions_a"}, {"live": "regions_b"}, "regions_a"),  # 2.3 names that of another database
        ({}, {"live": "regions_b"}, None),
        ({"live": "live"}, {}, None),  # a collection of that name
        ({"live": "live"}, {"live": "regions_a"}, "regions_a"),  # a server that describes it by the name it was given
    ],
)
def test_an_alias_is_that_of_the_database(
    monkeypatch: pytest.MonkeyPatch, described: dict[str, str], aliases: dict[str, str], target: str | None
) -> None:
    class Client:
        def describe_collection(self, name: str, timeout: float) -> dict[str, str]:  # noqa: ARG002
            return self._found(name, described, 100)

        def describe_alias(self, name: str, timeout: float) -> dict[str, str]:  # noqa: ARG002
            return self._found(name, aliases, 1600)

        @staticmethod
        def _found(name: str, names: dict[str, str], code: int) -> dict[str, str]:
            if name not in names:
                raise MilvusException(code=code, message="not found")
            return {"collection_name": names[name]}

    connection = MilvusConnection(MilvusSettings(uri="http://127.0.0.1:1"))
    monkeypatch.setattr(connection, "_connect", lambda _: Client())
    pointer = connection.alias_target("live")
    assert (None if pointer is None else pointer.name) == target


def test_a_read_that_failed_or_began_before_a_deletion_does_not_count() -> None:
    levels = ReadLevels()
    levels.deleted("regions")
    with pytest.raises(IndexNotFoundError), levels.reading("regions", "Session"):
        raise IndexNotFoundError
    with levels.reading("regions", "Session") as level:
        assert level == "Strong"
        levels.deleted("regions")
    with levels.reading("regions", "Session") as level:
        assert level == "Strong"
