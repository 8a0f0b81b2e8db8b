"""The learnt hash: bit = tanh(W y + b) > 0, trained so that agreeing bits tell the angle between features.

Loss, over pairs of rows i, j of a batch, with h = tanh(beta (W y + b)):

    mean ( h_i . h_j / L - (2 / pi) asin(cos(A y_i, A y_j)) )^2

- Pairwise reconstruction of a float similarity by codes: Kulis and Darrell, Learning to hash with binary reconstructive
  embeddings, NIPS 2009; as distillation: Tung and Mori, Similarity-preserving knowledge distillation, ICCV 2019.
- The target is the share of agreeing less differing bits that random hyperplanes give at that angle (Charikar, STOC
  2002), which L bits can reach exactly. Cosines themselves they cannot: the effort would go into the largest variances.
- A is the neighbour whitening of `neighbours`: directions in which near neighbours differ count less.
- beta rises, so that tanh comes close to the sign (Cao et al., HashNet, ICCV 2017).
- The start is iterative quantisation of A y (Gong and Lazebnik, CVPR 2011), from the random rotation that the baseline
  of the same seed begins with. A smaller loss does not make better neighbours: the step is kept, the start among them,
  whose codes find most of the float neighbours of held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from searchanything.core.errors import UsageError
from searchanything.core.types import FloatArray
from searchanything.hash_training.checkpoints import LAYER, Checkpoint, origin_of
from searchanything.hash_training.neighbours import largest_columns, neighbour_whitening
from searchanything.hash_training.rotations import itq, rotation_generator

_BATCH_ROWS: Final = 1024
_CHOOSING_ROWS: Final = 1024  # of the held-out rows, at every check
_NEIGHBOURS: Final = 10
CHECK_STEPS: Final = 20
_RATE = 0.003
_BETAS = (0.9, 0.999)
_FIRST_SLOPE, _LAST_SLOPE = 1.0, 4.0

StepDone = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class DeepOptions:
    """How to train: `checkpoint` names the file that an interrupted training leaves and goes on from with `resume`.

    `settings` stand in that file, to be compared before features are read.
    """

    steps: int
    strength: float
    patience: int = 3  # checks without a better held-out loss
    seed: int = 0
    device: str = "cpu"
    checkpoint: Path | None = None
    resume: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def fit_deep(
    rows: FloatArray, held_out: FloatArray, *, bits: int, options: DeepOptions, step_done: StepDone = lambda *_: None
) -> tuple[FloatArray, FloatArray]:
    """Projection (bits, d) and offset (bits,) of standardised rows (n, d), and as float32 on the CPU.

    `held_out` rows (m, d) choose the step that is kept. `step_done` gets the step and the smallest share so far of
    their float neighbours that codes miss.

    Raises: UsageError for a checkpoint of another training.
    """
    training = _Training(rows, held_out, bits=bits, options=options)
    training.run(step_done)
    return training.result()


class _Training:
    """Adam on W and b with a falling rate. Each step draws from a generator of its own, so that it can be resumed."""

    def __init__(self, rows: FloatArray, held_out: FloatArray, *, bits: int, options: DeepOptions) -> None:
        self._options = options
        self._origin = origin_of(f"{options.seed} {options.steps} {options.strength} {bits}", rows, held_out)
        kept = self._kept()
        generator = np.random.default_rng([options.seed, 2])
        self._whitening = neighbour_whitening(rows, strength=options.strength, generator=generator)
        self._inputs = torch.from_numpy(rows @ self._whitening)
        self._device = torch.device(options.device)
        held = (held_out if len(held_out) else rows)[:_CHOOSING_ROWS]
        self._held_out = held @ self._whitening
        self._near = _neighbours(held @ held.T / np.maximum(np.linalg.norm(held, axis=1), 1e-12))
        self._state = self._start(bits) if kept is None else kept

    def _kept(self) -> Checkpoint | None:
        """What to go on from, if so asked and there is something. Raises: UsageError."""
        path = self._options.checkpoint
        if path is None or not self._options.resume or not path.exists():
            return None
        state = Checkpoint.load(path)
        if state.origin != self._origin:
            raise UsageError(f"{path} is of a training with other features or options; repeat those, or drop --resume")
        return state

    def _start(self, bits: int) -> Checkpoint:
        """The rotation, scaled so that activations have a mean square of 1."""
        inputs = self._inputs.numpy()
        weight = itq(inputs, bits=bits, generator=rotation_generator(self._options.seed))
        weight /= np.sqrt(max(float(np.square(inputs[: 8 * _BATCH_ROWS] @ weight.T).mean()), 1e-12))
        offset = np.zeros(bits, np.float32)
        start = Checkpoint.start(weight, offset, origin=self._origin, settings=self._options.settings)
        return start.checked(0, self._held_out_loss(start))

    def run(self, step_done: StepDone) -> None:
        """Train until the steps are done, or held-out codes get no better."""
        steps = self._options.steps
        step_done(self._state.step, self._state.best_loss)
        while self._state.step < steps and self._state.stale < self._options.patience:
            state = self._stretch(self._state, min(steps, self._state.step + CHECK_STEPS))
            self._state = state.checked(state.step, self._held_out_loss(state))
            if self._options.checkpoint is not None:
                self._state.save(self._options.checkpoint)
            step_done(self._state.step, self._state.best_loss)

    def result(self) -> tuple[FloatArray, FloatArray]:
        """The best layer, with the whitening folded in."""
        return self._state.arrays["best_weight"] @ self._whitening.T, self._state.arrays["best_bias"]

    def _stretch(self, state: Checkpoint, end: int) -> Checkpoint:
        """Steps up to `end`."""
        tensors = {name: torch.from_numpy(array.copy()).to(self._device) for name, array in state.arrays.items()}
        learnt = [tensors[name].requires_grad_() for name in LAYER]
        for step in range(state.step, end):
            gradients = torch.autograd.grad(self._loss(self._batch(step), *learnt, step=step), learnt)
            for name, gradient in zip(LAYER, gradients, strict=True):
                self._adam(tensors, name, gradient, step=step)
        return state.moved(end, {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})

    @torch.no_grad()
    def _adam(self, tensors: dict[str, Tensor], name: str, gradient: Tensor, *, step: int) -> None:
        """One update (Kingma and Ba, ICLR 2015). torch.optim takes longer to load than this training to run."""
        mean, square = tensors[f"{name}_mean"], tensors[f"{name}_square"]
        mean.lerp_(gradient, 1 - _BETAS[0])
        square.lerp_(gradient**2, 1 - _BETAS[1])
        rate = _RATE * (1 + math.cos(math.pi * step / self._options.steps)) / 2
        deviation = (square / (1 - _BETAS[1] ** (step + 1))).sqrt() + 1e-8
        tensors[name] -= rate * mean / (1 - _BETAS[0] ** (step + 1)) / deviation

    def _batch(self, step: int) -> Tensor:
        generator = np.random.default_rng([self._options.seed, 3, step])
        chosen = generator.integers(len(self._inputs), size=min(_BATCH_ROWS, len(self._inputs)))
        return self._inputs[torch.from_numpy(chosen)].to(self._device)

    def _loss(self, inputs: Tensor, weight: Tensor, bias: Tensor, *, step: int) -> Tensor:
        slope = _FIRST_SLOPE + (_LAST_SLOPE - _FIRST_SLOPE) * step / self._options.steps
        return _pairwise_loss(torch.tanh(slope * (inputs @ weight.T + bias)), inputs)

    def _held_out_loss(self, state: Checkpoint) -> float:
        """The share of held-out rows' float neighbours that are not among as many nearest codes."""
        weight, bias = (state.arrays[name] for name in LAYER)
        signs = np.where(self._held_out @ weight.T + bias > 0, np.float32(1), np.float32(-1))
        found = _neighbours(signs @ signs.T)
        return 1 - float((found[:, :, None] == self._near[:, None]).any(axis=2).mean())


def _neighbours(scores: FloatArray) -> NDArray[np.intp]:
    """The columns of the largest scores (m, m) of each row, its own left out."""
    others = scores.copy()
    np.fill_diagonal(others, -np.inf)
    return largest_columns(others, min(_NEIGHBOURS, len(scores) - 1))


def _pairwise_loss(codes: Tensor, inputs: Tensor) -> Tensor:
    """Mean over pairs of different rows: `codes` (n, bits) in [-1, 1], `inputs` (n, d)."""
    unit = functional.normalize(inputs, dim=1)
    target = (2 / math.pi) * torch.asin((unit @ unit.T).clamp(-1, 1))
    errors = (codes @ codes.T / codes.shape[1] - target) ** 2
    pairs = max(1, len(inputs) * (len(inputs) - 1))
    return (errors.sum() - errors.diagonal().sum()) / pairs
