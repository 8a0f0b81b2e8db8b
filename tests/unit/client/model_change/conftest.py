"""A machine on which two presets have models of their own, and an index of the first one's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.machine import machine_with_images
from fakes.two_presets import OLD, TwoPresets, opened

from searchanything.client.client import Client
from searchanything.stores.memory import MemoryIndexStore


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TwoPresets:
    machine_with_images(monkeypatch, tmp_path)
    both = TwoPresets()
    both.install(monkeypatch)
    return both


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images."""
    return tmp_path / "images"


@pytest.fixture
def client(images: Path) -> Iterator[Client]:
    """A client whose settings name no preset."""
    store = MemoryIndexStore()
    with opened(store, OLD) as first:
        first.index(images)
    with opened(store) as made:
        yield made
