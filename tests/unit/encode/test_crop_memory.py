"""What a sample's crops were embedded as is not computed again; whether the device works is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes.models import FakeEmbedder, fake_encoder

from searchanything.core.errors import DeviceError
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode.canary import check_models
from searchanything.encode.crop_memory import CropMemory
from searchanything.encode.encoder import Encoder
from searchanything.encode.wrapped_embedder import WrappedEmbedder


class CountingEmbedder(FakeEmbedder):
    """Counts the crops that it gets; fails where it is sick."""

    def __init__(self) -> None:
        super().__init__()
        self.crops = 0
        self.sick = False

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        if self.sick and len(crops):  # no pass, no error
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.crops += len(crops)
        return super().embed_crops(crops)


def crops_of(count: int, seed: int) -> RGBImage:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def encoder(embedder: CountingEmbedder) -> Encoder:
    return replace(fake_encoder(), embedder=embedder)


def test_known_crops_come_from_memory_and_only_they(encoder: Encoder, embedder: CountingEmbedder) -> None:
    memory = CropMemory()
    assert memory.recalling(encoder) is encoder, "nothing is known"
    sample, others = crops_of(20, 1), crops_of(12, 2)
    memory.keeping(encoder).embedder.embed_crops(sample)
    mixed = np.concatenate([others[:5], sample[3:9], others[5:], sample[:1]])
    mixed[0, 1:] = sample[4, 1:]  # alike where one looks first, and another crop
    mixed[0, 0, 0] = sample[4, 0, 0]
    mixed[0, 3, 3] ^= 255
    embedder.crops = 0
    found = memory.recalling(encoder).embedder.embed_crops(mixed)
    assert embedder.crops == 12
    np.testing.assert_array_equal(found, FakeEmbedder().embed_crops(mixed))
    memory.recalling(encoder).embedder.embed_crops(others)
    assert embedder.crops == 24, "what was not of the sample is not kept"


class OnDevice(torch.Tensor):
    """Crops on a GPU: NumPy cannot look at them. Counts the values that are fetched."""

    fetched = 0

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self, *_: object, **__: object) -> torch.Tensor:  # type: ignore[override]
        OnDevice.fetched += self.numel()
        return self.as_subclass(torch.Tensor)


class DeviceEmbedder(CountingEmbedder):
    """Takes crops on its device."""

    def embed_many(self, crops: RGBImage) -> FloatArray:
        assert isinstance(crops, torch.Tensor)
        self.seen = crops
        return self.embed_crops(crops.cpu().numpy())


def test_crops_that_lie_on_a_device_are_known_as_well(encoder: Encoder) -> None:
    embedder = DeviceEmbedder()
    encoder, memory = replace(encoder, embedder=embedder), CropMemory()
    sample, others = crops_of(6, 1), crops_of(3, 2)
    there: Any = torch.from_numpy(sample).as_subclass(OnDevice)
    memory.keeping(encoder).embedder.embed_many(there)
    assert embedder.seen is there, "all of them, and no copy"
    embedder.crops = 0
    mixed = np.concatenate([others, sample])
    there = torch.from_numpy(mixed).as_subclass(OnDevice)
    OnDevice.fetched = 0
    found = memory.recalling(encoder).embedder.embed_many(there)
    assert embedder.crops == 3
    assert OnDevice.fetched == there[::, :1, :1].numel() + 6 * there[0].numel() + 3 * there[0].numel(), (
        "a pixel of each, the known ones, and the others by this embedder"
    )
    np.testing.assert_array_equal(found, FakeEmbedder().embed_crops(mixed))


def test_what_is_laid_over_an_embedder_sees_pixels_of_the_host() -> None:
    class Mirrored(WrappedEmbedder):
        def embed_crops(self, crops: RGBImage) -> FloatArray:
            return self.embedder.embed_crops(crops[:, :, ::-1])

    sample = crops_of(3, 1)
    there: Any = torch.from_numpy(sample).as_subclass(OnDevice)
    expected = FakeEmbedder().embed_crops(sample[:, :, ::-1])
    np.testing.assert_array_equal(Mirrored(FakeEmbedder()).embed_many(there), expected)


def test_what_is_kept_does_not_change_with_what_was_given_out(encoder: Encoder) -> None:
    memory, sample = CropMemory(), crops_of(4, 1)
    given = memory.keeping(encoder).embedder.embed_crops(sample)
    expected = given.copy()
    given[:] = 0
    recalled = memory.recalling(encoder).embedder.embed_crops(sample)
    np.testing.assert_array_equal(recalled, expected)
    recalled[:] = 0
    np.testing.assert_array_equal(memory.recalling(encoder).embedder.embed_crops(sample), expected)


def test_a_sick_device_is_found_out_all_the_same(encoder: Encoder, embedder: CountingEmbedder) -> None:
    memory = CropMemory()
    check_models(memory.keeping(encoder))
    memory.keeping(encoder).embedder.embed_crops(crops_of(2, 1))
    embedder.sick = True
    with pytest.raises(DeviceError, match="illegal memory access"):
        check_models(memory.recalling(encoder))


def test_another_model_recalls_nothing(encoder: Encoder) -> None:
    memory = CropMemory()
    memory.keeping(encoder).embedder.embed_crops(crops_of(4, 1))
    other = replace(encoder, embedder=FakeEmbedder(weights="others"))
    assert memory.recalling(other) is other
    assert memory.recalling(encoder) is not encoder
