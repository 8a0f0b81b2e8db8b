"""Images without regions: the report of `index` says what they are, and `failed list --empty` which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import ObjectNotFoundError


class Kept(Client):
    """The same client at each call."""

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line that succeeds on one index, and returns what it prints."""
    Machine().install(monkeypatch)
    client = connect("memory://", preset="pico")

    def typed(*arguments: str) -> str:
        assert run(list(arguments), connect=lambda _uri, _preset: Kept(client)) == 0
        return capsys.readouterr().out

    return typed


def test_images_without_regions(shell: Callable[..., str], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(drawn(64, 96, red=(4, 4, 40, 60))).save(images / "thing.png")
    assert "no region" not in shell("index", str(images))
    Image.fromarray(np.full((64, 96, 3), 90, dtype=np.uint8)).save(images / "wall.png")
    assert "in 1 image no region was found, so only a query for whole images finds it" in shell("index", str(images))
    assert "no region" not in shell("index", str(images)), "it is unchanged now"
    assert shell("failed", "list", "--empty") == f"{images}/wall.png\n"
    assert shell("failed", "list") == "no failures\n"
    listed = json.loads(shell("failed", "list", str(images), "--empty", "--format", "json"))
    assert listed == {"empty": [{"bucket": str(images), "key": "wall.png"}]}
    assert json.loads(shell("failed", "list", str(tmp_path), "--empty", "--format", "json")) == {"empty": []}
    assert shell("failed", "list", str(images)) == "no failures\n"
    (images / "wall.png").unlink()
    shell("sync", "repair", str(images))
    assert shell("failed", "list", "--empty") == "no empty images\n"


def test_failures_of_a_mistyped_folder_are_refused_and_those_of_one_that_is_gone_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Machine().install(monkeypatch)
    images, mistyped = tmp_path / "images", tmp_path / "mistyped"
    images.mkdir()
    Image.fromarray(drawn(64, 96, red=(4, 4, 40, 60))).save(images / "thing.png")
    with connect("memory://", preset="pico") as client:
        client.index(images)
        for ask in (client.failures, client.empty_images, client.drop_failed):
            with pytest.raises(ObjectNotFoundError, match="mistyped: no such folder"):
                ask(mistyped)
        images.rename(tmp_path / "elsewhere")
        assert (client.failures(images), client.empty_images(images), client.drop_failed(images)) == ([], [], 0)
