"""What is particular to folders: links, hidden files, permissions, remembered digests; and how sources are written."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from searchanything.core.errors import ObjectNotFoundError, SettingsError, StoreError, UsageError
from searchanything.core.omissions import Omissions
from searchanything.core.settings import Settings
from searchanything.stores import folder_digests
from searchanything.stores.folder import FolderStore
from searchanything.stores.folder_digests import FolderDigests
from searchanything.stores.sources import Source, open_store, parse_source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def keys(store: FolderStore, prefix: str = "") -> list[str]:
    return sorted(found.ref.key for found in store.list(prefix))


def settle(path: Path) -> None:
    """Make the file old enough for its digest to be remembered."""
    os.utime(path, (1_700_000_000, 1_700_000_000))


def test_the_bucket_is_the_resolved_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    (root.parent / "link").symlink_to(root)
    for written in ("images", "link", "images/../images/"):
        assert FolderStore(written).bucket == str(root)


def test_the_etag_is_the_beginning_of_the_sha256(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"content")
    found = FolderStore(root).stat("a.jpg")
    assert found is not None
    assert found.etag == hashlib.sha256(b"content").hexdigest()[:32]


def test_hidden_names_are_no_objects(root: Path) -> None:
    (root / ".git").mkdir()
    for name in (".hidden.jpg", ".git/a.jpg", "seen.jpg"):
        (root / name).write_bytes(b"x")
    store = FolderStore(root)
    assert keys(store) == ["seen.jpg"]
    for key in (".hidden.jpg", ".git/a.jpg"):
        assert store.stat(key) is None
        with pytest.raises(ObjectNotFoundError):
            store.read(key)


def test_links_never_lead_out_and_never_loop(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    (root / "sub").mkdir()
    (root / "sub" / "a.jpg").write_bytes(b"a")
    (root / "inside.jpg").symlink_to(root / "sub" / "a.jpg")
    (root / "outside.jpg").symlink_to(outside / "secret.jpg")
    (root / "outside").symlink_to(outside)
    (root / "sub" / "up").symlink_to(root)
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "broken.jpg").symlink_to(root / "nowhere.jpg")
    store = FolderStore(root)
    assert keys(store) == ["inside.jpg", "sub/a.jpg"]
    assert store.read("inside.jpg")[1] == b"a"
    for key in ("outside.jpg", "outside/secret.jpg", "sub/up/sub/a.jpg", "self.jpg", "broken.jpg", "/etc/hostname"):
        assert store.stat(key) is None
        with pytest.raises(ObjectNotFoundError):
            store.read(key)


def test_a_backslash_is_a_letter_like_others(root: Path) -> None:
    (root / "back\\slash.jpg").write_bytes(b"x")
    store = FolderStore(root)
    assert keys(store) == ["back\\slash.jpg"]
    assert store.read("back\\slash.jpg")[1] == b"x"


def test_a_folder_or_a_pipe_is_no_object(root: Path) -> None:
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    store = FolderStore(root)
    assert keys(store) == []
    assert store.stat("folder.jpg") is None
    assert store.stat("pipe.jpg") is None


def test_a_name_that_is_no_text_is_skipped(root: Path) -> None:
    (root / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(b"x")
    (root / "a.jpg").write_bytes(b"x")
    assert keys(FolderStore(root)) == ["a.jpg"]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time has passed since the files of the test were written."""
    monkeypatch.setattr(folder_digests, "SETTLED_NS", -1_000_000_000)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened to be read from now on."""
    names: list[str] = []
    real_open = Path.open

    def watched_open(path: Path, mode: str) -> object:
        if mode == "rb":
            names.append(path.name)
        return real_open(path, mode)

    monkeypatch.setattr(Path, "open", watched_open)
    return names


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("kept", [False, True])
def test_digests_are_remembered_until_the_file_changes(root: Path, opened: list[str], kept: bool) -> None:
    """In memory by one store, in a file by all that come after it."""
    path, place = root / "a.jpg", root.parent / "digests"
    path.write_bytes(b"one")
    settle(path)
    store = FolderStore(root, digests_dir=place if kept else None)
    [first] = store.list()
    opened.clear()
    if kept:
        store = FolderStore(root, digests_dir=place)
    assert list(store.list()) == [first] == [store.stat("a.jpg")]
    assert opened == []
    path.write_bytes(b"two")
    settle(path)  # same size and modification time: the change time tells
    [second] = store.list()
    assert opened == ["a.jpg"]
    assert second.etag == hashlib.sha256(b"two").hexdigest()[:32] != first.etag


@pytest.mark.usefixtures("later")
def test_what_was_read_need_not_be_read_again(root: Path, opened: list[str]) -> None:
    (root / "a.jpg").write_bytes(b"one")
    store = FolderStore(root)
    found, _ = store.read("a.jpg")
    assert list(store.list()) == [found]
    assert opened == ["a.jpg"]


@pytest.mark.usefixtures("later")
def test_only_new_and_changed_files_are_read(root: Path, opened: list[str]) -> None:
    place = root.parent / "digests"
    for number in range(30):
        (root / f"{number:02}.jpg").write_bytes(b"x%d" % number)
    first = {one.ref.key: one.etag for one in FolderStore(root, digests_dir=place).list()}
    (root / "07.jpg").write_bytes(b"y7")
    (root / "new.jpg").write_bytes(b"new")
    (root / "11.jpg").rename(root / "12.jpg")
    opened.clear()
    second = {one.ref.key: one.etag for one in FolderStore(root, digests_dir=place).list()}
    assert sorted(opened) == ["07.jpg", "12.jpg", "new.jpg"]
    assert second["12.jpg"] == first["11.jpg"]
    assert {key for key in second if second[key] != first.get(key)} == {"07.jpg", "12.jpg", "new.jpg"}
    opened.clear()
    assert {one.ref.key: one.etag for one in FolderStore(root, digests_dir=place).list()} == second
    assert opened == []


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", [b"no database at all, for sure", b""])
def test_a_cache_that_is_damaged_costs_reading_alone(root: Path, damage: bytes) -> None:
    place = root.parent / "digests"
    (root / "a.jpg").write_bytes(b"one")
    [first] = FolderStore(root, digests_dir=place).list()
    [file] = place.iterdir()
    assert (file.stat().st_mode & 0o777, place.stat().st_mode & 0o777) == (0o600, 0o700)
    file.write_bytes(damage * 100)
    for _ in range(2):
        assert list(FolderStore(root, digests_dir=place).list()) == [first]
    place_of_a_file = root / "a.jpg"
    assert list(FolderStore(root, digests_dir=place_of_a_file).list()) == [first]


@pytest.mark.usefixtures("later")
def test_two_folders_share_no_digests(root: Path) -> None:
    one, two = FolderDigests(root / "1", root), FolderDigests(root / "2", root)
    state = root.stat()
    one.keep("a.jpg", state, "digest")
    one.flush()
    assert (FolderDigests(root / "1", root).find("a.jpg", state), two.find("a.jpg", state)) == ("digest", None)


@pytest.mark.usefixtures("later")
def test_digests_of_files_that_are_gone_are_removed_after_a_week(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_digests, "_SPARE_ROWS", 3)
    monkeypatch.setattr(folder_digests, "_WAITING_ROWS", 2)  # looked for at once
    place, now = root.parent / "digests", time.time()

    def known_after(hours: float, prefix: str = "") -> set[bytes]:
        monkeypatch.setattr(time, "time", lambda: now + 3600 * hours)
        store = FolderStore(root, digests_dir=place)
        assert {one.ref.key for one in store.list(prefix)} == {one.name for one in root.iterdir()}
        with closing(sqlite3.connect(next(place.iterdir()))) as database:
            return {name for (name,) in database.execute("SELECT key FROM digests")}

    for number in range(7):
        (root / f"{number}.jpg").write_bytes(b"one")
    every = known_after(0)
    assert len(every) == 7
    for number in range(6):
        (root / f"{number}.jpg").rename(root.parent / f"{number}.jpg")
    assert known_after(1) == every, "the disk may be back tomorrow"
    for number in range(4):
        (root.parent / f"{number}.jpg").rename(root / f"{number}.jpg")
    assert known_after(24 * 7) == every, "it came back: from now on another week counts"
    for number in range(4):
        (root / f"{number}.jpg").unlink()
    assert known_after(24 * 7 + 2) == every
    assert known_after(24 * 14 + 1) == every
    assert known_after(24 * 14 + 3, prefix="6") == every, "a part of the folder says nothing of the rest"
    assert known_after(24 * 14 + 3) == {b"6.jpg"}


def test_the_database_is_closed_with_its_store(root: Path) -> None:
    database = FolderDigests(root, root)._opened()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


@pytest.mark.parametrize("recent", ["st_mtime_ns", "st_ctime_ns"])
def test_a_file_that_was_just_changed_is_not_settled(recent: str) -> None:
    times = {"st_mtime_ns": 1, "st_ctime_ns": 1, recent: time.time_ns()}
    assert not folder_digests.is_settled(SimpleNamespace(**times))  # type: ignore[arg-type]
    assert folder_digests.is_settled(SimpleNamespace(st_mtime_ns=1, st_ctime_ns=1))  # type: ignore[arg-type]


def test_a_fresh_file_may_change_unnoticed_so_its_digest_is_not_remembered(root: Path) -> None:
    store = FolderStore(root)
    seen = set()
    for number in range(50):
        (root / "a.jpg").write_bytes(f"{number:02}".encode())
        seen.update(found.etag for found in store.list())
    assert len(seen) == 50


def test_what_will_not_be_decoded_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "film.mp4").write_bytes(b"film")
    (root / "large.jpg").write_bytes(bytes(11))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    etags = {found.ref.key: found.etag for found in FolderStore(root, max_object_bytes=10).list()}
    assert set(etags) == {"film.mp4", "large.jpg"}
    assert all("-" in etag for etag in etags.values())


UNREADABLE = """
import os, sys
from pathlib import Path
from searchanything.core.errors import StoreError
from searchanything.stores.folder import FolderStore
from searchanything.core.omissions import Omissions
root = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # permissions mean nothing to root
store, seen = FolderStore(root), []
try:
    for found in store.list():
        seen.append(found.ref.key)
        assert store.stat(found.ref.key) == found
