"""The state of an interrupted training: a safetensors file beside the layer that is to be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import safetensors
import safetensors.numpy

from searchanything.core.errors import UsageError
from searchanything.core.files import write_whole
from searchanything.core.types import FloatArray

LAYER: Final = ("weight", "bias")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A training after `step` steps: the layer, Adam's moments, and the best layer so far.

    `arrays` has, for `weight` (bits, d) and `bias` (bits,), NAME, NAME_mean, NAME_square and best_NAME, all float32.
    `stale` counts the checks since the best. `origin` tells trainings apart: inputs, start and options.
    """

    origin: str
    step: int
    stale: int
    best_loss: float
    arrays: Mapping[str, FloatArray]

    @classmethod
    def start(cls, weight: FloatArray, bias: FloatArray, *, inputs: FloatArray, trained_by: str) -> Self:
        """Before the first step."""
        digest = hashlib.sha256(trained_by.encode())
        for array in (inputs, weight):
            digest.update(np.ascontiguousarray(array).data)
        arrays = {"weight": weight, "bias": bias}
        arrays |= {f"{name}_{kind}": np.zeros_like(arrays[name]) for name in LAYER for kind in ("mean", "square")}
        arrays |= {f"best_{name}": arrays[name] for name in LAYER}
        return cls(digest.hexdigest(), 0, 0, float("inf"), arrays)

    @classmethod
    def load(cls, path: Path, *, expected: Checkpoint) -> Checkpoint:
        """The state in the file, or `expected` where there is none.

        Raises: UsageError for a damaged file, or a training of other features or options.
        """
        if not path.exists():
            return expected
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                facts = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            state = cls(facts["origin"], int(facts["step"]), int(facts["stale"]), float(facts["best_loss"]), arrays)
        except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
            raise UsageError(f"{path} cannot be resumed from: {error}; remove it and start again") from error
        if state.origin != expected.origin:
            raise UsageError(f"{path} is of a training with other features or options; repeat those, or drop --resume")
        return state

    def save(self, path: Path) -> None:
        """Raises: UsageError for a place that cannot be written."""
        facts = {"origin": self.origin, "step": self.step, "stale": self.stale, "best_loss": self.best_loss}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        data = safetensors.numpy.save(arrays, {name: repr(fact).strip("'") for name, fact in facts.items()})
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
