"""Searches by words alone, through the client, with the hand-written models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import PromptError, UsageError
from searchanything.core.settings import Settings
from searchanything.core.types import Filter

IMAGES = {
    "a/two.png": drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40)),
    "a/red.png": drawn(64, 96, red=(8, 4, 44, 60)),
    "b/blue.png": drawn(64, 96, blue=(20, 8, 60, 40)),
    "b/green.png": drawn(64, 96, green=(20, 8, 60, 40), yellow=(70, 8, 90, 40)),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Machine().install(monkeypatch)
    for key, image in IMAGES.items():
        (tmp_path / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / key)
    return tmp_path / "images"


def made(settings: Settings | None = None) -> Client:
    return connect("memory://", preset="pico", settings=settings)


def found(client: Client, text: str, **options: object) -> list[str]:
    return [hit.image.key for hit in client.query(text=text, **options).hits]  # type: ignore[arg-type]


def test_words_are_added_to_an_index_that_has_none(folder: Path) -> None:
    client = made()
    client.index(folder)
    assert client.status().to_dict()["words"] is None
    with pytest.raises(UsageError, match="index SOURCE --add-words"):
        client.query(text="red")
    again = client.index(folder, add_words=True)
    assert (again.indexed, again.failed) == (4, 0)
    assert client.status().to_dict()["words"]["regions"] == client.status().regions == 6
    assert client.status().garbage == 0
    assert set(found(client, "red")[:2]) == {"a/two.png", "a/red.png"}
    assert set(found(client, "blue", limit=2)) == {"a/two.png", "b/blue.png"}
    assert found(client, "green", limit=1) == ["b/green.png"]
    third = client.index(folder, add_words=True)
    assert third.indexed == 0


def test_a_setting_gives_a_new_index_words_from_the_start(folder: Path) -> None:
    settings = Settings()
    settings.ingest.words = True
    client = made(settings)
    client.index(folder)
    assert client.status().words_regions == 6
    (folder / "b" / "late.png").write_bytes((folder / "b" / "green.png").read_bytes())
    client.refresh(folder, ["b/late.png"])
    assert client.status().words_regions == 8
    assert set(found(client, "yellow", limit=2)) == {"b/green.png", "b/late.png"}
    client.delete(folder)
    assert client.status().words_regions == 0


def test_an_answer_in_words_says_how_it_came_about(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    results = client.query(text="red", limit=3, filter=Filter(key_prefix="a/"), group_by_image=True)
    document = results.to_dict()
    assert document["prompt"] == {"kind": "words", "text": "red"}
    assert (document["selection"]["kind"], document["selection"]["text_match"]["words"]) == ("words", 102)
    assert {hit["key"] for hit in document["hits"]} == {"a/two.png", "a/red.png"}
    assert [stage["name"] for stage in document["stages"]] == ["search", "rescore"]
    assert all(-1 <= hit["similarity"] <= 1 for hit in document["hits"])
    assert document["collection"] == document["collection"] == client.status().to_dict()["words"]["collection"]
    assert client.replay(json.loads(json.dumps(results.receipt()))).same
    assert results.plot().size[0] > 0
    second = client.query(text="red", limit=1, offset=1, filter=Filter(key_prefix="a/"), group_by_image=True)
    assert second.selection.text_match == results.selection.text_match


def test_a_text_that_names_nothing_there_is_weaker(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    there, absent = (client.query(text=text).selection.text_match for text in ("red", "a steam engine"))
    assert there is not None
    assert absent is not None
    assert there.cosine > absent.cosine


def test_words_stand_alone(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    with pytest.raises(UsageError, match="give it as the prompt"):
        client.query(folder / "a" / "red.png", text="red")
    with pytest.raises(UsageError, match="an image, or words alone"):
        client.query()
    with pytest.raises(PromptError, match="blanks"):
        client.query(text="  ")


def test_a_backup_carries_the_words(folder: Path, tmp_path: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    before = [(hit.image, hit.region, hit.similarity) for hit in client.query(text="red").hits]
    client.backup(tmp_path / "one.tar")
    other = made()
    other.restore(tmp_path / "one.tar")
    assert other.status().words_regions == 6
    assert [(hit.image, hit.region, hit.similarity) for hit in other.query(text="red").hits] == before
