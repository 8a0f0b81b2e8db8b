"""Loaded by Dask's worker processes in tests (`DASK_DISTRIBUTED__WORKER__PRELOAD`): fake models instead of torch.

Never to be imported by a test: it puts its models in the place of the real ones, for the whole process.

Each load of models adds a line with the process's number to the file that `FAKE_LOADS` names. An image whose first
pixel is `DEADLY` kills the process that segments it, or hangs there if `FAKE_HANGS` is set. The file that `FAKE_SICK`
names makes one process fail at everything.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fakes.models import CHANNELS, DEADLY, FakeEmbedder, FakeSegmenter

from searchanything.core.protocols import Segmentation, Segmenter
from searchanything.core.types import RGBImage
from searchanything.models import presets
from searchanything.models.hashing import HashLayer
from searchanything.models.lazy import LazyEncoder, LazySegmenter


class DeadlySegmenter(FakeSegmenter):
    """Dies or hangs of an image with the mark; slow by `FAKE_SECONDS` per batch; its device may turn sick."""

    _sick = False

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        self._turn_sick()
        if any(tuple(image[0, 0]) == DEADLY for image in images):
            if "FAKE_HANGS" in os.environ:
                threading.Event().wait()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        return super().segment(images)

    def _turn_sick(self) -> None:
        """The first process that sees the file of that name takes it away, and fails for the rest of its life."""
        with suppress(KeyError, FileNotFoundError):
            Path(os.environ["FAKE_SICK"]).unlink()
            self._sick = True
        if self._sick:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _segmenter() -> Segmenter:
    with Path(os.environ["FAKE_LOADS"]).open("a") as loads:
        loads.write(f"{os.getpid()}\n")
    return DeadlySegmenter()


def _lazy_models(*_: object) -> tuple[LazySegmenter, LazyEncoder]:
    segmenter, embedder = DeadlySegmenter(), FakeEmbedder()
    return (
        LazySegmenter("fake", _segmenter, dimension=CHANNELS, description=segmenter.description),
        LazyEncoder("fake", FakeEmbedder, dimension=FakeEmbedder.dimension, description=embedder.description),
    )


os.environ.setdefault("SEARCHANYTHING_INGEST__HASH_SAMPLE_IMAGES", "0")  # a sample may hold a deadly image
presets.lazy_models = _lazy_models
presets.load_hash = lambda _: HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=5)
