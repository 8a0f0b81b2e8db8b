"""Which objects are images, in buckets and folders, and that what is skipped is counted with its reason."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from fakes.indexing import RED, SMALL_BATCHES, Setting
from fakes.stores import InMemoryStore
from PIL import Image, features

from searchanything.core.omissions import Omissions
from searchanything.core.skips import Skipped, sum_skips
from searchanything.core.types import StoredObject
from searchanything.images.content_types import ContentTypes
from searchanything.images.decoding import decode_image
from searchanything.images.names import (
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    UNREAD_SUFFIXES,
    SkipReason,
    claims_to_be_image,
    may_be_image,
    skip_reason,
)
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexReport
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.service.reports import WaveReport, wave_markdown
from searchanything.stores.folder import FolderStore

IMAGES_BY_NAME = (
    "a/b.jpg", "DSC0001.HIF", "a.MPO", "a.jif", "a.JFIF", "a.jpe", ".jpg", "a.heic", "eaDir/b.jpg",
    "my__MACOSX/b.jpg",
)  # fmt: skip
OTHERS_BY_NAME = (
    "a.b/c", "jpg", "a.jpg/readme", "a.jpg.txt", "a/.DS_Store", "$RECYCLE.BIN/S-1/x.jpg", "$Recycle.Bin/x.jpg",
    "x/__MACOSX/y.jpg", "x/__MACOSX/._y.jpg",
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "content_type", "claims"),
    [
        *((key, None, True) for key in IMAGES_BY_NAME),
        *((key, None, False) for key in OTHERS_BY_NAME),
        ("a/b.JPEG", "text/html", True),
        ("b.jpg", "application/octet-stream", True),
        ("b.jpg", "binary/octet-stream", True),
        ("a.svg", "image/svg+xml", False),
        ("drawing", "image/svg+xml", False),
        ("a.cr2", "image/x-canon-cr2", False),
        ("raw", "image/x-canon-cr2", False),
        ("scan", "image/TIFF; q=1", True),
        ("scan", "image/x-png", True),
        ("photo.jpg_large", "image/jpeg", True),
        ("photo.jpg?w=100", "image/jpeg", True),
        ("2024.01.02 12.30.55", "IMAGE/JPEG", True),
        ("end.jpg ", "image/jpeg", True),
        ("index.php", "image/png", True),
        ("photo.jpg_large", "application/octet-stream", False),
        ("notes.txt", "image/jpeg", False),  # a known suffix decides, or every .json would cost a request
        ("scan", "application/octet-stream", False),
        ("clip.mp4", "video/mp4", False),
        ("._IMG_1.jpg", "image/jpeg", False),
        ("a/Thumbs.db", "image/jpeg", False),
        ("a/@eaDir/b/c.jpg", "image/jpeg", False),
    ],
)
def test_what_is_an_image(key: str, content_type: str | None, claims: bool) -> None:
    assert claims_to_be_image(key, content_type) is claims
    if claims:
        assert may_be_image(key)


def test_no_suffix_is_of_two_kinds() -> None:
    counts = Counter([*IMAGE_SUFFIXES, *UNREAD_SUFFIXES, *OTHER_SUFFIXES])
    assert [suffix for suffix, count in counts.items() if count > 1] == []


def test_every_suffix_of_the_formats_that_are_read_is_known() -> None:
    """Against Pillow's own table, and pi-heif's."""
    from pi_heif import register_heif_opener

    register_heif_opener()
    Image.init()
    read = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"} | {"DIB"}
    known = {suffix[1:] for suffix, kind in Image.registered_extensions().items() if kind in read}
    assert known - IMAGE_SUFFIXES == set()


def test_a_file_of_several_jpegs_is_decoded() -> None:
    assert features.check("jpg")
    file = io.BytesIO()
    first, second = Image.new("RGB", (16, 12), "red"), Image.new("RGB", (16, 12), "blue")
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert decode_image(file.getvalue(), name="a.MPO", max_pixels=10_000).shape == (12, 16, 3)


class AskedStore(InMemoryStore):
    """Counts what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def stat(self, key: str) -> StoredObject | None:
        self.asked[key] += 1
        return super().stat(key)


