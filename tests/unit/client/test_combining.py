"""Images with several things, asked for by a client with parts of several kinds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import ObjectNotFoundError, PromptError, UsageError, WordsMissingError
from searchanything.core.types import ImageRef, RegionRef
from searchanything.prompts.prompt import Text

RED, BLUE, GREEN = (4, 4, 40, 60), (50, 8, 90, 40), (50, 44, 90, 60)
IMAGES = {
    "red": {"red": RED},
    "blue": {"blue": BLUE},
    "both": {"red": RED, "blue": BLUE},
    "all": {"red": RED, "blue": BLUE, "green": GREEN},
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    for name, parts in IMAGES.items():
        Image.fromarray(drawn(64, 96, **parts)).save(tmp_path / f"{name}.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    return client


def test_images_that_hold_both_come_first(client: Client, tmp_path: Path) -> None:
    found = client.combine(all_of=[(tmp_path / "red.png", (20, 30)), (tmp_path / "blue.png", (70, 20))])
    assert {hit.image.key for hit in found[:2]} == {"both.png", "all.png"}
    document = json.loads(json.dumps(found.to_dict()))
    assert document["exact"]
    assert [one["part"] for one in document["hits"][0]["parts"]] == ["all 1", "all 2"]
    assert [one["distance_bits"] for one in document["hits"][0]["parts"]] == [0, 0]
    assert document["hits"][0]["parts"][0]["box_xyxy"] == [4.0, 4.0, 40.0, 60.0]
    found.save(tmp_path / "sheet.png")
    assert "no other image scores higher" in found.sentence


def test_hits_are_parts(client: Client, tmp_path: Path) -> None:
    blue = client.query(tmp_path / "blue.png", (70, 20))[0]
    found = client.combine(any_of=[blue, blue.ref], limit=3)
    assert {hit.image.key for hit in found} == {"blue.png", "both.png", "all.png"}


def test_words_are_parts(client: Client, tmp_path: Path) -> None:
    with pytest.raises(WordsMissingError):
        client.combine(all_of=["blue"])
    client.index(tmp_path, add_words=True)
    for words in ("blue", Text("blue")):
        found = client.combine(all_of=[words, (tmp_path / "red.png", (20, 30))], limit=2)
        assert {hit.image.key for hit in found} == {"both.png", "all.png"}
        assert [one.distance_bits for one in found[0].parts] == [0, 0]
    with pytest.raises(PromptError):
        client.combine(any_of=[" "])


def test_what_is_no_part(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a part is a region"):
        client.combine(all_of=[(tmp_path / "red.png", None)])
    with pytest.raises(UsageError, match="at least one part"):
        client.combine()
    for odd in (["x", 1, 2], ("x",), 3):
        with pytest.raises(UsageError, match="or words, got"):
            client.combine(all_of=[odd])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="false-match rate"):
        client.combine(all_of=[(tmp_path / "red.png", (20, 30))], max_false_match=2.0)
    with pytest.raises(ObjectNotFoundError):
        client.combine(all_of=[RegionRef(ImageRef("nowhere", "a.png"), 0)])
    with pytest.raises(UsageError, match="committed codes"):
        client.combine(all_of=[(tmp_path / "red.png", (20, 30))], none_of=[(tmp_path / "blue.png", (70, 20))])
