"""The OpenCLIP adapter on a tiny real model: open_clip's own numbers, and nothing from the network."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from searchanything.core.errors import ModelError, WeightsMissingError
from searchanything.core.types import RGBImage
from searchanything.models import passes
from searchanything.models.compute import Compute
from searchanything.models.measurements import Measurements
from searchanything.models.openclip import OpenClipEncoder
from searchanything.models.quiet import import_open_clip

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClipEncoder:
    return OpenClipEncoder.from_directory(folder)


@pytest.fixture(scope="module")
def crops() -> RGBImage:
    return np.stack([tiny_models.scene(SIDE, SIDE, seed=seed) for seed in range(7)])


def test_it_tells_its_dimensions(encoder: OpenClipEncoder) -> None:
    assert (encoder.dimension, encoder.crop_size_px) == (32, SIDE)
    assert encoder.description["encoder"] == "tiny"
    assert len(str(encoder.description["weights_sha256"])) == 64


def test_crops_match_open_clips_own_pipeline(encoder: OpenClipEncoder, folder: Path, crops: RGBImage) -> None:
    open_clip = import_open_clip()
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.inference_mode():
        batch = torch.stack([preprocess(Image.fromarray(crop)) for crop in crops])
        expected = model.eval().encode_image(batch, normalize=True).numpy()
    np.testing.assert_allclose(encoder.embed_crops(crops), expected, atol=1e-5)


def test_texts_match_open_clips_own_pipeline(encoder: OpenClipEncoder, folder: Path) -> None:
    open_clip = import_open_clip()
    texts = ["the red car", "car", "Ünïcode — and a text that is far longer than sixteen tokens can ever hold", ""]
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / "bpe_merges.txt.gz"))
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.embed_texts(texts), expected, atol=1e-5)


def test_a_text_that_is_longer_than_the_context_is_read_as_far_as_the_warning_says(
    encoder: OpenClipEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    words = "the red car " * 5  # a token each: the context holds fourteen, a start and an end
    fits, cut = words[: len("the red car ") * 4] + "the red", words + "\x1b[2J"
    embedded = encoder.embed_texts([fits, f"{fits}  ", cut, "car"])
    [said] = [record.getMessage() for record in caplog.records]
    assert said == (
        f"the text of {len(cut)} letters is longer than tiny reads: what follows its first {len(fits)}, "
        f"“…{fits[-30:]}”, is left out"
    )
    np.testing.assert_array_equal(embedded[2], embedded[0])


def test_the_folders_own_merges_are_used(encoder: OpenClipEncoder) -> None:
    tokens = encoder._whole()[1](["the red car"])[0]
    assert int(tokens.max()) < tiny_models.TINY_VOCABULARY
    assert int((tokens != 0).sum()) == 2 + 1 + 1 + 1  # start, "the", "red", "car" (all merged), end


def test_embeddings_are_unit_vectors_in_fp32(encoder: OpenClipEncoder, crops: RGBImage) -> None:
    for rows in (encoder.embed_crops(crops), encoder.embed_texts(["car", "the"])):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_nothing_in_nothing_out(encoder: OpenClipEncoder) -> None:
    assert encoder.embed_crops(np.zeros((0, SIDE, SIDE, 3), np.uint8)).shape == (0, 32)
    assert encoder.embed_texts([]).shape == (0, 32)


def test_until_it_is_measured_a_cpu_embeds_sixteen_crops_for_each_thread_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threads, wanted in ((1, 16), (4, 64), (1000, 128)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert OpenClipEncoder.from_directory(folder).crops_at_once == wanted
        assert OpenClipEncoder.from_directory(folder, batch=300).crops_at_once == 300, "as asked for"


def sizes_of(encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The crops of each pass from now on."""
    sizes: list[int] = []
    embed = encoder._embed_images
    monkeypatch.setattr(encoder, "_embed_images", lambda some: (sizes.append(len(some)), embed(some))[1])
    return sizes


class RecordingLane:
    """A queue of a GPU: what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def follow(self) -> None:
        self.calls.append("follow")

    def open(self) -> AbstractContextManager[object]:
        self.calls.append("open")
        return nullcontext()


def test_crops_on_a_device_are_waited_for(folder: Path, crops: RGBImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that picks some of them queues that copy elsewhere: the encoder's queue alone would not wait for it."""
    encoder, lane = OpenClipEncoder.from_directory(folder), RecordingLane()
    monkeypatch.setattr(encoder, "_lane", lane)
    there: Any = torch.from_numpy(crops)
    np.testing.assert_allclose(encoder.embed_many(there[[1, 3]]), encoder.embed_many(crops)[[1, 3]], atol=1e-6)
    assert lane.calls == ["follow", "open", "open"]


