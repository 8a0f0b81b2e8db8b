"""What the client loads and computes, and when: nothing that the question at hand does not need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.index_rows import manifest_of
from fakes.machine import Machine, machine_with_images
from fakes.models import FakeSegmenter, drawn
from PIL import Image

import searchanything
from searchanything import wiring
from searchanything.core.errors import IndexMismatchError, ModelLoadError, PresetError, UsageError
from searchanything.core.protocols import RegionEncoder, Segmenter
from searchanything.core.settings import Settings
from searchanything.encode.encoder import Stopwatch
from searchanything.models import presets
from searchanything.models.hashing import HashLayer
from searchanything.prompts.prompt import Box, Prompts, WholeImage


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return machine_with_images(monkeypatch, tmp_path)


def connected(uri: str = "memory://") -> searchanything.Client:
    settings = Settings(_env_file=None)
    settings.milvus.uri = uri
    settings.models.preset = "pico"
    return searchanything.connect(settings=settings)


def forget(client: searchanything.Client) -> None:
    """As if another process had opened the index."""
    client._models._opened.clear()
    client._models._asking.clear()
    client._models._remembering.clear()


def test_an_unchanged_folder_loads_no_models(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected() as client:
        assert client.index(tmp_path / "images").indexed == 3
        assert sorted(machine.loads) == ["encoder", "segmenter"]
        machine.loads.clear()
        monkeypatch.setattr(wiring, "_models", {})  # as in another process
        forget(client)
        report = client.index(tmp_path / "images")
        assert (report.unchanged, report.indexed) == (3, 0)
        assert client.status().images == 3
        assert machine.loads == []
        Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(tmp_path / "images" / "new.png")
        assert client.index(tmp_path / "images").indexed == 1
        assert sorted(machine.loads) == ["encoder", "segmenter"]


def test_damaged_weights_end_the_run_and_blame_no_image(machine: Machine, tmp_path: Path) -> None:
    machine.damaged = True
    with connected() as client:
        with pytest.raises(ModelLoadError, match="segmenter: bad magic number"):
            client.index(tmp_path / "images")
        assert (client.status().images, client.status().failed) == (0, 0)
        machine.damaged = False
        assert client.index(tmp_path / "images").indexed == 3
        forget(client)


def test_six_prompts_on_one_image_segment_it_once(machine: Machine, tmp_path: Path) -> None:
    image = tmp_path / "images" / "0.png"
    with connected() as client:
        client.index(tmp_path / "images")
        machine.segmenter.batch_sizes.clear()
        prompts = [
            (10, 10),
            (4, 4, 32, 40),
            "red",
            [(10, 10), (50, 20)],
            Prompts((Box(0, 0, 64, 48),), text="blue"),
            None,
        ]
        for prompt in prompts:
            found = client.query(image, prompt, limit=3)
            assert {"open", "decode", "segment", "select", "search"} <= found.timings_ms.keys()
        client.segment(np.asarray(Image.open(image)))
        assert client.query(image, (10, 10)).explain("1.png").verdict == "hit"
        assert machine.segmenter.batch_sizes == [1, 1, 1]  # the query image, and the two others that `explain` looks at


@pytest.mark.usefixtures("machine")
def test_the_time_of_loading_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected() as client:
        client.index(tmp_path / "images")
        monkeypatch.setattr(wiring, "_models", {})
        forget(client)
        first, second = (client.query(tmp_path / "images" / "0.png", (10, 10)) for _ in range(2))
        assert "load_models" in first.timings_ms
        assert "load_models" not in second.timings_ms


@pytest.mark.usefixtures("machine")
def test_segment_with_a_preset_asks_no_index(tmp_path: Path) -> None:
    with connected("http://127.0.0.1:9") as client:  # nobody listens there
        assert len(client.segment(tmp_path / "images" / "0.png")) == 2


@pytest.mark.usefixtures("machine")
def test_segment_without_a_preset_follows_the_index(tmp_path: Path) -> None:
    with connected() as client:
        client._parts.connection.settings.models.preset = None
        with pytest.raises(PresetError, match="no preset chosen"):
            client.segment(tmp_path / "images" / "0.png")
        client._parts.connection.settings.models.preset = "pico"
        client.index(tmp_path / "images")
        client._parts.connection.settings.models.preset = None
        assert len(client.segment(tmp_path / "images" / "0.png").regions) == 2


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("page", [{"limit": 2.5}, {"limit": "3"}, {"limit": None}, {"offset": 0.5}, {"limit": 0}])
def test_a_page_takes_whole_numbers(tmp_path: Path, page: dict[str, object]) -> None:
    with connected() as client, pytest.raises(UsageError, match=r"expected a whole number of"):
        client.query(tmp_path / "images" / "0.png", WholeImage(), **page)  # type: ignore[arg-type]


def test_loading_is_a_stage_of_its_own(machine: Machine) -> None:
    encoder = wiring.load_encoder("pico", presets.load_hash("pico").to_bytes(), Settings(_env_file=None))
    assert machine.loads == []
    watch = Stopwatch()
    wiring.load_models(encoder, watch)
    wiring.load_models(encoder, watch)
    assert machine.loads == ["segmenter", "encoder"]
    assert list(watch.timings_ms) == ["load_models"]


def test_models_asked_for_by_name_and_by_the_index_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "_models", {})
    named, unnamed = Settings(_env_file=None), Settings(_env_file=None)
    named.models.preset = "pico"
    layer = wiring.hash_layer_of("pico", None, named)
    first, second = (wiring.load_encoder("pico", layer, settings) for settings in (named, unnamed))
    assert first.segmenter is second.segmenter
    assert first.embedder is second.embedder
    unnamed.models.threads = 1  # which the models are loaded with
    assert wiring.load_encoder("pico", layer, unnamed).segmenter is not first.segmenter


@pytest.mark.parametrize(("version", "said"), [(1, "an earlier searchanything made it"), (9, "upgrade this one")])
def test_an_index_of_another_version_says_so_and_blames_no_weights(
    machine: Machine,  # noqa: ARG001 - its images
    tmp_path: Path,
    version: int,
    said: str,
) -> None:
    with connected() as client:
        stored = replace(manifest_of("f" * 32), schema_version=version)
        client._indexes.create(stored, b"")
        client._indexes.switch(stored.fingerprint)
        image = tmp_path / "images" / "0.png"
        calls: list[Callable[[], object]] = [
            lambda: client.query(image, (5, 5)),
            client.status,
            lambda: client.index(tmp_path / "images"),
            lambda: client.sync(tmp_path / "images"),
            lambda: client.backup(tmp_path / "b.tar"),
        ]
        for call in calls:
            with pytest.raises(IndexMismatchError, match=said):
                call()


def test_other_models_are_not_blamed_on_the_hash_file(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected() as client:
        client.index(tmp_path / "images", hash_file="untrained")
        others = {**machine.embedder.description, "weights": "others"}
        monkeypatch.setattr(type(machine.embedder), "description", others)
        monkeypatch.setattr(wiring, "_models", {})
        forget(client)
        with pytest.raises(IndexMismatchError, match=r"made with other models .*different: encoder"):
            client.index(tmp_path / "images", hash_file="untrained")


def test_models_with_fewer_features_are_not_blamed_on_the_hash_layer(tmp_path: Path) -> None:
    """An index of a segmenter with half the channels: neither words nor cure are those of a wrong `--hash`."""
    Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(tmp_path / "0.png")
    with connected() as client:
        layer = HashLayer.random_rotation(32, 256, bits=256, seed=1).to_bytes()
        details = {"segmenter": {"weights": "others"}, "regions": {"policy": "largest", "count": 25}}
        stored = replace(manifest_of("f" * 32), details=details)
        client._indexes.create(stored, layer)
        client._indexes.switch(stored.fingerprint)
        with pytest.raises(IndexMismatchError, match=r"made with other models .*different: .*segmenter"):
            client.query(tmp_path / "0.png", (5, 5))


@pytest.mark.parametrize("hash_file", [None, "untrained"])
def test_a_new_index_notes_the_precision_that_was_decided_before_its_first_code(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hash_file: str | None
) -> None:
    decided: list[int] = []
    quick = FakeSegmenter()

    def settle(loaded: RegionEncoder) -> tuple[RegionEncoder, str]:
        decided.append(len(machine.segmenter.batch_sizes) + len(quick.batch_sizes))
        return loaded, "fp32"

    def settle_segmenter(loaded: Segmenter) -> tuple[Segmenter, str]:
        decided.append(len(machine.segmenter.batch_sizes) + len(quick.batch_sizes))
        assert loaded is machine.segmenter
        return quick, "tf32x3"

    machine.settle, machine.settle_segmenter = settle, settle_segmenter
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with connected() as client:
        assert client.index(tmp_path / "images", hash_file=hash_file).indexed == 3
        noted = client._models.manifest().details["arithmetic"]
        assert noted == "cuda: segmenter tf32x3, encoder fp32"
        assert decided == [0, 0], "once each, and before any image was looked at"
        assert quick.batch_sizes, "the images went through the one that was chosen"
        assert not machine.segmenter.batch_sizes
        monkeypatch.setattr(wiring, "_models", {})  # as in another process
        forget(client)
        machine.loads.clear()
        client.query(tmp_path / "images" / "0.png", (10, 10))
        assert client.index(tmp_path / "images").unchanged == 3
        assert len(decided) == 2, "no query decides, nor a run without work"
        Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(tmp_path / "images" / "new.png")
        assert client.index(tmp_path / "images").indexed == 1
        assert len(decided) == 4
