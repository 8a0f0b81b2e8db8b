"""Searches by words alone, through the client, with the hand-written models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client import live_index
from searchanything.client.client import Client
from searchanything.client.indexing import MAKING
from searchanything.client.opening import connect
from searchanything.core.errors import PromptError, UsageError, WordsMissingError
from searchanything.core.manifest import IndexManifest
from searchanything.core.rows import row_id
from searchanything.core.settings import MilvusSettings, Settings
from searchanything.core.types import Filter, ImageRef
from searchanything.ingest.reports import IndexProgress
from searchanything.stores import milvus

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
    assert (again.indexed, again.unchanged, again.failed) == (4, 0, 0)  # each image once
    assert client.status().to_dict()["words"]["regions"] == client.status().regions == 6
    assert client.status().garbage == 0
    assert set(found(client, "red")[:2]) == {"a/two.png", "a/red.png"}
    assert set(found(client, "blue", limit=2)) == {"a/two.png", "b/blue.png"}
    assert found(client, "green", limit=1) == ["b/green.png"]
    third = client.index(folder, add_words=True)
    assert (third.indexed, third.unchanged) == (0, 4)


def test_progress_names_what_is_done_before_words_codes_are_made(folder: Path) -> None:
    client, steps = made(), list[IndexProgress]()
    client.index(folder, add_words=True, progress=steps.append)
    stages = [stage for stage, _ in groupby(one.stage for one in steps)]
    assert stages == [MAKING, "sampling", "training the words layer", ""]
    assert [one.done for one in steps if one.stage == "sampling"] == [0, 4]


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


def test_words_are_refined_by_the_hits_that_are_right(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    found = client.query(text="blue", limit=4)
    right = next(hit for hit in found if hit.image.key == "b/blue.png")
    refined = found.refine(right=[right])
    assert {hit.image.key for hit in refined[:2]} == {"a/two.png", "b/blue.png"}
    assert refined.to_dict()["probe"] == {"right": 1, "wrong": 0, "precision": None}
    assert [hit.ref for hit in found.refine(probe=refined.probe)] == [hit.ref for hit in refined]
    with pytest.raises(UsageError, match="as right"):
        found.refine(wrong=[right])
    why = refined.explain("b/blue.png")
    assert (why.verdict, [step.name for step in why.steps]) == (
        "hit", ["indexed", "region", "near", "codes", "page"],
    )  # fmt: skip
    assert why.to_dict()["prompt"]["marks"] == {"right": 1, "wrong": 0}


def test_words_say_why_an_image_is_not_there(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    first = client.query(text="red", limit=1)
    why = first.explain("b/green.png")
    steps = {step.name: step for step in why.steps}
    assert (why.verdict, list(steps)) == ("paging", ["indexed", "words", "region", "codes", "page"])
    everything = client.query(text="red", limit=6)
    place = next(n for n, hit in enumerate(everything, start=1) if hit.image.key == "b/green.png")
    assert steps["page"].figures["rank"] == place
    best = next(hit for hit in everything if hit.image.key == "b/green.png")
    assert steps["codes"].figures["distance_bits"] == best.distance_bits
    assert steps["codes"].figures["similarity"] == pytest.approx(best.similarity, abs=1e-6)
    assert {one["region"] for one in steps["region"].figures["each"]} == {0, 1}
    shown = steps["page"].figures["last_shown"]
    assert (shown["key"], shown["distance_bits"]) == (first[0].image.key, first[0].distance_bits)
    assert f"--limit {place} would show it" in why.sentence
    filtered = client.query(text="red", filter=Filter(key_prefix="a/")).explain("b/green.png")
    assert (filtered.verdict, filtered.steps[-1].figures) == ("filter", {"excluded_by": ["key_prefix"]})
    assert filtered.plot().size[0] > 0
    outside = everything.explain("b/green.png", (60.0, 45.0, 66.0, 60.0))
    assert outside.verdict == "no_mask"
    in_box = everything.explain("b/green.png", (70.0, 8.0, 90.0, 40.0))
    hit = next(hit for hit in everything if hit.box_xyxy == (70.0, 8.0, 90.0, 40.0))
    assert (in_box.verdict, in_box.region.box_xyxy) == ("hit", hit.box_xyxy)


def test_what_words_cannot_find_is_said(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    found = client.query(text="red")
    (folder / "a" / "red.png").unlink()
    index = client._parts.connection.read_index()
    (gone,) = [row for row in index.iterate_images() if row.image.key == "a/red.png"]
    late = replace(gone, image=ImageRef(gone.image.bucket, "late.png"))
    (region,) = index.regions_of([gone.image])
    name = row_id(late.image, late.generation, 0)
    index.insert_regions([replace(region, image=late.image, id=name, words_code=b"")])
    index.insert_images([replace(late, id=row_id(late.image, late.generation))])
    without = found.explain("late.png")
    assert (without.verdict, without.steps[-1].figures) == ("no_words", {"regions": 1, "with_words_code": 0})
    assert "--add-words" in without.sentence
    client.sync(folder, repair=True, forget=True)
    deleted = found.explain(gone.image)
    assert deleted.verdict == "not_indexed"
    assert "has been deleted since" in deleted.sentence
    never = found.explain("never.png")
    assert never.verdict == "not_indexed"
    assert "deleted" not in never.sentence


def test_words_that_another_client_adds_are_seen(folder: Path) -> None:
    one = made()
    one.index(folder)
    with pytest.raises(WordsMissingError):
        one.query(text="red")
    Client(Settings(), indexes=one._indexes).index(folder, add_words=True)
    assert found(one, "green", limit=1) == ["b/green.png"]


def test_words_are_noticed_in_the_midst_of_a_question_by_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That question's encoder, which has none, was kept for all texts to come."""
    one = made()
    one.index(folder)
    Client(Settings(), indexes=one._indexes).index(folder, add_words=True)
    models, image = one._models, folder / "a" / "red.png"
    opening = models._open

    def noticed_meanwhile(manifest: IndexManifest) -> object:
        monkeypatch.setattr(models, "_open", opening)
        opened = opening(manifest)
        models._notice_words(manifest.fingerprint)  # as a text's question in another thread
        return opened

    monkeypatch.setattr(models, "_open", noticed_meanwhile)
    one.query(image)
    assert models._open == opening
    assert found(one, "green", limit=1) == ["b/green.png"]


