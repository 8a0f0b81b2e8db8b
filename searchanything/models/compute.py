"""Where the models run and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch

from searchanything.core.errors import SettingsError
from searchanything.core.settings import ModelSettings

ModelPart: TypeAlias = Literal["segmenter", "encoder"]
# A pass over more is slower on a CPU: its values no longer fit the caches, and the system hands out their memory anew
# each time (benchmarks/models.py, pico on two cores: 16 images at once take 91 ms each, 4 take 70; ten crops 40 ms in
# passes of 160, 25 in passes of 32). Codes are the same.
CPU_IMAGES: Final = 2  # for each thread
CPU_CROPS: Final = 16  # until it is measured how many are best
CROPS: Final = 128  # on other devices, likewise
_MOST_CROPS: Final = 512  # that are tried at once
_FEWEST_CROPS: Final = 32  # tried first, unless they are more than 4 for each thread of a CPU
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device and the precision of the arithmetic on it."""

    device: torch.device
    dtype: torch.dtype

    def images_at_once(self) -> int | None:
        """How many images go through the segmenter together; None for all."""
        return CPU_IMAGES * torch.get_num_threads() if self.device.type == "cpu" else None

    def crops_at_once(self) -> int:
        """How many crops go through the encoder together, as long as that is not measured."""
        return min(CROPS, CPU_CROPS * torch.get_num_threads()) if self.device.type == "cpu" else CROPS

    def crops_to_try(self) -> tuple[int, ...]:
        """How many at once may be the fastest, `crops_at_once` among them: each twice the one before."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else _MOST_CROPS
        sizes = [min(_FEWEST_CROPS, 4 * threads)]
        while 2 * sizes[-1] <= min(_MOST_CROPS, 64 * threads):
            sizes.append(2 * sizes[-1])
        return tuple(sizes)

    @property
    def precision(self) -> str:
        """The name of the precision, as the settings have it."""
        return next(name for name, dtype in _DTYPES.items() if dtype is self.dtype)


CPU = Compute(torch.device("cpu"), torch.float32)


def prepare_compute(settings: ModelSettings, part: ModelPart, measured: str | None = None) -> Compute:
    """The device and precision that the settings ask for, for one of the two models; sets torch's CPU threads.

    `measured` is the precision that is best for this encoder on this machine, where that is known.

    The segmenter is fp32 unless another precision is asked for: in fp16 a twentieth of the codes has 17 bits of 256
    that differ from a CPU's, and images get other regions. `auto` for the encoder is what was measured on CUDA, fp16
    until then (codes differ in at most 2 bits), fp32 elsewhere: bf16 on CPUs without AVX512-BF16 or AMX is 70 times
    slower. `mps` is taken only when asked for.

    Raises: SettingsError if the device is unknown or not there.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return _compute(settings, part, measured)


def arithmetic(settings: ModelSettings, measured: str | None = None) -> str:
    """Device and precisions in words, as an index notes them. Raises: as `prepare_compute`."""
    segmenter, encoder = (_compute(settings, part, measured) for part in ("segmenter", "encoder"))
    exact = " without TF32" if segmenter.device.type == "cuda" and segmenter.dtype is torch.float32 else ""
    return f"{segmenter.device.type}: segmenter {segmenter.precision}{exact}, encoder {encoder.precision}"


def open_device(settings: ModelSettings) -> torch.device | None:
    """The device, where the encoder's precision there is to be measured: `auto` on CUDA. Raises: as the above."""
    device = _device(settings.device)
    return device if settings.precision == "auto" and device.type == "cuda" else None


def lanes(settings: ModelSettings) -> int:
    """How many models may work at once: on a CPU one has all cores. Raises: as `prepare_compute`."""
    return 1 if _device(settings.device).type == "cpu" else 2


def _compute(settings: ModelSettings, part: ModelPart, measured: str | None) -> Compute:
    device = _device(settings.device)
    if part == "segmenter":
        return Compute(device, _DTYPES[settings.segmenter_precision])
    if settings.precision != "auto":
        return Compute(device, _DTYPES[settings.precision])
    return Compute(device, _DTYPES[measured or "fp16"] if device.type == "cuda" else torch.float32)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"unknown device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise SettingsError(f"device {name!r} is not there; set SEARCHANYTHING_MODELS__DEVICE to auto or cpu")
    return device
