"""The warm process's index: kept open for a server and the same settings, each question as if it were the first."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from searchanything import wiring
from searchanything.cli.kept_index import KeptIndex
from searchanything.client.client import Client
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.settings import MilvusSettings

SERVER = "http://milvus:19530"


class Opened:
    """What is opened in place of an index store: with which settings, and whether it is closed."""

    def __init__(self, settings: MilvusSettings) -> None:
        self.uri, self.closed = settings.uri, False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    every: list[Opened] = []

    def open_index_store(settings: MilvusSettings) -> Opened:
        every.append(Opened(settings))
        return every[-1]

    monkeypatch.setattr(wiring, "open_index_store", open_index_store)
    return every


def ask(kept: KeptIndex, uri: str | None, preset: str | None = None) -> Client:
    with kept(uri, preset) as client:
        assert not cast("Opened", client._indexes).closed
        return client


def test_a_servers_index_is_kept_until_the_process_ends_and_what_was_asked_is_not(opened: list[Opened]) -> None:
    kept = KeptIndex()
    first, second = ask(kept, SERVER), ask(kept, SERVER)
    assert first._models is second._models
    assert first._parts.asking.judging is not second._parts.asking.judging, "a sample of the index as it is"
    assert first._parts.asking._stores is not second._parts.asking._stores, "credentials as they are"
    assert [one.uri for one in opened] == [SERVER]
    kept.close()
    assert [one.closed for one in opened] == [True]


def test_other_settings_get_another_index(
    opened: list[Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptIndex()
    ask(kept, SERVER)
    ask(kept, SERVER, "pico")
    ask(kept, "https://milvus:19530", "pico")
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__TOKEN", "reader:secret")
    ask(kept, "https://milvus:19530", "pico")
    monkeypatch.chdir(tmp_path)  # relative paths of the settings are others there
    ask(kept, "https://milvus:19530", "pico")
    assert [one.closed for one in opened] == [True, True, True, True, False]


@pytest.mark.parametrize("setting", ["CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE"])
def test_other_certificates_get_another_index(
    opened: list[Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    kept, file = KeptIndex(), tmp_path / "of-the-server.pem"
    monkeypatch.setenv(f"SEARCHANYTHING_MILVUS__{setting}", str(file))
    file.write_text("first")
    for _ in range(2):
        ask(kept, SERVER)
    file.with_suffix(".new").write_text("other")
    file.with_suffix(".new").replace(file)
    for _ in range(2):
        ask(kept, SERVER)
    file.unlink()
    ask(kept, SERVER)
    assert [one.closed for one in opened] == [True, True, False]


@pytest.mark.parametrize("uri", ["index.db", "memory://kept"])
def test_an_embedded_index_is_opened_anew(opened: list[Opened], uri: str) -> None:
    kept = KeptIndex()
    for one in (SERVER, uri, uri, SERVER):
        ask(kept, one)
    assert [(one.uri, one.closed) for one in opened] == [(SERVER, False), (uri, True), (uri, True)]


def test_after_an_error_a_question_gets_another_index(opened: list[Opened]) -> None:
    kept = KeptIndex()
    with pytest.raises(IndexUnavailableError), kept(SERVER, None):
        raise IndexUnavailableError("away")
    assert opened[0].closed
    ask(kept, SERVER)
    assert [one.closed for one in opened] == [True, False]
