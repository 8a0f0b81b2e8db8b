"""ultralytics' own segmentation trainer, bent to a budget of minutes on one CPU core.

What differs from its defaults, and why:

- The learning rate follows the clock (cosine over the budget), so a run ends with a finished schedule however busy the
  machine is.
- The network runs in bfloat16 where asked (1.5 times the speed on cores with AVX512-BF16), the loss always in float32.
- No validation inside the run: `training.segmenter_figures` measures the exported weights once, by recall.
- The written checkpoint holds float16 weights and no trace of the machine: no paths, dates, optimizer or git state.
- Beside it a phase keeps its state: network, average, optimizer, steps and time. An interrupted phase goes on from
  there for the rest of its minutes, its images in another order.

Import this only after `training.segmenter.silence_ultralytics()`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import SegmentationModel
from ultralytics.utils import YAML

logger = logging.getLogger(__name__)

_WARMUP_STEPS = 60
_KEPT_ARGUMENTS = ("task", "imgsz", "single_cls", "overlap_mask", "mask_ratio")


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of training.

    Attributes:
        data: The data set's description (`data.yaml`).
        side_px: Side of the square training input, a multiple of 32.
        minutes: Wall-clock budget.
        learning_rate: Peak of the cosine.
        batch: Images per step.
        varied: Whether images are also scaled, shifted and joined, as photographs of few scales need.
    """

    data: Path
    side_px: int
    minutes: float
    learning_rate: float
    batch: int
    varied: bool = False


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where and how often weights and a phase's state are written, and where it all runs.

    `device` is as ultralytics names it.
    """

    weights: Path
    state: Path
    every_minutes: float
    run_folder: Path
    bfloat16: bool
    device: str = "cpu"


class _MixedPrecisionModel(SegmentationModel):  # type: ignore[misc]  # ultralytics is untyped
    """The published network with its forward pass in bfloat16 and its loss in float32."""

    bfloat16 = False

    def loss(self, batch: dict[str, Any], preds: Any = None) -> Any:  # noqa: ANN401 - the base's signature
        """The trainer's loss of a batch."""
        if preds is None:
            with torch.autocast(batch["img"].device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
                preds = self.forward(batch["img"].contiguous(memory_format=torch.channels_last))
        return super().loss(batch, _float32(preds))


def _float32(value: Any) -> Any:  # noqa: ANN401 - nested containers of tensors
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_float32(item) for item in value)
    return value


class _TimedTrainer(SegmentationTrainer):  # type: ignore[misc]  # ultralytics is untyped
    """Trains by the clock, writes its own checkpoints; set `phase`, `outlet`, `network`, `start` before `train()`.

    `kept` is the state of an interrupted phase to go on from.
    """

    phase: Phase
    outlet: Outlet
    network: Mapping[str, Any]
    start: Mapping[str, torch.Tensor] | None = None
    kept: Mapping[str, Any] | None = None
    steps, elapsed_s = 0, 0.0
    _looked: float | None = None

    def get_model(self, *_: object, **__: object) -> nn.Module:
        """The network from `network`, its weights from `start` or random."""
        model = _MixedPrecisionModel(dict(self.network), nc=1, verbose=False)
        model.bfloat16 = self.outlet.bfloat16
        if self.start is not None:
            model.load_state_dict(self.start)
        return nn.Module.to(model, memory_format=torch.channels_last)

    def resume_training(self, ckpt: Any) -> None:  # noqa: ANN401 - the base's signature
        """Take up the state of an interrupted phase: the base calls this when all is built."""
        super().resume_training(ckpt)
        if self.kept is not None:
            self.model.load_state_dict(self.kept["model"])
            self.ema.ema.load_state_dict(self.kept["average"])
            self.ema.updates = self.kept["updates"]
            self.optimizer.load_state_dict(self.kept["optimizer"])
            self.steps, self.elapsed_s = self.kept["steps"], self.kept["elapsed_s"]

    def optimizer_step(self) -> None:
        """One step at the learning rate that the clock asks for; writes weights and state now and then."""
        now = time.monotonic()
        if self._looked is None:
            self._looked = self._written = now
        self.elapsed_s, self._looked = self.elapsed_s + now - self._looked, now
        progress = min(1.0, self.elapsed_s / (60 * self.phase.minutes))
        factor = 0.5 * (1 + math.cos(math.pi * progress)) * min(1.0, (self.steps + 1) / _WARMUP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = self.phase.learning_rate * max(factor, 0.005)
        super().optimizer_step()
        self.steps += 1
        if now - self._written > 60 * self.outlet.every_minutes:
            self._written = now
            write_checkpoint(self.ema.ema, self.network, self.outlet.weights)
            self.keep_state()
            logger.info("step %d, %.0f %% of the budget, loss %s", self.steps, 100 * progress, self.tloss)

    def keep_state(self) -> None:
        """Write what an interrupted phase goes on from; an interruption of the writing leaves the state before it."""
        state = {
            "run": _identity(self.phase, self.network),
            "model": self.model.state_dict(),
            "average": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "elapsed_s": self.elapsed_s,
        }
        partial = self.outlet.state.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.outlet.state)

    def validate(self) -> tuple[dict[str, float], float]:
        """Nothing: the exported weights are measured instead."""
        return {}, 0.0

    def final_eval(self) -> None:
        """Nothing, as above."""

    def save_model(self) -> bool:
        """Write the averaged weights."""
        write_checkpoint(self.ema.ema, self.network, self.outlet.weights)
        return True


