"""Train the pico encoder's image tower on crops of pictograms.

    python -m training.encoder --teacher TABLE.npz --run FOLDER

Every batch holds 64 seen concepts, each in two styles. The loss is cross-entropy against learnt concept prototypes,
plus a supervised contrastive term between the styles (Khosla et al. 2020, eq. 2), plus cross-entropy against linear
images of the concepts' names as MiniLM embeds them, which orders the space so that the names of unseen concepts fall
near their drawings. The learning rate follows the wall clock: a run ends in its minutes however busy the machine is,
and it resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.crops_dataset import Backgrounds, CropMaker, CropRecipe, Drawings, fit_icon
from training.encoder_model import EMBEDDING_DIM, build_model, load_imagenet_trunk, normalise
from training.pictograms import Pictograms, load_pictograms
from training.text_teacher import TEACHER_DIM, TeacherTable, extend, load_teacher

logger = logging.getLogger(__name__)

_WARMUP_STEPS = 150
_CHECKPOINT_EVERY_S = 240.0
_TEMPERATURE = 0.1
_SMALL_PX = 48


@dataclass(frozen=True, slots=True)
class ImageRun:
    """What decides the result of a training run, and its folder; `small_until` is the share of it on 48 px crops."""

    folder: Path
    minutes: float = 60.0
    concepts_per_batch: int = 64
    trunk_rate: float = 1e-3
    head_rate: float = 3e-3
    weight_decay: float = 0.02
    contrastive_weight: float = 0.5
    text_weight: float = 0.3
    small_until: float = 0.45
    seed: int = 0

    @property
    def checkpoint(self) -> Path:
        """Where the run keeps its state."""
        return self.folder / "image_tower.pt"


class ConceptHeads(nn.Module):
    """What the embeddings are compared with in training; not shipped."""

    def __init__(self, name_vectors: torch.Tensor) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(len(name_vectors), EMBEDDING_DIM))
        self.from_names = nn.Linear(TEACHER_DIM, EMBEDDING_DIM, bias=False)
        self.log_scales = nn.Parameter(torch.full((2,), math.log(16.0)))
        self.name_vectors: torch.Tensor
        self.register_buffer("name_vectors", name_vectors)

    def forward(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of unit embeddings (n, 256) for every concept, by prototype and by name: two (n, concepts)."""
        noise = torch.randn_like(self.name_vectors) * 0.02
        names = functional.normalize(self.from_names(functional.dropout(self.name_vectors + noise, 0.1)), dim=1)
        scales = self.log_scales.clamp(max=math.log(40.0)).exp()
        by_prototype = embeddings @ functional.normalize(self.prototypes, dim=1).T * scales[0]
        return by_prototype, embeddings @ names.T * scales[1]


