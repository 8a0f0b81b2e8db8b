"""The examples as they stand, in one empty folder, with the bundled models: scripts, and the notebook's cells."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.storage import storage_variables

import searchanything
from searchanything.core.settings import load_settings
from searchanything.demo.local_s3 import LocalS3
from searchanything.serve.run import Server, make_desk
from searchanything.stores.s3 import S3Store

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "first_search.ipynb"
pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(name: str, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_a_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run("index_and_query.py")
    said = capsys.readouterr().out
    assert said.startswith("8 images, 0 failed\n")
    assert "by words:" in said
    assert (folder / "hits.png").stat().st_size > 10_000


def test_coco_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    run("coco_both_ways.py")
    said = capsys.readouterr().out
    assert "regions written to regions.json" in said
    asked, _, found = said.partition("nearest to ")[2].partition(" are ")
    assert ast.literal_eval(found)[0] == asked


def test_a_bucket(
    capsys: pytest.CaptureFixture[str],
    s3_server: LocalS3,
    s3_store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    for name, value in storage_variables(s3_server.settings()).items():
        monkeypatch.setenv(name, value)
    for image in sorted((folder / "images").iterdir())[:2]:
        s3_store.upload(f"holiday/{image.name}", image.read_bytes())
    run("bucket.py", f"s3://{s3_store.bucket}/holiday", "holiday/scene-0000.jpg")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 images of s3://")
    assert lines[1].endswith("/holiday/scene-0000.jpg")


@contextmanager
def served(uri: str) -> Iterator[str]:
    """`searchanything serve` of an index, on any free port."""
    settings = load_settings()
    settings.serve.port, settings.milvus.uri = 0, uri
    with searchanything.connect(uri) as client:
        found: list[str] = []
        server = Server(make_desk(client, settings), settings.serve, found.append)
        thread = threading.Thread(target=server.run)
        thread.start()
        deadline = time.monotonic() + 120
        while not found and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield found[0]
        finally:
            server.should_exit = True
            thread.join(60)


def test_a_server(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    with served("trial.db") as url:
        run("rest_client.py", url, "images/scene-0007.jpg", "142,436")
    said = capsys.readouterr().out
    assert "selected: " in said
    assert "scene-0007.jpg" in said
    assert (folder / "answer.png").read_bytes().startswith(b"\x89PNG")


def test_without_arguments_the_others_say_how() -> None:
    for name in ("bucket.py", "rest_client.py"):
        with pytest.raises(SystemExit, match="python "):
            run(name)


def cells() -> list[dict[str, object]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_notebooks_cells_run_and_show_the_same_kinds_of_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """How near hits are depends on the models' version; what is shown does not."""
    monkeypatch.chdir(tmp_path)
    runner = runpy.run_path(str(EXAMPLES.parent / "docs" / "run_notebook.py"))
    done = runner["run_cells"](json.loads(NOTEBOOK.read_text("utf-8")))
    again = [cell for cell in done["cells"] if cell["cell_type"] == "code"]
    assert [shown(cell) for cell in again] == [shown(cell) for cell in cells()]
    assert ["SearchResults", "text/html"] in [kind for cell in again for kind in shown(cell)]


def shown(cell: dict[str, object]) -> list[list[str]]:
    """Of each output its class and how it is shown."""
    found = []
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text")})
        name = re.match(r"<?(\w+)", "".join(data["text/plain"]))
        found.append([name[1] if output["output_type"] != "stream" else "stdout", next(iter(data))])
    return found


def test_the_notebook_is_executed_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 1_000_000
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert not [output for cell in cells() for output in cell["outputs"] if output["output_type"] == "error"]
    assert "data:image/jpeg;base64," in text
    for private in ("/root", "/home", "/tmp", "site-packages"):  # noqa: S108  looked for
        assert private not in text
