"""Whose failure is it, the image's or the device's? A known image says: where that fails too, no image is to blame.

After an error of its device (a "sticky" CUDA error, a driver that was reset) a process fails at whatever it is given,
until it ends. The built-in image goes through everything that an image of a run goes through.
"""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from functools import cache
from typing import Final

import numpy as np

from searchanything.core.errors import DeviceError, ModelError
from searchanything.core.types import RGBImage
from searchanything.encode.encoder import Encoder, Stopwatch
from searchanything.encode.segmentation_cache import RememberingSegmenter
from searchanything.encode.wrapped_embedder import WrappedEmbedder

_SIDE_PX: Final = 96


def encoding_errors() -> tuple[type[Exception], ...]:
    """What the models raise, torch and OpenCV among them; loaded where something has been raised."""
    import cv2

    return RuntimeError, ValueError, MemoryError, ModelError, cv2.error


def check_models(encoder: Encoder) -> None:
    """Encode the known image, whatever is remembered of it. Raises: DeviceError if that fails."""
    embedder = encoder.embedder
    while isinstance(embedder, WrappedEmbedder):
        embedder = embedder.embedder
    segmenter = encoder.segmenter
    while isinstance(segmenter, RememberingSegmenter):
        segmenter = segmenter.segmenter
    encoder = replace(encoder, segmenter=segmenter, embedder=embedder)
    try:
        image, watch = [canary()], Stopwatch()
        encoder.embed_batch(encoder.cut_batch(image, encoder.segmenter.segment(image), watch), watch)
    except encoding_errors() as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise DeviceError(f"{type(error).__name__}: {reason}", host=socket.gethostname(), pid=os.getpid()) from error


@cache
def canary() -> RGBImage:
    """The known image, (96, 96, 3) uint8 RGB: rectangles on a gradient."""
    ramp = np.linspace(60, 200, _SIDE_PX, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(120)), axis=2)
    image[12:44, 16:52] = (250, 20, 20)
    image[56:84, 40:88] = (20, 250, 20)
    image.setflags(write=False)
    return image
