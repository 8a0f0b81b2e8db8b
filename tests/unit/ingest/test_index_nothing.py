"""A prefix or folder that holds nothing is said so, ends with 3, and makes no index."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from searchanything.cli.app import run
from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.client.client import Client
from searchanything.core.settings import Settings


def made(uri: str) -> Client:
    settings = Settings()
    settings.milvus.uri, settings.models.preset = uri, "pico"
    return Client(settings)


@pytest.mark.parametrize("output", ["text", "json"])
def test_nothing_there_is_no_success_and_makes_no_index(output: str, tmp_path: Path, capsys) -> None:
    with made("memory://nothing-there") as one:
        code = run(["index", str(tmp_path), "--format", output], connect=lambda *_: one)
        assert code == SOME_IMAGES_FAILED
        assert f"nothing under {tmp_path}: 0 objects" in capsys.readouterr().err
        assert not one.status().exists


def test_what_is_no_image_is_something(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with made("memory://no-image") as one:
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == 0
        assert "1 skipped" in capsys.readouterr().out


def test_the_total_is_told_with_the_first_images(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    told = []
    with made("memory://totals") as one:
        one.index(tmp_path, progress=told.append)
    assert (told[-1].done, told[-1].total, told[-1].total_is_final) == (3, 3, True)
    assert [(one.done, bool(one.stage)) for one in told[:2]] == [(0, True), (0, False)]  # loading, then before a batch


def test_what_a_listing_left_out_is_told_although_it_gave_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "._a.jpg").write_bytes(b"x")
    (tmp_path / "away.jpg").symlink_to(tmp_path.parent / "elsewhere.jpg")
    with made("memory://left-out") as one:
        assert run(["index", str(tmp_path)], connect=lambda *_: one) == 0
        printed = capsys.readouterr()
    assert "2 skipped" in printed.out
    assert "away.jpg" in printed.out
    assert "nothing under" not in printed.err


def test_failures_tried_again_know_their_total(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    Image.new("RGB", (64, 48)).save(tmp_path / "good.png")
    told = []
    with made("memory://retries") as one:
        one.index(tmp_path)
        one.retry_failed(tmp_path, progress=told.append)
    assert (told[-1].done, told[-1].total, told[-1].failed) == (3, 3, 3)
