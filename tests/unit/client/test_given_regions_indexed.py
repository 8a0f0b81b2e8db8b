"""Regions of one's sidecars through the client: indexed, found, filtered, explained, encoded again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.hash_layers import layer_file
from fakes.machine import Machine
from fakes.models import drawn
from fakes.two_presets import NEW, TwoPresets
from fakes.two_presets import opened as opened_presets
from PIL import Image

from searchanything.client.client import Client
from searchanything.core.errors import SettingsError
from searchanything.core.geometry import encode_rle, mask_of_size
from searchanything.core.settings import Settings
from searchanything.core.types import BoxXYXY, Filter, ImageRef, RegionRef
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.stores.memory import MemoryIndexStore

RED_BOX, WHOLE, CORNER = (4.0, 4.0, 30.0, 40.0), (0.0, 0.0, 64.0, 48.0), (50.0, 40.0, 64.0, 48.0)


def give(image: Path, *boxes: BoxXYXY) -> None:
    image.with_name(f"{image.name}.json").write_text(json.dumps({"regions": [{"box_xyxy": box} for box in boxes]}))


def settings_of(folder: Path, uri: str) -> Settings:
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = uri if "://" in uri else str(folder / uri), "pico"
    settings.ingest.sidecar_suffix, settings.ingest.regions_from = ".json", "sidecar"
    settings.ingest.keep_features, settings.ingest.features_dir = True, folder / "kept"
    return settings


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        image = drawn(48, 64, red=(4, 4, 30, 40), blue=(34, 8, 48 + number, 40))
        Image.fromarray(image).save(folder / f"{number}.png")
    give(folder / "0.png", RED_BOX, WHOLE, CORNER)
    give(folder / "1.png")
    return folder


@pytest.fixture(params=["memory://", "index.db"])
def client(tmp_path: Path, photos: Path, machine: Machine, request: pytest.FixtureRequest) -> Iterator[Client]:  # noqa: ARG001
    indexes = MemoryIndexStore() if request.param == "memory://" else None
    with Client(settings_of(tmp_path, request.param), indexes=indexes) as made:
        made.index(photos, hash_file="untrained")
        yield made


def boxes_of(client: Client, image: Path) -> list[BoxXYXY]:
    """By number: the largest first."""
    return [one.box_xyxy for one in client.regions(ImageRef(str(image.parent), image.name))]


def test_given_regions_are_found_filtered_and_followed(client: Client, photos: Path) -> None:
    image = photos / "0.png"
    assert [len(boxes_of(client, photos / f"{number}.png")) for number in range(3)] == [3, 0, 2]
    assert boxes_of(client, image) == [WHOLE, RED_BOX, CORNER]
    answer = client.query(photos / "2.png", RED_BOX, limit=10)
    assert {hit.image.key for hit in answer.hits[:2] if hit.distance_bits == 0} == {"0.png", "2.png"}, "the same thing"
    only = client.query(photos / "2.png", RED_BOX, filter=Filter(where="sidecar_regions >= 1"), limit=10)
    assert {hit.image.key for hit in only.hits} == {"0.png"}
    assert client.index(photos).unchanged == 3
    give(image, CORNER, RED_BOX, (1.0, 1.0, 9.0, 9.0))
    give(photos / "1.png", WHOLE)
    assert client.index(photos).indexed == 2
    assert boxes_of(client, image) == [RED_BOX, CORNER, (1.0, 1.0, 9.0, 9.0)]
    give(image, WHOLE)
    assert client.sync(photos, repair=True).differs
    assert boxes_of(client, image) == [WHOLE]
    assert not client.sync(photos).differs
    assert client.refresh(photos, ["0.png.json"]).unchanged == 1


def test_an_explanation_speaks_of_the_sidecars_regions(client: Client, photos: Path) -> None:
    answer = client.query(photos / "2.png", RED_BOX, limit=10)
    found = answer.explain("0.png")
    assert found.verdict == "hit"
    assert next(step.sentence for step in found.steps if step.name == "mask").startswith(
        "of 3 regions that its sidecar gave, 3 are indexed: no box was given, so the region among the hits"
    )
    blue = answer.explain("0.png", (34, 8, 48, 40))  # which the segmenter sees, and the sidecar did not give
    assert (blue.verdict, "its sidecar gave" in blue.sentence) == ("no_mask", True)
    corner = answer.explain("0.png", CORNER)  # which the segmenter does not see
    assert corner.verdict == "hit"
    assert "region 2 in the index" in str(corner.to_text())
    empty = answer.explain("1.png")
    assert (empty.verdict, empty.sentence) == ("empty", "it was indexed as empty: its sidecar gives it no region")
    give(photos / "0.png", WHOLE)  # after it was indexed: what the index has counts
    assert answer.explain("0.png", CORNER).verdict == "hit"
    assert client.compare(photos / "2.png", RED_BOX).left_out == ()


def test_a_stored_region_is_a_question(client: Client, photos: Path) -> None:
    corner = RegionRef(ImageRef(str(photos), "0.png"), 2)
    assert client.query(corner, limit=1).hits[0].ref == corner


def test_another_layer_for_the_same_regions(client: Client, photos: Path, tmp_path: Path) -> None:
    give(photos / "1.png", WHOLE)  # of an image without regions no features are kept
    client.index(photos)
    before = boxes_of(client, photos / "0.png")
    layer = layer_file(tmp_path / "other.safetensors")
    assert client.hash_layers.apply(layer).carried == 3
    assert boxes_of(client, photos / "0.png") == before
    assert client.index(photos).unchanged == 3


def test_other_models_take_the_sidecars_regions(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = TwoPresets()
    both.install(monkeypatch)
    with opened_presets(MemoryIndexStore()) as client:
        ingest = client._parts.connection.settings.ingest
        ingest.sidecar_suffix, ingest.regions_from = ".json", "sidecar"
        client._parts.connection.settings.models.preset = "pico"
        client.index(photos)
        client._parts.connection.settings.models.preset = None
        assert client.models.apply(NEW).encoded == 3
        assert boxes_of(client, photos / "0.png") == [WHOLE, RED_BOX, CORNER]
        assert client.index(photos).unchanged == 3


def test_regions_from_sidecars_need_sidecars(tmp_path: Path, photos: Path, machine: Machine) -> None:  # noqa: ARG001
    settings = settings_of(tmp_path, "memory://")
    settings.ingest.sidecar_suffix = None
    with Client(settings, indexes=MemoryIndexStore()) as client, pytest.raises(SettingsError, match="SIDECAR_SUFFIX"):
        client.index(photos)


def test_true_masks_of_scenes_with_pico(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    scenes = dict(generate_demo_scenes(2, seed=11))
    for name, scene in scenes.items():
        Image.fromarray(scene.image).save(folder / name)
        masks = [encode_rle(one.mask) for one in scene.objects]
        regions = [{"segmentation": {"size": one.size, "counts": one.counts}, "score": 0.5} for one in masks]
        (folder / f"{name}.json").write_text(json.dumps({"regions": regions}))
    with Client(settings_of(tmp_path, "memory://"), indexes=MemoryIndexStore()) as client:
        report = client.index(folder)
        assert (report.indexed, report.regions) == (2, sum(len(scene.objects) for scene in scenes.values()))
        for name, scene in scenes.items():
            by_area = sorted(scene.objects, key=lambda one: -one.area_px)
            own = client.regions(ImageRef(str(folder), name))
            assert [one.area_px for one in own] == [one.area_px for one in by_area]
            assert [one.box_xyxy for one in own] == [tuple(map(float, one.box_xyxy)) for one in by_area]
            for row, thing in zip(own, by_area, strict=True):
                kept = mask_of_size(row.mask, *thing.mask.shape)
                assert (kept & thing.mask).sum() / (kept | thing.mask).sum() > 0.6, "a cell is four pixels"
                assert np.isclose(row.score, 0.5)
        name, scene = next(iter(scenes.items()))
        largest = max(scene.objects, key=lambda one: one.area_px)
        assert client.query(folder / name, largest.mask, limit=1).hits[0].ref == RegionRef(
            ImageRef(str(folder), name), 0
        )
