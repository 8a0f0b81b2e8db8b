"""What `auto` is on CUDA: fp16 where it is the same and not slower. The device is torch's word; towers are fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np
import pytest
import torch
from fakes.models import PALETTE, FakeEmbedder, FakeSegmenter, GridMap

from searchanything.core.errors import ModelError, ModelLoadError
from searchanything.core.protocols import Segmentation
from searchanything.core.settings import ModelSettings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.models import measurements, openclip, precision, presets
from searchanything.models.compute import CPU, arithmetic, prepare_compute
from searchanything.models.lazy import LazyEncoder
from searchanything.models.measurements import ModelFacts
from searchanything.models.precision import ENCODERS, SEGMENTERS, known_precision, settle_precision, settling
from searchanything.models.presets import load_segmenter
from searchanything.models.probes import embeddings_agree, probe_crops, probe_images, segmentations_agree

MODEL: ModelFacts = {"encoder": "tower", "weights_sha256": "0" * 64}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Tower(FakeEmbedder):
    """An encoder that takes so long for a batch by a clock of its own, and changes what it says."""

    def __init__(
        self, clock: Clock, seconds: float, change: Callable[[FloatArray], FloatArray] = lambda rows: rows
    ) -> None:
        super().__init__()
        self._clock, self._seconds, self._change = clock, seconds, change

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        self._clock.now_s += self._seconds
        return self._change(super().embed_crops(crops))


def turned(rows: FloatArray, cosine: float) -> FloatArray:
    """Rows at that cosine to the given ones."""
    other = np.roll(rows, 1, axis=1)
    other -= (other * rows).sum(axis=1, keepdims=True) * rows
    other /= np.maximum(np.linalg.norm(other, axis=1, keepdims=True), 1e-9)
    return np.asarray(rows * cosine + other * np.sqrt(1 - cosine**2), dtype=np.float32)


def with_one(value: float) -> Callable[[FloatArray], FloatArray]:
    def changed(rows: FloatArray) -> FloatArray:
        found = rows.copy()
        found[len(rows) // 2, 0] = value
        return found

    return changed


@pytest.mark.parametrize(
    ("half_s", "full_s", "change", "expected"),
    [
        (1.0, 3.0, lambda rows: rows, "fp16"),
        (3.0, 1.0, lambda rows: rows, "fp32"),  # a card without fast fp16
        (1.0, 1.0, lambda rows: rows, "fp16"),
        (1.06, 1.0, lambda rows: rows, "fp32"),
        (1.0, 3.0, lambda rows: turned(rows, 0.99995), "fp16"),
        (1.0, 3.0, lambda rows: turned(rows, 0.9993), "fp32"),
        (1.0, 3.0, with_one(float("nan")), "fp32"),
        (1.0, 3.0, with_one(float("inf")), "fp32"),
        (1.0, 3.0, lambda rows: -rows, "fp32"),
    ],
    ids=["faster", "slower", "as fast", "a little slower", "nearly the same", "others", "nan", "inf", "opposite"],
)
def test_fp16_is_taken_where_it_is_the_same_and_not_slower(
    half_s: float, full_s: float, change: Callable[[FloatArray], FloatArray], expected: str
) -> None:
    clock = Clock()
    half, full = Tower(clock, half_s, change), Tower(clock, full_s)
    encoder, precision, compared = settle_precision(ENCODERS, half, lambda: full, clock=clock)
    assert (precision, compared) == (expected, True)
    assert encoder is (half if expected == "fp16" else full)


def test_one_row_that_differs_is_enough() -> None:
    rows = FakeEmbedder().embed_crops(probe_crops(16))
    assert embeddings_agree(rows, rows)
    other = rows.copy()
    other[5] = -other[5]
    assert not embeddings_agree(rows, other)


def test_a_device_without_room_for_fp32_stays_with_fp16_and_is_asked_again() -> None:
    def no_room() -> FakeEmbedder:
        raise torch.OutOfMemoryError("CUDA out of memory")

    half = FakeEmbedder()
    assert settle_precision(ENCODERS, half, no_room) == (half, "fp16", False)

    def broken() -> FakeEmbedder:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="assert"):
        settle_precision(ENCODERS, half, broken)


def test_no_room_while_open_clip_loads_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(openclip, "import_open_clip", lambda: SimpleNamespace(create_model=create_model))
    source = openclip._Source("tower", "tower", None, 4, {}, "0" * 64)
    half = FakeEmbedder()
    with pytest.raises(ModelError):
        openclip._load(source, CPU)
    assert settle_precision(ENCODERS, half, lambda: openclip._load(source, CPU)) == (half, "fp16", False)  # type: ignore[arg-type, return-value]


def test_weights_that_cannot_be_loaded_twice_end_the_run_and_blame_no_image() -> None:
    def settle(_model: object) -> tuple[FakeEmbedder, str]:
        raise ModelError("the file is gone")

    encoder = LazyEncoder("tower", FakeEmbedder, dimension=4, description=MODEL, settle=settle)
    with pytest.raises(ModelLoadError, match="gone"):
        encoder.settle()


def test_the_two_take_turns_so_that_other_work_slows_both() -> None:
    clock, order = Clock(), list[str]()

    class Busy(Tower):
        def embed_crops(self, crops: RGBImage) -> FloatArray:
            order.append("half" if self is half else "full")
            return super().embed_crops(crops)

    half, full = Busy(clock, 1.0), Busy(clock, 1.0)
    settle_precision(ENCODERS, half, lambda: full, clock=clock)
    assert order == ["half", "full"] * (len(order) // 2)


def test_probes_are_always_the_same_and_of_all_kinds() -> None:
    crops = probe_crops(32)
    assert crops.shape == (64, 32, 32, 3)
    assert np.array_equal(crops, probe_crops(32))
    assert {0, 255} <= {int(crop.min()) for crop in crops if crop.min() == crop.max()}
    assert len({crop.tobytes() for crop in crops}) > 60


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine with one CUDA device, as far as torch is asked."""
    device = {"name": "NVIDIA P100"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: device["name"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 0) if "P100" in device["name"] else (9, 0))
    return device


