"""`query`, `explain`, `compare` and `replay` through the command line: images in S3, rows in Milvus Lite and Milvus."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.cli.app import run
from searchanything.demo.local_s3 import LocalS3
from searchanything.stores.s3 import S3Store

Ask = Callable[..., tuple[int, dict[str, Any]]]
IMAGES = {
    "a/two.png": drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40)),
    "a/red.png": drawn(64, 96, red=(8, 4, 44, 60)),
    "b/blue.png": drawn(64, 96, blue=(20, 8, 60, 40)),
    "b/green.png": drawn(64, 96, green=(20, 8, 60, 40)),
}


@pytest.fixture(params=["lite", pytest.param("server", marks=pytest.mark.server)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def uri(kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "lite":
        return str(request.getfixturevalue("lite_file"))
    return str(request.getfixturevalue("milvus_server").uri)


@pytest.fixture
def ask(
    uri: str,
    s3_server: LocalS3,
    s3_store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """Run one command line on an index of the bucket; stdout must be one JSON document."""
    Machine().install(monkeypatch)
    storage = s3_server.settings()
    for name in ("endpoint", "access_key", "secret_key", "secure"):
        value = getattr(storage, name)
        shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        monkeypatch.setenv(f"SEARCHANYTHING_STORAGE__{name.upper()}", str(shown))
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__COLLECTION_PREFIX", f"q{uuid4().hex[:8]}_")
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__LITE_IDLE_S", "1")
    for key, image in IMAGES.items():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        s3_store.upload(key, buffer.getvalue())

    def run_verb(verb: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        code = run([verb, *arguments, "--uri", uri, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    code, report = run_verb("index", f"s3://{s3_store.bucket}", "--preset", "pico")
    assert (code, report["images"]["indexed"]) == (0, 4)
    return run_verb


def test_questions_about_a_bucket(ask: Ask, s3_store: S3Store, tmp_path: Path) -> None:
    image = f"s3://{s3_store.bucket}/a/two.png"
    mixed = (image, "--box", "0,0,96,64", "--point", "10,10", "--background", "60,20")
    receipt = str(tmp_path / "r.json")
    code, found = ask("query", *mixed, "--receipt", receipt, "--save", str(tmp_path / "hits.png"))
    assert (code, found["prompt"]["kind"], found["selection"]["box_xyxy"][0]) == (0, "mixed", 4.0)
    assert {hit["key"] for hit in found["hits"][:2]} == {"a/two.png", "a/red.png"}

    code, why = ask("explain", *mixed, "--expect", "a/red.png", "--save", str(tmp_path / "why.png"))
    assert (code, why["verdict"]) == (0, "hit")
    code, why = ask("explain", *mixed, "--expect", f"s3://{s3_store.bucket}/never.png")
    assert (code, why["verdict"]) == (0, "not_indexed")
    code, why = ask("explain", *mixed, "--expect", "b/blue.png", "--key-prefix", "a/")
    assert (code, why["verdict"]) == (0, "filter")

    code, compared = ask("compare", *mixed, "--save", str(tmp_path / "five.html"), "--candidates", "3")
    assert (code, [len(method["ranking"]) for method in compared["methods"]]) == (0, [3] * 5)

    code, same = ask("replay", receipt)
    assert (code, same["same"], same["differences"]) == (0, True, [])
    s3_store.upload("a/new.png", s3_store.read("a/two.png")[1])
    ask("index", f"s3://{s3_store.bucket}")
    code, other = ask("replay", receipt)
    assert (code, other["same"]) == (1, False)
    assert {one["what"] for one in other["differences"]} >= {"hit gained"}


def test_answers_that_the_index_alone_gives_are_explained(ask: Ask, kind: str, s3_store: S3Store) -> None:
    """Every hit of each question. A server takes seconds for each of these lines: of it the last hit is enough."""
    bucket = f"s3://{s3_store.bucket}"
    ask("index", bucket, "--add-words")
    region = f"{bucket}/a/two.png#0"
    questions: list[tuple[str, ...]] = [
        ("--text", "blue"),
        (region, "--like", f"{bucket}/a/red.png#0"),
        (region, "--right", "2", "--wrong", f"{bucket}/b/blue.png#0"),
        (region, "--like", f"{bucket}/a/red.png#0", "--group-by-image"),
    ]
    for question in questions:
        _, found = ask("query", *question)
        for place, hit in numbered(found["hits"], kind):
            box = ",".join(str(side) for side in hit["box_xyxy"])
            code, why = ask("explain", *question, "--expect", hit["key"], "--expect-box", box)
            assert (code, why["verdict"], why["steps"][-1]["figures"]["rank"]) == (0, "hit", place), question
        if kind == "lite" or question is questions[0]:
            _, why = ask("explain", *question, "--expect", "b/blue.png", "--key-prefix", "a/")
            assert why["verdict"] == "filter", question
    parts = ("--all", region, "--any", f"{bucket}/b/blue.png#0")
    _, found = ask("combine", *parts)
    for place, hit in numbered(found["hits"], kind):
        _, why = ask("combine", *parts, "--expect", hit["key"])
        assert (why["verdict"], why["steps"][-1]["figures"]["rank"]) == ("hit", place)


def numbered(hits: list[dict[str, Any]], kind: str) -> list[tuple[int, dict[str, Any]]]:
    """The hits with their ranks; of a server the last one."""
    ranked = list(enumerate(hits, start=1))
    assert len(ranked) > 1
    return ranked if kind == "lite" else ranked[-1:]
