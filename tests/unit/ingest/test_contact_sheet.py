"""Tiles of contact sheets: there for what was indexed, and gone with it, whoever writes meanwhile and is killed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.hash_layers import layer_file
from fakes.indexing import EMPTY, GREEN_BLUE, POISONED, RED, SMALL_BATCHES, Setting, new_index
from fakes.machine import Machine
from PIL import Image

from searchanything import wiring
from searchanything.client.opening import connect
from searchanything.core import codes
from searchanything.core.codes import next_generation
from searchanything.core.errors import RegionIndexError, SettingsError, StoreError
from searchanything.core.rows import ImageRow
from searchanything.core.settings import Settings
from searchanything.drawing.overlays import distinct_colors
from searchanything.ingest.contact_sheet import TILE_AGE_S, Sheet, TileFiles, sweep
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.ingest.reports import IndexReport
from searchanything.stores.files import FolderFiles
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex

INDEX, OTHER = "0a0a0a0a", "0b0b0b0b"
FORCED = IndexingOptions(batch_images=2, transfer_threads=2, force=True)


class Tiled(Setting):
    """A setting whose runs keep tiles in a folder."""

    def __init__(self, folder: Path, index: MemoryRegionIndex | None = None) -> None:
        super().__init__(index)
        self.folder = folder
        self.tiles = TileFiles(FolderFiles(folder), self.store.bucket, INDEX)

    def refresh(self, *keys: str, most: int = 9, options: IndexingOptions = SMALL_BATCHES) -> tuple[IndexReport, Sheet]:
        sheet = Sheet(self.tiles, most=most)
        job = IndexingJob(self.store, lambda: self.encoder, self.index, options, sheet=sheet)
        return refresh_images(job, keys), sheet

    def shown(self) -> dict[str, int]:
        """The generations of the tiles that there are, by image."""
        names = [path.name.split("-") for path in self.folder.glob("*")] if self.folder.exists() else []
        return {image: int(generation) for image, generation, _ in names}

    def expected(self, *keys: str) -> dict[str, int]:
        return {self.ref(key).image_id: self.row(key).generation for key in keys}


@pytest.fixture
def setting(tmp_path: Path) -> Tiled:
    return Tiled(tmp_path / "tiles")


def test_a_tile_shows_the_outlines_of_what_was_indexed(setting: Tiled) -> None:
    setting.store.put("two.png", GREEN_BLUE)
    _, sheet = setting.refresh("two.png")
    [tile] = sheet.kept
    assert tile.key == "two.png"
    with Image.open(tile.address) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    assert max(pixels.shape) < 480
    assert Path(tile.address).stat().st_size < 60_000
    for color in distinct_colors(2):
        assert (np.abs(pixels - np.array(color)).max(axis=2) < 40).sum() > 100
    for color in distinct_colors(5)[2:]:
        assert (np.abs(pixels - np.array(color)).max(axis=2) < 20).sum() < 20


def test_as_many_as_asked_for_and_none_of_what_has_no_regions(setting: Tiled) -> None:
    for key, data in {"a": RED, "b": EMPTY, "c": POISONED, "d": RED[:50], "e": RED, "f": RED, "g": RED}.items():
        setting.store.put(f"{key}.png", data)
    report, sheet = setting.refresh(*(f"{key}.png" for key in "abcdefg"), most=3)
    assert (report.indexed, report.failed) == (4, 2)
    assert [tile.key for tile in sheet.kept] == ["a.png", "e.png", "f.png"]
    assert setting.shown() == setting.expected("a.png", "e.png", "f.png")
    assert "draw" in report.timings_ms


def test_unchanged_images_keep_their_tiles(setting: Tiled) -> None:
    setting.store.put("a.png", RED)
    setting.refresh("a.png")
    before = setting.shown()
    assert setting.refresh("a.png")[1].kept == []
    assert setting.shown() == before != {}


@pytest.mark.parametrize(("most", "tiles"), [(9, 1), (0, 0)])
def test_an_overwrite_replaces_the_tile_or_erases_it(setting: Tiled, most: int, tiles: int) -> None:
    setting.store.put("a.png", RED)
    setting.refresh("a.png")
    old = setting.shown()
    setting.store.put("a.png", GREEN_BLUE)
    setting.refresh("a.png", most=most)
    assert len(setting.shown()) == tiles
    assert setting.shown().items().isdisjoint(old.items())


def test_an_overwrite_that_cannot_be_indexed_erases_it(setting: Tiled) -> None:
    setting.store.put("a.png", RED)
    setting.refresh("a.png")
    setting.store.put("a.png", RED[:50])
    assert setting.refresh("a.png")[0].failed == 1
    assert setting.shown() == {}


def test_a_deletion_erases_tiles_of_all_indexes_and_no_others(setting: Tiled) -> None:
    setting.store.put("a.png", RED)
    setting.store.put("b.png", RED)
    setting.refresh("a.png", "b.png")
    for key in ("a.png", "b.png"):
        other = TileFiles(setting.tiles.files, setting.store.bucket, OTHER)
        other.files.write(other.name(setting.ref(key), 7), b"jpeg")
    setting.store.delete("a.png")
    assert setting.refresh("a.png", most=0)[0].deleted == 1
    assert sorted(path.name[:32] for path in setting.folder.iterdir()) == [setting.ref("b.png").image_id] * 2


def test_only_what_is_older_is_erased(setting: Tiled) -> None:
    """Another worker may have drawn a newer one by then, and what has other names is not ours."""
    image = setting.ref("a.png")
    older, same, newer = (setting.tiles.name(image, generation) for generation in (6, 7, 8))
    foreign = f"{image.image_id}-notes.jpg"
    for name in (older, same, newer, foreign):
        setting.tiles.files.write(name, b"jpeg")
    with ThreadPoolExecutor(1) as pool:
        Sheet(setting.tiles).delete_before({image: 7}, pool)
    assert {path.name for path in setting.folder.iterdir()} == {same, newer, foreign}


def test_what_vanishes_while_it_is_indexed_leaves_none(setting: Tiled) -> None:
    setting.store.put("a.png", RED)
    setting.store.after_read = setting.store.delete
    setting.refresh("a.png")
    assert setting.shown() == {}


def test_what_changes_while_it_is_indexed_is_shown_as_it_is_then(setting: Tiled) -> None:
    setting.store.put("a.png", RED)

    def overwrite(key: str) -> None:
        setting.store.after_read = lambda _: None
        setting.store.put(key, GREEN_BLUE)

    setting.store.after_read = overwrite
    _, sheet = setting.refresh("a.png")
    assert [tile.key for tile in sheet.kept] == ["a.png"]
    assert setting.row("a.png").regions == 2
    assert setting.shown() == setting.expected("a.png")


class Meddled(MemoryRegionIndex):
    """An index in which something happens as soon as image rows are there, or when they are asked for the nth time."""

    after_insert: Callable[[], None] = staticmethod(lambda: None)

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        super().insert_images(rows)
        meddle, self.after_insert = self.after_insert, lambda: None
        meddle()


@pytest.mark.parametrize("deleted", [False, True])
def test_a_slow_worker_leaves_no_tile_of_what_another_replaced_or_deleted(tmp_path: Path, deleted: bool) -> None:
    index = Meddled(new_index().manifest)
    slow, quick = Tiled(tmp_path, index), Tiled(tmp_path, index)
    quick.store = slow.store
    slow.store.put("a.png", RED)

    def meddle() -> None:
        if deleted:
            slow.store.delete("a.png")
        else:
            slow.store.put("a.png", GREEN_BLUE)
        quick.refresh("a.png")

    write = slow.tiles.files.write

    def late(name: str, data: bytes) -> None:
        slow.tiles.files.write = write  # type: ignore[method-assign]
        meddle()  # after the commit's own look at the newest rows, before the tile is there
        write(name, data)

    slow.tiles.files.write = late  # type: ignore[method-assign]
    _, sheet = slow.refresh("a.png")
    assert sheet.kept == []
    assert slow.shown() == ({} if deleted else slow.expected("a.png"))


def test_a_tile_that_cannot_be_written_is_missing_and_no_more(
    setting: Tiled, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(setting.tiles.files, "write", full)
    setting.store.put("a.png", RED)
    report, sheet = setting.refresh("a.png")
    assert (report.indexed, report.failed, sheet.kept) == (1, 0, [])
    assert "no space left" in caplog.text


class TestSweep:
    """What killed processes leave: rows are gone or newer, tiles are still there."""

    def test_live_tiles_stay(self, setting: Tiled) -> None:
        setting.store.put("a.png", RED)
        setting.refresh("a.png")
        assert sweep(setting.tiles, setting.index) == 0
        assert setting.shown() == setting.expected("a.png")

    def test_of_images_that_are_gone(self, setting: Tiled) -> None:
        setting.store.put("a.png", RED)
        setting.refresh("a.png")
        setting.index.delete_images([setting.ref("a.png")])  # killed before the tile's turn
        assert sweep(setting.tiles, setting.index) == 1
        assert setting.shown() == {}

    def test_of_older_rows(self, setting: Tiled) -> None:
        setting.store.put("a.png", RED)
        setting.refresh("a.png")
        setting.store.put("a.png", GREEN_BLUE)
        setting.run()  # by a process that keeps no tiles
        assert sweep(setting.tiles, setting.index) == 1

    def test_what_was_half_written(self, setting: Tiled) -> None:
        setting.folder.mkdir()
        name = setting.tiles.name(setting.ref("a.png"), next_generation())
        (setting.folder / f".{name}.0123abcd.part").write_bytes(b"half")
        assert sweep(setting.tiles, setting.index) == 1
        assert list(setting.folder.iterdir()) == []

    def test_others_are_left_until_they_are_old(self, setting: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(codes, "_last", 0)  # tests of clocks that run ahead leave this process' in the future
        now, old = next_generation(), next_generation() - round((TILE_AGE_S + 60) * 1e9)
        other = TileFiles(setting.tiles.files, setting.store.bucket, OTHER)
        for generation in (now, old):
            other.files.write(other.name(setting.ref("a.png"), generation), b"jpeg")
        (setting.folder / "notes.txt").write_text("not ours")
        assert sweep(setting.tiles, setting.index) == 1
        assert {path.name for path in setting.folder.iterdir()} == {other.name(setting.ref("a.png"), now), "notes.txt"}

    def test_where_nothing_was_kept(self, setting: Tiled) -> None:
        assert sweep(setting.tiles, setting.index) == 0


class TestClient:
    """The client's verbs on a folder of images."""

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
        Machine().install(monkeypatch)
        (tmp_path / "images").mkdir()
        settings = Settings(_env_file=None)
        settings.milvus.uri, settings.models.preset = "memory://tiles", "pico"
        settings.service.folder, settings.service.sheet_images = tmp_path / "state", 4
        return settings

    def test_tiles_come_and_go_with_the_files(self, settings: Settings, tmp_path: Path) -> None:
        images, shown = tmp_path / "images", tmp_path / "state" / "tiles"
        for name in "ab":
            (images / f"{name}.png").write_bytes(RED)
        with connect(settings=settings) as client:
            _, tiles = client.operations.refresh_with_sheet(images, ["a.png", "b.png"], tiles=4)
            assert {tile.key for tile in tiles} == {"a.png", "b.png"}
            assert {Path(tile.address) for tile in tiles} == set(shown.rglob("*.jpg"))
            with Image.open(io.BytesIO(Path(tiles[0].address).read_bytes())) as image:
                assert image.format == "JPEG"
            (images / "a.png").unlink()
            assert client.sync(images, repair=True).orphaned == ("a.png",)
            assert len(list(shown.rglob("*.jpg"))) == 1
            assert client.delete(images) == 1
            assert list(shown.rglob("*.jpg")) == []

    def test_a_sync_finds_what_is_left_although_nothing_differs(self, settings: Settings, tmp_path: Path) -> None:
        images = tmp_path / "images"
        (images / "a.png").write_bytes(RED)
        with connect(settings=settings) as client:
            _, [tile] = client.operations.refresh_with_sheet(images, ["a.png"], tiles=4)
            left = Path(tile.address.replace(Path(tile.address).name[:32], "0" * 32))
            left.write_bytes(b"of an image that is gone")
            settings.service.sheet_images = 0  # of a sync that keeps none
            assert not client.sync(images, repair=True).differs
            assert not left.exists()
            assert Path(tile.address).exists()

    def test_another_hash_layer_leaves_tiles_alone_until_it_is_live(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images, layer = tmp_path / "images", layer_file(tmp_path / "other.safetensors")
        (images / "a.png").write_bytes(RED)

        def never(_store: object, _fingerprint: str) -> None:
            raise RegionIndexError("the server is gone")

        with connect(settings=settings) as client:
            _, [tile] = client.operations.refresh_with_sheet(images, ["a.png"], tiles=4)
            (images / "a.png").write_bytes(GREEN_BLUE)
            monkeypatch.setattr(MemoryIndexStore, "switch", never)
            with pytest.raises(RegionIndexError, match="gone"):
                client.hash_layers.apply(layer, encode=True)
            assert Path(tile.address).exists()
            monkeypatch.undo()
            Machine().install(monkeypatch)
            assert client.hash_layers.apply(layer).left == 0
        assert not Path(tile.address).exists(), "what is live now shows another picture"

    def test_by_default_there_are_none(self, settings: Settings, tmp_path: Path) -> None:
        assert Settings(_env_file=None).service.sheet_images == 0
        settings.service.sheet_images = 0
        images = tmp_path / "images"
        (images / "a.png").write_bytes(RED)
        with connect(settings=settings) as client:
            report, tiles = client.operations.refresh_with_sheet(images, ["a.png"], tiles=4)
        assert (report.indexed, tiles) == (1, ())
        assert not (tmp_path / "state").exists()

    def test_tiles_never_lie_among_the_images(self, settings: Settings, tmp_path: Path) -> None:
        manifest: Any = new_index().manifest
        settings.service.folder = tmp_path / "images" / "state"
        with pytest.raises(SettingsError, match=r"service.folder .* lies in the folder of images"):
            wiring.open_tiles(str(tmp_path / "images"), manifest, settings)
        settings.storage.own_prefix = ""
        settings.storage.endpoint = "localhost:9"
        with pytest.raises(SettingsError, match="own_prefix"):
            wiring.open_tiles("bucket", manifest, settings)


def test_indexing_a_listing_erases_tiles_too(setting: Tiled) -> None:
    setting.store.put("a.png", RED)
    setting.refresh("a.png")
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, FORCED, sheet=Sheet(setting.tiles))
    assert index_images(job, setting.store.list()).indexed == 1
    assert setting.shown() == {}
