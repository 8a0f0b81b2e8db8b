"""Training runs of the pico encoder's image tower: losses, schedule, moving average, and a state to go on from.

The losses: cross-entropy against learnt class prototypes; a supervised contrastive term between two drawings of a
concept (Khosla et al. 2020, eq. 2); cross-entropy against linear images of the classes' names as MiniLM embeds them,
which orders the space so that unseen names fall near what they name; and, with an image teacher, its features on all
crops and its ImageNet classes as soft names on photographs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.encoder_lessons import Lesson
from training.encoder_model import EMBEDDING_DIM, MEAN, STD
from training.text_teacher import TEACHER_DIM

logger = logging.getLogger(__name__)

FEATURE_DIM = 1280  # of the image teacher
CHECKPOINT = "image_tower.pt"
_WARMUP_STEPS = 200
_TEMPERATURE = 0.1
_SOFTENING = 1.5  # of the image teacher's classes
_HIGHEST_SCALE = 40.0
_SMOOTHING = 0.05
_LARGEST_GRADIENT = 5.0


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Shares of the terms beside the classes' cross-entropy."""

    contrastive: float = 0.5
    names: float = 0.3
    features: float = 1.5
    soft_names: float = 0.3


@dataclass(frozen=True, slots=True)
class ImageRun:
    """What decides a run's result, and its folder. It ends after `minutes`, or after `steps` where they are given.

    By the clock a run ends in its time however busy the machine is; by steps the same seed gives the same weights.
    """

    folder: Path
    minutes: float = 24.0
    steps: int | None = None
    trunk_rate: float = 1e-3
    head_rate: float = 3e-3
    weight_decay: float = 0.02
    weights: LossWeights = field(default_factory=LossWeights)
    every_s: float = 60.0

    @property
    def checkpoint(self) -> Path:
        """Where the run keeps its state."""
        return self.folder / CHECKPOINT


class ImageTeacher(Protocol):
    """A network that knows photographs."""

    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised crops (n, 3, 96, 96) to features (n, 1280) and logits (n, soft names)."""
        ...


class Lessons(Protocol):
    """Where batches come from."""

    def lesson(self) -> Lesson:
        """The next one."""
        ...


class ClassHeads(nn.Module):
    """What the embeddings are compared with in training; not shipped, but for the map from names."""

    def __init__(self, names: Tensor, soft_names: Tensor) -> None:
        """`names` (classes, 384) and the image teacher's `soft_names` (m, 384), unit rows."""
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(len(names), EMBEDDING_DIM))
        self.from_names = nn.Linear(TEACHER_DIM, EMBEDDING_DIM, bias=False)
        self.to_features = nn.Linear(EMBEDDING_DIM, FEATURE_DIM)
        self.log_scales = nn.Parameter(torch.full((3,), math.log(16.0)))
        self.names: Tensor
        self.soft_names: Tensor
        self.register_buffer("names", names, persistent=False)
        self.register_buffer("soft_names", soft_names, persistent=False)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of unit embeddings (n, 256) for every class, by prototype and by name: two (n, classes)."""
        noisy = functional.dropout(self.names + torch.randn_like(self.names) * 0.02, 0.1)
        scales = self._scales()
        by_prototype = embeddings @ functional.normalize(self.prototypes, dim=1).T * scales[0]
        return by_prototype, embeddings @ self._placed(noisy).T * scales[1]

    def soft(self, embeddings: Tensor) -> Tensor:
        """Logits for the image teacher's classes."""
        return embeddings @ self._placed(self.soft_names).T * self._scales()[2]

    def _placed(self, names: Tensor) -> Tensor:
        return functional.normalize(self.from_names(names), dim=1)

    def _scales(self) -> Tensor:
        return self.log_scales.clamp(max=math.log(_HIGHEST_SCALE)).exp()


@dataclass(frozen=True, slots=True, eq=False)
class Pupil:
    """What is trained, on one device."""

    tower: nn.Module
    heads: ClassHeads
    device: torch.device

    def groups(self, run: ImageRun) -> list[dict[str, Any]]:
        """The parameters with their peak rates."""
        trunk = list(self.tower.trunk.parameters())  # type: ignore[union-attr]
        rest = [*self.tower.head.parameters(), *self.heads.parameters()]  # type: ignore[union-attr]
        return [{"params": trunk, "lr": run.trunk_rate}, {"params": rest, "lr": run.head_rate}]


def normalised(crops: Tensor) -> Tensor:
    """Crops in [0, 1] as the towers want them."""
    mean, std = (torch.tensor(values, device=crops.device)[:, None, None] for values in (MEAN, STD))
    return ((crops - mean) / std).contiguous(memory_format=torch.channels_last)


