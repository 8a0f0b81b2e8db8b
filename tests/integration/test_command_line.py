"""The command line on the real thing: a folder of generated scenes, the pico models, an embedded index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from searchanything.cli.app import run
from searchanything.demo.scenes import Scene, generate_demo_scenes
from searchanything.models.hashing import HashLayer

ROOT = Path(__file__).parents[2]
SCENES = 6
pytestmark = [pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Answer:
    """What a process left behind: its exit code, the document on its stdout, its stderr."""

    code: int
    document: dict[str, Any]
    stderr: str


@dataclass(frozen=True)
class Workplace:
    """A folder with images, one of them broken, and the command line's environment."""

    images: Path
    scenes: dict[str, Scene]
    uri: str
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "searchanything.cli.app", *arguments, "--uri", self.uri, "--format", "json"]

    def shell(self, *arguments: str) -> Answer:
        """Run the command line as a process of its own; stdout must be one JSON document and nothing else."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, env=self.environment, check=False, timeout=500
        )
        return Answer(done.returncode, json.loads(done.stdout), done.stderr)

    def thing(self) -> tuple[Path, np.ndarray]:
        """An image, and the mask of the largest object in it."""
        name, scene = next((name, scene) for name, scene in self.scenes.items() if scene.objects)
        return self.images / name, max((thing.mask for thing in scene.objects), key=np.sum)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The folder, indexed once by a process of its own."""
    folder = tmp_path_factory.mktemp("cli")
    images = folder / "images"
    images.mkdir()
    scenes = dict(generate_demo_scenes(SCENES, seed=5))
    for name, scene in scenes.items():
        Image.fromarray(scene.image).save(images / name)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (images / "notes.txt").write_text("no image at all")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEARCHANYTHING_")}
    environment = kept | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]),
        "SEARCHANYTHING_MILVUS__LITE_IDLE_S": "1",
    }
    return Workplace(images, scenes, str(folder / "index.db"), environment)


@pytest.fixture(scope="module")
def indexed(workplace: Workplace) -> Answer:
    """The first run of `index`."""
    return workplace.shell("index", str(workplace.images), "--preset", "pico")


@pytest.fixture
def call(capsys, monkeypatch):
    """Run the command line in this process, which loads the models once for all tests. As `shell` in all else."""
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__LITE_IDLE_S", "1")

    def run_here(place: Workplace, *arguments: str) -> Answer:
        code = run([*arguments, "--uri", place.uri, "--format", "json"])
        out, err = capsys.readouterr()
        return Answer(code, json.loads(out), err)

    return run_here


@pytest.fixture
def query(workplace: Workplace, indexed: Answer, call):  # noqa: ARG001 (must have run)
    """Run `query` in this process."""

    def run_query(*arguments: str) -> tuple[int, dict[str, Any]]:
        answer = call(workplace, "query", *arguments)
        return answer.code, answer.document

    return run_query


def test_index_counts_every_file_and_says_which_failed(indexed):
    assert indexed.code == 3
    images = indexed.document["images"]
    assert images["indexed"] + images["empty"] == SCENES
    assert images["failed"] == 1
    assert images["skipped"] == 1
    assert indexed.document["regions"] >= SCENES
    assert [(one["key"], one["error"]) for one in indexed.document["failures"]] == [("broken.jpg", "ImageError")]
    assert "Traceback" not in indexed.stderr


@pytest.mark.usefixtures("indexed")
def test_second_run_does_nothing_twice(workplace, call):
    again = call(workplace, "index", str(workplace.images))  # the index remembers its preset
    assert again.code == 3
    assert again.document["images"] | {"skipped": 1} == {
        "indexed": 0,
        "unchanged": SCENES,
        "empty": 0,
        "failed": 1,
        "skipped": 1,
    }
    assert again.document["regions"] == 0


def test_status_agrees_with_the_report(workplace, indexed):
    status = workplace.shell("status")
    assert status.code == 0
    assert status.document["exists"] is True
    assert status.document["images"] == indexed.document["images"]["indexed"]
    assert status.document["failed"] == 1
    assert status.document["regions"] == indexed.document["regions"]
    assert status.document["preset"] == "pico"
    assert status.document["fingerprint"]
    assert {"regions", "images"} <= status.document["collections"].keys()


@pytest.mark.usefixtures("indexed")
def test_preset_that_contradicts_the_index_is_wrong_usage(workplace, call):
    answer = call(workplace, "index", str(workplace.images), "--preset", "small")
    assert answer.code == 2
    assert answer.document["error"]["type"] == "PresetError"
    assert "pico" in answer.document["error"]["message"]


