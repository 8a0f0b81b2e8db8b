"""What is found out about an embedded index's file before its server starts. No server here: plain SQLite."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from searchanything.core.errors import IndexDamagedError, IndexUnavailableError
from searchanything.stores.lite_file import count_rows, prepare_file
from searchanything.stores.lite_supervisor import change_counter, identity_of, seal_of

ROWS = 400


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file as Milvus Lite makes them, opened before and closed by its supervisor."""
    path = tmp_path / "index.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(
            "CREATE TABLE collection_meta (id INTEGER PRIMARY KEY, collection_name VARCHAR(1024), "
            "meta_type VARCHAR(1024), blob_field BLOB, string_field VARCHAR(1024))"
        )
        database.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, milvus_id VARCHAR(1024), data BLOB)")
        database.execute('CREATE INDEX "images_ids" ON "images" (milvus_id)')
        database.execute("BEGIN")
        for number in range(ROWS):
            database.execute("INSERT INTO images VALUES (NULL, ?, ?)", (f"{number:032x}", bytes(range(256)) * 3))
        database.execute("COMMIT")
        database.execute("PRAGMA user_version = 4711")
    path.chmod(0o600)
    return path


def prepare(file: Path, *, filled: str = "", seal: str = "") -> str:
    return prepare_file(file, filled=filled, seal=seal)


def test_an_absent_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert prepare(tmp_path / "new.db") == ""
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600


def test_a_sound_file_is_left_as_it_is(file: Path) -> None:
    before = file.read_bytes()
    assert prepare(file, seal=json.dumps(seal_of(file))) == ""
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["index.db"]


def plan_of_deletion(file: Path) -> str:
    with closing(sqlite3.connect(file)) as database:
        [row] = database.execute("EXPLAIN QUERY PLAN DELETE FROM 'images' WHERE milvus_id IN ('1', '2')").fetchall()
    return str(row[-1])


