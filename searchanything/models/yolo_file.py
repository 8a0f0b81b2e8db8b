"""The tensors of a YOLOv8 `.pt` file, without the program that wrote it and without running anything that is in it.

Such a file is a pickle of whole modules (`ultralytics.nn.tasks.SegmentationModel` and what it holds). Here every class
that it names becomes an inert record of its state; only what builds tensors and plain containers is what it says.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

# `torch._utils` is where torch.save's own format points to.
_REBUILT: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,  # noqa: SLF001
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
}


class _Record:
    """What stands for an object of a class that is not loaded: its state, as the file has it."""

    def __init__(self, *_arguments: object, **_named: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = dict(state) if isinstance(state, Mapping) else {}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as in the base class
        return _REBUILT.get((module.replace("__builtin__", "builtins"), name), _Record)


class _InertPickle:
    """As much of the module `pickle` as `torch.load` asks for."""

    Unpickler = _Unpickler
    __name__ = "searchanything.models.yolo_file"

    @staticmethod
    def load(file: Any, **options: Any) -> Any:  # noqa: ANN401 - as in the module
        return _Unpickler(file, **options).load()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights of the model of a file by their names, as `model.0.conv.weight`; on the CPU.

    The averaged model is taken where the file has one. Raises: what a damaged file provokes in `torch.load`; ValueError
    for a file without a model.
    """
    checkpoint = torch.load(path, map_location="cpu", pickle_module=_InertPickle(), weights_only=False)
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, _Record):
        raise ValueError("the file holds no model")  # noqa: TRY004  what is wrong is the file
    return dict(_tensors(model, ""))


def _tensors(record: _Record, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in record.state.get(kind, {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.detach()
    for name, child in record.state.get("_modules", {}).items():
        if isinstance(child, _Record):
            yield from _tensors(child, f"{prefix}{name}.")
