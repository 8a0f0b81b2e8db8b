"""`explain`, `compare` and `replay` on the real thing: scenes in a folder, the pico models, an embedded index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from searchanything.cli.app import run
from searchanything.demo.scenes import generate_demo_scenes

pytestmark = [pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Workplace:
    """A folder of scenes, and a point on the largest thing of the first."""

    images: Path
    uri: str
    query: Path
    point: str
    box: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("explain")
    images = folder / "images"
    images.mkdir()
    scenes = dict(generate_demo_scenes(5, seed=5))
    for name, scene in scenes.items():
        Image.fromarray(scene.image).save(images / name)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    name, thing = max(
        ((name, thing) for name, scene in scenes.items() for thing in scene.objects), key=lambda one: one[1].mask.sum()
    )
    rows, columns = np.nonzero(thing.mask)
    middle = len(rows) // 2
    return Workplace(
        images=images,
        uri=str(folder / "index.db"),
        query=images / name,
        point=f"{columns[middle]},{rows[middle]}",
        box=f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}",
    )


@pytest.fixture
def ask(workplace: Workplace, capsys, monkeypatch):
    """Run one command line in this process; stdout must be one JSON document and nothing else."""
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__LITE_IDLE_S", "1")

    def run_verb(verb: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        code = run([verb, *arguments, "--uri", workplace.uri, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    if not Path(workplace.uri).exists():
        assert run_verb("index", str(workplace.images), "--preset", "pico")[0] == 3
    return run_verb


def test_the_query_image_itself_is_the_first_hit(workplace, ask, tmp_path):
    query = (str(workplace.query), "--point", workplace.point)
    code, found = ask(
        "explain", *query, "--expect", str(workplace.query), "--expect-box", workplace.box,
        "--save", str(tmp_path / "why.png"),
    )  # fmt: skip
    assert (code, found["verdict"]) == (0, "hit")
    figures = {step["name"]: step["figures"] for step in found["steps"]}
    assert figures["page"]["rank"] == 1
    assert figures["codes"]["distance_bits"] == 0
    assert figures["features"]["cosine"] == pytest.approx(1, abs=1e-3)
    with Image.open(tmp_path / "why.png") as image:
        assert image.width > image.height


@pytest.mark.parametrize(("name", "verdict"), [("broken.jpg", "failed"), ("never.jpg", "not_indexed")])
def test_images_without_regions_in_the_index(workplace, ask, name, verdict):
    expected = str(workplace.images / name)
    code, found = ask("explain", str(workplace.query), "--point", workplace.point, "--expect", expected)
    assert (code, found["verdict"]) == (0, verdict)


def test_every_hit_is_explained_by_its_own_rank(workplace, ask):
    query = (str(workplace.query), "--point", workplace.point)
    _, found = ask("query", *query)
    for rank, hit in enumerate(found["hits"][:4], start=1):
        box = ",".join(str(side) for side in hit["box_xyxy"])
        _, explained = ask("explain", *query, "--expect", f"{hit['bucket']}/{hit['key']}", "--expect-box", box)
        assert (explained["verdict"], explained["steps"][-1]["figures"]["rank"]) == ("hit", rank)


def test_a_receipt_is_repeated_and_a_difference_is_an_exit_code(workplace, ask, tmp_path):
    receipt = tmp_path / "r.json"
    ask("query", str(workplace.query), "--point", workplace.point, "--receipt", str(receipt))
    code, same = ask("replay", str(receipt))
    assert (code, same["same"], same["differences"]) == (0, True, [])
    document = json.loads(receipt.read_text())
    gone = document["hits"].pop(0)
    receipt.write_text(json.dumps(document))
    code, other = ask("replay", str(receipt))
    assert (code, other["same"]) == (1, False)
    assert [one["now"]["key"] for one in other["differences"] if one["what"] == "hit gained"] == [gone["key"]]
    receipt.write_text("[]")
    code, refused = ask("replay", str(receipt))
    assert (code, refused["error"]["type"]) == (2, "UsageError")


def test_five_rankings_of_the_same_candidates(workplace, ask, tmp_path):
    files = [str(tmp_path / "four.png"), str(tmp_path / "four.html")]
    query = (str(workplace.query), "--point", workplace.point, "--candidates", "6")
    code, found = ask("compare", *query, "--save", files[0], "--save", files[1])
    assert code == 0
    assert found["candidates"] == 6
    regions = [{(one["key"], one["region"]) for one in method["ranking"]} for method in found["methods"]]
    assert regions[1:] == regions[:-1]
    assert all(method["ranking"][0]["rank_by_code"] == 1 for method in found["methods"])  # the thing itself
    assert all(Path(file).stat().st_size > 10_000 for file in files)
    code, refused = ask("compare", str(workplace.query))
    assert (code, refused["error"]["type"]) == (2, "PromptError")