class Machine:
    """A preset's encoder on that device: loads are counted, and fp16 is slow or fast."""

    def __init__(self, folder: Path, *, half_s: float) -> None:
        self.settings = ModelSettings(measured_dir=folder)
        self.loads: list[str] = []
        self._half_s = half_s
        self._clock = Clock()

    def load(self, precision: str | None) -> Tower:
        self.loads.append(precision or "fp16")
        if precision == "fp32":
            return Tower(self._clock, 1.0)
        return Tower(self._clock, self._half_s, lambda rows: turned(rows, 0.99995))

    def encoder(self, monkeypatch: pytest.MonkeyPatch, model: ModelFacts = MODEL) -> LazyEncoder:
        """As in a new process."""
        defaults = settle_precision.__kwdefaults__
        monkeypatch.setattr(settle_precision, "__kwdefaults__", {**(defaults or {}), "clock": self._clock})
        self.loads.clear()
        known = known_precision(ENCODERS, model, self.settings)
        return LazyEncoder(
            "tower",
            lambda: self.load(known),
            dimension=FakeEmbedder.dimension,
            description=model,
            settle=settling(ENCODERS, model, self.settings, self.load),
        )


CROPS = probe_crops(16)
EXACT = FakeEmbedder().embed_crops(CROPS)


@pytest.mark.usefixtures("cuda")
def test_a_run_decides_before_its_first_code_and_other_processes_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, half_s=3.0)
    encoder = machine.encoder(monkeypatch)
    encoder.settle()
    assert np.array_equal(encoder.embed_many(CROPS), EXACT), "the slow fp16 made no code"
    assert (machine.loads, encoder.precision) == (["fp16", "fp32"], "fp32")
    encoder.settle()
    assert np.array_equal(encoder.embed_crops(CROPS), EXACT), "queries have the run's arithmetic"
    assert machine.loads == ["fp16", "fp32"]
    encoder = machine.encoder(monkeypatch)
    encoder.settle()
    encoder.embed_many(CROPS)
    assert machine.loads == ["fp32"]
    assert known_precision(ENCODERS, MODEL, machine.settings) == "fp32"
    assert arithmetic(machine.settings, encoder="fp32") == "cuda: segmenter fp32 without TF32, encoder fp32"
    assert prepare_compute(machine.settings, "encoder", "fp32").dtype is torch.float32