def network_of(width: float, depth: float) -> dict[str, Any]:
    """YOLOv8-seg (Jocher et al. 2023) with one class, channels times `width` and repeats times `depth`."""
    path = Path(ultralytics.__file__).parent / "cfg/models/v8/yolov8-seg.yaml"
    published: dict[str, Any] = YAML.load(path)
    return {**published, "nc": 1, "scales": {"n": [depth, width, 1024]}, "scale": "n"}


def train_phase(
    phase: Phase, outlet: Outlet, *, network: Mapping[str, Any], start: Mapping[str, torch.Tensor] | None, seed: int
) -> tuple[dict[str, torch.Tensor], int]:
    """Train for the phase's minutes, or for what an interrupted training left of them.

    Args:
        phase: What to train on, and how long.
        outlet: Where weights are written.
        network: As `network_of` gives it.
        start: Weights to go on from, or None for random ones.
        seed: Of the weights and of the order of the images.

    Returns:
        The averaged weights and the number of steps taken.

    Raises: ValueError where the kept state is of another phase.
    """
    kept = _kept(outlet.state, phase, network)
    steps, elapsed_s = (0, 0.0) if kept is None else (kept["steps"], kept["elapsed_s"])
    left = phase.minutes - elapsed_s / 60
    if kept is not None and left <= 0:
        return kept["average"], steps
    trainer = _TimedTrainer(overrides=_overrides(phase, outlet, minutes=left, seed=seed + steps))
    trainer.phase, trainer.outlet, trainer.network, trainer.start = phase, outlet, network, start
    trainer.kept = kept
    trainer.train()
    trainer.elapsed_s = max(trainer.elapsed_s, 60 * phase.minutes)
    trainer.keep_state()
    return trainer.ema.ema.state_dict(), trainer.steps


def _kept(path: Path, phase: Phase, network: Mapping[str, Any]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["run"] != _identity(phase, network):
        raise ValueError(f"{path} is the state of another phase: delete it, or train as it was begun")
    logger.info("goes on from step %d", state["steps"])
    return state


def _identity(phase: Phase, network: Mapping[str, Any]) -> str:
    """What must be the same for a state to be gone on from."""
    return repr(({**asdict(phase), "data": phase.data.name}, network["scales"]))


def _overrides(phase: Phase, outlet: Outlet, *, minutes: float, seed: int) -> dict[str, Any]:
    return {
        "model": "yolov8n-seg.yaml",  # overridden by get_model: named here because the trainer wants a name
        "data": str(phase.data.resolve()),
        "imgsz": phase.side_px,
        "batch": phase.batch,
        "nbs": phase.batch,
        "epochs": 1000,
        "time": minutes / 60,
        "optimizer": "AdamW",
        "lr0": phase.learning_rate,
        "warmup_epochs": 0,
        "weight_decay": 0.01,
        "mosaic": 0.15 if phase.varied else 0.0,
        "close_mosaic": 0,
        "scale": 0.35 if phase.varied else 0.0,
        "translate": 0.08 if phase.varied else 0.0,
        "erasing": 0.0,
        "overlap_mask": False,
        "amp": False,
        "val": False,
        "plots": False,
        "pretrained": False,
        "deterministic": False,
        "device": outlet.device,
        "workers": 0 if outlet.device == "cpu" else 14,
        "seed": seed,
        "project": str(outlet.run_folder.resolve()),
        "name": "run",
        "exist_ok": True,
    }


def write_checkpoint(model: nn.Module, network: Mapping[str, Any], path: Path) -> None:
    """Write weights in the form that `ultralytics.FastSAM(path)` loads, in float16, with nothing about this machine."""
    plain = SegmentationModel(deepcopy(dict(network)), nc=1, verbose=False)
    plain.load_state_dict(model.state_dict())
    plain.names = {0: "object"}
    plain.args = {"task": "segment", "imgsz": 640, "single_cls": True, "overlap_mask": False, "mask_ratio": 4}
    plain.half().requires_grad_(requires_grad=False)
    document = {
        "epoch": -1,
        "model": plain.eval(),
        "train_args": {name: plain.args[name] for name in _KEPT_ARGUMENTS},
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(document, partial)
    partial.replace(path)
