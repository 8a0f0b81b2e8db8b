"""A machine on which two presets have models of their own, and what tests do with an index that changes its models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.hash_layers import live_of
from fakes.machine import Machine
from fakes.models import FakeEmbedder, FakeSegmenter, drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.settings import Settings
from searchanything.core.types import FloatArray, ImageRef, RGBImage
from searchanything.models.lazy import LazyEncoder, LazySegmenter
from searchanything.stores.memory import MemoryIndexStore

OLD, NEW = "pico", "small"


class OtherEmbedder(FakeEmbedder):
    """Another encoder: no code of it is like one of the first."""

    def __init__(self) -> None:
        super().__init__(weights="other-embedder")
        self.crops: list[int] = []

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        self.crops.append(len(crops))
        return np.ascontiguousarray(-super().embed_crops(crops)[:, ::-1])


class TwoPresets(Machine):
    """The machine of `OLD`, whose preset `NEW` has other models."""

    def __init__(self) -> None:
        super().__init__()
        self.other = Machine()
        self.other.segmenter, self.other.embedder = FakeSegmenter(weights="other-segmenter"), OtherEmbedder()

    def lazy_models(self, name: str, settings: object) -> tuple[LazySegmenter, LazyEncoder]:
        return (self.other if name == NEW else super()).lazy_models(name, settings)

    def seen(self) -> tuple[int, int]:
        """How many images each segmenter saw."""
        return sum(self.segmenter.batch_sizes), sum(self.other.segmenter.batch_sizes)


def opened(indexes: MemoryIndexStore, preset: str | None = None) -> Client:
    """A client of that index whose settings name a preset, or none."""
    settings = Settings(_env_file=None)
    settings.milvus.uri = "memory://"
    settings.models.preset = preset
    return Client(settings, indexes=indexes)


def save(image: RGBImage, path: Path) -> None:
    """Write it as a PNG."""
    Image.fromarray(image).save(path)


def add(path: Path) -> None:
    """An image of one region."""
    save(drawn(48, 64, green=(4, 4, 30, 40)), path)


def outcomes(client: Client) -> dict[str, Outcome]:
    """What became of each image, by its key."""
    index = live_of(client)
    newest: dict[ImageRef, ImageRow] = index.newest({one.image for one in index.iterate_images()})
    return {image.key: row.outcome for image, row in newest.items()}


def at_the_switch(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], *, before: bool) -> None:
    """Something happens right before or after the index is switched, once."""
    switch, once = MemoryIndexStore.switch, [happens]

    def switched(store: MemoryIndexStore, fingerprint: str) -> None:
        if before and once:
            once.pop()()
        switch(store, fingerprint)
        if not before and once:
            once.pop()()

    monkeypatch.setattr(MemoryIndexStore, "switch", switched)
