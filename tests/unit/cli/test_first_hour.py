"""What a new user meets first: a folder for an image, a click beside everything, completion, the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.answers import results as results_module
from searchanything.cli import serve as serve_module
from searchanything.cli.app import run
from searchanything.cli.progress import indexing_progress
from searchanything.client.client import Client
from searchanything.core.errors import IndexUnavailableError, UsageError
from searchanything.core.rows import row_id
from searchanything.core.types import ImageRef
from searchanything.drawing.overlays import RegionMark
from searchanything.serve import run as serve_run

IMAGE = drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40))


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    Machine().install(monkeypatch)
    (tmp_path / "images").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "images" / "a.png")
    monkeypatch.chdir(tmp_path)
    client = searchanything.connect("memory://", preset="pico")
    client.index("images")
    return client


def call(client: Client, *arguments: str) -> int:
    return run(arguments, connect=lambda _uri, _preset: client)


def test_a_miss_offers_boxes_that_hit(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(client, "query", "images/a.png", "--point", "94,62") == 0
    said = capsys.readouterr().out
    offered = re.findall(r"^  (\d): --box (\S+)$", said, re.M)
    assert [number for number, _ in offered] == ["1", "2"]
    for _, box in offered:
        assert call(client, "query", "images/a.png", "--box", box, "--format", "json") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["selection"]["kind"] == "region"
        assert document["selection"]["box_xyxy"] == [float(side) for side in box.split(",")]
        assert document["hits"][0]["distance_bits"] == 0


def test_what_is_offered_is_numbered_in_the_picture(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_marks: list[object] = []
    real = results_module.draw_marks
    monkeypatch.setattr(
        results_module, "draw_marks", lambda image, marks, **how: drawn_marks.extend(marks) or real(image, marks, **how)
    )
    missed = client.query("images/a.png", (94, 62))
    assert missed.selection.kind == "none"
    missed.plot()
    regions = [mark for mark in drawn_marks if isinstance(mark, RegionMark)]
    assert [mark.label for mark in regions] == ["1", "2"]
    assert [mark.mask for mark in regions] == [one.mask for one in missed.selection.runners_up]


def test_a_hit_offers_nothing(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(client, "query", "images/a.png", "--point", "20,20") == 0
    assert "--box" not in capsys.readouterr().out


def test_a_folder_is_no_image(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["query", "images", "--point", "1,2"], ["segment", "images"]):
        assert call(client, *verb) == 2
        assert (
            "this is a folder; name one of its images, or index all of them: searchanything index images\n"
            in capsys.readouterr().err
        )
    with pytest.raises(UsageError, match="this is a folder"):
        client.query("images", (1, 2))
    with pytest.raises(UsageError, match="this is a folder"):
        client.segment(Path("images"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_verbs(shell: str, tmp_path: Path) -> None:
    words = {
        "COMP_WORDS": "searchanything qu",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "searchanything qu",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_SEARCHANYTHING_COMPLETE": f"complete_{shell}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "searchanything"],
        env=os.environ | words,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "query" in done.stdout
    assert "index" not in done.stdout


@pytest.mark.parametrize("there", [True, False])
def test_the_page_is_opened_or_named(
    there: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or there)
    serve_module._open("http://127.0.0.1:8600")
    assert opened == ["http://127.0.0.1:8600"]
    assert ("open http://127.0.0.1:8600 yourself" in capsys.readouterr().err) is not there


def test_the_address_comes_with_whether_anything_is_indexed(
    client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:8600"
    monkeypatch.setattr(serve_run, "serve", lambda _client, _settings, *, started: started(url) or True)
    assert call(client, "serve", "--uri", "some.db") == 0
    assert f"serving some.db at {url}\n" in capsys.readouterr().err
    assert run(["serve", "--uri", "none.db"]) == 0
    assert f"serving none.db (nothing is indexed there yet) at {url}\n" in capsys.readouterr().err
    assert not Path("none.db").exists()

    def unreachable(_: Client) -> None:
        raise IndexUnavailableError("the server restarts")

    monkeypatch.setattr(Client, "manifest", property(unreachable))
    assert call(client, "serve", "--uri", "some.db") == 0
    assert f"serving some.db at {url}\n" in capsys.readouterr().err, "what is not known is not said"


def test_deleting_what_is_not_there_says_so(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(client, "delete", "imgaes") == 0
    printed = capsys.readouterr()
    assert printed.out == "0 images forgotten\n"
    assert "no image under imgaes is in the index: check how it is spelled" in printed.err
    assert call(client, "delete", "images") == 0
    assert "no image under" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", [("index",), ("sync", "check"), ("index", "--estimate")])
def test_a_folder_that_is_not_there_may_be_a_bucket(
    client: Client, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    for source in ("holiday/2024", "holiday"):
        assert call(client, *verb, source) == 1
        assert (
            f"no such folder; check the path, or whether its disk is mounted\ncure:  if a bucket is meant: s3://{source}\n"
            in (capsys.readouterr().err)
        )
    for source in ("./holiday", "../holiday", "/holiday/2024"):
        assert call(client, *verb, source) == 1
        assert "s3://" not in capsys.readouterr().err, "a path that can be nothing else"


def test_deleting_an_object_without_s3_is_no_deletion_and_names_the_right_form(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 would let a job believe that the image is forgotten."""
    index = client._parts.syncing.connection.read_index()
    [row] = index.iterate_images()
    image = ImageRef("photos", "2024/a.jpg")
    index.insert_images([replace(row, image=image, id=row_id(image, row.generation))])
    for source in ("photos/2024/a.jpg", "photos/2024/"):
        assert call(client, "delete", source) == 2
        assert f"under s3://{source} there is: searchanything delete s3://{source}" in capsys.readouterr().err
    deleted_before = ("photos", "photos/", "./photos/2024", f"{Path.cwd()}/photos/2024")  # folders, by their names
    for source in ("photos/2025", "photo", *deleted_before):
        assert call(client, "delete", source) == 0
        printed = capsys.readouterr().err
        assert f"no image under {source} is in the index" in printed
        assert "s3://" not in printed, "advice that forgets a whole bucket"
    Path("photos", "2024").mkdir(parents=True)
    assert call(client, "delete", "photos/2024") == 0
    shutil.rmtree("photos")
    assert image in {one.image for one in index.iterate_images()}
    assert call(client, "delete", "s3://photos/2024/a.jpg") == 0
    assert call(client, "delete", "photos/2024/a.jpg") == 0, "it is forgotten"
    assert [one.image for one in index.iterate_images()] == [row.image]


def test_combining_nothing_names_the_options(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    for none in ([], ["--none", "images/a.png@20,20"]):
        assert call(client, "combine", *none) == 2
        assert "expected at least one --all or --any, each IMAGE@X,Y" in capsys.readouterr().err


def test_a_page_beyond_the_limit_is_said_in_numbers(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(client, "query", "images/a.png", "--point", "20,20", "--limit", "20000") == 2
    assert "limit and offset together may be 16,384 at most, got 20,000" in capsys.readouterr().err
    with pytest.raises(UsageError, match="limit: expected a whole number of 1 or more, got 0"):
        client.query("images/a.png", (20, 20), limit=0)


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """As in a terminal: a shell makes what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_ctrl_c_is_answered_before_the_work_under_way_ends(capfd: pytest.CaptureFixture[str]) -> None:
    before, said = signal.getsignal(signal.SIGINT), ""

    def work() -> None:
        nonlocal said
        with indexing_progress():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(30)
            finally:
                said = capfd.readouterr().err  # while a batch under way would still be waited for

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "stopping: waiting for the images under way" in said
    assert "stopped: what is indexed so far is intact" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
