"""The second stage on a device and on the host: regions, features and masks to the last bit, pixels but for roundings.

The device is the CPU: what a kernel of CUDA rounds otherwise, `benchmarks/same_codes.py` measures where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from searchanything import wiring
from searchanything.core.geometry import STORED_MASK_BYTES, Letterbox, decode_rle
from searchanything.core.protocols import Segmentation
from searchanything.core.settings import ModelSettings, load_settings
from searchanything.core.types import BoolMasks, RGBImage
from searchanything.encode.cut_batch import CutBatch
from searchanything.encode.encoder import Encoder, Stopwatch
from searchanything.encode.given_segmentation import GivenSegmentation
from searchanything.encode.region_policy import RegionPolicy
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import PLAIN, crop_windows, region_crops
from searchanything.images.given_regions import GivenRegions
from searchanything.images.resizing import Interpolation, ResizeMode, Resizing
from searchanything.models import device_cut, fastsam, presets
from searchanything.models.device_cut import DeviceCutter, encoded_masks
from searchanything.models.device_lane import DeviceLane
from searchanything.models.device_regions import DeviceSegmentation, packed_bits
from searchanything.models.device_sampling import image_masks
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.lazy import LazySegmenter
from searchanything.models.p3_map import P3Map

DEVICE = torch.device("cpu")
SIZES = [(480, 640), (60, 90), (700, 200), (1500, 2000), (33, 500), (1, 40)]


@pytest.fixture(scope="module")
def pico() -> Encoder:
    """pico's models on the CPU."""
    asked = load_settings()
    asked.models.preset, asked.models.device = "pico", "cpu"
    return wiring.load_encoder(None, wiring.hash_layer_of(None, None, asked), asked)


@pytest.fixture(scope="module")
def images() -> list[RGBImage]:
    drawn = [tiny_models.scene(480, 640, seed=seed) for seed in range(len(SIZES))]
    return [
        np.ascontiguousarray(cv2.resize(image, (width, height)))
        for image, (height, width) in zip(drawn, SIZES, strict=True)
    ]


Segmented = tuple[Sequence[Segmentation], Sequence[Segmentation]]


def segmented_twice(encoder: Encoder, images: Sequence[RGBImage]) -> Segmented:
    """What the segmenter finds in images: on the host, and where it was found."""
    segmenter = cast("LazySegmenter", encoder.segmenter).load()
    on_host = segmenter.segment(images)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cast("FastSAMSegmenter", segmenter), "_stays_on_device", True)
        return on_host, segmenter.segment(images)


@pytest.fixture(scope="module")
def segmented(pico: Encoder, images: list[RGBImage]) -> Segmented:
    return segmented_twice(pico, images)


def cut_twice(encoder: Encoder, images: Sequence[RGBImage], segmented: Segmented) -> tuple[CutBatch, CutBatch]:
    """What the host makes of images, and what the device makes of them."""
    on_host, there = segmented
    host, watch = encoder.cut_batch(images, on_host, Stopwatch()), Stopwatch()
    device = replace(encoder, cutter=DeviceCutter(DEVICE)).cut_batch(images, there, watch)
    assert list(watch.timings_ms) == ["cut"], "the device did it"
    return host, device


