"""A machine with hand-written models, an index whose features are kept, and another layer for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.hash_layers import layer_file, opened
from fakes.machine import Machine, machine_with_images

from searchanything.client.client import Client


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return machine_with_images(monkeypatch, tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images."""
    return tmp_path / "images"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """Another layer, of another length."""
    return layer_file(tmp_path / "other.safetensors")


@pytest.fixture
def client(tmp_path: Path, images: Path) -> Iterator[Client]:
    with opened(tmp_path) as made:
        made.index(images)
        yield made