@pytest.mark.parametrize(("measured", "loads"), [("tf32x3", [None, "tf32x3"]), ("fp32", [None])])
def test_what_another_process_has_measured_since_is_taken_and_not_measured_again(
    measured: str, loads: list[str | None], cuda: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda["name"] = "NVIDIA H200"
    loaded = list[str | None]()

    def load(_name: str, _settings: ModelSettings, precision: str | None = None) -> FakeSegmenter:
        loaded.append(precision)
        return FakeSegmenter()

    monkeypatch.setattr(presets, "load_segmenter", load)
    asked = ModelSettings(measured_dir=tmp_path)
    segmenter, _ = presets.lazy_models("pico", asked)
    question = precision._question(SEGMENTERS, segmenter.description, asked)
    measurements.Measurements(tmp_path).keep(question, {"precision": measured})
    segmenter.settle()
    assert (segmenter.precision, loaded) == (measured, loads)
    assert known_precision(SEGMENTERS, segmenter.description, asked) == measured


@pytest.mark.usefixtures("cuda")
def test_a_query_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, half_s=3.0)
    encoder = machine.encoder(monkeypatch)
    encoder.embed_crops(CROPS)
    encoder.embed_texts(["red"])
    assert (machine.loads, encoder.precision) == (["fp16"], None)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("change", [{"precision": "fp16"}, {"precision": "fp32"}, {"device": "cpu"}], ids=str)
def test_a_precision_that_is_asked_for_is_obeyed(
    change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, half_s=3.0)
    machine.encoder(monkeypatch).settle()
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["answer"] == {"precision": "fp32"}
    asked = ModelSettings(measured_dir=tmp_path, **change)
    assert known_precision(ENCODERS, MODEL, asked) is None
    assert settling(ENCODERS, MODEL, asked, machine.load) is None


@pytest.mark.parametrize(
    "change", [{"name": "NVIDIA H200"}, {"torch": "9.9"}, {"version": 99}, {"weights_sha256": "1" * 64}], ids=str
)
def test_another_machine_or_model_is_measured_anew(
    change: dict[str, str | int], cuda: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, half_s=3.0)
    machine.encoder(monkeypatch).settle()
    cuda["name"] = str(change.get("name", cuda["name"]))
    monkeypatch.setattr(torch, "__version__", change.get("torch", torch.__version__))
    monkeypatch.setattr(measurements, "VERSION", change.get("version", measurements.VERSION))
    model = {**MODEL, "weights_sha256": change.get("weights_sha256", MODEL["weights_sha256"])}
    assert known_precision(ENCODERS, model, machine.settings) is None
    machine.encoder(monkeypatch, model).settle()
    assert machine.loads == ["fp16", "fp32"]


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("answer", ["", '{"precision": "bf16"}', '{"precision": 7}', "[]", "null"])
def test_a_damaged_answer_is_measured_anew(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, half_s=0.1)
    machine.encoder(monkeypatch).settle()
    (file,) = tmp_path.iterdir()
    sound = file.read_text()
    file.write_text(sound.partition('"answer"')[0] + f'"answer": {answer}}}')
    encoder = machine.encoder(monkeypatch)
    encoder.settle()
    assert (machine.loads, encoder.precision) == (["fp16", "fp32"], "fp16")
    assert file.read_text() == sound


class Segmenting(FakeSegmenter):
    """A segmenter that takes so long for a batch by a clock of its own, and changes what it finds."""

    def __init__(
        self, clock: Clock, seconds: float, change: Callable[[Segmentation], Segmentation] = lambda one: one
    ) -> None:
        super().__init__()
        self._clock, self._seconds, self._change = clock, seconds, change

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        self._clock.now_s += self._seconds
        return [self._change(one) for one in super().segment(images)]


def without_first(one: Segmentation) -> Segmentation:
    return replace(one, boxes_xyxy=one.boxes_xyxy[1:], scores=one.scores[1:], masks=one.masks[1:])


def one_more(one: Segmentation) -> Segmentation:
    twice = [np.concatenate([values, values[:1]]) for values in (one.boxes_xyxy, one.scores, one.masks)]
    return replace(one, boxes_xyxy=twice[0], scores=twice[1], masks=twice[2])


def wider_masks(one: Segmentation) -> Segmentation:
    return replace(one, masks=one.masks | np.roll(one.masks, 1, axis=2))


def moved_boxes(one: Segmentation) -> Segmentation:
    return replace(one, boxes_xyxy=one.boxes_xyxy + np.float32(2))


def with_features(scale: float) -> Callable[[Segmentation], Segmentation]:
    def changed(one: Segmentation) -> Segmentation:
        features = cast("GridMap", one.features)
        cells = features.cells + np.float32(scale) * np.roll(features.cells, 1, axis=2)
        return replace(one, features=GridMap(cells, features.coverage))

    return changed


