"""Whole runs on a stand-in for a GPU, whose queues and threads have to wait for each other: `fakes.queued_device`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from fakes.queue_order import QueueOrder
from fakes.queued_device import queued_gpu
from PIL import Image

import searchanything
from searchanything.core.settings import Settings
from searchanything.hash_training import deep

SIZES = [(96, 128), (60, 90), (70, 120), (96, 128), (300, 40)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images, and one without regions."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        scene = tiny_models.scene(*SIZES[number % len(SIZES)], seed=number)
        Image.fromarray(scene).save(folder / f"{number}.png")
    Image.fromarray(np.full((50, 70, 3), 128, np.uint8)).save(folder / "plain.png")
    return folder


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueOrder]:
    """The device. Training, which has one queue, is the host's."""
    fit = deep.fit_deep
    with queued_gpu() as made:
        monkeypatch.setattr("searchanything.wiring._models", {})
        monkeypatch.setattr(deep, "fit_deep", lambda *rows, options, **how: fit(*rows, options=on_host(options), **how))
        yield made


def on_host(options: deep.DeepOptions) -> deep.DeepOptions:
    return dataclasses.replace(options, device="cpu")


def settings_of(preset: str, tmp_path: Path) -> Settings:
    settings = Settings(_env_file=None)
    settings.milvus.uri = "memory://"
    settings.models.preset, settings.models.device = preset, "cuda"
    settings.models.precision = settings.models.segmenter_precision = "fp32"
    settings.models.measured_dir = tmp_path / "measured"
    settings.ingest.batch_images = 3
    settings.ingest.hash_sample_images, settings.ingest.hash_least_regions = 4, 40  # batches are known in part
    return settings


@pytest.fixture
def pico(tmp_path: Path) -> Settings:
    return settings_of("pico", tmp_path)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A preset without a hash, of tiny models."""
    settings = settings_of("small", tmp_path)
    settings.models.weights_dir = tiny_models.save_small_preset(tmp_path / "weights", monkeypatch)
    return settings


def test_a_preset_with_a_hash(pico: Settings, images: Path, device: QueueOrder) -> None:
    with searchanything.Client(pico) as client:
        report = client.index(images)
        assert (report.indexed + report.empty, report.failed) == (9, 0)
        assert {"cut", "embed"} <= report.timings_ms.keys(), "the device made the crops"
        assert client.query(images / "1.png", limit=3).hits[0].image.key == "1.png"
    assert device.faults == []


def test_a_preset_whose_hash_is_trained_first(small: Settings, images: Path, device: QueueOrder) -> None:
    with searchanything.Client(small) as client:
        assert client.index(images).failed == 0
        assert client.status().to_dict()["hash"] == "trained"
        assert client.query(images / "1.png", limit=3).hits[0].distance_bits == 0
    assert device.faults == []
