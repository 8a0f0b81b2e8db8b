"""Verbs that read or write all rows say how far they are: on stderr alone, as `index` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.machine import machine_with_images

from searchanything.cli import progress as cli_progress
from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.ingest import progress as ingest_progress
from searchanything.ingest.reports import IndexProgress

PASSES = {
    "backup": ("backup", "{folder}/index.tar"),
    "delete": ("delete", "{folder}/images"),
    "duplicates": ("duplicates",),
    "export": ("export", "{folder}/regions.json"),
    "part of an export": ("export", "{folder}/part.json", "--bucket", "{folder}/images"),
    "failed drop": ("failed", "drop"),
    "prune": ("index", "{folder}/images", "--prune"),
    "sync repair": ("sync", "repair", "{folder}/images"),
}


class Kept(Client):
    """The same client at each call."""

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """An index of a folder of which an image is gone since."""
    machine_with_images(monkeypatch, tmp_path)
    made = connect("memory://", preset="pico")
    made.index(tmp_path / "images")
    next(one for one in sorted((tmp_path / "images").rglob("*")) if one.is_file()).unlink()
    return made


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[IndexProgress]:
    """What is fed to the line that would be written every ten seconds."""
    fed: list[IndexProgress] = []
    feed = ingest_progress.ProgressLine.__call__
    monkeypatch.setattr(ingest_progress.ProgressLine, "__call__", lambda line, now: fed.append(now) or feed(line, now))
    monkeypatch.setattr(cli_progress, "_has_bars", lambda: False)
    return fed


def typed(client: Client, arguments: tuple[str, ...], folder: Path) -> None:
    command = [one.format(folder=folder) for one in arguments]
    assert run([*command, "--format", "json"], connect=lambda _uri, _preset: Kept(client)) == 0


@pytest.mark.parametrize(
    ("verb", "stages"),
    [
        ("backup", {"backing up"}),
        ("delete", {"forgetting"}),
        ("duplicates", {"reading", "comparing"}),
        ("export", {"exporting"}),
        ("part of an export", {"exporting"}),
        ("failed drop", {"forgetting"}),
        ("prune", {"forgetting"}),
        ("sync repair", {"forgetting"}),
    ],
)
def test_a_pass_says_how_far_it_is(
    client: Client,
    steps: list[IndexProgress],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    stages: set[str],
) -> None:
    steps.clear()
    typed(client, PASSES[verb], tmp_path)
    seen = [one for one in steps if one.stage in stages]
    assert {one.stage for one in seen} == stages
    assert all(one.total is None or one.done <= one.total for one in seen)
    json.loads(capsys.readouterr().out)


def test_a_restore_counts_the_images_that_are_there(
    client: Client, steps: list[IndexProgress], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(client, PASSES["backup"], tmp_path)
    held = client.status().images + client.status().empty
    assert (steps[-1].done, steps[-1].total) == (held, held)
    other = connect("memory://", preset="pico")
    steps.clear()
    capsys.readouterr()
    typed(other, ("restore", "{folder}/index.tar"), tmp_path)
    assert [(one.stage, one.done, one.total) for one in steps] == [("restoring", held, None)]
    assert json.loads(capsys.readouterr().out)["images"] == held


def test_the_rows_of_a_part_are_not_counted_before(client: Client, tmp_path: Path) -> None:
    """To count them takes as long as to read them."""
    regions = client.status().regions
    whole = shown_by(lambda show: client.export(tmp_path / "all.json", progress=show))
    folder = str(tmp_path / "images")
    part = shown_by(lambda show: client.export(tmp_path / "part.json", bucket=folder, progress=show))
    assert [(one.done, one.total) for one in (whole[-1], part[-1])] == [(regions, regions), (regions, None)]


def shown_by(call: Callable[[Callable[[IndexProgress], None]], object]) -> list[IndexProgress]:
    shown: list[IndexProgress] = []
    call(shown.append)
    return shown


def test_nobody_has_to_look(client: Client, tmp_path: Path) -> None:
    assert client.export(tmp_path / "regions.json") > 0
    assert client.backup(tmp_path / "index.tar").images > 0
    client.duplicates()
    assert shown_by(lambda show: client.delete(tmp_path / "images", progress=show))[0].done == 0
    assert client.delete(tmp_path / "images") == 0
