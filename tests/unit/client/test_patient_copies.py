"""A backup and an export wait for an index from the first time on that it has answered: also before they write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from fakes.machine import machine_with_images
from fakes.two_presets import OLD, opened

from searchanything.client.client import Client
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.manifest import IndexManifest
from searchanything.core.patience import PAUSES_S, LongWork, patiently
from searchanything.core.protocols import RegionIndex
from searchanything.stores.memory import MemoryIndexStore


class Restarting(MemoryIndexStore):
    """Asked patiently, as a server is; it says what is live, and is then away once."""

    away = False

    def live(self, *, within_s: float = 0.0) -> IndexManifest | None:
        return patiently(partial(super().live, within_s=within_s), "the index")

    def open(self, fingerprint: str) -> RegionIndex:
        patiently(self._be_away_once, "the index")
        return super().open(fingerprint)

    def _be_away_once(self) -> None:
        if self.away:
            self.away = False
            raise IndexUnavailableError("find no available rootcoord")


@pytest.mark.parametrize(
    "copy",
    [lambda client, folder: client.backup(folder / "b.tar"), lambda client, folder: client.export(folder / "e.json")],
)
def test_what_is_asked_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: Callable[[Client, Path], object]
) -> None:
    machine_with_images(monkeypatch, tmp_path)
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    store = Restarting()
    with opened(store, OLD) as client:
        client.index(tmp_path / "images", hash_file="untrained")
    with opened(store) as client:
        store.away = True
        copy(client, tmp_path)
    assert slept == [PAUSES_S[0]]
