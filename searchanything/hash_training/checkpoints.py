"""The state of an interrupted training: a safetensors file beside the layer that is to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import safetensors
import safetensors.numpy

from searchanything.core.errors import UsageError
from searchanything.core.files import write_whole
from searchanything.core.types import FloatArray

LAYER: Final = ("weight", "bias")
_DAMAGE: Final = (
    *(safetensors.SafetensorError, KeyError, ValueError, TypeError, OSError, RecursionError),
    AttributeError,  # safetensors asks numpy for types that it has not
)
_FACTS: Final = ("origin", "settings", "step", "stale", "best_loss")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A training after `step` steps: the layer, Adam's moments, and the best layer so far.

    `arrays` has, for `weight` (bits, d) and `bias` (bits,), NAME, NAME_mean, NAME_square and best_NAME, all float32.
    `stale` counts the checks since the best. `origin` (`origin_of`) tells trainings apart; `settings` does before any
    features are read.
    """

    origin: str
    settings: Mapping[str, Any]
    step: int
    stale: int
    best_loss: float
    arrays: Mapping[str, FloatArray]

    @classmethod
    def start(cls, weight: FloatArray, bias: FloatArray, *, origin: str, settings: Mapping[str, Any]) -> Self:
        """Before the first step."""
        arrays = {"weight": weight, "bias": bias}
        arrays |= {f"{name}_{kind}": np.zeros_like(arrays[name]) for name in LAYER for kind in ("mean", "square")}
        arrays |= {f"best_{name}": arrays[name] for name in LAYER}
        return cls(origin, settings, 0, 0, float("inf"), arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises: UsageError for a damaged file."""
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                facts = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            step, stale, best_loss = int(facts["step"]), int(facts["stale"]), float(facts["best_loss"])
            return cls(facts["origin"], dict(json.loads(facts["settings"])), step, stale, best_loss, arrays)
        except _DAMAGE as error:
            raise UsageError(f"{path} cannot be resumed from: {error}; move it away and start again") from error

    def save(self, path: Path) -> None:
        """Raises: UsageError for a place that cannot be written."""
        facts = {name: str(getattr(self, name)) for name in _FACTS} | {"settings": json.dumps(dict(self.settings))}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        data = safetensors.numpy.save(arrays, facts)
        write_whole(path, lambda file: file.write(data))

    def moved(self, step: int, arrays: Mapping[str, FloatArray]) -> Checkpoint:
        """The same training some steps on."""
        return replace(self, step=step, arrays={**self.arrays, **arrays})

    def checked(self, step: int, loss: float) -> Checkpoint:
        """With the held-out loss of this step, which is kept if it is the best."""
        if loss >= self.best_loss:
            return replace(self, step=step, stale=self.stale + 1)
        best = {f"best_{name}": self.arrays[name] for name in LAYER}
        return replace(self, step=step, stale=0, best_loss=loss, arrays={**self.arrays, **best})


def origin_of(trained_by: str, *arrays: FloatArray) -> str:
    """A digest of a training's options and of its rows."""
    digest = hashlib.sha256(trained_by.encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def kept_step(path: Path) -> int | None:
    """The step of the state in the file, None where there is no file, or another one than such a state."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
        return int(facts["step"]) if facts.keys() >= set(_FACTS) else None
    except (safetensors.SafetensorError, OSError, ValueError):
        return None


def check_state(path: Path, *, settings: Mapping[str, Any], resume: bool) -> None:
    """Raises: UsageError where the file is there and cannot be gone on from, or is none that may be written over."""
    if not path.exists():
        return
    if resume:
        theirs = Checkpoint.load(path).settings
        other = [
            f"{name} {theirs.get(name)}, not {ours}" for name, ours in settings.items() if theirs.get(name) != ours
        ]
        if other:
            raise UsageError(
                f"{path} is of a training with other features or options ({'; '.join(other)}); repeat those, or drop "
                "--resume"
            )
    elif kept_step(path) is None:
        raise UsageError(
            f"{path} is no state of a training, and training would write its own there: move it, or name another --out"
        )


def remove_state(path: Path) -> None:
    """Remove the state in the file; any other file stays."""
    if kept_step(path) is not None:
        path.unlink(missing_ok=True)
