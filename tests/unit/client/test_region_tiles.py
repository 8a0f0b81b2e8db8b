"""An index whose large images are segmented in tiles as well, on a machine with hand-written models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import PALETTE, drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.core.errors import SettingsError
from searchanything.core.geometry import mask_of_size
from searchanything.core.settings import Settings
from searchanything.models.tiles import tiles_of
from searchanything.stores.memory import MemoryIndexStore

TILE_PX = 128
SMALL = (700, 90, 724, 110)
WIDE = drawn(200, 1600, red=SMALL, green=(10, 10, 1500, 60))
MIDDLE = (712.0, 100.0)  # of the small thing
SEEN_OF_WIDE = 1 + len(tiles_of((128, 800), 64))  # the whole image, and its tiles, scaled to the segmenter's 64 pixels


def opened(indexes: MemoryIndexStore, tiles: int | None = None) -> Client:
    asked = Settings(_env_file=None)
    asked.milvus.uri, asked.models.preset, asked.ingest.tiles = "memory://", "pico", tiles
    return Client(asked, indexes=indexes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A wide image that shows a small thing, and a small image."""
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    Image.fromarray(drawn(48, 64, blue=(4, 4, 30, 40))).save(tmp_path / "small.png")
    return tmp_path


@pytest.fixture
def tiled(folder: Path, machine: Machine) -> Iterator[Client]:
    """A client of an index with tiles, whose settings do not ask for them."""
    store = MemoryIndexStore()
    with opened(store, TILE_PX) as first:
        first.index(folder)
    machine.segmenter.batch_sizes.clear()
    with opened(store) as client:
        yield client


def agreement(client: Client) -> float:
    """The IoU of the small thing and the index's region of it."""
    [wide] = [image.image for image in client.images()[0] if image.image.key == "wide.png"]
    [mask] = [mask_of_size(row.mask, *WIDE.shape[:2]) for row in client.regions(wide) if tuple(row.box_xyxy) == SMALL]
    truth = WIDE[..., 0] == PALETTE["red"][0]
    return float((mask & truth).sum() / (mask | truth).sum())


def test_an_index_says_itself_that_it_has_tiles(tiled: Client, folder: Path, machine: Machine) -> None:
    assert tiled.manifest.details["segmenter"]["tile_px"] == TILE_PX
    assert tiled.query(folder / "wide.png", MIDDLE, limit=1).hits[0].distance_bits == 0
    assert sum(machine.segmenter.batch_sizes) == SEEN_OF_WIDE
    assert tiled.query(folder / "small.png", (16.0, 20.0), limit=1).hits[0].distance_bits == 0
    assert sum(machine.segmenter.batch_sizes) == SEEN_OF_WIDE + 1  # one tile would hold it
    assert tiled.index(folder).unchanged == 2


def test_settings_that_ask_for_other_tiles_are_refused(tiled: Client, folder: Path) -> None:
    with opened(tiled._indexes, 2 * TILE_PX) as other, pytest.raises(SettingsError, match="made with tiles of 128 px"):  # type: ignore[arg-type]
        other.query(folder / "wide.png", MIDDLE)


def test_an_index_that_gets_tiles_is_as_if_made_with_them(tiled: Client, folder: Path) -> None:
    store = MemoryIndexStore()
    with opened(store) as plain:
        plain.index(folder)
        coarse = agreement(plain)
    with opened(store, TILE_PX) as asking:
        change = asking.models.apply("pico")
    assert (change.encoded, change.failed) == (2, 0)
    with opened(store) as changed:
        assert changed.manifest.feature_fingerprint == tiled.manifest.feature_fingerprint
        assert agreement(changed) == agreement(tiled) > 0.6 > 0.5 > coarse
        assert changed.query(folder / "wide.png", MIDDLE, limit=1).hits[0].distance_bits == 0
