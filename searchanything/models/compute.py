"""Where the models run and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch

from searchanything.core.errors import SettingsError
from searchanything.core.settings import ModelSettings
from searchanything.encode.at_once import AtOnce
from searchanything.models.cores import all_threads, sharers, sharing

ModelPart: TypeAlias = Literal["segmenter", "encoder"]
# A pass over more is slower on a CPU: its values no longer fit the caches, and the system hands out their memory anew
# each time (benchmarks/models.py, pico on two cores: 16 images at once take 91 ms each, 4 take 70; ten crops 40 ms in
# passes of 160, 25 in passes of 32). Codes are the same.
CPU_IMAGES: Final = 2  # for each thread
CPU_CROPS: Final = 16  # until it is measured how many are best
CROPS: Final = 128  # on other devices, likewise
_MOST_CROPS: Final = 512  # that are tried at once
_FEWEST_CROPS: Final = 32  # tried first, unless they are more than 4 for each thread of a CPU
_DTYPES = {"fp32": torch.float32, "tf32x3": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device and the precision of the arithmetic on it. `tensor_cores`: fp32 is made of TF32's products there."""

    device: torch.device
    dtype: torch.dtype
    tensor_cores: bool = False

    def images_at_once(self) -> int | None:
        """How many images go through the segmenter together; None for all."""
        return CPU_IMAGES * all_threads() if self.device.type == "cpu" else None

    def crops_at_once(self) -> int:
        """How many crops go through the encoder together, as long as that is not measured."""
        return min(CROPS, CPU_CROPS * all_threads()) if self.device.type == "cpu" else CROPS

    def crops_to_try(self) -> tuple[int, ...]:
        """How many at once may be the fastest, `crops_at_once` among them: each twice the one before."""
        threads = all_threads() if self.device.type == "cpu" else _MOST_CROPS
        sizes = [min(_FEWEST_CROPS, 4 * threads)]
        while 2 * sizes[-1] <= min(_MOST_CROPS, 64 * threads):
            sizes.append(2 * sizes[-1])
        return tuple(sizes)

    @property
    def precision(self) -> str:
        """The name of the precision, as the settings have it."""
        if self.tensor_cores and self.dtype is torch.float32:
            return "tf32x3"
        return next(name for name, dtype in _DTYPES.items() if dtype is self.dtype)


CPU = Compute(torch.device("cpu"), torch.float32)


def prepare_compute(settings: ModelSettings, part: ModelPart, measured: str | None = None) -> Compute:
    """The device and precision that the settings ask for, for one of the two models; sets torch's CPU threads.

    `measured` is the precision that is best for this model on this machine, where that is known.

    `auto` for the segmenter is fp32, on CUDA tf32x3 where that was measured to agree: in fp16 a twentieth of the codes
    has 17 bits of 256 that differ from a CPU's, and images get other regions. `auto` for the encoder is what was
    measured on CUDA, fp16 until then (codes differ in at most 2 bits), fp32 elsewhere: bf16 on CPUs without AVX512-BF16
    or AMX is 70 times slower. `mps` is taken only when asked for.

    Raises: SettingsError if the device is unknown or not there.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return _compute(settings, part, measured)


def arithmetic(settings: ModelSettings, *, segmenter: str | None = None, encoder: str | None = None) -> str:
    """Device and precisions in words, as an index notes them; given what was measured. Raises: as `prepare_compute`."""
    first, second = _compute(settings, "segmenter", segmenter), _compute(settings, "encoder", encoder)
    exact = " without TF32" if first.device.type == "cuda" and first.precision == "fp32" else ""
    return f"{first.device.type}: segmenter {first.precision}{exact}, encoder {second.precision}"


def open_device(settings: ModelSettings, part: ModelPart) -> torch.device | None:
    """The device, where the precision of a part is to be measured there: `auto` on CUDA. Raises: as the above."""
    device = _device(settings.device)
    if device.type != "cuda" or _asked(settings, part) != "auto":
        return None
    return device if part == "encoder" or _has_tensor_cores(device) else None


def at_once(settings: ModelSettings) -> AtOnce:
    """How much a run's models work on at once: on a CPU batches share its cores. Raises: as `prepare_compute`."""
    kind = _device(settings.device).type
    if kind == "cpu":
        return AtOnce(models=1, batches=sharers(settings.threads), sharing=sharing)
    return AtOnce(models=2, embedding=2 if kind == "cuda" else 1)


def _compute(settings: ModelSettings, part: ModelPart, measured: str | None) -> Compute:
    device, asked = _device(settings.device), _asked(settings, part)
    if asked == "auto":
        of_cuda = measured or ("fp32" if part == "segmenter" else "fp16")
        asked = of_cuda if device.type == "cuda" else "fp32"
    # Beside a trunk in half precision the segmenter's head is fp32, which tensor cores may do as well.
    tensor_cores = part == "segmenter" and asked != "fp32" and _has_tensor_cores(device)
    return Compute(device, _DTYPES[asked], tensor_cores)


def _asked(settings: ModelSettings, part: ModelPart) -> str:
    return settings.segmenter_precision if part == "segmenter" else settings.precision


def _has_tensor_cores(device: torch.device) -> bool:
    """Whether TF32 is to be had: on NVIDIA's cards since Ampere."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


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
