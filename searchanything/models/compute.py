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
CPU_CROPS: Final = 16
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device and the precision of the arithmetic on it."""

    device: torch.device
    dtype: torch.dtype

    def at_once(self, most: int, each_thread: int) -> int:
        """How many of the inputs go through a model together: on a CPU so many for each of its threads."""
        return min(most, each_thread * torch.get_num_threads()) if self.device.type == "cpu" else most


CPU = Compute(torch.device("cpu"), torch.float32)


def prepare_compute(settings: ModelSettings, part: ModelPart) -> Compute:
    """The device and precision that the settings ask for, for one of the two models; sets torch's CPU threads.

    The segmenter is fp32 unless another precision is asked for: in fp16 a twentieth of the codes has 17 bits of 256
    that differ from a CPU's, and images get other regions. `auto` for the encoder is fp16 on CUDA (codes differ in at
    most 2 bits), fp32 elsewhere: bf16 on CPUs without AVX512-BF16 or AMX is 70 times slower. `mps` is taken only when
    asked for.

    Raises: SettingsError if the device is unknown or not there.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return _compute(settings, part)


def arithmetic(settings: ModelSettings) -> str:
    """Device and precisions in words, as an index notes them. Raises: as `prepare_compute`."""
    segmenter, encoder = (_compute(settings, part) for part in ("segmenter", "encoder"))
    names = {dtype: name for name, dtype in _DTYPES.items()}
    exact = " without TF32" if segmenter.device.type == "cuda" and segmenter.dtype is torch.float32 else ""
    return f"{segmenter.device.type}: segmenter {names[segmenter.dtype]}{exact}, encoder {names[encoder.dtype]}"


def lanes(settings: ModelSettings) -> int:
    """How many models may work at once: on a CPU one has all cores. Raises: as `prepare_compute`."""
    return 1 if _device(settings.device).type == "cpu" else 2


def _compute(settings: ModelSettings, part: ModelPart) -> Compute:
    device = _device(settings.device)
    if part == "segmenter":
        return Compute(device, _DTYPES[settings.segmenter_precision])
    if settings.precision != "auto":
        return Compute(device, _DTYPES[settings.precision])
    return Compute(device, torch.float16 if device.type == "cuda" else torch.float32)


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