class Bucket:
    """A bucket with all kinds of names, an index, and short ways to fill it."""

    def __init__(self, *, include: tuple[str, ...] = ()) -> None:
        self.store = AskedStore()
        self.setting = Setting(store=self.store)
        self.scope = Scope(patterns=Patterns(include=include))
        self.types = ContentTypes()

    def job(self) -> IndexingJob:
        setting = self.setting
        return IndexingJob(
            self.store, lambda: setting.encoder, setting.index, SMALL_BATCHES, self.scope, types=self.types
        )

    def index(self) -> IndexReport:
        return index_images(self.job(), self.store.list())

    def sync_job(self, *, repair: bool = False) -> SyncJob:
        refresh = partial(refresh_images, self.job()) if repair else None
        return SyncJob(self.store, self.setting.index, self.scope, SMALL_BATCHES, refresh, types=self.types)


def filled(bucket: Bucket) -> Bucket:
    for key in ("photo.jpg_large", "photo.jpg?w=1", "2024.01.02 12.30.55", "end.jpg ", "nodot"):
        bucket.store.put(key, RED, content_type="image/jpeg")
    bucket.store.put("xpng", RED, content_type="image/x-png")
    bucket.store.put("known.jpg", RED, content_type="binary/octet-stream")
    for key in ("a.json", "b.json", "c.json", "d.json"):
        bucket.store.put(key, b"{}")
    bucket.store.put("data.v2", RED, content_type="application/octet-stream")
    bucket.store.put("a/._known.jpg", b"AppleDouble")
    bucket.store.put("a.cr2", b"II*\0")
    return bucket


def test_a_bucket_is_told_by_type_where_names_say_nothing() -> None:
    bucket = filled(Bucket())
    report = bucket.index()
    assert set(bucket.setting.visible()) == {
        "photo.jpg_large", "photo.jpg?w=1", "2024.01.02 12.30.55", "end.jpg ", "nodot", "xpng", "known.jpg"
    }  # fmt: skip
    assert (report.indexed, report.failed, report.skipped) == (7, 0, 7)
    assert {one.reason: (one.count, set(one.examples)) for one in report.skips} == {
        SkipReason.OTHER: (4, {"b.json", "c.json", "d.json"}),  # listed last to first; three examples
        SkipReason.UNTYPED: (1, {"data.v2"}),
        SkipReason.SYSTEM: (1, {"a/._known.jpg"}),
        SkipReason.UNREAD: (1, {"a.cr2"}),
    }


def test_only_names_that_say_nothing_are_asked_about_and_only_once() -> None:
    bucket = filled(Bucket())
    bucket.index()
    assert not {"known.jpg", "a.json", "a.cr2", "a/._known.jpg"} & {
        key
        for key, count in bucket.store.asked.items()
        if count > 1  # the commit asks about each image once
    }
    assert bucket.store.asked["a.json"] == bucket.store.asked["a/._known.jpg"] == 0
    bucket.store.asked.clear()
    assert bucket.index().unchanged == 7
    assert sync_images(bucket.sync_job()).differs is False
    assert bucket.store.asked == Counter()


def test_a_new_process_asks_only_about_what_the_index_does_not_know() -> None:
    bucket = filled(Bucket())
    bucket.index()
    bucket.store.asked.clear()
    bucket.types = ContentTypes()
    assert bucket.index().unchanged == 7
    assert bucket.store.asked == Counter({"data.v2": 1})


def test_a_type_is_forgotten_with_its_content() -> None:
    bucket = filled(Bucket())
    bucket.index()
    bucket.store.put("data.v2", RED + b"\0", content_type="image/png")
    assert bucket.index().indexed == 1


def test_an_include_pattern_that_names_an_end_overrides_name_and_type() -> None:
    bucket = filled(Bucket(include=("*.v2", "*.jpg")))
    report = bucket.index()
    assert set(bucket.setting.visible()) == {"data.v2", "known.jpg"}
    assert {one.reason: one.count for one in report.skips} == {SkipReason.EXCLUDED: 11, SkipReason.SYSTEM: 1}


def test_one_that_ends_in_a_star_only_narrows() -> None:
    bucket = filled(Bucket(include=("*",)))
    assert bucket.index().skipped == 7


def test_events_end_as_listings_do() -> None:
    listed, told = filled(Bucket()), filled(Bucket())
    listed.index()
    report = refresh_images(told.job(), [one.ref.key for one in told.store.list()])
    assert set(told.setting.visible()) == set(listed.setting.visible())
    assert (report.indexed, report.skipped, report.failed) == (7, 7, 0)


