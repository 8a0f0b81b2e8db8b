"""Backups while the index changes, broken off, damaged, foreign, and in a bucket."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.index_rows import HASH_LAYER, image_row, manifest_of, region_row
from contracts.test_restored import F, filled

from searchanything import wiring
from searchanything.backup.backup import back_up, restore
from searchanything.backup.files import MEMBER_BYTES, ObjectsPlace, Sealed, TarPlace, packed, unzipped
from searchanything.backup.whole_images import TRIES
from searchanything.core.codes import next_generation
from searchanything.core.errors import (
    BackupError,
    IndexUnavailableError,
    RegionIndexError,
    SearchAnythingError,
    UsageError,
)
from searchanything.core.manifest import IndexCounts
from searchanything.core.patience import LATER_S, PAUSES_S, LongWork, long_work, patiently
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef
from searchanything.stores.files import FolderFiles
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex


@pytest.fixture
def store() -> MemoryIndexStore:
    store = MemoryIndexStore()
    filled(store, images=30)
    return store


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]


def rewritten(file: Path, parts: dict[str, bytes]) -> TarPlace:
    with tarfile.open(file, "w") as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return TarPlace(file)


def put(index: MemoryRegionIndex, image: ImageRef, count: int) -> None:
    generation = next_generation()
    index.insert_regions([region_row(image, number, generation=generation) for number in range(count)])
    index.insert_images([image_row(image, generation=generation, regions=count)])
    index.delete_before({image: generation})


def test_a_backup_is_plain_files_that_any_program_reads(store: MemoryIndexStore, tmp_path: Path) -> None:
    back_up(store, TarPlace(tmp_path / "b.tar"))
    parts = members(tmp_path / "b.tar")
    assert list(parts) == [
        "manifest.json", "hash.safetensors", "regions-00000000.jsonl.gz", "images-00000000.jsonl.gz", "end.json",
    ]  # fmt: skip
    assert json.loads(parts["manifest.json"])["manifest"]["fingerprint"] == F
    assert parts["hash.safetensors"] == HASH_LAYER
    rows = [json.loads(line) for line in gzip.decompress(parts["images-00000000.jsonl.gz"]).splitlines()]
    assert len(rows) == 30
    assert {row["outcome"] for row in rows} == {"indexed", "empty", "failed"}
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_each_part_is_a_step_of_as_many_images_as_are_there(tmp_path: Path) -> None:
    store, steps, place = MemoryIndexStore(), list[tuple[str, int, int | None]](), TarPlace(tmp_path / "b.tar")
    index = store.create(manifest_of(F), HASH_LAYER)
    for number in range(300):  # the first 256 are a part
        put(index, ImageRef("b", str(number)), number % 2)
    store.switch(F)
    back_up(store, place, on_step=lambda *step: steps.append(step))
    restore(MemoryIndexStore(), place, on_step=lambda *step: steps.append(step))
    parts = [data for name, data in members(tmp_path / "b.tar").items() if name.startswith("images-")]
    sizes = [len(gzip.decompress(data).splitlines()) for data in parts]
    assert (len(sizes) > 1, sum(sizes)) == (True, 300)
    done = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    assert steps == [("backing up", one, 300) for one in done] + [("restoring", one, None) for one in done]


@pytest.mark.parametrize("before", [["pico"], {"pico": 3}, 3])
def test_models_of_before_that_no_program_wrote_are_damage(
    store: MemoryIndexStore, tmp_path: Path, before: object
) -> None:
    back_up(store, TarPlace(tmp_path / "b.tar"))
    parts = members(tmp_path / "b.tar")
    head = json.loads(parts["manifest.json"]) | {"presets_before": before}
    place = rewritten(tmp_path / "other.tar", parts | {"manifest.json": json.dumps(head).encode()})
    with pytest.raises(BackupError, match=r"manifest\.json does not hold what it should"):
        restore(MemoryIndexStore(), place)


class Replacing(MemoryRegionIndex):
    """An index whose images are replaced between the two reads of a backup."""

    replacing: dict[str, int]

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        for image in images:
            if self.replacing.get(image.key, 0) > 0:
                self.replacing[image.key] -= 1
                put(self, image, 3)
            elif self.replacing.get(image.key, 0) < 0:
                self.replacing[image.key] = 0
                self.delete_images([image])
        return super().regions_of(images)


def test_images_that_change_meanwhile_are_whole_or_left_out(tmp_path: Path) -> None:
    store = MemoryIndexStore()
    index = Replacing(manifest_of(F))
    index.replacing = {"once": 1, "always": 99, "deleted": -1}
    store.create(manifest_of(F), HASH_LAYER)
    store._entries[F] = replace(store._entries[F], index=index)
    store.switch(F)
    for key in ("still", "once", "always", "deleted"):
        put(index, ImageRef("b", key), 2)
    report = back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (report.images, report.regions, report.left_out) == (2, 5, 1)
    other = MemoryIndexStore()
    restore(other, TarPlace(tmp_path / "b.tar"))
    rows = {row.image.key: row for row in other.open(F).iterate_images()}
    assert {key: row.regions for key, row in rows.items()} == {"still": 2, "once": 3}
    for region in other.open(F).iterate_regions():
        assert region.generation == rows[region.image.key].generation


def test_an_image_of_which_a_killed_commit_left_two_rows_is_there_once(tmp_path: Path) -> None:
    """Its rows are far apart: it would be asked for twice."""
    store = MemoryIndexStore()
    index = store.create(manifest_of(F), HASH_LAYER)
    images = [ImageRef("b", str(number)) for number in range(300)]
    for image in images:
        put(index, image, 1)
    generation = next_generation()
    index.insert_regions([region_row(images[0], number, generation=generation) for number in range(2)])
    index.insert_images([image_row(images[0], generation=generation, regions=2)])
    store.switch(F)
    report = back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (report.images, report.regions, report.left_out) == (300, 301, 0)
    restore(other := MemoryIndexStore(), TarPlace(tmp_path / "b.tar"))
    assert (other.open(F).counts().images, other.open(F).counts().regions) == (300, 301)


class Failing(MemoryRegionIndex):
    """An index that is asked patiently, as a server is: it answers, and is away every second time."""

    asked = 0

    def _be_away(self) -> None:
        self.asked += 1
        if self.asked % 2:
            raise IndexUnavailableError("find no available rootcoord")

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        patiently(lambda: None, "the index")
        patiently(self._be_away, "the index")
        return super().newest(images)

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        patiently(lambda: None, "the index")
        patiently(self._be_away, "the index")
        return super().regions_of(images)


def test_a_backup_waits_for_a_server_that_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    store, index = MemoryIndexStore(), Failing(manifest_of(F))
    store.create(manifest_of(F), HASH_LAYER)
    store._entries[F] = replace(store._entries[F], index=index)
    store.switch(F)
    for number in range(3):
        put(index, ImageRef("b", str(number)), 2)
    with long_work():
        report = back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (report.images, report.regions, report.left_out) == (3, 6, 0)
    assert slept == [PAUSES_S[0]] * 2, "once for the images, once for their regions"


class WithLateRegions(MemoryRegionIndex):
    """An index that lacks the rows of all images but the first for some looks, as a server that was restarted."""

    lacking: Collection[ImageRef] = ()
    looks_before_all = 0

    def _shows_all(self) -> bool:
        self.looks_before_all -= 1
        return self.looks_before_all < 0

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        shown = images if self._shows_all() else set(images) - set(self.lacking)
        return super().regions_of(shown)


class WithLateImages(WithLateRegions):
    """The same with image rows, which a stream showed before."""

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        return super().newest(images if self._shows_all() else set(images) - set(self.lacking))

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        return MemoryRegionIndex.regions_of(self, images)


@pytest.mark.parametrize(("kind", "looks_of_a_turn"), [(WithLateRegions, TRIES), (WithLateImages, 1)])
@pytest.mark.parametrize("pauses", [0, 1, 2])
def test_images_whose_rows_are_shown_late_are_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[WithLateRegions], looks_of_a_turn: int, pauses: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    store, index = MemoryIndexStore(), kind(manifest_of(F))
    store.create(manifest_of(F), HASH_LAYER)
    store._entries[F] = replace(store._entries[F], index=index)
    store.switch(F)
    images = [ImageRef("b", str(number)) for number in range(5)]
    for image in images:
        put(index, image, 2)
    index.lacking, index.looks_before_all = images[1:], looks_of_a_turn * (1 + pauses)
    with long_work():
        report = back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (report.images, report.regions, report.left_out) == (5, 10, 0)
    assert slept == list(LATER_S[:pauses])
    restore(other := MemoryIndexStore(), TarPlace(tmp_path / "b.tar"))
    assert {row.image for row in other.open(F).iterate_images()} == set(images)


def test_only_long_work_waits_for_rows_that_are_not_there(
    store: MemoryIndexStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    image = ImageRef("b", "lost")
    store.open(F).insert_images([image_row(image, generation=next_generation(), regions=3)])
    assert back_up(store, TarPlace(tmp_path / "a.tar")).left_out == 1
    assert slept == []
    with long_work():
        assert back_up(store, TarPlace(tmp_path / "b.tar")).left_out == 1
    assert slept == list(LATER_S)


def test_nothing_is_overwritten(store: MemoryIndexStore, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"precious")
    with pytest.raises(UsageError, match="overwrites nothing: name another file"):
        back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (tmp_path / "b.tar").read_bytes() == b"precious"
    with pytest.raises(UsageError, match="no folder"):
        back_up(store, TarPlace(tmp_path / "no" / "b.tar"))
    with pytest.raises(UsageError, match="nothing to back up"):
        back_up(MemoryIndexStore(), TarPlace(tmp_path / "c.tar"))
    back_up(store, TarPlace(tmp_path / "d.tar"))
    with pytest.raises(UsageError, match="a restore overwrites nothing"):
        restore(store, TarPlace(tmp_path / "d.tar"))


def test_a_backup_that_breaks_off_leaves_no_file(store: MemoryIndexStore, tmp_path: Path) -> None:
    class Broken(Replacing):
        def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:  # noqa: ARG002
            raise RegionIndexError("the server went away")

    index = Broken(manifest_of(F))
    put(index, ImageRef("b", "k"), 1)
    store._entries[F] = replace(store._entries[F], index=index)
    with pytest.raises(RegionIndexError):
        back_up(store, TarPlace(tmp_path / "b.tar"))
    assert list(tmp_path.iterdir()) == []


def test_a_restore_that_broke_off_is_done_again(store: MemoryIndexStore, tmp_path: Path) -> None:
    place = TarPlace(tmp_path / "b.tar")
    back_up(store, place)
    parts = members(tmp_path / "b.tar")
    cut = rewritten(tmp_path / "cut.tar", {name: data for name, data in parts.items() if name != "end.json"})
    other = MemoryIndexStore()
    with pytest.raises(BackupError, match=r"cut short: it has no end.json"):
        restore(other, cut)
    assert other.live() is None
    assert restore(other, place).images == 30
    assert other.open(F).counts().regions == store.open(F).counts().regions - 2  # garbage stays behind


def test_nothing_of_a_restore_that_broke_off_is_in_the_next_one(store: MemoryIndexStore, tmp_path: Path) -> None:
    """Of another backup of an index of the same models, with other images."""
    back_up(store, TarPlace(tmp_path / "b.tar"))
    parts = {name: data for name, data in members(tmp_path / "b.tar").items() if name != "end.json"}
    few, other = MemoryIndexStore(), MemoryIndexStore()
    filled(few, images=5)
    back_up(few, place := TarPlace(tmp_path / "few.tar"))
    with pytest.raises(BackupError, match="cut short"):
        restore(other, rewritten(tmp_path / "cut.tar", parts))
    assert restore(other, place).images == 5
    assert {row.image for row in other.open(F).iterate_images()} == {row.image for row in few.open(F).iterate_images()}


def test_an_index_that_loses_what_is_restored_does_not_become_live(
    store: MemoryIndexStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(store, place := TarPlace(tmp_path / "b.tar"))
    insert = MemoryRegionIndex.insert_regions
    monkeypatch.setattr(MemoryRegionIndex, "insert_regions", lambda index, rows: insert(index, rows[1:]))
    other = MemoryIndexStore()
    with pytest.raises(BackupError, match=r"arrived in the index; restore again"):
        restore(other, place)
    assert other.live() is None


@pytest.mark.parametrize("change", [{"code": "no base64!"}, {"image": ["b"]}, {"outcome": "other"}, {"more": 1}])
def test_rows_that_are_none_are_said_to_be_so(store: MemoryIndexStore, tmp_path: Path, change: dict[str, Any]) -> None:
    """The file is as it was written, by whatever wrote it."""
    back_up(store, TarPlace(tmp_path / "b.tar"))
    parts: dict[str, bytes] = {}
    sealed = Sealed(parts.__setitem__)
    for name, data in members(tmp_path / "b.tar").items():
        if name.startswith("images-"):
            rows = [json.loads(line) | change for line in gzip.decompress(data).splitlines()]
            sealed.write(name, packed(rows))
        elif name != "end.json":
            sealed.write(name, data)
    sealed.close({"images": 30, "regions": 0})
    other = MemoryIndexStore()
    with pytest.raises(BackupError, match=r"its part images-00000000.jsonl.gz does not hold what it should"):
        restore(other, rewritten(tmp_path / "odd.tar", parts))
    assert other.live() is None


def test_an_emptied_index_is_not_filled_while_it_is_live(store: MemoryIndexStore, tmp_path: Path) -> None:
    place = TarPlace(tmp_path / "b.tar")
    back_up(store, place)
    parts = members(tmp_path / "b.tar")
    cut = rewritten(tmp_path / "cut.tar", {name: data for name, data in parts.items() if name != "end.json"})
    emptied = MemoryIndexStore()
    emptied.create(manifest_of(F), HASH_LAYER)
    emptied.switch(F)
    with pytest.raises(BackupError, match="cut short"):
        restore(emptied, cut)
    assert emptied.live() is None, "half of a backup answers"
    assert restore(emptied, place).images == 30
    assert emptied.live() == manifest_of(F)


def test_a_replaced_index_of_the_same_models_is_not_overwritten(store: MemoryIndexStore, tmp_path: Path) -> None:
    """The live one, of other models, was emptied. What a broken restore left makes room all the same."""
    back_up(store, place := TarPlace(tmp_path / "b.tar"))
    parts = {name: data for name, data in members(tmp_path / "b.tar").items() if name != "end.json"}
    cut = rewritten(tmp_path / "cut.tar", parts)
    store.create(manifest_of("e" * 64), HASH_LAYER)
    store.switch("e" * 64)
    held = store.open(F).counts()
    for backup in (place, cut):
        with pytest.raises(UsageError, match=r"was replaced, .* overwrites nothing"):
            restore(store, backup)
    assert store.open(F).counts() == held
    store.drop(F)
    with pytest.raises(BackupError, match="cut short"):
        restore(store, cut)
    assert restore(store, place).images == 30
    assert store.live() == manifest_of(F)


def test_what_only_counts_no_rows_is_not_taken_for_empty(
    store: MemoryIndexStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Milvus server may that was restarted a moment ago."""
    back_up(store, place := TarPlace(tmp_path / "b.tar"))
    held = store.open(F).counts()
    monkeypatch.setattr(MemoryRegionIndex, "counts", lambda *_, **__: IndexCounts(0, 0, 0, 0))
    with pytest.raises(UsageError, match="holds an index"):
        restore(store, place)
    monkeypatch.undo()
    assert store.live() == manifest_of(F)
    assert store.open(F).counts() == held