def assert_alike(host: CutBatch, device: CutBatch) -> None:
    np.testing.assert_array_equal(device.pooled, host.pooled)
    for one, other in zip(device.regions, host.regions, strict=True):
        assert (one.masks, one.size) == (other.masks, other.size)
        for name in ("boxes_xyxy", "areas_px", "scores"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert_pixels_alike(device.crops.numpy(), host.crops)


def assert_pixels_alike(device: RGBImage, host: RGBImage) -> None:
    assert device.dtype == np.uint8
    assert device.shape == host.shape
    apart = np.abs(device.astype(np.int16) - host)
    assert apart.max(initial=0) <= 1
    assert (apart > 0).mean() < 0.03


@pytest.mark.parametrize("policy", list(CropPolicy))
def test_the_device_makes_what_the_host_makes(
    policy: CropPolicy, pico: Encoder, images: list[RGBImage], segmented: Segmented
) -> None:
    host, device = cut_twice(replace(pico, crops=policy), images, segmented)
    assert sum(len(one.masks) for one in host.regions) > 20
    assert_alike(host, device)


def test_codes_of_both_are_the_same_but_for_roundings(
    pico: Encoder, images: list[RGBImage], segmented: Segmented
) -> None:
    host, device = cut_twice(pico, images, segmented)
    watch = Stopwatch()
    for one, other in zip(pico.embed_batch(host, watch), pico.embed_batch(device, watch), strict=True):
        differ = np.bitwise_count(one.codes ^ other.codes).sum(axis=1)
        assert differ.max(initial=0) <= 4


def test_in_small_groups_and_chunks_it_is_the_same(
    pico: Encoder, images: list[RGBImage], segmented: Segmented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_cut, "GROUP_PIXELS", 400_000)
    monkeypatch.setattr(device_cut, "_CROPS_AT_ONCE", 3)
    assert_alike(*cut_twice(pico, images, segmented))


def test_images_without_regions_have_a_crop_of_their_own(pico: Encoder) -> None:
    plain = [np.full((50, 70, 3), 128, dtype=np.uint8), np.full((400, 300, 3), 9, dtype=np.uint8)]
    host, device = cut_twice(pico, plain, segmented_twice(pico, plain))
    assert [len(one.masks) for one in device.regions] == [0, 0]
    assert_alike(host, device)


def test_stratified_regions_are_chosen_by_the_same_areas(
    pico: Encoder, images: list[RGBImage], segmented: Segmented
) -> None:
    assert_alike(*cut_twice(replace(pico, policy=RegionPolicy("stratified", 6)), images, segmented))


def test_a_device_has_one_cutter_for_all_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    first, same, other = (presets.open_cutter(ModelSettings(device=name)) for name in ("cuda:0", "cuda:0", "cuda:1"))
    assert first is same is not other
    assert first is not None
    assert presets.open_cutter(ModelSettings(device="cpu")) is None


def on_device(letterbox: Letterbox, masks: BoolMasks, boxes: NDArray[np.float32]) -> DeviceSegmentation:
    height, width = (side // 2 for side in letterbox.grid_size)
    features = P3Map(torch.rand(4, height, width), letterbox, DeviceLane(DEVICE))
    scores = np.linspace(0.9, 0.5, len(masks), dtype=np.float32)
    bits = packed_bits(torch.from_numpy(masks))
    return DeviceSegmentation(letterbox, boxes, scores, bits, letterbox.areas_px(masks), features)


def test_masks_come_to_the_host_when_they_are_asked_for() -> None:
    letterbox = Letterbox(100, 70, 128)
    masks = np.random.default_rng(0).random((5, *letterbox.grid_size)) > 0.5
    one = on_device(letterbox, masks, np.zeros((5, 4), np.float32))
    np.testing.assert_array_equal(one.masks, masks)
    assert one.masks is one.masks
    np.testing.assert_array_equal(one.masks_of(torch.tensor([3, 1])).numpy(), masks[[3, 1]])


def test_what_other_lanes_read_is_queued_before_the_segmenter_waits(
    pico: Encoder, images: list[RGBImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of CUDA sees what another has made only after somebody has waited for it."""
    segmenter, queue = cast("LazySegmenter", pico.segmenter).load(), list[str]()
    copied = torch.Tensor.cpu

    def packed(masks: torch.Tensor) -> torch.Tensor:
        queue.append("bits")
        return packed_bits(masks)

    def waited(tensor: torch.Tensor) -> torch.Tensor:
        queue.clear()
        return copied(tensor)

    monkeypatch.setattr(fastsam, "packed_bits", packed)
    monkeypatch.setattr(torch.Tensor, "cpu", waited)
    monkeypatch.setattr(cast("FastSAMSegmenter", segmenter), "_stays_on_device", True)
    assert len(segmenter.segment(images[:1])[0].scores)
    assert not queue


class Operations(TorchDispatchMode):
    """The names of what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_no_number_is_made_a_tensor_which_the_host_would_wait_for() -> None:
    letterbox = Letterbox(60, 90, 128)
    masks = torch.ones((2, *letterbox.grid_size), dtype=torch.bool)
    with Operations() as seen:
        image_masks(masks, letterbox, letterbox.stored_size())
    assert "index_select" in seen.names
    assert "lift_fresh" not in seen.names
    with Operations() as seen:
        torch.as_tensor(5.0)
    assert "lift_fresh" in seen.names


def test_small_things_on_a_fine_grid_are_stored_as_on_the_host() -> None:
    letterbox = Letterbox(2000, 1600, 2048)
    masks = np.zeros((3, *letterbox.grid_size), dtype=np.bool_)
    masks[0, 40, 60] = masks[1, 101, 203] = masks[2, 100:200, 100:200] = True
    points = image_masks(torch.from_numpy(masks), letterbox, letterbox.stored_size())
    assert points.flatten(1).any(1).tolist() == [False, False, True], "two lie between the samples"
    bits = packed_bits(points.transpose(1, 2)).numpy()
    found = encoded_masks(bits, torch.from_numpy(masks), letterbox)
    assert found == letterbox.stored_masks(masks)
    assert all(decode_rle(one).any() for one in found)


def test_masks_whose_text_is_too_long_are_stored_coarser_as_on_the_host() -> None:
    image = tiny_models.scene(640, 512)
    letterbox = Letterbox(640, 512, 640)
    noise = np.random.default_rng(1).random((3, *letterbox.grid_size)) > 0.5
    noise[1] = False
    noise[1, 20:60, 20:50] = True
    masks = noise & (letterbox.coverage > 0)
    expected = letterbox.stored_masks(masks)
    assert {len(one.counts) <= STORED_MASK_BYTES for one in expected} == {True}
    assert len({one.size for one in expected}) > 1
    boxes = np.array([[0, 0, 512, 640]] * 3, dtype=np.float32)
    rows = [np.array([2, 0, 1])]
    segmentation = on_device(letterbox, masks, boxes)
    found = DeviceCutter(DEVICE).cut([image], [segmentation], rows, size_px=32, policy=CropPolicy.PAPER)
    assert found is not None
    assert found.regions[0].masks == tuple(expected[number] for number in (2, 0, 1))


def test_what_it_cannot_do_is_left_to_the_host(
    pico: Encoder, images: list[RGBImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    cutter, segmenter = DeviceCutter(DEVICE), cast("LazySegmenter", pico.segmenter).load()
    on_host = segmenter.segment(images[:1])
    monkeypatch.setattr(cast("FastSAMSegmenter", segmenter), "_stays_on_device", True)
    there = segmenter.segment(images[:1])
    assert cutter.takes(images[:1], there, PLAIN)
    assert not cutter.takes(images[:1], on_host, PLAIN)
    assert not cutter.takes(images[:1], there, Resizing(ResizeMode.SQUASH))
    assert not cutter.takes(images[:1], there, Resizing(interpolation=Interpolation.BICUBIC))
    monkeypatch.setattr(device_cut, "MOST_PIXELS", 480 * 640 - 1)
    assert not cutter.takes(images[:1], there, PLAIN)
    watch = Stopwatch()
    replace(pico, cutter=cutter).cut_batch(images[:1], there, watch)
    assert "crop" in watch.timings_ms


def test_a_batch_with_given_regions_is_cut_by_the_host(
    pico: Encoder, images: list[RGBImage], segmented: Segmented
) -> None:
    on_host, there = segmented
    regions = GivenRegions.of([((10.0, 10.0, 200.0, 220.0), 39_900.0, 1.0, None)])
    expected = pico.cut_batch(images[:2], [GivenSegmentation(on_host[0], regions), on_host[1]], Stopwatch())
    encoder, watch = replace(pico, cutter=DeviceCutter(DEVICE)), Stopwatch()
    found = encoder.cut_batch(images[:2], [GivenSegmentation(there[0], regions), there[1]], watch)
    assert "crop" in watch.timings_ms
    np.testing.assert_array_equal(found.crops, expected.crops)
    np.testing.assert_array_equal(found.pooled, expected.pooled)
    assert [one.masks for one in found.regions] == [one.masks for one in expected.regions]
    assert len(found.regions[0].masks) == 1


def test_a_device_without_memory_for_it_leaves_it_to_the_host(
    pico: Encoder,
    images: list[RGBImage],
    segmented: Segmented,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    on_host, there = segmented
    host = pico.cut_batch(images, on_host, Stopwatch())
    encoder = replace(pico, cutter=DeviceCutter(DEVICE))

    def failing(error: Exception) -> None:
        def table(_image: torch.Tensor) -> torch.Tensor:
            raise error

        monkeypatch.setattr(device_cut, "summed_area_table", table)

    failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 768.00 MiB"))
    found = encoder.cut_batch(images, there, Stopwatch())
    np.testing.assert_array_equal(found.crops, host.crops)
    np.testing.assert_array_equal(found.pooled, host.pooled)
    assert [one.masks for one in found.regions] == [one.masks for one in host.regions]
    assert "6 images: made by the host" in caplog.text
    failing(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        encoder.cut_batch(images, there, Stopwatch())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_window_is_sampled_as_opencv_samples_it(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    side = data.draw(st.integers(1, 96))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    letterbox = Letterbox(height, width, 96)
    corners = np.sort(generator.uniform(-5, 305, (6, 2, 2)), axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1]], axis=1).astype(np.float32)
    masks = (generator.random((6, *letterbox.grid_size)) > 0.3) & (letterbox.coverage > 0)
    rows = np.arange(6)
    found = DeviceCutter(DEVICE).cut(
        [image], [on_device(letterbox, masks, boxes)], [rows], size_px=side, policy=CropPolicy.MASKED
    )
    assert found is not None
    expected = region_crops(image, letterbox, masks, boxes, size_px=side, policy=CropPolicy.MASKED)
    apart = np.abs(found.crops.numpy()[:6].astype(np.int16) - expected)
    assert apart.max() <= 1
    assert found.regions[0].masks == letterbox.stored_masks(masks)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_stored_grids_are_sampled_to_the_last_bit(height: int, width: int, seed: int) -> None:
    letterbox = Letterbox(height, width, 128)
    masks = np.random.default_rng(seed).random((3, *letterbox.grid_size)) > 0.5
    size = letterbox.stored_size()
    found = image_masks(torch.from_numpy(masks), letterbox, size).numpy()
    np.testing.assert_array_equal(found, letterbox.mask_in_box(masks, (0, 0, width, height), size))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_box_that_is_no_box_is_the_images_fault(odd: float) -> None:
    """A kernel of CUDA would look outside of all images: whatever the process asks of the device then fails."""
    letterbox = Letterbox(60, 90, 96)
    masks = np.ones((2, *letterbox.grid_size), dtype=np.bool_) & (letterbox.coverage > 0)
    boxes = np.array([[3, 4, 50, 40], [3, odd, 50, 40]], dtype=np.float32)
    image, there = np.zeros((60, 90, 3), dtype=np.uint8), on_device(letterbox, masks, boxes)
    with pytest.raises(ValueError, match="finite"):
        DeviceCutter(DEVICE).cut([image], [there], [np.arange(2)], size_px=32, policy=CropPolicy.BOX)
    with pytest.raises(ValueError, match="finite"):
        region_crops(image, letterbox, masks, boxes, size_px=32, policy=CropPolicy.BOX)


def test_windows_lie_inside_the_image_and_touch_their_box() -> None:
    boxes = np.array([[-9, -9, -3, -3], [10.2, 5.7, 30.1, 20.4], [98, 50, 250, 300], [3, 3, 3, 3]], dtype=np.float32)
    windows, is_masked = crop_windows(boxes, (60, 100), CropPolicy.BOX)
    assert windows.tolist() == [[0, 0, 1, 1], [10, 5, 31, 21], [98, 50, 100, 60], [3, 3, 4, 4]]
    assert not is_masked.any()
    wide, _ = crop_windows(boxes, (60, 100), CropPolicy.CONTEXT)
    assert wide[1].tolist() == [0, 0, 51, 36], "three times 19.9 x 14.7 around its centre"