def supervised_contrastive(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over anchors of the negative log-probability of their positives; (n, d) unit rows, (n,) labels.

    Source: Khosla et al., Supervised Contrastive Learning, 2020, equation 2 (the sum outside the logarithm).
    """
    itself = torch.eye(len(labels), dtype=torch.bool)
    logits = (embeddings @ embeddings.T / _TEMPERATURE).masked_fill(itself, -1e9)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    log_probability = functional.log_softmax(logits, dim=1)
    return -((log_probability * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


def seen_drawings(pictograms: Pictograms) -> Drawings:
    """The drawings of seen concepts, cut and sized."""
    return drawings_at(pictograms, pictograms.rows(zero_shot=False))


def drawings_at(pictograms: Pictograms, rows: NDArray[np.int64]) -> Drawings:
    """The drawings at `rows` of the pictograms, cut and sized."""
    icons = np.stack([fit_icon(np.ascontiguousarray(pictograms.images[row])) for row in rows])
    return Drawings(icons, pictograms.concept_ids[rows], pictograms.style_ids[rows])


def plain_name(name: str) -> str:
    """A concept's name as people write it: "sports-car" is "sports car"."""
    return name.replace("-", " ")


class PairSampler:
    """Rows for one batch after another: distinct concepts, two drawings of each in different styles."""

    def __init__(self, concepts: NDArray[np.int64], *, concepts_per_batch: int, rng: np.random.Generator) -> None:
        order = np.argsort(concepts, kind="stable")
        starts = np.flatnonzero(np.diff(concepts[order], prepend=-1))
        self._rows = [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
        self._per_batch = min(concepts_per_batch, len(self._rows))
        self._rng = rng

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        while True:
            shuffled = self._rng.permutation(len(self._rows))
            for start in range(0, len(shuffled) - self._per_batch + 1, self._per_batch):
                chosen = shuffled[start : start + self._per_batch]
                yield np.concatenate([self._rng.choice(self._rows[i], 2, replace=False) for i in chosen])


class ImageTrainer:
    """One training run: model, moving average, optimiser and clock."""

    def __init__(self, run: ImageRun, maker: CropMaker, *, drawings: Drawings, name_vectors: torch.Tensor) -> None:
        self._run, self._maker = run, maker
        torch.manual_seed(run.seed)
        self.tower = build_model(vocab_size=514).visual
        trunk: Any = self.tower.trunk  # timm's models have no types
        load_imagenet_trunk(trunk)
        self.tower.to(memory_format=torch.channels_last)
        for layer in (trunk.conv_stem, trunk.bn1, trunk.blocks[0]):
            layer.requires_grad_(False)  # noqa: FBT003 - edges are edges; a quarter of the step's time
        self.heads = ConceptHeads(name_vectors)
        averaging = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.tower, multi_avg_fn=averaging, use_buffers=True)
        self._labels = np.searchsorted(np.unique(drawings.concepts), drawings.concepts)
        self._optimiser = self._make_optimiser()
        self.step, self.elapsed_s = 0, 0.0

    def _make_optimiser(self) -> torch.optim.Optimizer:
        heads = [*self.tower.head.parameters(), *self.heads.parameters()]  # type: ignore[union-attr]
        groups = [
            {"params": list(self.tower.trunk.parameters()), "lr": self._run.trunk_rate},  # type: ignore[union-attr]
            {"params": heads, "lr": self._run.head_rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=self._run.weight_decay)
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
        return optimiser

    def fit(self) -> None:
        """Train until the run's minutes are over; writes checkpoints on the way."""
        rng = np.random.default_rng(self._run.seed + self.step)
        batches = iter(PairSampler(self._labels, concepts_per_batch=self._run.concepts_per_batch, rng=rng))
        self.tower.train()
        last, saved, began_at_s = time.monotonic(), time.monotonic(), self.elapsed_s
        while self.elapsed_s < self._run.minutes * 60:
            rows = next(batches)
            loss, correct = self._train_step(self._maker.batch(rows, rng), torch.from_numpy(self._labels[rows]))
            now = time.monotonic()
            self.elapsed_s, last = self.elapsed_s + now - last, now
            if self.step % 50 == 0:
                logger.info("step %d, %.0f s, loss %.3f, right %.2f", self.step, self.elapsed_s, loss, correct)
            if now - saved > _CHECKPOINT_EVERY_S:
                saved = now
                self.save()
        logger.info("%.0f s in this process", self.elapsed_s - began_at_s)
        self.save()

    def _train_step(self, crops: NDArray[np.uint8], labels: torch.Tensor) -> tuple[float, float]:
        self._set_rates()
        inputs = normalise(torch.from_numpy(crops))
        if self._progress < self._run.small_until:
            inputs = functional.interpolate(inputs, size=_SMALL_PX, mode="bilinear", antialias=True)
        embeddings = functional.normalize(self.tower(inputs), dim=1)
        by_prototype, by_name = self.heads(embeddings)
        loss = (
            functional.cross_entropy(by_prototype, labels, label_smoothing=0.05)
            + self._run.contrastive_weight * supervised_contrastive(embeddings, labels)
            + self._run.text_weight * functional.cross_entropy(by_name, labels, label_smoothing=0.05)
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.average.update_parameters(self.tower)
        self.step += 1
        return float(loss.detach()), float((by_prototype.argmax(1) == labels).float().mean())

    @property
    def _progress(self) -> float:
        return min(1.0, self.elapsed_s / (self._run.minutes * 60))

    def _set_rates(self) -> None:
        warmth = min(1.0, (self.step + 1) / _WARMUP_STEPS)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * warmth * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * self._progress)))

    def save(self) -> None:
        """Write the run's state; an interruption leaves the state before it whole."""
        state = {
            "tower": self.tower.state_dict(),
            "average": self.average.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        partial = self._run.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self._run.checkpoint)

    def start_from(self, checkpoint: Path) -> None:
        """Begin with another run's averaged weights and heads: same concepts, new clock and learning rate."""
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        self.tower.load_state_dict(averaged_tower_state(checkpoint))
        self.average.load_state_dict(state["average"])
        self.heads.load_state_dict(state["heads"])

    def resume(self) -> None:
        """Take up the state of the run's checkpoint, if there is one."""
        if not self._run.checkpoint.exists():
            return
        state = torch.load(self._run.checkpoint, map_location="cpu", weights_only=True)
        self.tower.load_state_dict(state["tower"])
        self.average.load_state_dict(state["average"])
        self.heads.load_state_dict(state["heads"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]


def averaged_tower_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The moving average of the image tower's weights, as `visual` of the open_clip model wants them."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["average"]
    prefix = "module."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def centred_names(table: TeacherTable, names: list[str]) -> torch.Tensor:
    """The teacher's vectors of names less their mean over the whole table, unit rows: (n, 384)."""
    vectors = torch.from_numpy(table.rows(names) - table.vectors.mean(0))
    return functional.normalize(vectors, dim=1)


def begin(threads: int) -> None:
    """Messages without ornament, and no more threads than asked for."""
    import cv2

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"), help="cache of training.pictograms")
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"), help="cache of the photographs")
    parser.add_argument("--teacher", type=Path, required=True, help="table of training.text_teacher")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--start", type=Path, help="checkpoint of another run to begin with")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--leave-out", nargs="*", default=[], help="styles kept from training, to try the encoder on")
    return parser.parse_args()


def main() -> None:
    """Train the image tower of the pico encoder."""
    arguments = _arguments()
    begin(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    pictograms = load_pictograms(arguments.pictograms)
    rows = pictograms.rows(zero_shot=False)
    styles = [i for i, style in enumerate(pictograms.styles) if style not in arguments.leave_out]
    drawings = drawings_at(pictograms, rows[np.isin(pictograms.style_ids[rows], styles)])
    names = [plain_name(pictograms.names[concept]) for concept in np.unique(drawings.concepts)]
    table = extend(TeacherTable.load(arguments.teacher), names, load_teacher)
    maker = CropMaker(drawings, Backgrounds.from_photographs(arguments.photographs, held_out=False), CropRecipe())
    run = ImageRun(arguments.run, minutes=arguments.minutes)
    trainer = ImageTrainer(run, maker, drawings=drawings, name_vectors=centred_names(table, names))
    if arguments.start:
        trainer.start_from(arguments.start)
    trainer.resume()
    trainer.fit()


if __name__ == "__main__":
    main()
