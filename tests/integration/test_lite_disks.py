"""Embedded indexes on disks that are full, or only read: what can be done is done, and the rest is told at once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from integration.lite_processes import processes_of, wait_until, wait_until_ended
from integration.test_lite_faults import NAME, add, keys, made, make, opened

from searchanything.core.errors import IndexFullError, IndexReadOnlyError, IndexUnavailableError, RegionIndexError
from searchanything.stores.lite_folder import folder_beside


def nothing_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    found, free = os.statvfs("/"), {"f_bavail": 0, "f_bfree": 0, "f_flag": 0}
    values = [free.get(name, getattr(found, name)) for name in found.__match_args__]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))


def test_a_full_disk_is_told_before_anything_is_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(file) as store:
        index = make(store, 1)
        servers = processes_of(file)["server"]
        nothing_is_free(monkeypatch)
        with pytest.raises(IndexFullError, match="no space left on its disk"):
            store.check_writable()
        with pytest.raises(IndexFullError, match=r"no space left on its disk.*make room in .*stays indexed"):
            add(index, 2)
        assert processes_of(file)["server"] == servers, "it was given something to fail on"
        assert keys(store) == {1}
        monkeypatch.undo()
        add(index, 2)
        assert keys(store) == {1, 2}


def test_no_index_is_begun_on_a_full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_is_free(monkeypatch)
    with opened(file) as store, pytest.raises(IndexFullError):
        make(store, 1)
    assert not file.exists()


# On disks of their own


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount a disk: {done.stderr.decode()}")


def umount(folder: Path) -> None:
    """At once, whoever has a file open there still, as a process that has ended and is being torn down.

    What stayed mounted would be an error of each later run: pytest removes the folders of earlier ones.
    """
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    if os.geteuid():
        pytest.skip("to mount a disk takes a superuser")
    (folder := tmp_path / "disk").mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    yield folder
    wait_until_ended(folder / "index.db")
    umount(folder)


def fill(disk: Path, *, left: int) -> Path:
    """Leave so many bytes of a disk."""
    with (disk / "filling").open("wb", buffering=0) as filling:
        filling.write(bytes(shutil.disk_usage(disk).free))
        filling.truncate(filling.tell() - left)
    return disk / "filling"


@pytest.mark.parametrize("left", [0, 1 << 14])
def test_an_index_on_a_full_disk_is_read(disk: Path, left: int) -> None:
    """By a new server, which has nothing to write that it finds written."""
    made(disk / "index.db", 1)
    filling = fill(disk, left=left)
    with opened(disk / "index.db") as store:
        assert keys(store) == {1}
        with pytest.raises(IndexFullError):
            add(store.open(NAME), 2)
    assert not list(folder_beside(disk / "index.db").glob("*.[0-9]*")), "what could not be written was left"
    filling.unlink()
    with opened(disk / "index.db") as store:
        add(store.open(NAME), 2)
        assert keys(store) == {1, 2}


@pytest.mark.parametrize(
    ("left", "how"),
    [
        (0, "acknowledged them, but nothing was written"),  # and shows them until it ends
        (1 << 14, "its file refused that"),  # having grown and shrunk again
    ],
)
def test_rows_that_the_disk_did_not_take_are_not_shown(
    disk: Path, left: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milvus Lite keeps them in memory, once for each time that it is asked."""
    file = disk / "index.db"
    made(file, 1)
    with opened(file) as store:
        index = store.open(NAME)
        [server] = processes_of(file)["server"]
        fill(disk, left=left)  # another program, in this moment
        for module in ("lite_host", "lite_connection"):
            monkeypatch.setattr(f"searchanything.stores.{module}.check_room", lambda *_: None)
        with pytest.raises(IndexUnavailableError, match=f"could not insert rows: .*{how}"):
            add(index, 2, regions=200)
        assert server not in processes_of(file)["server"], "it may show what its file has not"
        assert {row.image.key for row in index.iterate_regions()} == {"1.jpg"}
        assert keys(store) == {1}


# What is only read


def chmod(folder: Path) -> Callable[[], None]:
    folder.chmod(0o555)
    return lambda: folder.chmod(0o755)


