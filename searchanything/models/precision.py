"""Which precision `auto` is on CUDA: the quick one, unless its answers are not fp32's or it is slower.

The encoder's quick one is fp16. As fast is fast enough there: in fp32 cuDNN's TF32 is allowed to the encoder's
convolutions, which fp16 does not need. Cards before Volta compute fp16 slowly, and some models overflow in it. bf16 is
never chosen: its codes differ from a CPU's in 7 bits of 256 in the median (docs/adr/0074).

The segmenter's is tf32x3 (`models.exact`), which must be quicker (docs/adr/0080).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from searchanything.core.errors import ModelError
from searchanything.core.protocols import RegionEncoder, Segmenter
from searchanything.core.settings import ModelSettings
from searchanything.models.climb import FASTER
from searchanything.models.compute import ModelPart, open_device
from searchanything.models.measurements import Measurements, ModelFacts, machine_facts
from searchanything.models.passes import is_out_of_memory
from searchanything.models.probes import embeddings_agree, probe_crops, probe_images, segmentations_agree

logger = logging.getLogger(__name__)

Model = TypeVar("Model")
EXACT: Final = "fp32"
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Rivals(Generic[Model]):
    """A part's quick precision beside fp32, and how they are compared.

    `first` is what is used until it is measured, `second` the other one; the quick one is taken if its `ask` of the
    probes agrees with fp32's and it is at least `gain` times as fast.
    """

    part: ModelPart
    first: str
    second: str
    gain: float
    probes: Callable[[Model], Any]
    ask: Callable[[Model, Any], Any]
    agree: Callable[[Any, Any], bool]  # of the quick one and fp32

    @property
    def quick(self) -> str:
        """The one that is not fp32."""
        return self.second if self.first == EXACT else self.first


ENCODERS: Final[Rivals[RegionEncoder]] = Rivals(
    part="encoder",
    first="fp16",
    second=EXACT,
    gain=1 / FASTER,
    probes=lambda model: probe_crops(model.crop_size_px),
    ask=lambda model, crops: model.embed_crops(crops),
    agree=embeddings_agree,
)
SEGMENTERS: Final[Rivals[Segmenter]] = Rivals(
    part="segmenter",
    first=EXACT,
    second="tf32x3",
    gain=FASTER,
    probes=lambda _: probe_images(),
    ask=lambda model, images: model.segment(images),
    agree=segmentations_agree,
)


def known_precision(rivals: Rivals[Any], model: ModelFacts, settings: ModelSettings) -> str | None:
    """What was measured to be best for a model on this machine; None where nothing was, or the settings name one.

    `model` is its description. Raises: SettingsError for a device that is not there.
    """
    question = _question(rivals, model, settings)
    found = Measurements(settings.measured_dir).find(question).get("precision") if question else None
    return found if found in (rivals.first, rivals.second) else None


def settling(
    rivals: Rivals[Model], model: ModelFacts, settings: ModelSettings, load: Callable[[str], Model]
) -> Callable[[Model], tuple[Model, str]] | None:
    """How to decide the precision before a run; None where it is decided. `load` is given one's name.

    What it is given must be of the first precision.

    Raises: SettingsError for a device that is not there.
    """
    question = _question(rivals, model, settings)
    if not question or known_precision(rivals, model, settings) is not None:
        return None

    def settle(loaded: Model) -> tuple[Model, str]:
        known = known_precision(rivals, model, settings)
        if known is not None:  # by another process, since
            return loaded if known == rivals.first else load(known), known
        best, precision, compared = settle_precision(rivals, loaded, lambda: load(rivals.second))
        if compared:
            Measurements(settings.measured_dir).keep(question, {"precision": precision})
        return best, precision

    return settle


def settle_precision(
    rivals: Rivals[Model],
    loaded: Model,
    load_other: Callable[[], Model],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Model, str, bool]:
    """Which of a model in the first precision and the same in the second is to be used, which that is, and whether they
    were compared.

    They are not where the device has no memory for both. Raises: what `load_other` raises.
    """
    try:
        other = load_other()
        quick, exact = (other, loaded) if rivals.first == EXACT else (loaded, other)
        probes = rivals.probes(loaded)
        agree = rivals.agree(rivals.ask(quick, probes), rivals.ask(exact, probes))
        quick_s, exact_s = _fastest(rivals, (quick, exact), probes, clock)
    except (RuntimeError, MemoryError, ModelError) as error:  # loading makes the first into the last
        if not is_out_of_memory(error):
            raise
        return loaded, rivals.first, False
    faster = exact_s / max(quick_s, 1e-9)
    relation = "agrees with" if agree else "differs from"
    logger.info("%s: %s %s fp32, %.1f times as fast", rivals.part, rivals.quick, relation, faster)
    return (quick, rivals.quick, True) if agree and faster > rivals.gain else (exact, EXACT, True)


def _question(rivals: Rivals[Any], model: ModelFacts, settings: ModelSettings) -> ModelFacts:
    """What is asked of this machine where the precision is left open: `auto` on CUDA; else nothing."""
    device = open_device(settings, rivals.part)
    what = {"what": "precision", "part": rivals.part}
    return {} if device is None else {**what, **machine_facts(device), **model}


def _fastest(rivals: Rivals[Model], models: Sequence[Model], probes: object, clock: Callable[[], float]) -> list[float]:
    """Seconds of each model's fastest round; they take turns, as the device may have other work for some of them.

    Answers lie in the host's memory, so the device is done by then.
    """
    rounds = [[_seconds_of(rivals, one, probes, clock) for one in models] for _ in range(_ROUNDS)]
    return [min(times_s) for times_s in zip(*rounds, strict=True)]


def _seconds_of(rivals: Rivals[Model], model: Model, probes: object, clock: Callable[[], float]) -> float:
    began = clock()
    rivals.ask(model, probes)
    return clock() - began
