"""The batches that the pico encoder's image tower learns from: drawings in pairs, clothes, groceries and backdrops."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.device_crops import (
    CANVAS_PX,
    Views,
    composed,
    cut,
    photographs_shown,
    shown_backdrops,
    windows,
)
from training.encoder_material import Labelled, Material
from training.encoder_model import IMAGE_PX

_DRAWN = Views(masked=0.45, box=0.33, wide=0.22)
_WORN = Views(masked=0.55, box=0.35, wide=0.1)
_BOUGHT = Views(masked=0.2, box=0.8, wide=0)
_NOTHING = Views(masked=0, box=1, wide=0)
# The teacher sees regions at their best: whole, in place, and as large as the encoder's crops.
_DRAWN_PLAINLY = Views(masked=1, box=0, wide=0, jitter=0.02, native_px=IMAGE_PX)
_SHOWN_PLAINLY = Views(masked=0, box=1, wide=0, jitter=0.02, native_px=IMAGE_PX)


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Crops of each kind in a batch; each concept is drawn twice."""

    concepts: int = 224
    street: int = 320
    grocery: int = 128
    backdrops: int = 160

    def scaled(self, share: float) -> BatchSizes:
        """So much of it, at least two of each kind."""
        kinds = (self.concepts, self.street, self.grocery, self.backdrops)
        return BatchSizes(*(max(2, round(share * count)) for count in kinds))


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A batch: what the tower sees and what the teacher sees of the same regions, both (n, 3, 96, 96) in [0, 1].

    `labels` are the classes of the first rows; of those the first `drawn` are drawings, two of each concept. The rows
    beyond are backdrops, which have no class.
    """

    crops: Tensor
    plain: Tensor
    labels: Tensor
    drawn: int


class LessonMaker:
    """Draws batches from torch's own generators; a kind of which there is nothing is left out."""

    def __init__(self, material: Material, sizes: BatchSizes) -> None:
        self._material, self._sizes = material, sizes
        self._pairs = _rows_by_label(material.icons.labels.cpu())
        self._icons = material.icons

    @torch.no_grad()
    def lesson(self) -> Lesson:
        """The next batch."""
        drawn, first = self._drawings()
        sizes, material = self._sizes, self._material
        found = [first, *self._photographs(material.street, sizes.street, _WORN)]
        found += self._photographs(material.grocery, sizes.grocery, _BOUGHT)
        crops, plain, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        nothing = self._backdrops()
        return Lesson(torch.cat([crops, nothing]), torch.cat([plain, nothing]), labels, drawn)

    def _drawings(self) -> tuple[int, tuple[Tensor, Tensor, Tensor]]:
        chosen = torch.randperm(len(self._pairs))[: self._sizes.concepts].tolist()
        rows = torch.cat([self._pairs[one][torch.randperm(len(self._pairs[one]))[:2]] for one in chosen])
        rows = rows.to(self._icons.images.device)
        icons = self._icons.images[rows].float() / 255
        neighbours = self._icons.images[self._some(len(self._icons), len(rows))].float() / 255
        scenes, visible = composed(icons, neighbours, shown_backdrops(self._material.backdrops, len(rows)))
        crops, plain = cut(scenes, visible, _DRAWN), cut(scenes, visible, _DRAWN_PLAINLY)
        return len(rows), (crops, plain, self._icons.labels[rows])

    def _photographs(self, kind: Labelled, count: int, views: Views) -> list[tuple[Tensor, Tensor, Tensor]]:
        if not len(kind):
            return []
        rows = self._some(len(kind), count)
        stored = kind.images[rows].float() / 255
        if stored.shape[1] == 3:  # a whole photograph: its region is nearly all of it
            whole = torch.ones(len(rows), 1, CANVAS_PX, CANVAS_PX, device=stored.device)
            stored = torch.cat([stored, whole], dim=1)
            shown = photographs_shown(stored)
            visible = windows(len(rows), sides=(0.55, 1.0), off=0.25, like=stored)
        else:
            shown = photographs_shown(stored)
            visible = shown[:, 3:]
        crops, plain = cut(shown[:, :3], visible, views), cut(shown[:, :3], visible, _SHOWN_PLAINLY)
        return [(crops, plain, kind.labels[rows])]

    def _backdrops(self) -> Tensor:
        count = self._sizes.backdrops
        scenes = shown_backdrops(self._material.backdrops, count)
        return cut(scenes, windows(count, sides=(0.3, 0.9), off=0.3, like=scenes), _NOTHING)

    def _some(self, among: int, count: int) -> Tensor:
        return torch.randint(among, (count,), device=self._icons.images.device)


def _rows_by_label(labels: Tensor) -> list[Tensor]:
    """The rows of each label that has two or more, on the CPU."""
    order = torch.argsort(labels, stable=True)
    ends = [0, *(torch.nonzero(labels[order].diff()).flatten() + 1).tolist(), len(labels)]
    return [order[start:end] for start, end in pairwise(ends) if end - start > 1]
