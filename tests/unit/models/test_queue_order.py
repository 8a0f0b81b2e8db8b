"""What the models ask of a GPU, in an order that holds for any GPU: `fakes.queued_device` stands in for one.

Each wait of the package is left out in turn, and is missed: as a fault, or as values that had not arrived.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from fakes.queue_order import GPU
from fakes.queued_device import queued_gpu
from numpy.typing import NDArray

from searchanything.core.geometry import Letterbox
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode import cut_batch
from searchanything.encode.crop_memory import CropMemory
from searchanything.encode.encoder import EncodedImage, Encoder, Stopwatch
from searchanything.encode.wrapped_embedder import WrappedEmbedder
from searchanything.images.crop_policy import CropPolicy
from searchanything.models import device_cut, device_regions, p3_map
from searchanything.models.compute import CPU, Compute
from searchanything.models.device_cut import DeviceCutter
from searchanything.models.device_lane import DeviceLane, uploaded
from searchanything.models.device_regions import DeviceSegmentation, packed_bits
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.hashing import HashLayer
from searchanything.models.openclip import OpenClipEncoder
from searchanything.models.options import SegmenterOptions
from searchanything.models.p3_map import P3Map, coverage_on
from searchanything.models.presets import PICO
from searchanything.prompts.prompt import Text

SIZES = [(96, 128), (60, 90), (96, 128)]
ON_GPU = Compute(GPU, torch.float32)
Found = list[NDArray[Any]]


class Counting(WrappedEmbedder):
    """Counts crops, wherever they are."""

    crops = 0

    def embed_many(self, crops: Any) -> FloatArray:
        self.crops += len(crops)
        return self.embedder.embed_many(crops)


@dataclass(frozen=True)
class Programs:
    """Ways through the models, and what each finds."""

    weights: Path
    images: list[RGBImage]

    def models(self, compute: Compute, *, confidence: float = 0.4) -> Encoder:
        options = SegmenterOptions(input_size_px=128, max_detections=12, confidence=confidence)
        return Encoder(
            segmenter=FastSAMSegmenter(self.weights / "segmenter.pt", options=options, compute=compute),
            embedder=OpenClipEncoder.from_directory(self.weights / "encoder", compute=compute, batch=16),
            hasher=HashLayer.random_rotation(mask_dimension=64, image_dimension=32, bits=64, seed=0),
            cutter=None if compute is CPU else DeviceCutter(compute.device),
        )

    def ingest(self, compute: Compute = ON_GPU) -> Found:
        """All that is kept of images, in one thread."""
        return arrays_of(self.models(compute).encode_images(self.images))

    def embed_by_two(self) -> Found:
        """Two batches in the encoder's queue: each thread waits for its own, whatever the other has queued since."""
        encoder, watch = self.models(ON_GPU), Stopwatch()
        batches = [self.images[:2], self.images[2:], self.images[:1]]
        cut = [encoder.cut_batch(some, encoder.segment_batch(some, watch), watch) for some in batches]
        with ThreadPoolExecutor(2) as threads:
            done = threads.map(lambda one: encoder.embed_batch(one, watch), cut)
            return [part for one in done for part in arrays_of(one)]

    def without_regions(self) -> Found:
        """There is nothing to wait for but the images' own crops and features."""
        return arrays_of(self.models(ON_GPU, confidence=1.0).encode_images(self.images))

    def without_memory(self) -> Found:
        """The device begins to cut, and the host does it."""

        def full(_image: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 768.00 MiB")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(device_cut, "summed_area_table", full)
            encoder = self.models(ON_GPU)
            return arrays_of(encoder.encode_images(self.images))

    def sampled_first(self) -> Found:
        """As for a hash layer that is trained first: some crops are known, the others are picked on the device."""
        encoder, memory = self.models(ON_GPU), CropMemory()
        counting = Counting(encoder.embedder)
        encoder = replace(encoder, embedder=counting)
        first = memory.keeping(encoder).encode_images(self.images[:1])
        both = memory.recalling(encoder).encode_images(self.images)
        return [*arrays_of(first), *arrays_of(both), np.array([counting.crops])]

    def ask(self) -> Found:
        """A prompt; masks and pooled features on the host."""
        query = self.models(ON_GPU).encode_query(self.images[0], Text("car"))
        found = query.segmentation
        return [query.code, query.projection, found.masks, found.features.pool(found.masks)]

    def ask_in_words(self) -> Found:
        """The encoder of `pico`, whose half for texts is loaded when there is one."""
        encoder = OpenClipEncoder.from_directory(PICO.encoder.path_in(self.weights), compute=ON_GPU, batch=16)
        side = encoder.crop_size_px
        crops = encoder.embed_crops(np.stack([tiny_models.scene(side, side)] * 2))
        return [crops, encoder.embed_texts(["car", "the"])]

    def pool_by_two(self) -> Found:
        """Threads with a queue each: one takes what the other keeps, the other drops it while it may be read."""
        letterbox = Letterbox(96, 128, 128)
        features, masks = torch.rand(4, 12, 16).to(GPU), np.ones((2, *letterbox.grid_size), np.bool_)
        torch.cuda.current_stream(GPU).synchronize()
        one_lane, other_lane = DeviceLane(GPU), DeviceLane(GPU)
        pools = P3Map(features, letterbox, other_lane)
        found: list[Any] = []

        def keep(box: Letterbox) -> None:
            with one_lane.open():
                coverage_on(box, GPU)

        def begin() -> None:
            with other_lane.open():
                found.append(pools.pooled(uploaded(masks, GPU)))

        def end() -> None:
            with other_lane.open():
                found[0] = found[0].cpu().numpy()

        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            futures = []
            for step in (
                partial(one.submit, keep, letterbox),
                partial(other.submit, begin),
                partial(one.submit, keep, Letterbox(60, 90, 128)),
                partial(other.submit, end),
            ):
                futures.append(step())
                wait(futures)  # one after the other, and neither thread knows what the other does
            for one_done in futures:
                one_done.result()
        return found

    def store_coarser(self) -> Found:
        """Masks whose text is too long, which the host stores."""
        letterbox = Letterbox(640, 512, 640)
        noise = (np.random.default_rng(1).random((2, *letterbox.grid_size)) > 0.5) & (letterbox.coverage > 0)
        lane = DeviceLane(GPU)
        with lane.open():
            bits, features = packed_bits(uploaded(noise, GPU)), torch.zeros((4, 80, 64), device=GPU)
            bits.cpu()
        boxes, scores = np.array([[0, 0, 512, 640]] * 2, np.float32), np.array([0.9, 0.8], np.float32)
        segmentation = DeviceSegmentation(
            letterbox, boxes, scores, bits, letterbox.areas_px(noise), P3Map(features, letterbox, lane)
        )
        image, rows = tiny_models.scene(640, 512), [np.array([1, 0])]
        cut = DeviceCutter(GPU).cut([image], [segmentation], rows, size_px=32, policy=CropPolicy.PAPER)
        assert cut is not None
        return [np.frombuffer(mask.counts.encode(), np.uint8) for mask in cut.regions[0].masks]


Program = Callable[[Programs], Found]


def arrays_of(encoded: list[EncodedImage]) -> Found:
    found: Found = []
    for one in encoded:
        found += [one.codes, one.image_code, one.boxes_xyxy, one.scores, one.areas_px]
        found += [one.features.mask, one.features.image]
        found += [np.frombuffer(mask.counts.encode(), np.uint8) for mask in one.masks]
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    weights = tmp_path_factory.mktemp("weights")
    tiny_models.save_segmenter(weights / "segmenter.pt")
    tiny_models.save_encoder(weights / "encoder")
    return Programs(weights, [tiny_models.scene(*size, seed=number) for number, size in enumerate(SIZES)])


@pytest.fixture(scope="module")
def ordered(programs: Programs) -> Callable[[Program], Found]:
    """What each program finds where nothing is left out: without any fault."""

    @cache
    def run(program: Program) -> Found:
        with queued_gpu() as device:
            found = program(programs)
        assert device.faults == []
        return found

    return run


def test_the_order_holds_and_what_is_found_is_what_a_cpu_finds(
    programs: Programs, ordered: Callable[[Program], Found]
) -> None:
    found, expected = ordered(Programs.ingest), programs.ingest(CPU)
    assert len(found) == len(expected) > 10 * len(SIZES)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)  # a pixel of a crop may be rounded otherwise


