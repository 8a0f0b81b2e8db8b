"""A device that turns sick is not the images' fault: nothing is recorded against them, and the run ends at once."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.indexing import GREEN_BLUE, POISONED, RED, Setting, png, whole
from fakes.models import SickDevice, SmallMemory, drawn, fake_encoder, lazy_fakes
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.cli.app import run
from searchanything.core.errors import DeviceError
from searchanything.core.rows import Outcome
from searchanything.encode.canary import check_models
from searchanything.ingest.plan import IndexingOptions

SOUND = [RED, GREEN_BLUE, png(drawn(33, 33, blue=(3, 3, 20, 20)))]


class SickEmbedder:
    """Fails at whatever it is given; the segmenter is well."""

    dimension = fake_encoder().embedder.dimension
    crop_size_px = 16
    description = fake_encoder().embedder.description

    def embed_crops(self, _crops: object) -> object:
        raise ValueError("the activations are not finite")

    def embed_many(self, _crops: object) -> object:
        raise ValueError("the activations are not finite")

    def embed_texts(self, _texts: object) -> object:
        raise ValueError("the activations are not finite")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Tracebacks take long to write."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(logging.getLogger("searchanything.ingest.pipeline"), "disabled", True)
        yield


@settings(max_examples=25, deadline=None)
@given(healthy_calls=st.integers(0, 14), batch=st.integers(1, 8), poisoned=st.sets(st.integers(0, 8), max_size=3))
def test_no_image_is_condemned_whenever_the_device_turns_sick(
    healthy_calls: int, batch: int, poisoned: set[int]
) -> None:
    setting = Setting()
    for number in range(9):
        setting.store.put(f"{number:02}.png", POISONED if number in poisoned else SOUND[number % 3])
    well = setting.encoder
    setting.encoder = replace(well, segmenter=SickDevice(healthy_calls=healthy_calls))
    options = IndexingOptions(batch_images=batch, transfer_threads=2)
    for _ in range(4):  # more often than an image may fail
        with suppress(DeviceError):
            setting.run(options=options)
        failed = {key for key, row in setting.visible().items() if row[1] is Outcome.FAILED}
        assert failed <= {f"{number:02}.png" for number in poisoned}
    setting.encoder = well
    report = setting.run(options=options)
    outcomes = {key: row[1] for key, row in setting.visible().items()}
    assert len(outcomes) == 9
    assert {key for key, one in outcomes.items() if one is not Outcome.INDEXED} == {
        f"{number:02}.png" for number in poisoned
    }
    assert report.failed == len(poisoned)
    whole(setting.index)


def test_a_device_that_is_sick_in_its_second_model_is_known_by_an_image_without_regions() -> None:
    with pytest.raises(DeviceError, match="ValueError: the activations are not finite"):
        check_models(replace(fake_encoder(), embedder=SickEmbedder()))
    check_models(fake_encoder())


def test_a_batch_too_large_for_the_devices_memory_is_halved() -> None:
    setting = Setting()
    setting.encoder = replace(setting.encoder, segmenter=SmallMemory(most=3))
    for number in range(16):
        setting.store.put(f"{number:02}.png", RED)
    report = setting.run(options=IndexingOptions(batch_images=16, transfer_threads=2))
    assert (report.indexed, report.failed) == (16, 0)


def test_an_image_that_fails_alone_is_still_its_own_fault() -> None:
    setting = Setting()
    setting.store.put("bad.png", POISONED)
    setting.store.put("good.png", RED)
    report = setting.run()
    assert (report.indexed, report.failed) == (1, 1)
    assert setting.row("bad.png").attempts == 1


def test_the_error_names_its_process_and_travels_between_processes() -> None:
    error = DeviceError("RuntimeError: CUDA error", host="gpu-7", pid=4711)
    same = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (same.reason, same.host, same.pid, str(same)) == (error.reason, "gpu-7", 4711, str(error))
    assert "process 4711 on gpu-7" in str(error)


def test_the_command_line_says_whose_fault_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fakes.models import CHANNELS, FakeEmbedder

    from searchanything.models import presets
    from searchanything.models.hashing import HashLayer

    models = lazy_fakes(SickDevice(healthy_calls=1), FakeEmbedder())
    monkeypatch.setattr(presets, "lazy_models", lambda *_: models)
    layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=5)
    monkeypatch.setattr(presets, "load_hash", lambda _: layer)
    monkeypatch.setattr("searchanything.wiring._models", {})
    monkeypatch.setenv("SEARCHANYTHING_INGEST__BATCH_IMAGES", "2")
    monkeypatch.setenv("SEARCHANYTHING_INGEST__HASH_SAMPLE_IMAGES", "0")
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(RED)
    arguments = ["index", str(folder), "--preset", "pico", "--uri", "memory://sick"]
    assert run(arguments) == 1
    said = capsys.readouterr()
    assert "CUDA error: device-side assert triggered" in said.err
    assert "nothing is recorded against the images" in said.err