def test_every_kind_of_prompt(workplace, query, tmp_path):
    path, mask = workplace.thing()
    rows, columns = np.nonzero(mask)
    middle = np.argmin(np.hypot(rows - rows.mean(), columns - columns.mean()))
    point = f"{columns[middle]},{rows[middle]}"
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    Image.fromarray(mask).save(tmp_path / "mask.png")
    prompts = {
        "point": ("--point", point),
        "background": ("--point", point, "--background", _elsewhere(mask)),
        "box": ("--box", box),
        "text": ("--text", "an apple"),
        "mask": ("--mask", str(tmp_path / "mask.png")),
    }
    for kind, options in prompts.items():
        code, document = query(str(path), *options, "--limit", "4")
        assert code == 0, kind
        assert document["prompt"]["kind"] == kind
        selection = document["selection"]
        assert selection["kind"] in ("region", "none"), kind
        hits = document["hits"]
        assert len(hits) == (4 if selection["kind"] == "region" else 0)
        similarities = [hit["similarity"] for hit in hits]
        assert similarities == sorted(similarities, reverse=True)
        assert all(hit["bucket"] == str(workplace.images) and hit["mask"]["counts"] for hit in hits)
        assert all(value >= 0 for value in document["timings_ms"].values())


def test_box_around_a_thing_finds_that_thing_first(workplace, query):
    path, mask = workplace.thing()
    rows, columns = np.nonzero(mask)
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    _, document = query(str(path), "--box", box, "--limit", "1")
    assert document["hits"][0]["key"] == path.name


def test_whole_image_finds_itself_and_has_no_region(workplace, query):
    path, _ = workplace.thing()
    code, document = query(str(path), "--limit", "3")
    assert code == 0
    assert document["selection"]["kind"] == "image"
    assert document["hits"][0]["key"] == path.name
    assert document["hits"][0]["distance_bits"] == 0
    assert all(hit["region"] is None for hit in document["hits"])


def test_group_filter_and_page(workplace, query):
    path, _ = workplace.thing()
    _, grouped = query(str(path), "--text", "a fish", "--group-by-image", "--limit", "20")
    keys = [hit["key"] for hit in grouped["hits"]]
    assert len(keys) == len(set(keys))
    _, all_hits = query(str(path), "--text", "a fish", "--limit", "6")
    _, second = query(str(path), "--text", "a fish", "--limit", "3", "--offset", "3")
    assert second["hits"] == all_hits["hits"][3:]
    _, others = query(str(path), "--text", "a fish", "--key-prefix", path.name)
    assert {hit["key"] for hit in others["hits"]} <= {path.name}


def test_point_outside_the_image_is_wrong_usage(workplace, query):
    path, _ = workplace.thing()
    code, document = query(str(path), "--point", "100000,1")
    assert code == 2
    assert document["error"]["type"] == "PromptError"


def test_query_of_a_broken_image_is_an_error_that_names_it(workplace, query):
    code, document = query(str(workplace.images / "broken.jpg"))
    assert code == 1
    assert document["error"]["type"] == "ImageError"
    assert "broken.jpg" in document["error"]["message"]


@pytest.mark.usefixtures("indexed")
def test_query_in_a_process_of_its_own_draws_its_answer(workplace, tmp_path):
    path, _ = workplace.thing()
    answer = workplace.shell("query", str(path), "--text", "a fish", "--save", str(tmp_path / "hits.png"))
    assert answer.code == 0
    with Image.open(tmp_path / "hits.png") as image:
        assert image.format == "PNG"


@pytest.mark.usefixtures("indexed")
def test_segment(workplace, call, tmp_path):
    path, _ = workplace.thing()
    answer = call(workplace, "segment", str(path), "--save", str(tmp_path / "regions.png"))
    assert answer.code == 0
    with Image.open(path) as image:
        assert answer.document["image"] == {"width": image.width, "height": image.height}
    scores = [region["score"] for region in answer.document["regions"]]
    assert scores
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "regions.png").exists()


def test_query_without_an_index_says_what_to_do(workplace, call, tmp_path):
    path, _ = workplace.thing()
    empty = Workplace(workplace.images, workplace.scenes, str(tmp_path / "none.db"), workplace.environment)
    answer = call(empty, "query", str(path))
    assert answer.code == 1
    assert answer.document["error"]["type"] == "IndexNotFoundError"
    assert "searchanything index" in answer.document["error"]["message"]


