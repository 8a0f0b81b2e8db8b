"""The tensors of a YOLOv8 `.pt` file, without the program that wrote it and without running anything that is in it.

Such a file is a pickle of whole modules (`ultralytics.nn.tasks.SegmentationModel` and what it holds). Here every class
that it names becomes an inert record of its state; only what builds tensors and plain containers is what it says. A
TorchScript archive, which `torch.load` would run, is refused before it is loaded.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

_ZIP: Final = b"PK\x03\x04"  # how `torch.load` tells an archive
_SCRIPT: Final = "constants.pkl"  # the record by which it takes an archive for TorchScript
_TYPES: Final[Mapping[tuple[str, str], type[Any]]] = {  # of C: a file cannot set attributes of these
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("torch", "Size"): torch.Size,
}


class ForeignFileError(ValueError):
    """A whole file that is not of the kind that is needed: to fetch it again would not help."""


class _Record:
    """What stands for an object of a class that is not loaded: its state, as the file has it."""

    def __init__(self, *_arguments: object, **_named: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = dict(state) if isinstance(state, Mapping) else {}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as in the base class
        asked = module.replace("__builtin__", "builtins"), name
        return _function(asked) or _TYPES.get(asked, _Record)


def _function(asked: tuple[str, str]) -> Callable[..., Any] | None:
    """What torch.save's format calls: a new function each time, as a pickle can set attributes of what it is given."""
    if asked == ("torch._utils", "_rebuild_tensor_v2"):
        rebuild: Callable[..., Any] = torch._utils._rebuild_tensor_v2  # noqa: SLF001
        return lambda *arguments: rebuild(*arguments)
    if asked == ("torch._utils", "_rebuild_parameter"):
        return lambda data, *_: data
    return None


class _InertPickle:
    """As much of the module `pickle` as `torch.load` asks for."""

    Unpickler = _Unpickler
    __name__ = "searchanything.models.yolo_file"

    @staticmethod
    def load(file: Any, **options: Any) -> Any:  # noqa: ANN401 - as in the module
        return _Unpickler(file, **options).load()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights of the model of a file by their names, as `model.0.conv.weight`; on the CPU.

    The averaged model is taken where the file has one. Raises: what a damaged file provokes in `torch.load`;
    ForeignFileError for a TorchScript archive and for a file without a model.
    """
    with path.open("rb") as file:
        _refuse_script(file)
        checkpoint = torch.load(file, map_location="cpu", pickle_module=_InertPickle(), weights_only=False)
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, _Record):
        raise ForeignFileError("the file holds no model")
    return dict(_tensors(model, ""))


def _refuse_script(file: IO[bytes]) -> None:
    """Raises: ForeignFileError for an archive that `torch.load` would hand to `torch.jit.load`, which runs programs.

    The names are read by torch's own reader, so that both see the same ones; a folder more or less makes no difference.
    """
    start = file.read(len(_ZIP))
    file.seek(0)
    if start != _ZIP:
        return
    names = torch._C.PyTorchFileReader(file).get_all_records()  # noqa: SLF001
    file.seek(0)
    if any(name.rpartition("/")[2] == _SCRIPT for name in names):
        raise ForeignFileError(
            "the file is a TorchScript archive, which is a program, and no program in a file is run; expected the "
            ".pt file that ultralytics saves"
        )


def _tensors(record: _Record, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in record.state.get(kind, {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.detach()
    for name, child in record.state.get("_modules", {}).items():
        if isinstance(child, _Record):
            yield from _tensors(child, f"{prefix}{name}.")
