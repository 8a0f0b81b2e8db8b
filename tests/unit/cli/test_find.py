"""`find`: a folder that was never indexed is offered to be; then a query that looks there alone."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.indexing import png
from fakes.machine import Machine
from fakes.models import drawn

from searchanything.cli import find as find_module
from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    (folder / "sea").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(drawn(64, 96, green=(10, 10, 60, 50))))
    (folder / "sea" / "b.png").write_bytes(png(drawn(64, 96, red=(10, 10, 60, 50))))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return folder


Find = Callable[..., dict]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of an empty index in memory, with models that find what is drawn."""
    Machine().install(monkeypatch)
    return connect("memory://", preset="pico")


@pytest.fixture
def find(client: Client, capsys: pytest.CaptureFixture[str]) -> Find:
    def call(*arguments: str, code: int = 0) -> dict[str, object]:
        assert run(["find", *arguments, "--format", "json"], connect=lambda _uri, _preset: client) == code
        return json.loads(capsys.readouterr().out or "{}")

    return call


def test_elsewhere_than_on_a_terminal_it_says_what_to_add(here: Path, find: Find) -> None:
    error = find("a.png", "--point", "20,20", "--preset", "pico", code=2)["error"]
    assert error["message"].startswith(f"{here} is not indexed: add --yes")
    assert "searchanything index . --preset pico" in error["message"]


@pytest.mark.parametrize(("typed", "code"), [("n\n", 130), ("", 130), ("\n", 0), ("Yes\n", 0)])
def test_on_a_terminal_it_asks(here: Path, find: Find, typed: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(find_module, "_index", lambda *_args, **_more: asked.append("indexed") or (str(here), ""))
    monkeypatch.setattr(find_module, "_answer", lambda *_args, **_more: {"found": True})
    find("a.png", "--point", "20,20", code=code)
    assert asked == ([] if code else ["indexed"])


@pytest.mark.usefixtures("here")
def test_it_indexes_once_and_looks_in_its_folder_alone(find: Find, tmp_path: Path) -> None:
    first = find("a.png", "--yes", "--preset", "pico", "--limit", "9")
    assert {hit["key"] for hit in first["hits"]} == {"a.png", "sea/b.png"}
    below = find("a.png", "--in", "sea", "--limit", "9")  # a part of what is indexed, so nobody is asked
    assert {hit["key"] for hit in below["hits"]} == {"sea/b.png"}
    other = tmp_path / "empty"
    other.mkdir()
    assert "no image" in find("a.png", "--in", str(other), "--yes", code=2)["error"]["message"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("arguments", [["a.png", "--bucket", "b"], ["--point", "1,2"], ["nowhere.png"]])
def test_wrong_usage_is_refused_before_anything_is_indexed(find: Find, arguments: list[str], tmp_path: Path) -> None:
    find(*arguments, "--yes", code=2)
    assert not (tmp_path / "i.db").exists()


@pytest.mark.usefixtures("here")
def test_the_bundled_models_are_the_choice_where_no_other_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SEARCHANYTHING_MODELS__PRESET", raising=False)
    monkeypatch.setenv("SEARCHANYTHING_MODELS__WEIGHTS_DIR", str(tmp_path))
    assert find_module._preset_of_new() == "pico"
    monkeypatch.setenv("SEARCHANYTHING_MODELS__PRESET", "small")
    assert find_module._preset_of_new() is None