except StoreError as error:
    print("list:", error)
print("seen:", *seen)
noted = Omissions()
print("again:", *(found.ref.key for found in store.list("", noted)))
for one in noted.unreadable:
    print("noted:", one.key, one.reason)
for key in ("closed.jpg", "locked/b.jpg"):
    try:
        store.read(key)
    except StoreError as error:
        print("read:", error)
"""


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that other users may enter. Pytest's own are closed again by each other run that begins meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


def test_unreadable_files_and_folders(open_root: Path) -> None:
    root = open_root
    for name in ("closed.jpg", "open.jpg", "z.jpg"):
        (root / name).write_bytes(b"x")
    (root / "locked").mkdir()
    (root / "locked" / "b.jpg").write_bytes(b"x")
    (root / "closed.jpg").chmod(0)
    (root / "locked").chmod(0)
    answer = subprocess.run(
        [sys.executable, "-c", UNREADABLE, root],
        check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    (root / "locked").chmod(0o755)
    assert "seen: closed.jpg open.jpg z.jpg" in answer.stdout, answer.stderr
    assert "1 place cannot be read, the listing is incomplete: locked/;" in answer.stdout
    assert "noted: locked/ cannot be read: Permission denied" in answer.stdout
    assert "again: closed.jpg open.jpg z.jpg" in answer.stdout
    assert answer.stdout.count("\nread:") == 2
    assert answer.stdout.count("Permission denied; check its permissions") == 2


def test_what_is_no_object_is_noted_with_its_reason(root: Path) -> None:
    """Nothing of it is opened: reading the pipe would wait for ever."""
    (root / "seen.jpg").write_bytes(b"x")
    (root / "sub").mkdir()
    (root.parent / "secret.jpg").write_bytes(b"x")
    (root / "out.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "folder").symlink_to(root / "sub")
    (root / "inside.jpg").symlink_to(root / "seen.jpg")
    os.mkfifo(root / "sub" / "pipe.jpg")
    Path(os.fsdecode(bytes(root) + b"/caf\xe9.jpg")).write_bytes(b"x")
    noted = Omissions()
    assert sorted(found.ref.key for found in FolderStore(root).list("", noted)) == ["inside.jpg", "seen.jpg"]
    link = "a link to something else than a file of this folder"
    assert {one.key: one.reason for one in noted.examples} == {
        "out.jpg": link,
        "folder": link,
        "sub/pipe.jpg": "a pipe, a socket or a device",
        "caf\\xe9.jpg": "its name is not UTF-8",
    }
    assert (noted.skipped, noted.unreadable) == (4, [])
    below = Omissions()
    assert (list(FolderStore(root).list("sub/", below)), below.skipped) == ([], 1)


def test_only_the_first_omissions_are_named_and_all_are_counted() -> None:
    noted = Omissions(wanted=lambda key: not key.startswith("no/"))
    for number in range(150):
        noted.skip(f"{number}", "a pipe")
        noted.skip(f"no/{number}", "a pipe")
    assert (noted.skipped, len(noted.examples)) == (150, 100)


def test_a_folder_that_vanishes_is_no_empty_folder(root: Path) -> None:
    store = FolderStore(root)
    root.rmdir()
    with pytest.raises(ObjectNotFoundError, match="no such folder; check the path"):
        list(store.list())


class TestSources:
    @pytest.mark.parametrize(
        ("text", "source"),
        [
            ("s3://bucket", Source("s3", "bucket")),
            ("s3://bucket/", Source("s3", "bucket")),
            ("s3://bucket/a/b", Source("s3", "bucket", "a/b")),
            ("S3://my.Old_bucket-1/a b+%20?#", Source("s3", "my.Old_bucket-1", "a b+%20?#")),
            ("s3://bucket//a", Source("s3", "bucket", "/a")),
        ],
    )
    def test_buckets(self, text: str, source: Source) -> None:
        assert parse_source(text) == source

    def test_folders(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)
        monkeypatch.setenv("HOME", str(root))
        (root / "s3:").mkdir()
        for written in (".", "~", "", str(root), root):
            if written:
                assert parse_source(written) == Source("folder", str(root))
        assert parse_source("images/2024").bucket == str(root / "images" / "2024")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "the source is empty; expected s3://bucket/prefix or a folder"),
            ("  ", "the source is empty"),
            ("s3://", "'' cannot be a bucket's name"),
            ("s3:///key", "'' cannot be a bucket's name"),
            ("s3://a..b/x", "cannot be a bucket's name"),
            ("s3://bü/x", "cannot be a bucket's name"),
            ("https://server:9000/bucket", "of kind https: are not known.*SEARCHANYTHING_STORAGE__ENDPOINT"),
            ("gs://bucket", "of kind gs: are not known"),
            ("s3:/bucket", "of kind s3: are not known; expected s3://bucket/prefix"),
        ],
    )
    def test_what_cannot_be_a_source(self, text: str, reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            parse_source(text)

    def test_a_file_is_no_source(self, root: Path) -> None:
        (root / "a.jpg").write_bytes(b"x")
        with pytest.raises(UsageError, match=rf"^{root}/a.jpg: is a file; expected a folder"):
            parse_source(root / "a.jpg")

    def test_stores_are_opened_by_kind(self, root: Path) -> None:
        settings = Settings.model_validate({"storage": {"endpoint": "localhost:9000", "max_object_bytes": 2}})
        (root / "a.jpg").write_bytes(b"xxx")
        assert open_store(parse_source(root), settings).bucket == str(root)
        assert open_store(Source("s3", "photos", "a/"), settings).bucket == "photos"
        at_aws = Settings.model_validate({"storage": {"endpoint": None}})
        assert open_store(Source("s3", "photos"), at_aws).bucket == "photos"  # nothing is contacted yet
        with pytest.raises(SettingsError, match="holds an '@'"):
            open_store(Source("s3", "photos"), Settings.model_validate({"storage": {"endpoint": "a:b@c"}}))
        with pytest.raises(StoreError):
            open_store(parse_source(root), settings).read("b.jpg")


@pytest.mark.parametrize(
    ("name", "why"),
    [("long" * 100, "File name too long"), ("~nobody-here/x", "home directory"), ("a\0b", "embedded null")],
)
def test_a_source_that_no_folder_can_have_as_its_name(name: str, why: str) -> None:
    for source in (name, Path(name)):
        with pytest.raises(UsageError, match=rf"expected a folder or s3://bucket/prefix: .*{why}"):
            parse_source(source)
