"""Images that their worker died of, or hung in: whether the store answers about them, and how they are recorded."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from fakes.indexing import RED
from fakes.machine import Machine

from searchanything.client.opening import connect
from searchanything.core.codes import next_generation
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


def test_what_was_committed_since_a_try_began_is_no_failure_of_it(settings: Settings, tmp_path: Path) -> None:
    """A worker may hang for hours before it is said to; meanwhile the image is replaced by a sound one."""
    settings.storage.max_object_bytes = 1 << 20
    (tmp_path / "a.png").write_bytes(RED)
    with connect(settings=settings) as client:
        began = next_generation()
        client.index(tmp_path)
        lost = partial(client.operations.record_failure, tmp_path, "a.png", error="WorkerHungError", message="hung")
        assert not lost(begun=began)
        assert client.failures(tmp_path) == []
        assert lost(begun=next_generation())
        assert [one.error for one in client.failures(tmp_path)] == ["WorkerHungError"]
        (tmp_path / "a.png").unlink()
        assert not lost(begun=next_generation())
