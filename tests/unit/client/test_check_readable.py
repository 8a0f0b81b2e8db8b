"""Whether the store answers about an image that hung in its worker: what the answer is does not matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.machine import Machine

from searchanything.client.opening import connect
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import Settings
from searchanything.stores.folder import FolderStore


def check(settings: Settings, folder: Path, key: str) -> None:
    with connect(settings=settings) as client:
        client.operations.check_readable(folder, key)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    Machine().install(monkeypatch)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = "memory://readable", "pico"
    settings.storage.max_object_bytes = 10
    return settings


@pytest.mark.parametrize("key", ["small.png", "large.png", "gone.png"])
def test_any_answer_is_one(settings: Settings, tmp_path: Path, key: str) -> None:
    """An image may have been replaced or deleted since it hung."""
    (tmp_path / "small.png").write_bytes(bytes(10))
    (tmp_path / "large.png").write_bytes(bytes(11))
    check(settings, tmp_path, key)


def test_none_is_none(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_store: FolderStore, key: str) -> None:
        raise StoreUnavailableError(f"{key}: the disk is away")

    monkeypatch.setattr(FolderStore, "read", away)
    with pytest.raises(StoreUnavailableError):
        check(settings, tmp_path, "small.png")
