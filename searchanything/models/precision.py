"""Which precision `auto` is on CUDA: fp16, unless its embeddings are not fp32's or it is slower.

As fast is fast enough: in fp32 cuDNN's TF32 is allowed to the encoder's convolutions, which fp16 does not need. Cards
before Volta compute fp16 slowly, and some models overflow in it. bf16 is never chosen: its codes differ from a CPU's in
7 bits of 256 in the median (docs/adr/0074).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from searchanything.core.errors import ModelError
from searchanything.core.protocols import RegionEncoder
from searchanything.core.settings import ModelSettings
from searchanything.core.types import FloatArray, RGBImage
from searchanything.models.climb import FASTER
from searchanything.models.compute import open_device
from searchanything.models.measurements import Measurements, ModelFacts, machine_facts
from searchanything.models.passes import is_out_of_memory

logger = logging.getLogger(__name__)

Settle: TypeAlias = Callable[[RegionEncoder], tuple[RegionEncoder, str]]  # the loaded one -> the best, its precision
# Cosine of the two embeddings of a crop, at least: at that angle random hyperplanes tell 1.2 of 256 bits apart
# (Charikar, STOC 2002). bf16, whose codes differ in 3 bits in the median, has about 0.9993.
AGREEING: Final = 0.9999
_ROUNDS: Final = 3
_CROPS: Final = 64
_SQUARES: Final = 8  # of a chequered crop, along a side


def known_precision(model: ModelFacts, settings: ModelSettings) -> str | None:
    """What was measured to be best for a model on this machine; None where nothing was, or the settings name one.

    `model` is the encoder's description. Raises: SettingsError for a device that is not there.
    """
    question = _question(model, settings)
    found = Measurements(settings.measured_dir).find(question).get("precision") if question else None
    return found if found in ("fp16", "fp32") else None


def settling(model: ModelFacts, settings: ModelSettings, load: Callable[[str], RegionEncoder]) -> Settle | None:
    """How to decide the precision before a run; None where it is decided. `load` is given one's name.

    Raises: SettingsError for a device that is not there.
    """
    question = _question(model, settings)
    if not question or known_precision(model, settings) is not None:
        return None

    def settle(loaded: RegionEncoder) -> tuple[RegionEncoder, str]:
        encoder, precision, compared = settle_precision(loaded, lambda: load("fp32"))
        if compared:
            Measurements(settings.measured_dir).keep(question, {"precision": precision})
        return encoder, precision

    return settle


def settle_precision(
    half: RegionEncoder, load_full: Callable[[], RegionEncoder], *, clock: Callable[[], float] = time.perf_counter
) -> tuple[RegionEncoder, str, bool]:
    """Which of an encoder in fp16 and the same in fp32 is to be used, its precision, and whether they were compared.

    They are not where the device has no memory for both. Raises: what `load_full` raises.
    """
    try:
        full = load_full()
        crops = probe_crops(half.crop_size_px)
        agree = embeddings_agree(half.embed_crops(crops), full.embed_crops(crops))
        half_s, full_s = _fastest((half, full), crops, clock)
    except (RuntimeError, MemoryError, ModelError) as error:  # loading makes the first into the last
        if not is_out_of_memory(error):
            raise
        return half, "fp16", False
    faster = full_s / max(half_s, 1e-9)
    logger.info("encoder: fp16 %s fp32, %.1f times as fast", "agrees with" if agree else "differs from", faster)
    return (half, "fp16", True) if agree and faster * FASTER > 1 else (full, "fp32", True)


def embeddings_agree(one: FloatArray, other: FloatArray) -> bool:
    """Whether rows of unit length (N, D) point the same way, and all values are finite."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return False
    return bool((one * other).sum(axis=1).min() >= AGREEING)


def probe_crops(side: int) -> RGBImage:
    """Crops (64, S, S, 3), always the same, that excite a network in different ways: plain, noise, ramps, chequered."""
    generator = np.random.default_rng(21)
    crops = generator.integers(0, 256, (_CROPS, side, side, 3), dtype=np.uint8)
    places = np.arange(side)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    squares = (places[:, None] * _SQUARES // side + places[None, :] * _SQUARES // side) % 2 == 0
    for number in range(_CROPS // 4):
        colour = generator.integers(0, 256, 3, dtype=np.uint8)
        crops[4 * number] = (0, 255, colour)[min(number, 2)]
        crops[4 * number + 1] = np.roll(ramp, number)[:, None, None] // 2 + colour // 2
        crops[4 * number + 2] = np.where(squares[..., None], colour, 255 - colour)
    return crops


def _question(model: ModelFacts, settings: ModelSettings) -> ModelFacts:
    """What is asked of this machine where the precision is left open: `auto` on CUDA; else nothing."""
    device = open_device(settings)
    return {} if device is None else {"what": "precision", **machine_facts(device), **model}


def _fastest(encoders: Sequence[RegionEncoder], crops: RGBImage, clock: Callable[[], float]) -> list[float]:
    """Seconds of each encoder's fastest round; they take turns, as the device may have other work for some of them.

    Embeddings lie in the host's memory, so the device is done by then.
    """
    rounds = [[_seconds_of(one, crops, clock) for one in encoders] for _ in range(_ROUNDS)]
    return [min(times_s) for times_s in zip(*rounds, strict=True)]


def _seconds_of(encoder: RegionEncoder, crops: RGBImage, clock: Callable[[], float]) -> float:
    began = clock()
    encoder.embed_crops(crops)
    return clock() - began
