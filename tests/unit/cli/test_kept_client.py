"""The warm process's client: kept for a server and the same settings, closed after errors, never an embedded index."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchanything.cli.kept_client import KeptClient
from searchanything.client import opening
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.settings import Settings

SERVER = "http://milvus:19530"


class Opened:
    """What is opened in place of a client: which settings it got, and whether it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.closed = settings, False

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    every: list[Opened] = []

    def connect(*, settings: Settings) -> Opened:
        every.append(Opened(settings))
        return every[-1]

    monkeypatch.setattr(opening, "connect", connect)
    return every


def ask(kept: KeptClient, uri: str | None, preset: str | None = None) -> object:
    with kept(uri, preset) as client:
        assert not client.closed  # type: ignore[attr-defined]
        return client


def test_a_servers_client_is_kept_until_the_process_ends(opened: list[Opened]) -> None:
    kept = KeptClient()
    assert ask(kept, SERVER) is ask(kept, SERVER) is opened[0]
    assert opened[0].settings.milvus.uri == SERVER
    kept.close()
    assert [one.closed for one in opened] == [True]


def test_other_settings_get_another_client(
    opened: list[Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptClient()
    ask(kept, SERVER)
    ask(kept, SERVER, "pico")
    ask(kept, "https://milvus:19530", "pico")
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__TOKEN", "reader:secret")
    ask(kept, "https://milvus:19530", "pico")
    monkeypatch.chdir(tmp_path)  # relative paths of the settings are others there
    ask(kept, "https://milvus:19530", "pico")
    assert [one.closed for one in opened] == [True, True, True, True, False]


@pytest.mark.parametrize("uri", ["index.db", "memory://kept"])
def test_an_embedded_index_is_opened_anew(opened: list[Opened], uri: str) -> None:
    kept = KeptClient()
    ask(kept, SERVER)
    assert ask(kept, uri) is not ask(kept, uri)
    assert [one.closed for one in opened] == [False, True, True]
    assert ask(kept, SERVER) is opened[0]


def test_after_an_error_a_question_gets_a_new_client(opened: list[Opened]) -> None:
    kept = KeptClient()
    with pytest.raises(IndexUnavailableError), kept(SERVER, None):
        raise IndexUnavailableError("away")
    assert opened[0].closed
    assert ask(kept, SERVER) is opened[1]
