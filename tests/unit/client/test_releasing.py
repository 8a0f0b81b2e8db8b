"""Runs of `index` and `sync` free the index server's memory of what is no longer live, and no run fails by that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.machine import machine_with_images

import searchanything
from searchanything.client.change_lease import change_lease
from searchanything.core.errors import RegionIndexError
from searchanything.core.settings import Settings
from searchanything.stores.memory import MemoryIndexStore


@pytest.mark.parametrize(
    "run",
    [
        lambda client, folder: client.index(folder),
        lambda client, folder: client.sync(folder, repair=True),
    ],
    ids=["index", "repair"],
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_frees_what_was_replaced_so_long_ago(
    run: Callable[[searchanything.Client, Path], object],
    *,
    fails: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    machine_with_images(monkeypatch, tmp_path)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.milvus.release_after_s = "memory://", 77.0
    settings.models.preset = "pico"
    asked: list[float] = []

    def release(_store: MemoryIndexStore, after_s: float) -> list[str]:
        asked.append(after_s)
        if fails:
            raise RegionIndexError("the server is busy")
        return []

    monkeypatch.setattr(MemoryIndexStore, "release_replaced", release)
    with searchanything.connect(settings=settings) as client:
        client.index(tmp_path / "images")
        asked.clear()
        run(client, tmp_path / "images")
        assert asked == [77.0]
        assert client.status().images == 3


def test_nothing_is_freed_while_an_index_is_filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is gone back to was live long ago: who fills it would find it out of memory, again and again."""
    machine_with_images(monkeypatch, tmp_path)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = "memory://", "pico"
    asked: list[float] = []
    monkeypatch.setattr(MemoryIndexStore, "release_replaced", lambda _, after_s: asked.append(after_s) or [])
    with searchanything.connect(settings=settings) as client:
        client.index(tmp_path / "images")
        asked.clear()
        with change_lease(client._indexes, ("live", "other"), "again"):
            client.index(tmp_path / "images")
            client.sync(tmp_path / "images", repair=True)
        assert asked == []
        client.sync(tmp_path / "images", repair=True)
        assert len(asked) == 1