def damaged(parts: dict[str, bytes], name: str, change: Any) -> dict[str, bytes]:
    return {key: (change if key == name else data) for key, data in parts.items() if key != name or change is not None}


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("images-00000000.jsonl.gz", None, "images-00000000.jsonl.gz is missing"),
        ("regions-00000000.jsonl.gz", gzip.compress(b""), "regions-00000000.jsonl.gz is damaged"),
        ("regions-00000000.jsonl.gz", b"no gzip", "regions-00000000.jsonl.gz is damaged"),
        ("images-00000000.jsonl.gz", gzip.compress(b'{"id": 1}\n'), "does not hold what it should"),
        ("images-00000000.jsonl.gz", gzip.compress(b"[1]\n"), "does not hold what it should"),
        ("hash.safetensors", b"other", "hash.safetensors is damaged"),
        ("hash.safetensors", None, "no hash layer"),
        ("manifest.json", None, "does not begin with a manifest.json"),
        ("manifest.json", b"{}", "no backup of searchanything"),
        ("manifest.json", b"\xff", "manifest.json is damaged"),
        ("manifest.json", b'{"format": "searchanything-backup", "version": 4, "program": "9.1"}',
         "of format 4, this program reads 1: restore it with searchanything 9.1"),
        ("manifest.json", b'{"format": "searchanything-backup", "version": 1, "manifest": {"x": 1}}',
         "manifest.json does not hold what it should"),
        ("end.json", b"{}", "end.json does not hold"),
        ("end.json", b"[", "end.json is damaged"),
        ("end.json", b"[]", "end.json is no JSON object"),
        ("end.json", b'{"files": {}, "images": 1}', "end.json does not hold"),
        ("end.json", b'{"files": {}, "images": 1, "regions": "3"}', "end.json does not hold"),
        ("end.json", b'{"files": [], "images": 1, "regions": 3}', "end.json does not hold"),
        ("end.json", b"[" * 100_000, "end.json is damaged"),
        ("images-00000000.jsonl.gz", gzip.compress(b"[" * 100_000), "images-00000000.jsonl.gz is damaged"),
    ],
)  # fmt: skip
def test_damage_is_named_and_nothing_becomes_live(
    store: MemoryIndexStore, tmp_path: Path, name: str, change: bytes | None, told: str
) -> None:
    back_up(store, TarPlace(tmp_path / "b.tar"))
    place = rewritten(tmp_path / "bad.tar", damaged(members(tmp_path / "b.tar"), name, change))
    other = MemoryIndexStore()
    with pytest.raises(BackupError, match=told):
        restore(other, place)
    assert other.live() is None


