"""A machine whose presets are the hand-written models: client, wiring and command line above them are real."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.models import CHANNELS, FakeEmbedder, FakeSegmenter, drawn
from PIL import Image

from searchanything import wiring
from searchanything.client import made_together
from searchanything.core.errors import ModelError
from searchanything.core.protocols import RegionEncoder, Segmenter
from searchanything.models import presets
from searchanything.models.hashing import HashLayer
from searchanything.models.lazy import LazyEncoder, LazySegmenter, Settle


class Machine:
    """Models of a preset that count how often they were loaded."""

    def __init__(self) -> None:
        self.segmenter, self.embedder = FakeSegmenter(), FakeEmbedder()
        self.loads: list[str] = []
        self.damaged = False
        self.settle: Settle[RegionEncoder] | None = None
        self.settle_segmenter: Settle[Segmenter] | None = None

    def lazy_models(self, _name: str, _settings: object) -> tuple[LazySegmenter, LazyEncoder]:
        def load(part: str) -> object:
            self.loads.append(part)
            if self.damaged:
                raise ModelError("bad magic number")
            return self.segmenter if part == "segmenter" else self.embedder

        return (
            LazySegmenter(
                "segmenter",
                lambda: load("segmenter"),
                dimension=self.segmenter.feature_dimension,
                description=self.segmenter.description,
                settle=self.settle_segmenter,
            ),
            LazyEncoder(
                "encoder",
                lambda: load("encoder"),
                dimension=self.embedder.dimension,
                description=self.embedder.description,
                settle=self.settle,
            ),
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of every preset's models and hash. No other process makes an index at the same time."""
        layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=256, seed=5)
        monkeypatch.setattr(made_together, "SETTLING_S", 0.0)
        monkeypatch.setattr(wiring, "_models", {})
        monkeypatch.setattr(presets, "lazy_models", self.lazy_models)
        monkeypatch.setattr(presets, "load_hash", lambda _: layer)
        monkeypatch.setattr(presets, "untrained_hash", lambda _: layer)


def machine_with_images(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Machine:
    """A machine, and three images of two things each for it in `folder`/images."""
    one = Machine()
    one.install(monkeypatch)
    (folder / "images").mkdir()
    for number in range(3):
        image = drawn(48, 64, red=(4, 4, 30 + number, 40), blue=(40, 8, 60, 40))
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
    return one
