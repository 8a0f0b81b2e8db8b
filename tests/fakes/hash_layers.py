"""An index whose features are kept in a folder, and other hash layers for it."""

from __future__ import annotations

from pathlib import Path

from fakes.models import CHANNELS, FakeEmbedder

from searchanything.client.client import Client
from searchanything.core.settings import Settings
from searchanything.models.hashing import HashLayer
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex


def layer_file(path: Path, *, bits: int = 128, seed: int = 9, columns: int = FakeEmbedder.dimension) -> Path:
    """A layer's file; by default one of another length than the preset's."""
    path.write_bytes(HashLayer.random_rotation(CHANNELS, columns, bits=bits, seed=seed).to_bytes())
    return path


def opened(folder: Path, *, keep: bool = True, indexes: MemoryIndexStore | None = None) -> Client:
    """A client of an index in memory that keeps features below a folder."""
    settings = Settings(_env_file=None)
    settings.milvus.uri = "memory://"
    settings.models.preset = "pico"
    settings.ingest.keep_features = keep
    settings.ingest.features_dir = folder / "kept"
    return Client(settings, indexes=indexes or MemoryIndexStore())


def live_of(client: Client) -> MemoryRegionIndex:
    """The index that is live."""
    index = client._parts.connection.models.index()
    assert isinstance(index, MemoryRegionIndex)
    return index