def test_any_cut_of_the_file_is_noticed(store: MemoryIndexStore, tmp_path: Path) -> None:
    back_up(store, TarPlace(tmp_path / "b.tar"))
    whole = (tmp_path / "b.tar").read_bytes()
    content = whole.rstrip(b"\0")
    for length in (0, 1, 511, 512, 700, len(content) // 2, len(content) - 1024, len(content) - 1):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        other = MemoryIndexStore()
        with pytest.raises(SearchAnythingError, match=r"cut\.tar"):
            restore(other, TarPlace(tmp_path / "cut.tar"))
        assert other.live() is None, length


def test_what_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(4096))
    for name, told in (("noise", "no whole backup"), ("none", "no such file"), (".", "no such file")):
        with pytest.raises(SearchAnythingError, match=told):
            restore(MemoryIndexStore(), TarPlace(tmp_path / name))


def test_members_that_are_no_files_or_too_large_are_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        link = tarfile.TarInfo("manifest.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    large = tarfile.TarInfo("manifest.json")
    large.size = MEMBER_BYTES + 1
    (tmp_path / "large.tar").write_bytes(large.tobuf() + bytes(10_240))
    for name in ("link.tar", "large.tar"):
        with pytest.raises(BackupError, match="no part of a backup"):
            restore(MemoryIndexStore(), TarPlace(tmp_path / name))


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.realsize": "x"}, {"GNU.sparse.map": "0,x"}, {"GNU.sparse.size": "9" * 5000}],
    ids=lambda one: next(iter(one)),
)
def test_headers_of_no_tar_file_are_damage(tmp_path: Path, headers: dict[str, str]) -> None:
    """Python's tarfile raises ValueError for some of them."""
    with tarfile.open(tmp_path / "odd.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("manifest.json")
        member.pax_headers = headers
        tar.addfile(member)
    with pytest.raises(BackupError, match=r"odd\.tar is no whole backup"):
        restore(MemoryIndexStore(), TarPlace(tmp_path / "odd.tar"))


def test_rows_of_another_schema_are_refused_with_the_way_out(store: MemoryIndexStore, tmp_path: Path) -> None:
    back_up(store, TarPlace(tmp_path / "b.tar"))
    parts = members(tmp_path / "b.tar")
    head = json.loads(parts["manifest.json"])
    head["manifest"]["schema_version"] = 9
    place = rewritten(tmp_path / "9.tar", parts | {"manifest.json": json.dumps(head).encode()})
    with pytest.raises(BackupError, match="rows of schema 9, this program writes 2: restore it with searchanything"):
        restore(MemoryIndexStore(), place)


def test_where_a_name_leads(tmp_path: Path) -> None:
    settings = Settings(_env_file=None)
    assert wiring.backup_place(str(tmp_path / "b.tar"), settings).location == str(tmp_path / "b.tar")
    settings.storage.endpoint = "127.0.0.1:9"
    for name in ("s3://bucket/some/prefix", "s3://bucket/some/prefix/"):
        assert wiring.backup_place(name, settings).location == "s3://bucket/some/prefix/"
    assert wiring.backup_place("s3://bucket", settings).location == "s3://bucket/"


def test_objects_below_a_prefix(store: MemoryIndexStore, tmp_path: Path) -> None:
    place = ObjectsPlace(FolderFiles(tmp_path / "prefix"))
    report = back_up(store, place)
    with pytest.raises(UsageError, match="overwrites nothing: name another prefix"):
        back_up(store, place)
    other = MemoryIndexStore()
    assert restore(other, place) == report
    (tmp_path / "prefix" / "images-00000000.jsonl.gz").unlink()
    with pytest.raises(BackupError, match=r"images-00000000\.jsonl\.gz is missing"):
        restore(MemoryIndexStore(), place)
    with pytest.raises(UsageError, match="nothing lies there"):
        restore(other, ObjectsPlace(FolderFiles(tmp_path / "none")))


def test_other_users_of_the_machine_cannot_read_it(store: MemoryIndexStore, tmp_path: Path) -> None:
    back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600


def much_metadata(images: int, regions: int) -> MemoryIndexStore:
    """Of as much metadata as an index keeps, or nearly."""
    store = MemoryIndexStore()
    index = store.create(manifest_of(F), HASH_LAYER)
    for number in range(images):
        image, generation = ImageRef("b", f"{number}.jpg"), next_generation()
        metadata = {"n": number, "text": "x" * 59_000}
        index.insert_regions(
            [region_row(image, one, generation=generation, metadata=metadata) for one in range(regions)]
        )
        index.insert_images([image_row(image, generation=generation, regions=regions, metadata=metadata)])
    store.switch(F)
    return store


def test_images_with_much_metadata_come_back(tmp_path: Path) -> None:
    store, other = much_metadata(30, 25), MemoryIndexStore()  # 44 MB: a part held all, and a restore refused it
    report = back_up(store, TarPlace(tmp_path / "b.tar"))
    assert (report.images, report.regions) == (30, 750)
    sizes = [len(gzip.decompress(data)) for name, data in members(tmp_path / "b.tar").items() if name.endswith(".gz")]
    assert max(sizes) < 20 * 2**20
    restore(other, TarPlace(tmp_path / "b.tar"))
    assert {row.id: row for row in other.open(F).iterate_images()} == {
        row.id: row for row in store.open(F).iterate_images()
    }
    assert {row.id: row for row in other.open(F).iterate_regions()} == {
        row.id: row for row in store.open(F).iterate_regions()
    }


def test_a_part_is_unpacked_line_by_line() -> None:
    lines = [json.dumps({"n": number, "text": "ä" * 29_000}, ensure_ascii=False) for number in range(500)]
    packed = gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=1)
    assert [one["n"] for one in unzipped("regions-0", packed, "here")] == list(range(500))  # 29 MB
    long = gzip.compress(b" " * (3 << 20) + b"{}\n")  # would take as much memory as it says
    for cut in (packed[:-1], packed[: len(packed) // 2], gzip.compress(b'{"a": 1}'), long):
        with pytest.raises(BackupError, match="regions-0 is damaged"):
            list(unzipped("regions-0", cut, "here"))


def test_so_many_images_are_asked_for_as_their_metadata_leave_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    newest = MemoryRegionIndex.newest

    def noted(index: MemoryRegionIndex, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        asked.append(len(images))
        return newest(index, images)

    monkeypatch.setattr(MemoryRegionIndex, "newest", noted)
    for letters, expected in ((1, [256, 2244]), (50_000, [256, 324, 20])):
        asked.clear()
        store = MemoryIndexStore()
        index = store.create(manifest_of(F), HASH_LAYER)
        metadata = {"text": "a" * letters}
        refs = [ImageRef("b", f"{number}.jpg") for number in range(2500 if letters == 1 else 600)]
        index.insert_images([image_row(ref, generation=1, regions=0, metadata=metadata) for ref in refs])
        store.switch(F)
        assert back_up(store, TarPlace(tmp_path / f"{letters}.tar")).images == len(refs)
        assert sum(asked) == len(refs)
        assert asked[0] == expected[0]
        assert len(asked) == len(expected)


def test_where_all_that_was_asked_for_is_gone_no_more_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    newest = MemoryRegionIndex.newest

    def deleted(index: MemoryRegionIndex, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        if not asked:
            index.delete_images(images)
        asked.append(len(images))
        return newest(index, images)

    store = MemoryIndexStore()
    index = store.create(manifest_of(F), HASH_LAYER)
    refs = [ImageRef("b", f"{number}.jpg") for number in range(600)]
    index.insert_images([image_row(ref, generation=1, regions=0) for ref in refs])
    store.switch(F)
    monkeypatch.setattr(MemoryRegionIndex, "newest", deleted)
    assert back_up(store, TarPlace(tmp_path / "b.tar")).images == 344
    assert asked[:2] == [256, 256]