@pytest.fixture
def only_read(tmp_path: Path) -> Iterator[Callable[[Path], Callable[[], None]]]:
    """Makes a folder one that is only read, by its mode or, for a superuser, by its mount; gives what takes it back."""
    undo: list[Callable[[], None]] = []

    def by_mount(folder: Path) -> Callable[[], None]:
        mount("--bind", str(folder), str(folder))
        undo.append(lambda: umount(folder))
        mount("-o", "remount,bind,ro", str(folder))
        return lambda: mount("-o", "remount,bind,rw", str(folder))

    yield by_mount if os.geteuid() == 0 else chmod
    for one in undo:
        wait_until_ended(tmp_path / "index.db")
        one()
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("shared", [True, False])
def test_an_index_in_a_folder_that_is_only_read(
    file: Path, only_read: Callable[[Path], Callable[[], None]], shared: bool
) -> None:
    made(file, 1)
    if not shared:
        shutil.rmtree(folder_beside(file))
        file.with_name(".index.db.lock").unlink()
    take_back = only_read(file.parent)
    with opened(file) as store:
        assert keys(store) == {1}
        servers = processes_of(file)["server"]
        for _ in range(2):
            with pytest.raises(IndexReadOnlyError, match=r"read but not written"):
                store.check_writable()
        assert keys(store) == {1}
        assert processes_of(file)["server"] == servers, "a look that disturbs whoever asks"
        with pytest.raises(IndexReadOnlyError, match=r"read but not written"):
            add(store.open(NAME), 2)
        assert keys(store) == {1}
        take_back()
        store.check_writable()
        add(store.open(NAME), 2)
        assert keys(store) == {1, 2}
    with opened(file) as store:
        assert keys(store) == {1, 2}


def test_a_look_says_what_modes_and_room_do_not(file: Path) -> None:
    """Such as a quota, or another program's lock: its server was started as one that only reads."""
    made(file, 1)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with opened(file) as store:
            assert keys(store) == {1}
            with pytest.raises(IndexReadOnlyError, match=r"read but not written: database is locked"):
                store.check_writable()
            other.execute("ROLLBACK")
            store.check_writable()
            add(store.open(NAME), 2)
            assert keys(store) == {1, 2}


def test_no_index_can_be_made_where_it_is_only_read(
    file: Path, only_read: Callable[[Path], Callable[[], None]]
) -> None:
    take_back = only_read(file.parent)
    with opened(file) as store:
        for begin in (store.check_writable, lambda: make(store, 1)):
            with pytest.raises(IndexReadOnlyError, match="no index can be made here"):
                begin()
        take_back()
        store.check_writable()
        assert not file.exists(), "it is a look"


def test_what_others_write_to_an_index_that_is_only_read_here_is_seen(file: Path, tmp_path: Path) -> None:
    """Such as a container's, by a mount of its own."""
    if os.geteuid():
        pytest.skip("to mount a folder takes a superuser")
    made(file, 1)
    (reading := tmp_path / "reading").mkdir()
    mount("--bind", str(file.parent), str(reading))
    mount("-o", "remount,bind,ro", str(reading))
    try:
        with opened(reading / "index.db", idle_s=5.0) as reader, opened(file) as store:
            assert keys(reader) == {1}
            [server] = processes_of(reading / "index.db")["server"]
            add(store.open(NAME), 2)
            wait_until(lambda: server not in processes_of(reading / "index.db")["server"])
            assert keys(reader) == {1, 2}
            assert keys(store) == {1, 2}
        os.kill(processes_of(reading / "index.db")["server"][0], 15)
        wait_until_ended(reading / "index.db")
    finally:
        umount(reading)


def test_no_index_can_be_made_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "photos").write_text("no folder")
    with (
        opened(tmp_path / "photos" / "index.db") as store,
        pytest.raises(RegionIndexError, match=r"cannot be used.*it is no folder: .*photos"),
    ):
        store.check_writable()


def test_no_index_can_be_made_in_a_folder_that_may_not_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "index.db") as store:
        monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.X_OK)  # 0666; a superuser enters nevertheless
        with pytest.raises(IndexReadOnlyError, match=r"no index can be made here.*\(w and x\)"):
            store.check_writable()


def test_an_index_that_cannot_be_looked_for_is_not_taken_for_absent(tmp_path: Path) -> None:
    """As below a folder that may not be entered, which a superuser does not know."""
    with pytest.raises(IndexUnavailableError, match=r"cannot be used.*File name too long"):
        opened(tmp_path / ("long" * 100) / "index.db")


@pytest.mark.parametrize("home", ["/proc/none", "", None])
def test_a_user_without_a_home_reads_and_writes(file: Path, home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit with `ProtectHome`, or a container under another user: the server cannot make its cache there."""
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    with opened(file) as store:
        make(store, 1)
    wait_until_ended(file)
    with opened(file) as store:
        assert keys(store) == {1}


def test_the_cache_of_a_home_is_left_alone(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server deletes what is in its own, another server's files as well, and needs to write beside it."""
    (tmp_path / "home" / ".cache" / "milvus").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "milvus" / "kept").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with opened(file) as store:
        make(store, 1)
        assert keys(store) == {1}
    assert (tmp_path / "home" / ".cache" / "milvus" / "kept").exists()


def test_a_home_serves_where_there_is_no_room_beside_the_index(file: Path) -> None:
    """As on a disk without room for two folders."""
    made(file, 1)
    shutil.rmtree(folder_beside(file) / ".cache")
    (folder_beside(file) / ".cache").touch()
    with opened(file) as store:
        assert keys(store) == {1}
