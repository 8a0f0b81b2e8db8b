"""Presets: weights as data, told honestly, and loaded through one path."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from searchanything.core.errors import ModelError, PresetError, SettingsError, WeightsMissingError
from searchanything.core.settings import ModelSettings
from searchanything.models import presets, weights
from searchanything.models.compute import Compute, prepare_compute
from searchanything.models.hashing import HashLayer
from searchanything.models.options import SegmenterOptions
from searchanything.models.presets import PRESETS, SMALL

RECORDS = [record for preset in PRESETS.values() for record in preset.records]


def test_the_paper_preset_has_the_papers_constants() -> None:
    paper = PRESETS["paper"]
    assert paper.options == SegmenterOptions(input_size_px=1024, confidence=0.25, iou=0.7, max_detections=100)
    assert (paper.feature_dimension, paper.embedding_dimension, paper.architecture) == (320, 1024, "ViT-H-14")
    assert paper.segmenter.file_name == "FastSAM-x.pt"
    assert "laion2b_s32b_b79k" in paper.encoder.name


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_records_are_complete(record: weights.WeightsRecord) -> None:
    assert record.preset in PRESETS
    assert record.licence
    assert record.approximate_bytes > 0
    assert record.sha256 is None or (len(record.sha256) == 64 and set(record.sha256) <= set("0123456789abcdef"))
    assert record.address is None or record.address.startswith("https://")
    assert (record.address is None) == (record.preset == "pico")


def test_records_do_not_overwrite_each_other() -> None:
    """Presets may share a file; then it is the same one."""
    places = {(record.file_name, record.address, record.sha256) for record in RECORDS}
    assert len({name for name, _, _ in places}) == len(places)


def test_revisions_are_pinned_by_the_address_where_they_are_stated() -> None:
    pinned = [record for record in RECORDS if record.revision is not None]
    assert {record.preset for record in pinned} == {"base", "large"}
    for record in pinned:
        assert record.revision is not None
        assert len(record.revision) == 40
        assert f"/resolve/{record.revision}/" in str(record.address)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(PresetError, match="pico, small, paper, base, large, multilingual"):
        presets.find_preset("huge")


@pytest.mark.parametrize("load", [presets.load_segmenter, presets.load_region_encoder, presets.describe])
def test_missing_weights_say_how_to_fetch_them(load: object, tmp_path: Path) -> None:
    assert callable(load)
    with pytest.raises(WeightsMissingError, match="searchanything models fetch small"):
        load("small", ModelSettings(weights_dir=tmp_path))


@pytest.mark.parametrize("name", ["small", "paper", "base", "large", "multilingual"])
def test_presets_without_a_trained_hash_take_a_random_rotation(name: str) -> None:
    hasher = presets.load_hash(name)
    assert isinstance(hasher, HashLayer)
    assert (hasher.bits, hasher.trained) == (256, False)
    preset = presets.find_preset(name)
    assert (hasher.mask_dimension, hasher.image_dimension) == (preset.feature_dimension, preset.embedding_dimension)
    assert hasher.provenance["seed"] == "256"  # the same each time: test_hashing.py


def test_an_untrained_hash_is_the_same_each_time() -> None:
    assert presets.load_hash("small").digest == presets.untrained_hash("small").digest


def test_statuses_tell_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "FastSAM-s.pt").write_bytes(b"weights")
    statuses = {status.record.name: status for status in presets.fetch_statuses(tmp_path)}
    assert statuses["FastSAM-s"].path == tmp_path / "FastSAM-s.pt"
    assert statuses["FastSAM-s"].sha256 is None
    assert statuses["FastSAM-x"].path is None
    assert len(statuses) == len({record.name for record in RECORDS})  # presets share files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package's weights folder with tiny models under pico's names."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_models.save_encoder(folder / "pico" / "encoder")
    tiny_models.save_segmenter(folder / "pico" / "segmenter.pt")
    return folder


@pytest.fixture
def pico(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSettings:
    monkeypatch.setattr(weights, "PACKAGED_WEIGHTS", folder)
    tiny = dataclasses.replace(PRESETS["pico"], embedding_dimension=32, feature_dimension=64)
    monkeypatch.setattr(presets, "PRESETS", {"pico": tiny})
    return ModelSettings(device="cpu")


def test_descriptions_need_no_model(pico: ModelSettings) -> None:
    segmenter, encoder = presets.load_segmenter("pico", pico), presets.load_region_encoder("pico", pico)
    assert presets.describe("pico", pico) == (segmenter.description, encoder.description)
    assert segmenter.description["input_size_px"] == PRESETS["pico"].options.input_size_px


def test_weights_of_other_dimensions_are_refused(pico: ModelSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(PRESETS["pico"], embedding_dimension=7, feature_dimension=8)
    monkeypatch.setattr(presets, "PRESETS", {"pico": wrong})
    with pytest.raises(ModelError, match="gives 64 features, the preset pico expected 8"):
        presets.load_segmenter("pico", pico)
    with pytest.raises(ModelError, match="gives 32 features, the preset pico expected 7"):
        presets.load_region_encoder("pico", pico)


def test_fetched_weights_load_like_packaged_ones(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(folder / "pico" / "segmenter.pt", tmp_path / "FastSAM-s.pt")
    monkeypatch.setattr(presets, "PRESETS", {"small": dataclasses.replace(SMALL, feature_dimension=64)})
    segmenter = presets.load_segmenter("small", ModelSettings(weights_dir=tmp_path, device="cpu"))
    assert segmenter.description["input_size_px"] == 1024


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "xpu"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        prepare_compute(ModelSettings(device=name), "encoder")


def test_the_cpu_computes_in_fp32_unless_told_otherwise() -> None:
    assert str(prepare_compute(ModelSettings(device="cpu"), "encoder").dtype) == "torch.float32"
    assert str(prepare_compute(ModelSettings(device="cpu", precision="bf16"), "encoder").dtype) == "torch.bfloat16"


def test_settings_say_how_many_crops_pass_at_once_and_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compute, "crops_to_try", lambda _: (1, 2))
    monkeypatch.setattr(Compute, "crops_at_once", lambda _: 2)
    crops = np.zeros((40, 96, 96, 3), np.uint8)
    asked = presets.load_region_encoder("pico", ModelSettings(device="cpu", measured_dir=tmp_path, encoder_batch=7))
    measured = ModelSettings(device="cpu", measured_dir=tmp_path)
    first = presets.load_region_encoder("pico", measured)
    assert (asked.crops_at_once, first.crops_at_once) == (7, 2)  # type: ignore[attr-defined]  # open_clip's adapter
    asked.embed_many(crops)
    first.embed_crops(crops)
    assert not list(tmp_path.iterdir())
    first.embed_many(crops)
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    assert document["question"].items() >= first.description.items()
    again = presets.load_region_encoder("pico", measured)
    assert again.crops_at_once == document["answer"]["at_once"]  # type: ignore[attr-defined]