def test_folder_without_a_preset_says_both_ways(workplace, call, tmp_path):
    empty = Workplace(workplace.images, workplace.scenes, str(tmp_path / "none.db"), workplace.environment)
    answer = call(empty, "index", str(workplace.images))
    assert answer.code == 2
    assert answer.document["error"]["type"] == "PresetError"
    assert "models fetch small" in answer.document["error"]["message"]
    assert "--preset pico" in answer.document["error"]["message"]


def test_interruption_ends_cleanly(workplace, tmp_path):
    """Ctrl-C during the run: exit code 130, nothing on stdout, no traceback."""
    many = tmp_path / "many"
    many.mkdir()
    path, _ = workplace.thing()
    for number in range(400):  # more than any machine gets through before the signal arrives
        (many / f"{number}{path.suffix}").hardlink_to(path)
    interrupted = Workplace(many, workplace.scenes, str(tmp_path / "i.db"), workplace.environment)
    command = interrupted.command("index", str(many), "--preset", "pico", "--verbose")
    environment = workplace.environment | {"SEARCHANYTHING_INGEST__BATCH_IMAGES": "4"}  # what is under way is brief
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=environment, preexec_fn=_heed_interrupts) as process:
        deadline = time.monotonic() + 120
        assert process.stderr is not None
        for line in process.stderr:  # the first batch is there, the next ones are at work
            if "committed" in line or time.monotonic() > deadline:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err


def _heed_interrupts() -> None:
    """Shells start background jobs deaf to SIGINT, and children inherit that; a terminal's program is not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_delete_forgets_its_source_alone(workplace, indexed, call, tmp_path):
    path, _ = workplace.thing()
    (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert call(workplace, "index", str(tmp_path)).code == 3
    deleted = call(workplace, "delete", str(tmp_path))
    assert deleted.code == 0
    assert deleted.document["deleted"] == 2  # the failed one was known as well
    status = call(workplace, "status").document
    assert status["images"] == indexed.document["images"]["indexed"]
    assert status["regions"] == indexed.document["regions"]
    assert status["failed"] == 1
    assert len(list(tmp_path.iterdir())) == 2


def _elsewhere(mask: np.ndarray) -> str:
    """A point far from the mask."""
    rows, columns = np.nonzero(~mask)
    away = np.argmax(np.hypot(rows - np.nonzero(mask)[0].mean(), columns - np.nonzero(mask)[1].mean()))
    return f"{columns[away]},{rows[away]}"


def test_a_source_that_is_not_there_makes_no_index(workplace, call, tmp_path):
    elsewhere = Workplace(tmp_path, workplace.scenes, str(tmp_path / "none.db"), workplace.environment)
    assert call(elsewhere, "index", str(tmp_path / "missing"), "--preset", "pico").code == 1
    status = call(elsewhere, "status")
    assert (status.code, status.document["exists"], status.document["fingerprint"]) == (0, False, None)


def test_an_index_that_holds_nothing_takes_another_hash_layer(workplace, call, tmp_path):
    layer = HashLayer.random_rotation(64, 256, bits=64, seed=1)
    (tmp_path / "hash.safetensors").write_bytes(layer.to_bytes())
    path, _ = workplace.thing()
    images = tmp_path / "images"
    images.mkdir()
    (images / path.name).write_bytes(path.read_bytes())
    emptied = Workplace(images, workplace.scenes, str(tmp_path / "h.db"), workplace.environment)
    assert call(emptied, "index", str(images), "--preset", "pico").code == 0
    with_hash = ("index", str(images), "--hash", str(tmp_path / "hash.safetensors"))
    assert call(emptied, *with_hash).code == 2
    assert call(emptied, "delete", str(images)).code == 0
    again = call(emptied, *with_hash)
    assert (again.code, again.document["images"]["indexed"]) == (0, 1)
    assert call(emptied, "status").document["hash"] == "untrained"


@pytest.mark.parametrize("bits", [128, 512])
def test_layers_of_other_lengths_fill_an_index_and_answer(workplace, tmp_path, capsys, monkeypatch, bits):
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__LITE_IDLE_S", "1")
    layer = tmp_path / "hash.safetensors"
    layer.write_bytes(HashLayer.random_rotation(64, 256, bits=bits, seed=1).to_bytes())
    path, _ = workplace.thing()
    images, index = tmp_path / "images", ("--uri", str(tmp_path / "index.db"), "--format", "json")
    images.mkdir()
    (images / path.name).write_bytes(path.read_bytes())
    assert run(["index", str(images), "--preset", "pico", "--hash", str(layer), *index]) == 0
    capsys.readouterr()
    assert run(["query", str(path), *index]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["hits"][0]["key"], answer["hits"][0]["distance_bits"]) == (path.name, 0)
