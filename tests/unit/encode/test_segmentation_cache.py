"""The last query images stay segmented: once for any number of prompts and threads, within bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes.models import FakeSegmenter, drawn, poisoned

from searchanything.core.protocols import Segmentation
from searchanything.core.types import RGBImage
from searchanything.encode.segmentation_cache import RememberingSegmenter

IMAGES = [drawn(64, 64, red=(4, 4, 20 + 4 * number, 40)) for number in range(8)]


def test_an_image_is_segmented_once_however_it_is_held() -> None:
    inner = FakeSegmenter()
    remembering = RememberingSegmenter(inner)
    first = remembering.segment([IMAGES[0]])[0]
    assert remembering.segment([IMAGES[0].copy()])[0] is first
    assert remembering.segment([np.flip(IMAGES[0], axis=1)[:, ::-1]])[0] is first  # the same pixels, not contiguous
    assert inner.batch_sizes == [1]
    remembering.segment([IMAGES[1]])
    assert inner.batch_sizes == [1, 1]
    assert remembering.description == inner.description
    assert remembering.feature_dimension == inner.feature_dimension


def test_the_same_bytes_in_another_shape_are_another_image() -> None:
    inner = FakeSegmenter()
    remembering = RememberingSegmenter(inner)
    flat = drawn(32, 128, red=(0, 0, 128, 16))
    for image in (flat, flat.reshape(64, 64, 3), flat.reshape(128, 32, 3)):
        letterbox = remembering.segment([image])[0].letterbox
        assert (letterbox.height, letterbox.width) == image.shape[:2]
    assert inner.batch_sizes == [1, 1, 1]


def test_what_is_new_in_a_batch_is_segmented_at_once_and_kept() -> None:
    inner = FakeSegmenter()
    remembering = RememberingSegmenter(inner)
    (first,) = remembering.segment(IMAGES[:1])
    batch = remembering.segment([*IMAGES[:3], IMAGES[2].copy()])
    assert (batch[0] is first, batch[2] is batch[3]) == (True, True)
    assert [remembering.segment([image])[0] is one for image, one in zip(IMAGES, batch[:3], strict=False)] == [True] * 3
    assert [one.boxes_xyxy.tolist() for one in batch[:3]] == [
        one.boxes_xyxy.tolist() for one in FakeSegmenter().segment(IMAGES[:3])
    ]
    assert remembering.segment([]) == []
    assert inner.batch_sizes == [1, 2]
    with pytest.raises(RuntimeError):
        remembering.segment([poisoned(IMAGES[4]), IMAGES[5]])
    assert remembering.segment(IMAGES[4:6])[0].boxes_xyxy.shape[1] == 4
    assert inner.batch_sizes[2:] == [2, 2]


def test_a_batch_holds_no_more_than_the_memory() -> None:
    inner = FakeSegmenter()
    one = RememberingSegmenter(inner)
    one.segment(IMAGES[:1])
    remembering = RememberingSegmenter(inner, max_bytes=2 * one._cache.held_bytes)
    assert len(remembering.segment(IMAGES)) == 8
    assert 0 < remembering._cache.held_bytes <= 2 * one._cache.held_bytes


def test_memory_is_bounded_and_the_last_used_stay() -> None:
    inner = FakeSegmenter()
    one = RememberingSegmenter(inner)
    one.segment([IMAGES[0]])
    size = one._cache.held_bytes
    assert size >= 16 * 16 * (1 + 4)  # the mask, and the feature map at its true size
    remembering = RememberingSegmenter(inner, max_bytes=3 * size)
    for number in (0, 1, 2, 0, 3):
        remembering.segment([IMAGES[number]])
        assert remembering._cache.held_bytes <= 3 * size
    inner.batch_sizes.clear()
    for number in (0, 2, 3):
        remembering.segment([IMAGES[number]])
    assert inner.batch_sizes == []
    remembering.segment([IMAGES[1]])
    assert inner.batch_sizes == [1]


def test_what_is_larger_than_the_memory_is_not_kept() -> None:
    inner = FakeSegmenter()
    remembering = RememberingSegmenter(inner, max_bytes=10)
    for _ in range(2):
        remembering.segment([IMAGES[0]])
    assert (inner.batch_sizes, remembering._cache.held_bytes) == ([1, 1], 0)


def test_failures_are_not_remembered() -> None:
    inner = FakeSegmenter()
    remembering = RememberingSegmenter(inner)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="poisoned"):
            remembering.segment([poisoned(IMAGES[0])])
    assert inner.batch_sizes == [1, 1]


class Slow(FakeSegmenter):
    """Goes on only when told to, so that others arrive meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        found = super().segment(images)
        assert self.go_on.wait(30)
        return found


def test_threads_that_ask_for_one_image_wait_for_the_first() -> None:
    inner = Slow()
    remembering = RememberingSegmenter(inner)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(remembering.segment, [IMAGES[0]]) for _ in range(6)]
        inner.go_on.set()
        found = [future.result(30)[0] for future in futures]
    assert inner.batch_sizes == [1]
    assert all(one is found[0] for one in found)