def without_index(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("DROP INDEX images_ids")


def test_rows_are_deleted_without_a_look_at_all_of_them(file: Path) -> None:
    """Milvus Lite makes no index of the ids; it is written once, and takes no row along."""
    without_index(file)
    assert plan_of_deletion(file).startswith("SCAN")
    assert prepare(file, seal=json.dumps(seal_of(file))) == ""
    assert plan_of_deletion(file).startswith("SEARCH")
    assert count_rows(file, "images") == ROWS
    before = change_counter(file)
    assert prepare(file) == ""
    assert change_counter(file) == before


def test_a_file_that_may_not_be_written_does_without(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has it open, and would wait for us."""
    monkeypatch.setattr("searchanything.stores.lite_file._BUSY_S", 0.05)
    without_index(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in prepare(file)
        other.execute("ROLLBACK")
    assert plan_of_deletion(file).startswith("SCAN")


@pytest.mark.parametrize(("mode", "then"), [(0o644, 0o600), (0o666, 0o600), (0o640, 0o640), (0o600, 0o600)])
def test_what_all_may_read_is_hidden_and_a_group_is_somebodys_decision(file: Path, mode: int, then: int) -> None:
    file.chmod(mode)
    prepare(file)
    assert stat.S_IMODE(file.stat().st_mode) == then


@pytest.mark.parametrize(
    "content", [b"notes of mine", b"\xff\xd8\xff\xe0 a JPEG", b"S", b"SQLite format 2\0", b"PK\3\4" + bytes(100)]
)
def test_another_programs_file_is_refused_and_untouched(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "mine").write_bytes(content)
    with pytest.raises(IndexUnavailableError, match="expected an embedded index"):
        prepare(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE moz_places (id INTEGER PRIMARY KEY, url TEXT)"],
        ["CREATE TABLE collection_meta (id INTEGER PRIMARY KEY, title TEXT)"],
        ["PRAGMA application_id = 1196444487", "PRAGMA user_version = 3"],
    ],
)
def test_another_programs_database_is_refused_and_untouched(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    before = path.read_bytes()
    with pytest.raises(IndexUnavailableError, match="another program's SQLite file"):
        prepare(path)
    assert path.read_bytes() == before


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IndexUnavailableError, match="no regular file"):
        prepare(tmp_path / "pipe")


def test_an_empty_file_will_do_unless_an_index_has_been_in_it(file: Path) -> None:
    identity = str(identity_of(file))
    file.write_bytes(b"")
    assert prepare(file) == ""
    with pytest.raises(IndexDamagedError, match="it is empty, and an index has been in it"):
        prepare(file, filled=identity)


def _zeroed_tail(data: bytearray) -> None:
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)


def _zeroed_head(data: bytearray) -> None:
    data[:4096] = bytes(4096)


def _cut_off(data: bytearray) -> None:
    del data[len(data) // 3 :]


def _flipped(data: bytearray) -> None:
    rng = random.Random(7)  # noqa: S311  repeatable on purpose
    for _ in range(500):
        data[rng.randrange(100, len(data))] ^= rng.randrange(1, 256)


@pytest.mark.parametrize("damage", [_zeroed_tail, _zeroed_head, _cut_off, _flipped])
def test_damage_is_called_so_with_the_way_out(file: Path, damage: object) -> None:
    assert callable(damage)
    data = bytearray(file.read_bytes())
    damage(data)
    file.write_bytes(data)
    with pytest.raises(IndexDamagedError, match=r"index is damaged: .*restore it .*searchanything index"):
        prepare(file)


@pytest.mark.parametrize("seed", range(12))
def test_one_changed_byte_breaks_the_seal(file: Path, seed: int) -> None:
    """Somewhere in the rows, where SQLite itself sees nothing."""
    seal = json.dumps(seal_of(file))
    data = bytearray(file.read_bytes())
    data[random.Random(seed).randrange(4096, len(data))] ^= 0x10  # noqa: S311  repeatable on purpose
    file.write_bytes(data)
    with pytest.raises(IndexDamagedError):
        prepare(file, seal=seal)


def test_a_seal_is_of_one_content_alone(file: Path, tmp_path: Path) -> None:
    """A database that others wrote, or an older copy put back, is no damage, wherever it came from."""
    shutil.copy(file, older := tmp_path / "older.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("DELETE FROM images WHERE id = 1")
    seal = json.dumps(seal_of(file))
    shutil.copyfile(older, file)  # the same file, with other bytes
    assert prepare(file, seal=seal) == ""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 4712")  # another session's end: as many transactions as the sealed one
    assert change_counter(file) == json.loads(seal)["counter"]
    assert prepare(file, seal=seal) == ""


@pytest.mark.parametrize("seal", ["", "{", "[]", "3", '{"nonce": 1}', "null"])
def test_a_seal_that_was_cut_off_says_nothing(file: Path, seal: str) -> None:
    assert prepare(file, seal=seal) == ""


def test_a_full_disk_is_found_out(file: Path) -> None:
    """As it is told by a quota: no file may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        why = prepare(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "disk" in why
    assert prepare(file) == ""


@pytest.fixture
def another_user() -> Iterator[Path]:
    """A folder of this process, which is not root meanwhile: root may write everything."""
    folder = Path(tempfile.mkdtemp(prefix="sa-"))
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_a_file_or_folder_that_cannot_be_written_is_found_out(another_user: Path, locked: str) -> None:
    path = another_user / "index.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        columns = "collection_name, meta_type, blob_field, string_field"
        database.execute(f"CREATE TABLE collection_meta (id INTEGER PRIMARY KEY, {columns})")
    assert prepare(path) == ""
    if locked == "file":
        path.chmod(0o444)
    else:
        another_user.chmod(0o500)  # no journal can be made
    assert "readonly" in prepare(path)


def test_a_database_that_another_program_holds_is_said_to_be_locked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searchanything.stores.lite_file._BUSY_S", 0.05)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexUnavailableError, match="locked"):
            prepare(file)


def test_a_database_in_wal_mode_is_put_back_where_its_counter_counts(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    prepare(file)
    before = change_counter(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("DELETE FROM images WHERE id = 1")
    assert change_counter(file) == before + 1


@pytest.fixture
def writer(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        yield database


def test_rows_are_counted_without_a_lock(file: Path, writer: sqlite3.Connection) -> None:
    writer.execute("BEGIN EXCLUSIVE")
    assert count_rows(file, "images") == ROWS
    assert count_rows(file, "nothing of the kind") is None
    assert count_rows(file.with_name("absent"), "images") is None