def coloured() -> list[RGBImage]:
    """Images in which the fake segmenter finds regions."""
    images = [np.full((64, 96, 3), 255, dtype=np.uint8) for _ in range(3)]
    for number, image in enumerate(images):
        for place, colour in enumerate(PALETTE.values()):
            image[8 : 40 + number, 16 * place % 80 : 16 * place % 80 + 14] = colour
    return images


@pytest.mark.parametrize(
    ("quick_s", "exact_s", "change", "expected"),
    [
        (1.0, 3.0, lambda one: one, "tf32x3"),
        (1.0, 1.0, lambda one: one, "fp32"),
        (1.0, 3.0, without_first, "fp32"),
        (1.0, 3.0, one_more, "fp32"),
        (1.0, 3.0, wider_masks, "fp32"),
        (1.0, 3.0, moved_boxes, "fp32"),
        (1.0, 3.0, with_features(0.5), "fp32"),
        (1.0, 3.0, with_features(1e-6), "tf32x3"),
        (1.0, 3.0, with_features(float("nan")), "fp32"),
    ],
    ids=["quicker", "as fast", "fewer", "more", "masks", "boxes", "features", "nearly the same", "nan"],
)
def test_tf32x3_is_taken_where_its_regions_are_the_same_and_it_is_quicker(
    quick_s: float, exact_s: float, change: Callable[[Segmentation], Segmentation], expected: str
) -> None:
    clock = Clock()
    exact, quick = Segmenting(clock, exact_s), Segmenting(clock, quick_s, change)
    rivals = replace(SEGMENTERS, probes=lambda _: coloured())
    segmenter, precision, compared = settle_precision(rivals, exact, lambda: quick, clock=clock)
    assert (precision, compared) == (expected, True)
    assert segmenter is (quick if expected == "tf32x3" else exact)


def test_images_without_regions_are_compared_by_their_features() -> None:
    clock, plain = Clock(), [np.full((64, 96, 3), 255, dtype=np.uint8)]
    some = Segmenting(clock, 1.0).segment(plain)
    assert not len(some[0].scores)
    assert segmentations_agree(some, some)
    assert not segmentations_agree(Segmenting(clock, 1.0, with_features(0.5)).segment(plain), some)


def test_pico_finds_regions_in_the_probes() -> None:
    images = probe_images()
    assert all(np.array_equal(one, other) for one, other in zip(images, probe_images(), strict=True))
    segmenter = load_segmenter("pico", ModelSettings(device="cpu"))
    found = segmenter.segment(images[:2])
    assert min(len(one.scores) for one in found) > 5
    assert segmentations_agree(segmenter.segment(images[:2]), found)
    assert not segmentations_agree(found, found[::-1])


@pytest.mark.parametrize(
    ("name", "asked", "is_open"),
    [
        ("NVIDIA H200", "auto", True),
        ("NVIDIA H200", "fp32", False),
        ("NVIDIA H200", "tf32x3", False),
        ("NVIDIA P100", "auto", False),
    ],
)
def test_the_segmenters_precision_is_open_where_there_are_tensor_cores(
    name: str, asked: Literal["auto", "fp32", "tf32x3"], is_open: bool, cuda: dict[str, str], tmp_path: Path
) -> None:
    cuda["name"] = name
    settings = ModelSettings(measured_dir=tmp_path, segmenter_precision=asked)
    settle = settling(SEGMENTERS, MODEL, settings, lambda _: FakeSegmenter())
    assert (settle is not None) is is_open
    compute = prepare_compute(settings, "segmenter")
    assert compute.precision == ("tf32x3" if asked == "tf32x3" else "fp32")
    measured = prepare_compute(settings, "segmenter", "tf32x3")
    assert measured.precision == ("tf32x3" if is_open or asked == "tf32x3" else "fp32")
    assert measured.dtype is torch.float32


@pytest.mark.usefixtures("cuda")
def test_half_a_trunk_has_a_head_on_tensor_cores(cuda: dict[str, str]) -> None:
    cuda["name"] = "NVIDIA H200"
    half = prepare_compute(ModelSettings(segmenter_precision="fp16"), "segmenter")
    assert (half.precision, half.tensor_cores) == ("fp16", True)
    assert not prepare_compute(ModelSettings(), "encoder").tensor_cores