BITS_THEN_FACTS = """\
    bits = packed_bits(masks[filled])  # before the wait: other lanes read them
    facts = torch.cat([boxes, scores[:, None], covered[:, None]], dim=1)[filled].cpu().numpy()
"""
FACTS_THEN_BITS = "".join(reversed(BITS_THEN_FACTS.splitlines(keepends=True)))
UNASKED = 'to("cpu", non_blocking=True)'
# Where, what is there, what is there instead, and who misses it.
LEFT_OUT: list[tuple[Any, str, str, Program]] = [
    (DeviceLane.__init__, "self.follow()", "pass", Programs.ingest),
    (DeviceLane.follow, "wait_stream(torch.cuda.current_stream(self._stream.device))", "device", Programs.ingest),
    (OpenClipEncoder.__init__, "    self._lane.follow()", "    pass", Programs.ask_in_words),
    (OpenClipEncoder._whole, "self._lane.follow()", "pass", Programs.ask_in_words),
    (OpenClipEncoder._embed_passes, "self._lane.follow()", "pass", Programs.sampled_first),
    (OpenClipEncoder._joined, "cpu()", UNASKED, Programs.ingest),
    (OpenClipEncoder._joined, "cpu()", UNASKED, Programs.embed_by_two),
    (p3_map.coverage_on, "coverage.record_stream(torch.cuda.current_stream(device))", "pass", Programs.pool_by_two),
    (p3_map._kept_coverage, "torch.cuda.current_stream(device).synchronize()", "pass", Programs.pool_by_two),
    (P3Map.pool, "cpu()", UNASKED, Programs.ask),
    (FastSAMSegmenter._segmentation, BITS_THEN_FACTS, FACTS_THEN_BITS, Programs.ingest),
    (FastSAMSegmenter._segmentation, "dim=1)[filled].cpu()", f"dim=1)[filled].{UNASKED}", Programs.ingest),
    (DeviceCutter._cut, "pooled.cpu()", f"pooled.{UNASKED}", Programs.without_regions),
    (DeviceCutter._cut, "stored]).cpu()", f"stored]).{UNASKED}", Programs.ingest),
    (DeviceCutter.cut, "self._lane.wait()", "pass", Programs.without_memory),
    (device_cut.encoded_masks, "masks[others].cpu()", f"masks[others].{UNASKED}", Programs.store_coarser),
    (device_regions.host_masks, "bits.cpu()", f"bits.{UNASKED}", Programs.ask),
    (cut_batch.host_crops, "crops.cpu()", f"crops.{UNASKED}", Programs.sampled_first),
]


@pytest.mark.parametrize(("function", "there", "instead", "program"), LEFT_OUT)
def test_each_wait_is_missed(
    function: Any, there: str, instead: str, program: Program, programs: Programs, ordered: Callable[[Program], Found]
) -> None:
    right = ordered(program)
    with rewritten(function, there, instead), queued_gpu() as device:
        wrong = program(programs)
    assert device.faults or any(not np.array_equal(one, other) for one, other in zip(right, wrong, strict=True))


@contextmanager
def rewritten(function: Any, there: str, instead: str) -> Iterator[None]:
    """Until the end a function of the package says something else."""
    function = inspect.unwrap(function)
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(there) == 1
    made = dict(function.__globals__)
    exec(compile(text.replace(there, instead), function.__code__.co_filename, "exec"), made)  # noqa: S102 - our own
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(function, "__code__", inspect.unwrap(made[function.__name__]).__code__)
        yield