def test_who_writes_gives_words_codes_once_another_process_has_added_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `watch` that runs while `index --add-words` does, for one: what it indexed next was never found by words."""
    monkeypatch.setattr(live_index, "WORDS_NOTICED_S", 0.0)
    monkeypatch.setattr(milvus, "WORDS_LOOK_S", 0.0)
    settings = Settings(milvus=MilvusSettings(uri=str(tmp_path / "index.db"), lite_idle_s=0.3))
    with connect(settings=settings, preset="pico") as one, connect(settings=settings) as other:
        one.index(folder)
        other.index(folder, add_words=True)
        shutil.copy(folder / "b" / "green.png", folder / "new.png")
        assert one.index(folder).indexed == 1
        status = one.status()
        assert status.words_regions == status.regions
        assert sorted(found(one, "green", limit=2)) == ["b/green.png", "new.png"]


def test_an_index_that_was_made_anew_under_the_same_name_is_opened_anew(folder: Path) -> None:
    client = made()
    client.index(folder, add_words=True)
    found(client, "red", limit=1)
    models, before = client._models, client._models.open_for_words()[1]
    assert models.open_for_words()[1] is before
    manifest, indexes = client.manifest, client._indexes
    layer = indexes.hash_layer(manifest.fingerprint)
    indexes.withdraw()
    indexes.drop(manifest.fingerprint)
    indexes.create(manifest, layer)
    indexes.switch(manifest.fingerprint)
    assert models.open_for_words()[1] is not before


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
