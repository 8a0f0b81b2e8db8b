"""`Operations.tune` with questions: the codes of the regions that they choose, and what is left out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.index_rows import region_row
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything import wiring
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import UsageError
from searchanything.core.types import ImageRef, RegionRef

RED, BLUE = (4, 4, 40, 60), (50, 8, 90, 40)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    Image.fromarray(drawn(64, 96, red=RED, blue=BLUE)).save(tmp_path / "a.png")
    Image.fromarray(drawn(64, 96)).save(tmp_path / "empty.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path, add_words=True)
    return client


def test_the_codes_are_those_of_the_regions_that_questions_choose(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(wiring, "tune_on_codes", lambda index, **asked: given.append((index, asked["asked"]())) or {})
    red = client.query(tmp_path / "a.png", (20, 30))[0]
    blue = client.query(tmp_path / "a.png", (70, 20))[0]
    image = ImageRef(str(tmp_path), "a.png")
    questions = [
        (tmp_path / "a.png", (20, 30)), "blue", (tmp_path / "a.png", None), RegionRef(image), blue,
        (tmp_path / "gone.png", (1, 1)), (tmp_path / "a.png", (20, 3000)), (tmp_path / "a.png", (0.2, 0.3)), 7,
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        client.operations.tune(questions=questions)
    index, asked = given[0]
    rows = {row.region: row.code for row in index.regions_of([image])}
    assert [one.tobytes() for one in asked] == [rows[red.region], rows[blue.region]]
    left_out = [one for one in caplog.messages if one.startswith("a question is left out: ")]
    assert len(left_out) == 7
    for said in (
        "the words 'blue' alone",
        "no region is chosen",
        "is a whole image",
        "gone.png",
        "3000",
        "shares of",
        "got 7",
    ):
        assert sum(said in one for one in left_out) == 1, said


def test_questions_that_all_choose_none_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "tune_on_codes", lambda _, **asked: asked["asked"]())
    with pytest.raises(UsageError, match="expected questions that each choose a region, got 2, none of which does"):
        client.operations.tune(questions=["blue", "red"])
    with pytest.raises(UsageError, match="questions: expected a list"):
        client.operations.tune(questions="questions.csv")


def test_an_index_is_tuned_by_questions(client: Client, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = client.operations._parts.connection.read_index()
    codes = np.random.default_rng(0).integers(0, 256, (1000, index.manifest.bits // 8), dtype=np.uint8)
    index.insert_regions(
        [region_row(ImageRef("b", str(at)), generation=1, code=one.tobytes()) for at, one in enumerate(codes)]
    )
    stages: list[str] = []
    document = client.operations.tune(
        recall=0.5,
        top=5,
        questions=iter([(tmp_path / "a.png", (20, 30))]),
        progress=lambda now: stages.append(now.stage),
    )
    assert document["questions"] == 1
    assert document["hint"].startswith("1 question cannot show a recall of 0.5")
    assert stages[0] == "encoding questions"
    assert any(one["reached"] for one in document["trials"])


def test_no_question_is_encoded_where_something_else_is_wrong(client: Client) -> None:
    """Of a long list that takes hours."""
    pytest.importorskip("faiss")
    asked: list[int] = []
    questions = (asked.append(number) for number in range(3))
    with pytest.raises(UsageError, match="expected at least 1000 codes, got 2"):
        client.operations.tune(questions=questions)
    assert asked == []
