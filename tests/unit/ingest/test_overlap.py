"""Three batches at once on their way to codes: the same codes, what fails is tried in halves, and they do overlap."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.models import FakeEmbedder, FakeSegmenter, drawn, fake_encoder

from searchanything.core.errors import DeviceError
from searchanything.core.protocols import RegionEncoder, Segmentation, Segmenter
from searchanything.core.types import FloatArray, ImageRef, RGBImage, StoredObject
from searchanything.encode.at_once import AtOnce
from searchanything.encode.cut_batch import CutBatch
from searchanything.encode.encoder import EncodedImage, Encoder, GivenPerImage, Stopwatch
from searchanything.ingest import overlap as overlap_module
from searchanything.ingest.commit import Attempt
from searchanything.ingest.overlap import Overlap
from searchanything.ingest.pipeline import _encode_parts
from searchanything.models.lazy import LazyEncoder, LazySegmenter

WAIT_S = 20.0  # of a failing test; a passing one waits for nothing but the other threads


def images(count: int) -> list[RGBImage]:
    return [drawn(40, 60, red=(2, 2, 12 + n % 9, 20), blue=(30, 5, 50, 20 + n % 7)) for n in range(count)]


def run(encoder: Encoder, items: Sequence[RGBImage | None], size: int = 4) -> list[EncodedImage | None]:
    """All items through the stages; what fails is encoded as the pipeline does it."""

    def alone(batch: Sequence[tuple[Any, RGBImage | None]]) -> Any:
        return _encode_parts(encoder, list(batch), Stopwatch())

    attempt = Attempt(StoredObject(ImageRef("b", "k"), "etag", 1), generation=1)
    pairs = [(attempt, image) for image in items]
    batches = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    overlap: Overlap[Any] = Overlap(lambda: encoder, image_of=lambda one: one[1], alone=alone, watch=Stopwatch())
    return [found for batch in overlap.run(batches) for _, found in batch]


@pytest.mark.parametrize(("lanes", "workers"), [(1, 1), (1, 3), (2, 1)])
def test_codes_are_those_of_the_stages_one_after_the_other(lanes: int, workers: int) -> None:
    every: list[RGBImage | None] = [*images(11), None, *images(3), None]
    encoder = replace(fake_encoder(), at_once=AtOnce(lanes, workers))
    found = run(encoder, every)
    assert [one is None for one in found] == [image is None for image in every]
    expected = fake_encoder().encode_images([image for image in every if image is not None])
    for one, other in zip([one for one in found if one is not None], expected, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.image_code, other.image_code)
        assert one.masks == other.masks


class SmallSegmenter(FakeSegmenter):
    """Its device has memory for two images."""

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        if len(images) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().segment(images)


class SmallEmbedder(FakeEmbedder):
    """Its device has memory for six crops: those of two of these images."""

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        if len(crops) > 6:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().embed_crops(crops)


@pytest.mark.parametrize("changes", [{"segmenter": SmallSegmenter()}, {"embedder": SmallEmbedder()}], ids=str)
def test_a_batch_too_large_for_the_device_is_halved_and_the_run_goes_on(changes: dict[str, Any]) -> None:
    encoder = replace(fake_encoder(), **changes)
    found = run(encoder, images(10), size=5)
    expected = fake_encoder().encode_images(images(10))
    assert [one.codes.tolist() for one in found if one is not None] == [one.codes.tolist() for one in expected]


def test_a_precision_that_the_device_cannot_do_fails_no_image(caplog: pytest.LogCaptureFixture) -> None:
    asked = list[object]()

    def settle(model: Segmenter) -> tuple[Segmenter, str]:
        asked.append(model)
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")

    segmenter = LazySegmenter("tower", FakeSegmenter, dimension=4, description={}, settle=settle)
    found = run(replace(fake_encoder(), segmenter=segmenter, settle=segmenter.settle), images(6))
    expected = fake_encoder().encode_images(images(6))
    assert [one.codes.tolist() for one in found if one is not None] == [one.codes.tolist() for one in expected]
    assert (len(asked), segmenter.precision) == (1, None)
    assert "NOT_SUPPORTED" in caplog.text


class Meeting:
    """Stages of which the last waits, at its first batch, until the other two have begun on later ones."""

    at_once = AtOnce(models=2)

    def crop_bytes(self, _segmentations: Sequence[Any]) -> int:
        return 0

    def __init__(self) -> None:
        self.embedding, self.segmented, self.cut = (threading.Event() for _ in range(3))
        self.met = False

    def segment_batch(self, images: Sequence[RGBImage], _watch: Stopwatch, **_given: GivenPerImage) -> list[Any]:
        if self.embedding.is_set():
            self.segmented.set()
        return list(images)

    def cut_batch(self, _images: Any, _segmentations: Any, _watch: Stopwatch) -> CutBatch:
        if self.embedding.is_set():
            self.cut.set()
        return CutBatch([], np.zeros((0, 1), np.float32), np.zeros((0, 1, 1, 3), np.uint8))

    def embed_batch(self, _cut: CutBatch, _watch: Stopwatch) -> list[Any]:
        if not self.embedding.is_set():
            self.embedding.set()
            self.met = self.segmented.wait(WAIT_S) and self.cut.wait(WAIT_S)
        return [None]


def test_all_three_stages_work_at_once() -> None:
    stages = Meeting()
    pixel = np.zeros((1, 1, 3), np.uint8)
    overlap: Overlap[RGBImage] = Overlap(
        lambda: stages,  # type: ignore[arg-type,return-value]  # as much of an encoder as the stages need
        image_of=lambda one: one,
        alone=lambda batch: [(one, None) for one in batch],
        watch=Stopwatch(),
    )
    assert len(list(overlap.run([[pixel]] * 16))) == 16
    assert stages.met, "nothing was segmented or cut while the first batch was embedded"


@pytest.mark.parametrize("lanes", [1, 2])
def test_beside_a_device_two_batches_are_cut_at_once(lanes: int) -> None:
    """Each batch waits, while it is cut, for another one that is cut as well; on a CPU there is none."""
    pair, met = threading.Barrier(2), []

    class Cutting(Meeting):
        def cut_batch(self, images: Any, segmentations: Any, watch: Stopwatch) -> CutBatch:
            try:
                pair.wait(WAIT_S if lanes > 1 else 0.01)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)
            return super().cut_batch(images, segmentations, watch)

        def embed_batch(self, _cut: CutBatch, _watch: Stopwatch) -> list[Any]:
            return [None]

    stages, pixel = Cutting(), np.zeros((1, 1, 3), np.uint8)
    stages.at_once = AtOnce(models=lanes)
    overlap: Overlap[RGBImage] = Overlap(
        lambda: stages,  # type: ignore[arg-type,return-value]
        image_of=lambda one: one,
        alone=lambda batch: [(one, None) for one in batch],
        watch=Stopwatch(),
    )
    assert len(list(overlap.run([[pixel]] * 16))) == 16
    assert met == [lanes > 1] * 16


@pytest.mark.parametrize(("lanes", "first"), [(1, [8]), (2, [2, 2, 4])])
def test_beside_a_device_the_first_batch_comes_in_parts(lanes: int, first: list[int]) -> None:
    """Its encoder begins after a quarter of the first batch; the order of the images stays."""
    sizes = list[int]()

    class Counting(FakeSegmenter):
        def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
            sizes.append(len(images))
            return super().segment(images)

    encoder = replace(fake_encoder(), segmenter=Counting(), at_once=AtOnce(lanes))
    found = run(encoder, images(19), size=8)
    assert sizes == [*first, 8, 3]
    expected = fake_encoder().encode_images(images(19))
    assert [one.codes.tolist() for one in found if one is not None] == [one.codes.tolist() for one in expected]
    sizes.clear()
    assert len(run(encoder, images(3), size=8)) == 3
    assert sizes == [3]


@pytest.mark.parametrize("embedding", [1, 2])
def test_a_gpu_is_given_the_next_batch_before_the_last_one_is_hashed(embedding: int) -> None:
    """Each batch waits in the encoder for another one that is there as well."""
    pair, met = threading.Barrier(2), []

    class Embedding(Meeting):
        at_once = AtOnce(models=2, embedding=embedding)

        def embed_batch(self, _cut: CutBatch, _watch: Stopwatch) -> list[Any]:
            try:
                pair.wait(WAIT_S if embedding > 1 else 0.01)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)
            return [None]

    pixel = np.zeros((1, 1, 3), np.uint8)
    overlap: Overlap[RGBImage] = Overlap(
        Embedding,  # type: ignore[arg-type]
        image_of=lambda one: one,
        alone=lambda batch: [(one, None) for one in batch],
        watch=Stopwatch(),
    )
    assert len(list(overlap.run([[pixel]] * 16))) == 16
    assert met == [embedding > 1] * 16


@pytest.mark.parametrize("workers", [1, 2])
def test_on_a_cpu_models_work_on_as_many_batches_as_share_its_cores(workers: int) -> None:
    """More would fight for them."""
    working, most = [0], [0]
    lock = threading.Lock()

    class Counting(Meeting):
        at_once = AtOnce(models=1, batches=workers)

        def segment_batch(self, images: Sequence[RGBImage], watch: Stopwatch, **_given: GivenPerImage) -> list[Any]:
            return self._counted(lambda: super(Counting, self).segment_batch(images, watch))

        def embed_batch(self, _cut: CutBatch, _watch: Stopwatch) -> list[Any]:
            return self._counted(lambda: [None])

        def _counted(self, work: Any) -> Any:
            with lock:
                working[0] += 1
                most[0] = max(most[0], working[0])
            try:
                time.sleep(0.01)
                return work()
            finally:
                with lock:
                    working[0] -= 1

    pixel = np.zeros((1, 1, 3), np.uint8)
    overlap: Overlap[RGBImage] = Overlap(
        Counting,  # type: ignore[arg-type]
        image_of=lambda one: one,
        alone=lambda batch: [(one, None) for one in batch],
        watch=Stopwatch(),
    )
    assert len(list(overlap.run([[pixel]] * 16))) == 16
    assert most == [workers]


def test_both_models_share_the_cores() -> None:
    inside, seen = threading.local(), set[tuple[str, bool]]()

    @contextmanager
    def sharing() -> Iterator[None]:
        inside.now = True
        try:
            yield
        finally:
            inside.now = False

    class Seen(FakeSegmenter):
        def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
            seen.add(("segment", getattr(inside, "now", False)))
            return super().segment(images)

    class SeenCrops(FakeEmbedder):
        def embed_many(self, crops: RGBImage) -> FloatArray:
            seen.add(("embed", getattr(inside, "now", False)))
            return super().embed_many(crops)

    at_once = AtOnce(models=1, batches=2, sharing=sharing)
    run(replace(fake_encoder(), segmenter=Seen(), embedder=SeenCrops(), at_once=at_once), images(9))
    assert seen == {("segment", True), ("embed", True)}


def test_batches_that_share_cores_share_the_memory() -> None:
    """Four of large images hold no more of them than one would."""

    class Quick(Meeting):
        def segment_batch(self, images: Sequence[RGBImage], _watch: Stopwatch, **_given: GivenPerImage) -> list[Any]:
            return list(images)

        def embed_batch(self, _cut: CutBatch, _watch: Stopwatch) -> list[Any]:
            return [None]

    def most_in_flight(workers: int) -> int:
        stages, image = Quick(), np.broadcast_to(np.zeros(1, np.uint8), (8000, 8000, 3))
        stages.at_once = AtOnce(models=1, batches=workers)
        taken, most = 0, 0

        def batches() -> Iterator[list[RGBImage]]:
            nonlocal taken, most
            for _ in range(40):
                taken += 1
                most = max(most, taken)
                yield [image]

        overlap: Overlap[RGBImage] = Overlap(
            lambda: stages,  # type: ignore[arg-type,return-value]
            image_of=lambda one: one,
            alone=lambda batch: [(one, None) for one in batch],
            watch=Stopwatch(),
        )
        for _ in overlap.run(batches()):
            taken -= 1
        return most

    assert most_in_flight(4) == most_in_flight(1)


def test_an_encoder_that_the_device_has_no_memory_for_is_a_failure_of_the_device() -> None:
    """It is loaded where crops are priced."""

    def load() -> RegionEncoder:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    embedder = LazyEncoder("tower", load, dimension=FakeEmbedder().dimension, description={})
    with pytest.raises(DeviceError, match="out of memory"):
        run(replace(fake_encoder(), embedder=embedder), images(6))


def test_what_is_no_fault_of_the_models_ends_the_run() -> None:
    def broken() -> Any:
        yield [None]
        raise KeyError("the listing broke")

    overlap: Overlap[None] = Overlap(fake_encoder, image_of=lambda _: None, alone=lambda _: [], watch=Stopwatch())
    with pytest.raises(KeyError, match="listing"):
        list(overlap.run(broken()))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(int, "7").result() == 7


def test_crops_to_come_count_where_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches whose crops are larger than the budget are never cut at once."""
    cutting, most, lock = 0, 0, threading.Lock()
    encoder = replace(fake_encoder(), at_once=AtOnce(models=2))
    cut_batch = Encoder.cut_batch

    def cut(self: Encoder, *arguments: Any) -> CutBatch:
        nonlocal cutting, most
        with lock:
            cutting += 1
            most = max(most, cutting)
        try:
            time.sleep(0.02)
            return cut_batch(self, *arguments)
        finally:
            with lock:
                cutting -= 1

    monkeypatch.setattr(Encoder, "cut_batch", cut)
    assert len(run(encoder, images(16), size=2)) == 16
    assert most == 2
    most = 0
    crops = encoder.crop_bytes(encoder.segmenter.segment(images(2)))
    assert crops == 6 * 3 * encoder.embedder.crop_size_px**2, "two regions and the image, twice"
    pixels = sum(image.nbytes for image in images(2))  # without their crops two batches fit
    monkeypatch.setattr(overlap_module, "WAITING_BYTES", pixels)
    assert len(run(encoder, images(16), size=2)) == 16
    assert most == 1