def test_a_sync_tells_what_it_skips() -> None:
    bucket = filled(Bucket())
    bucket.index()
    found = sync_images(bucket.sync_job())
    assert {one.reason: one.count for one in found.skips} == {
        SkipReason.OTHER: 4, SkipReason.UNTYPED: 1, SkipReason.SYSTEM: 1, SkipReason.UNREAD: 1
    }  # fmt: skip
    assert found.checked == 7
    assert {one["reason"] for one in found.to_dict()["skipped"]} == {one.reason for one in found.skips}


def test_failures_of_before_that_are_no_images_leave_the_index() -> None:
    """As an index of an earlier version holds them: `._known.jpg` failed at each run."""
    bucket = Bucket()
    bucket.store.put("keep.jpg", RED)
    old = bucket.store.put("x.jpg", b"AppleDouble")
    bucket.index()
    row = bucket.setting.row("x.jpg")
    bucket.store.delete("x.jpg")
    bucket.store.put("._x.jpg", b"AppleDouble")
    bucket.setting.index.delete_images([old.ref])
    bucket.setting.index.insert_images([_renamed(row, "._x.jpg")])
    found = sync_images(bucket.sync_job(repair=True))
    assert found.orphaned == ("._x.jpg",)
    assert set(bucket.setting.visible()) == {"keep.jpg"}


def _renamed(row, key: str):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    from searchanything.core.rows import row_id
    from searchanything.core.types import ImageRef

    image = ImageRef(row.image.bucket, key)
    return replace(row, image=image, id=row_id(image, row.generation))


def test_an_artifact_tells_what_was_skipped() -> None:
    report = IndexReport(skipped=5, skips=(Skipped(SkipReason.OTHER, 5, ("a|b.txt", "c.txt", "d.txt")),))
    text = wave_markdown("s3://b", WaveReport(listing=report))
    assert f"| {SkipReason.OTHER} | 5 | a\\|b.txt, c.txt, d.txt |" in text


def test_sums_keep_three_examples() -> None:
    first = (Skipped("x", 2, ("a", "b")), Skipped("y", 9, ("c",)))
    second = (Skipped("x", 4, ("b", "d", "e")),)
    assert sum_skips(first, second) == (Skipped("y", 9, ("c",)), Skipped("x", 6, ("a", "b", "d")))
    assert str(Skipped("x", 6, ("a", "b"))) == "6 x (a, b, …)"


class TestFolders:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "a.jpg").write_bytes(RED)
        for name in ("DSC0001.HIF", "b.MPO", "0a1b2c3d", "photo.jpg_large", "2024.01.02"):
            shutil.copy(tmp_path / "a.jpg", tmp_path / name)
        (tmp_path / "words").write_bytes(b"BMW and other words, which are no bitmap")
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "raw.cr2").write_bytes(b"II*\0" + bytes(60))
        for junk in ("@eaDir/a.jpg/x.jpg", "$RECYCLE.BIN/d.jpg", "__MACOSX/._a.jpg", "sub/Thumbs.db", "sub/._b.jpg"):
            path = tmp_path / junk
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        (tmp_path / ".hidden.jpg").write_bytes(RED)
        (tmp_path / ".git").mkdir()
        return tmp_path

    def test_first_bytes_stand_for_the_type(self, root: Path) -> None:
        store, noted = FolderStore(root), Omissions()
        listed = {one.ref.key: one for one in store.list("", noted)}
        images = {key for key, one in listed.items() if skip_reason(key, one.content_type) is None}
        assert images == {"a.jpg", "DSC0001.HIF", "b.MPO", "0a1b2c3d", "photo.jpg_large", "2024.01.02"}
        assert len({listed[key].etag for key in images}) == 1  # the digest of the content
        for key, one in listed.items():
            assert store.stat(key) == one
            assert store.read(key)[0] == one

    def test_what_systems_leave_behind_is_counted_and_no_warning(self, root: Path) -> None:
        noted = Omissions()
        list(FolderStore(root).list("", noted))
        assert {one.reason: one.count for one in noted.skips.groups()} == {SkipReason.SYSTEM: 5, SkipReason.HIDDEN: 1}
        assert noted.examples == []