def test_a_run_tries_sizes_and_a_query_does_not(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(passes, "_clock_of", lambda _: lambda: 0.0)
    many = np.stack([tiny_models.scene(SIDE, SIDE, seed=seed % 7) for seed in range(800)])
    encoder = OpenClipEncoder.from_directory(folder, measurements=Measurements(tmp_path))
    sizes = sizes_of(encoder, monkeypatch)
    asked = encoder.embed_crops(many)
    assert sizes == [32] * 25
    assert not list(tmp_path.iterdir())
    sizes.clear()
    for _ in range(3):
        np.testing.assert_allclose(encoder.embed_many(many), asked, atol=1e-6)
    assert sizes[:4] == [8, 8, 8, 16]
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    assert (
        document["question"].items() >= {"encoder": "tiny", "crop_px": SIDE, "threads": 2, "precision": "fp32"}.items()
    )
    again = OpenClipEncoder.from_directory(folder, measurements=Measurements(tmp_path))
    assert again.crops_at_once == document["answer"]["at_once"] == encoder.crops_at_once == 128


def test_a_number_that_is_asked_for_is_obeyed_and_nothing_is_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = OpenClipEncoder.from_directory(folder, batch=50, measurements=Measurements(tmp_path))
    sizes = sizes_of(encoder, monkeypatch)
    encoder.embed_many(np.zeros((120, SIDE, SIDE, 3), np.uint8))
    assert sizes == [50, 50, 20]
    assert not list(tmp_path.iterdir())


def test_batches_do_not_matter(folder: Path, encoder: OpenClipEncoder, crops: RGBImage) -> None:
    small = OpenClipEncoder.from_directory(folder, batch=3)
    np.testing.assert_allclose(small.embed_crops(crops), encoder.embed_crops(crops), atol=1e-6)
    texts = ["car", "red", "the", "th", "x"]
    np.testing.assert_allclose(small.embed_texts(texts), encoder.embed_texts(texts), atol=1e-6)


def test_threads_get_the_same_answers(encoder: OpenClipEncoder, crops: RGBImage) -> None:
    expected = encoder.embed_crops(crops)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(encoder.embed_crops, [crops] * 8):
            np.testing.assert_allclose(answer, expected, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((2, SIDE, SIDE, 3), np.float32),
    ],
)
def test_crops_of_another_shape_are_refused(encoder: OpenClipEncoder, wrong: RGBImage) -> None:
    with pytest.raises(ValueError, match="expected crops"):
        encoder.embed_crops(wrong)


def test_bf16_stays_near_fp32(folder: Path, encoder: OpenClipEncoder, crops: RGBImage) -> None:
    half = OpenClipEncoder.from_directory(folder, compute=Compute(torch.device("cpu"), torch.bfloat16))
    cosines = (half.embed_crops(crops) * encoder.embed_crops(crops)).sum(axis=1)
    assert half.embed_crops(crops).dtype == np.float32
    assert cosines.min() > 0.99


def test_a_checkpoint_of_a_known_architecture(
    folder: Path, encoder: OpenClipEncoder, crops: RGBImage, tmp_path: Path
) -> None:
    """As the fetched presets are loaded: a name out of open_clip's list and a `.bin` file."""
    open_clip = import_open_clip()
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    checkpoint = tmp_path / "tiny.bin"
    torch.save(open_clip.create_model(f"local-dir:{folder}").state_dict(), checkpoint)
    fetched = OpenClipEncoder.from_checkpoint("tiny-for-tests", checkpoint)
    assert fetched.description["encoder"] == "tiny-for-tests"
    assert fetched.embed_crops(crops).shape == encoder.embed_crops(crops).shape
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(ModelError, match="weights of tiny-for-tests cannot be loaded"):
        OpenClipEncoder.from_checkpoint("tiny-for-tests", checkpoint)


def test_missing_weights(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="ViT-H-14"):
        OpenClipEncoder.from_checkpoint("ViT-H-14", tmp_path / "missing.bin")
    partial = tmp_path / "partial"
    partial.mkdir()
    shutil.copy(folder / "open_clip_config.json", partial)
    with pytest.raises(WeightsMissingError, match=r"there is no open_clip_model\.safetensors"):
        OpenClipEncoder.from_directory(partial)


def test_an_unknown_architecture(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="no architecture 'ViT-Z-99'"):
        OpenClipEncoder.from_checkpoint("ViT-Z-99", tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open_clip_config.json", b"{"),
        ("open_clip_config.json", b"{}"),
        ("open_clip_model.safetensors", b"damaged"),
        ("bpe_merges.txt.gz", b"not gzip"),
    ],
)
def test_damaged_folders(folder: Path, tmp_path: Path, name: str, content: bytes) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / name).write_bytes(content)
    with pytest.raises(ModelError):
        OpenClipEncoder.from_directory(damaged)


def test_loading_stays_off_the_network_and_the_root_logger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("loading a model opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = list(logging.getLogger().handlers)
    OpenClipEncoder.from_directory(folder)
    assert logging.getLogger().handlers == before
