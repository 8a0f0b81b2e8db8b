"""A run of `index` sees changed sidecars in its listing, and asks for no image that is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.client.client import Client
from searchanything.ingest.reports import IndexReport
from searchanything.stores.sidecars import SidecarStore

Shelves = dict[str, object]


class Photos:
    """Five images, four of them with a sidecar, and which of them the store was asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("SEARCHANYTHING_INGEST__SIDECAR_SUFFIX", ".json")
        self.folder, self.asked = Path("photos"), set[str]()
        self.folder.mkdir()
        for number in range(5):
            Image.fromarray(drawn(48, 64, red=(4, 4, 30, 40 - number))).save(self.folder / f"{number}.png")
            if number:
                self.write(number, shelf="old")
        for name in ("stat", "read"):
            method = getattr(SidecarStore, name)
            monkeypatch.setattr(SidecarStore, name, lambda store, key, method=method: self._noted(method, store, key))
        self.client: Client = searchanything.connect("memory://", preset="small")

    def _noted(self, method: object, store: SidecarStore, key: str) -> object:
        self.asked.add(key)
        return method(store, key)  # type: ignore[operator]

    def write(self, number: int, **values: object) -> None:
        (self.folder / f"{number}.png.json").write_text(json.dumps(values))

    def index(self, **options: object) -> IndexReport:
        self.asked.clear()
        return self.client.index(self.folder, **options)  # type: ignore[arg-type]

    @property
    def shelves(self) -> Shelves:
        return {row.image.key: row.metadata.get("shelf") for row in self.client.images()[0]}


@pytest.fixture
def photos(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Photos:  # noqa: ARG001
    return Photos(tmp_path, monkeypatch)


def test_a_run_asks_for_images_whose_sidecars_came_went_or_changed(photos: Photos) -> None:
    assert photos.index(hash_file="untrained").indexed == 5
    again = photos.index()
    assert (again.indexed, again.unchanged, photos.asked) == (0, 5, set())
    photos.write(0, shelf="came")
    (photos.folder / "1.png.json").unlink()
    photos.write(2, shelf="changed")
    (photos.folder / "3.png.json").write_text('{"shelf":   "old"}')  # other bytes, same values
    found = photos.index()
    assert photos.asked == {"0.png", "1.png", "2.png", "3.png"}
    assert (found.indexed, found.unchanged, found.failed, found.gone) == (3, 2, 0, 0)
    assert photos.shelves == {"0.png": "came", "1.png": None, "2.png": "changed", "3.png": "old", "4.png": "old"}


def test_an_image_that_changed_with_its_sidecar_is_indexed_once(photos: Photos) -> None:
    photos.index(hash_file="untrained")
    Image.fromarray(drawn(48, 64, blue=(4, 4, 30, 44))).save(photos.folder / "2.png")
    photos.write(2, shelf="new")
    found = photos.index()
    assert (found.indexed, found.unchanged) == (1, 4)
    assert photos.shelves["2.png"] == "new"


@pytest.mark.parametrize("when", ["before", "now"])
def test_a_failure_with_another_sidecar_is_tried_and_counted_once(photos: Photos, when: str) -> None:
    if when == "before":
        (photos.folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    photos.index(hash_file="untrained")
    (photos.folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    photos.write(2, shelf="new")
    found = photos.index()
    assert (found.indexed, found.unchanged, found.failed) == (0, 4, 1)
    assert [one.key for one in found.failures] == ["2.png"]


def test_what_is_forced_is_indexed_once(photos: Photos) -> None:
    photos.index(hash_file="untrained")
    photos.write(2, shelf="new")
    found = photos.index(force=True)
    assert (found.indexed, found.unchanged) == (5, 0)
    assert photos.shelves["2.png"] == "new"


def test_patterns_leave_sidecars_of_other_images_alone(photos: Photos) -> None:
    photos.index(hash_file="untrained")
    photos.write(1, shelf="new")
    photos.write(2, shelf="new")
    found = photos.index(patterns=searchanything.Patterns(include=("1.*",)))
    assert (found.indexed, found.unchanged) == (1, 0)
    assert photos.shelves["1.png"] == "new"
    assert photos.shelves["2.png"] == "old"
