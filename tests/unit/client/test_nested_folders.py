"""A folder that is indexed by itself and within another one: its images are there twice, and the run says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.client.client import Client

OUTER, INNER, OTHER = "photos", "photos/2024", "photos-old"


@pytest.fixture
def client(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Client:  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    for number, folder in enumerate((OUTER, INNER, OTHER)):
        Path(folder).mkdir()
        Image.fromarray(drawn(48, 64, red=(4, 4, 30, 40 - number))).save(Path(folder, "a.png"))
    return searchanything.connect("memory://", preset="small")


@pytest.mark.parametrize(("first", "then"), [(OUTER, INNER), (INNER, OUTER)])
def test_the_second_run_names_the_other_source(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture, first: str, then: str
) -> None:
    client.index(OTHER, hash_file="untrained")
    client.index(first)
    assert "twice" not in caplog.text
    client.index(then)
    [said] = [record.getMessage() for record in caplog.records if "twice" in record.getMessage()]
    assert said.startswith(f"images of {tmp_path / then} are in the index as those of {tmp_path / first}, too")
    assert said.endswith(f"searchanything delete {tmp_path / INNER}")
    caplog.clear()
    assert client.index(then).indexed == 0
    assert "twice" not in caplog.text, "nothing is new"
    assert client.delete(INNER) == 1
    client.index(OUTER, force=True)
    assert "twice" not in caplog.text, "one of them is left"
