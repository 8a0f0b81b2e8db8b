"""A real Milvus server is killed in the midst of long work and comes back: the work goes on, each row is there once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from fakes.indexing import check_indexed
from fakes.machine import Machine
from fakes.models import CHANNELS, FakeEmbedder, drawn
from fakes.serving import png_of
from integration.milvus_server import MilvusServer

from searchanything.backup import backup
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core import patience
from searchanything.core.settings import MilvusSettings, load_settings
from searchanything.models.hashing import HashLayer
from searchanything.stores.milvus_client import RowClient
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_schema import images_spec

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

IMAGES: Final = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    server = MilvusServer(tmp_path_factory.mktemp("outages"), channels=32)
    server.start()
    yield server
    server.stop()


class Killing:
    """Kills the server at one insertion into the collections of a kind, and has it started again."""

    def __init__(self, server: MilvusServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server, self._add = server, RowClient.add
        self._kind, self._after, self._starting = "", False, list[threading.Thread]()
        monkeypatch.setattr(RowClient, "add", lambda *asked: self._adding(*asked))

    def at_next(self, kind: str, *, after: bool = False) -> None:
        """At the next insertion: before it, or `after` it, so that its answer is lost."""
        self._kind, self._after = kind, after

    def wait(self) -> None:
        """Until the server is up again. It must have been killed."""
        assert self._starting, "it was to be killed"
        for thread in self._starting:
            thread.join()
        self._starting.clear()

    def _adding(self, client: RowClient, collection: str, entities: list[dict[str, Any]], timeout_s: float) -> int:
        kill = bool(self._kind) and self._kind in collection
        after, self._kind = self._after, "" if kill else self._kind
        if not kill:
            return self._add(client, collection, entities, timeout_s)
        if after:
            self._add(client, collection, entities, timeout_s)
        self._server.kill()
        thread = threading.Thread(target=self._server.start, kwargs={"same_address": True})  # which takes seconds
        thread.start()
        self._starting.append(thread)
        if after:
            raise ConnectionResetError("the server was killed before it answered")
        return self._add(client, collection, entities, timeout_s)


@pytest.fixture
def killing(server: MilvusServer, monkeypatch: pytest.MonkeyPatch) -> Killing:
    Machine().install(monkeypatch)
    monkeypatch.setenv("SEARCHANYTHING_INGEST__BATCH_IMAGES", "10")
    monkeypatch.setattr(patience, "PAUSES_S", (0.5,) * 600)  # so that a server is asked while it starts, too
    return Killing(server, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(IMAGES):
        image = drawn(48, 64, red=(4, 4, 20 + number % 20, 30 + number // 20), blue=(42, 8, 60, 40))
        (folder / f"{number:03}.png").write_bytes(png_of(image))
    return folder


@pytest.fixture
def opened(server: MilvusServer, killing: Killing, tmp_path: Path) -> Iterator[Callable[[str], Client]]:  # noqa: ARG001
    """Clients of indexes of their own, by their names."""
    with ExitStack() as stack:

        def open_index(name: str) -> Client:
            settings = load_settings()
            settings.milvus.collection_prefix = f"{name}_"
            settings.ingest.keep_features, settings.ingest.features_dir = True, tmp_path / "features"
            return stack.enter_context(connect(server.uri, settings=settings, preset="pico"))

        yield open_index


def test_long_work_goes_on(
    opened: Callable[[str], Client],
    killing: Killing,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An index whose rows arrived unacknowledged, a change of its layer before a commit, and a restore of it."""
    client, copy, saved = opened("first"), opened("second"), tmp_path / "saved.tar"
    killing.at_next("first_regions", after=True)
    report = client.index(folder)
    killing.wait()
    assert (report.indexed, report.failed) == (IMAGES, 0)
    check_indexed(client, IMAGES)

    layer = tmp_path / "layer.safetensors"
    layer.write_bytes(HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=256, seed=6).to_bytes())
    killing.at_next("first_images")
    change = client.hash_layers.apply(layer)
    killing.wait()
    assert (change.carried, change.left) == (IMAGES, 0)
    check_indexed(client, IMAGES)

    client.backup(saved)
    monkeypatch.setattr(backup, "_ROWS_AT_ONCE", 16)
    killing.at_next("second_images", after=True)
    assert copy.restore(saved).images == IMAGES
    killing.wait()
    check_indexed(copy, IMAGES)

    away, back = f"the index at {client._indexes.uri} is away", f"the index at {client._indexes.uri} answers again"
    said = [one.getMessage() for one in caplog.records if one.name == patience.__name__]
    assert [(away in one, one == back) for one in said] == [(True, False), (False, True)] * 3, "once an outage"


def test_a_collection_that_was_made_anew_meanwhile_is_not_dropped(
    server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its predecessor was dropped before the server ended, which could not say so."""
    spec = images_spec("made_anew", 256)
    own, other = (MilvusConnection(MilvusSettings(uri=server.uri)) for _ in range(2))
    own.create_collection(spec)
    drop, made = RowClient.drop_collection, list[bool]()

    def unanswered(client: RowClient, name: str, timeout: float) -> None:
        drop(client, name, timeout=timeout)
        raise ConnectionResetError("the server was killed before it answered")

    def make_anew(_work: object, _pause_s: float) -> None:
        monkeypatch.setattr(RowClient, "drop_collection", drop)
        other.create_collection(spec)
        made.append(True)

    monkeypatch.setattr(RowClient, "drop_collection", unanswered)
    monkeypatch.setattr(patience.LongWork, "pause", make_anew)
    try:
        with patience.long_work():
            own.drop_collection(spec.name)
        assert made == [True]
        assert other.has_collection(spec.name)
        own.drop_collection(spec.name)
        assert not other.has_collection(spec.name)
    finally:
        own.close()
        other.close()
