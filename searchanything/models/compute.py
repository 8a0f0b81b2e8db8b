"""Where the models run and in which precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from searchanything.core.errors import SettingsError
from searchanything.core.settings import ModelSettings

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device and the precision of the arithmetic on it."""

    device: torch.device
    dtype: torch.dtype


CPU = Compute(torch.device("cpu"), torch.float32)


def prepare_compute(settings: ModelSettings) -> Compute:
    """The device and precision that the settings ask for; sets torch's CPU threads.

    `auto` is CUDA in bf16 where there is a CUDA device (fp32 if it has no bf16), else the CPU in fp32: bf16 on CPUs
    without AVX512-BF16 or AMX is 70 times slower. `mps` is taken only when asked for.

    Raises: SettingsError if the device is unknown or not there.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = _device(settings.device)
    if settings.precision != "auto":
        return Compute(device, _DTYPES[settings.precision])
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return Compute(device, torch.bfloat16 if bf16 else torch.float32)


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
