"""How much room is left: of the disk that an index will lie on, whatever its place is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from searchanything import wiring


@pytest.mark.parametrize("uri", ["~/new/index.db", "~/index.db"])
def test_an_index_at_home_takes_room_there(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of settings no shell has replaced the `~`, and a Path does not by itself."""
    looked_at: list[Any] = []
    look = os.statvfs
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "statvfs", lambda folder: looked_at.append(folder) or look(folder))
    assert wiring.free_disk_bytes(uri)
    assert looked_at == [tmp_path]


@pytest.mark.parametrize("uri", ["memory://", "http://localhost:19530"])
def test_an_index_elsewhere_takes_none(uri: str) -> None:
    assert wiring.free_disk_bytes(uri) is None