def supervised_contrastive(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mean over anchors of the negative log-probability of their positives; (n, d) unit rows, (n,) labels.

    Source: Khosla et al., Supervised Contrastive Learning, 2020, equation 2 (the sum outside the logarithm).
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (embeddings @ embeddings.T / _TEMPERATURE).masked_fill(itself, -1e9)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    log_probability = functional.log_softmax(logits, dim=1)
    return -((log_probability * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


def taught_loss(embeddings: Tensor, features: Tensor, heads: ClassHeads, *, drawn: int) -> Tensor:
    """1 minus the cosine between what the embeddings say of the teacher's features and those; drawings apart."""
    groups = [part for part in (features[:drawn], features[drawn:]) if len(part)]
    wanted = torch.cat([functional.normalize(part - part.mean(0), dim=1) for part in groups])
    said = functional.normalize(heads.to_features(embeddings), dim=1)
    return (1 - (said * wanted).sum(1)).mean()


class ImageTrainer:
    """One run: pupil, moving average, optimiser and clock."""

    def __init__(
        self,
        run: ImageRun,
        pupil: Pupil,
        lessons: Lessons,
        *,
        teacher: ImageTeacher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._pupil, self._lessons, self._teacher, self._clock = run, pupil, lessons, teacher, clock
        averaging = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(pupil.tower, multi_avg_fn=averaging, use_buffers=True)
        self._optimiser = torch.optim.AdamW(pupil.groups(run), weight_decay=run.weight_decay)
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self.step, self.elapsed_s, self.loss = 0, 0.0, math.nan

    def fit(self) -> None:
        """Train to the end of the run; writes its state on the way."""
        self._pupil.tower.train()
        last = saved = self._clock()
        while self._progress < 1:
            self._train_step(self._lessons.lesson())
            now = self._clock()
            self.elapsed_s, last = self.elapsed_s + now - last, now
            if self.step % 50 == 0:
                logger.info("step %d, %.0f s, loss %.3f", self.step, self.elapsed_s, self.loss)
            if now - saved >= self._run.every_s:
                saved = now
                self.save()
        self.save()

    def _train_step(self, lesson: Lesson) -> None:
        self._set_rates()
        loss = self._loss(lesson)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [one for group in self._optimiser.param_groups for one in group["params"]]
        nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
        self._optimiser.step()
        self.average.update_parameters(self._pupil.tower)
        self.step += 1
        self.loss = float(loss.detach())

    def _loss(self, lesson: Lesson) -> Tensor:
        heads, weights, labels, drawn = self._pupil.heads, self._run.weights, lesson.labels, lesson.drawn
        with self._low_precision():
            embeddings = self._pupil.tower(normalised(lesson.crops))
        embeddings = functional.normalize(embeddings.float(), dim=1)
        by_prototype, by_name = heads(embeddings[: len(labels)])
        loss = functional.cross_entropy(by_prototype, labels, label_smoothing=_SMOOTHING)
        loss = loss + weights.names * functional.cross_entropy(by_name, labels, label_smoothing=_SMOOTHING)
        loss = loss + weights.contrastive * supervised_contrastive(embeddings[:drawn], labels[:drawn])
        if self._teacher is None:
            return loss
        with torch.no_grad(), self._low_precision():
            features, logits = (found.float() for found in self._teacher(normalised(lesson.plain)))
        soft = (logits[drawn:] / _SOFTENING).softmax(1)
        loss = loss + weights.features * taught_loss(embeddings, features, heads, drawn=drawn)
        return loss + weights.soft_names * functional.cross_entropy(heads.soft(embeddings[drawn:]), soft)

    def _low_precision(self) -> torch.autocast:
        kind = self._pupil.device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda")

    @property
    def _progress(self) -> float:
        if self._run.steps is not None:
            return min(1.0, self.step / self._run.steps)
        return min(1.0, self.elapsed_s / (self._run.minutes * 60))

    def _set_rates(self) -> None:
        warmth = min(1.0, (self.step + 1) / _WARMUP_STEPS)
        factor = max(0.003, 0.5 * (1 + math.cos(math.pi * self._progress)) * warmth)
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def save(self) -> None:
        """Write the run's state; an interruption leaves the state before it whole."""
        cuda = self._pupil.device.type == "cuda"
        state = {
            "tower": self._pupil.tower.state_dict(),
            "average": self.average.state_dict(),
            "heads": self._pupil.heads.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "draws": torch.get_rng_state(),
            "device_draws": torch.cuda.get_rng_state(self._pupil.device) if cuda else None,
        }
        partial = self._run.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self._run.checkpoint)

    def start_from(self, checkpoint: Path) -> None:
        """Begin with another run's averaged weights and heads: same classes, new clock and learning rate.

        Heads that it has not begin anew.

        Raises:
            RuntimeError: It is of other classes.
        """
        tower = averaged_tower_state(checkpoint)
        self._pupil.tower.load_state_dict(tower)
        self.average.module.load_state_dict(tower)
        heads = self._pupil.heads
        heads.load_state_dict({**heads.state_dict(), **_read(checkpoint)["heads"]})

    def resume(self) -> bool:
        """Take up the state of the run's checkpoint; False if there is none."""
        if not self._run.checkpoint.exists():
            return False
        state = _read(self._run.checkpoint)
        self._pupil.tower.load_state_dict(state["tower"])
        self.average.load_state_dict(state["average"])
        self._pupil.heads.load_state_dict(state["heads"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        torch.set_rng_state(state["draws"])
        if state["device_draws"] is not None and self._pupil.device.type == "cuda":
            torch.cuda.set_rng_state(state["device_draws"], self._pupil.device)
        return True


def _read(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return state


def averaged_tower_state(checkpoint: Path) -> dict[str, Tensor]:
    """The moving average of the image tower's weights, as `visual` of the open_clip model wants them."""
    prefix = "module."
    found = _read(checkpoint)["average"]
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
