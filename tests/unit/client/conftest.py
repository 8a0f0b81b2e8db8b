"""A machine with hand-written models; a server that listens, and the light client that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.machine import Machine
from fakes.serving import Served, listening

from searchanything.client.remote import RemoteClient


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
