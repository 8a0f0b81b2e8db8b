"""A machine with hand-written models; a server that listens, and the light client that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.http_servers import WebServer
from fakes.machine import Machine, machine_with_images
from fakes.serving import Served, listening
from fakes.standing import Hook, add_noise, hooked, opened

from searchanything.client import standing_delivery
from searchanything.client.client import Client
from searchanything.client.remote import RemoteClient
from searchanything.stores.memory import MemoryIndexStore


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    machine.install(monkeypatch)
    return machine


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("remote"), monkeypatch, words=True)
        with listening(served) as url:
            yield served, url


@pytest.fixture
def remote(served: tuple[Served, str]) -> Iterator[RemoteClient]:
    with RemoteClient(served[1]) as client:
        yield client


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of three images, on a machine with hand-written models."""
    machine_with_images(monkeypatch, tmp_path)
    return tmp_path / "images"


@pytest.fixture
def client(images: Path) -> Iterator[Client]:
    """A client whose index has enough regions for standing queries."""
    with opened(MemoryIndexStore()) as made:
        made.index(images)
        add_noise(made)
        yield made


@pytest.fixture
def hook() -> Iterator[tuple[Hook, WebServer, str]]:
    """A webhook, and its address."""
    with hooked("hits") as one:
        yield one


@pytest.fixture
def advancing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is noted, however little there was to see."""
    monkeypatch.setattr(standing_delivery, "ADVANCE_S", 0.0)
