"""What people and machines do to an embedded index while its server lives: nothing is silently stale, lost or empty."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from contracts.index_rows import HASH_LAYER, image_row, manifest_of, region_row
from integration.lite_processes import processes_of, wait_until, wait_until_ended

from searchanything.core.codes import next_generation
from searchanything.core.errors import (
    IndexDamagedError,
    IndexNotFoundError,
    IndexReadOnlyError,
    IndexUnavailableError,
    RegionIndexError,
)
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef
from searchanything.stores.lite_host import LiteHost
from searchanything.stores.milvus_opening import open_milvus

NAME = "0" * 64
REGIONS = 3


def opened(file: Path, *, idle_s: float = 0.3, timeout_s: float = 30.0) -> IndexStore:
    return open_milvus(MilvusSettings(uri=str(file), lite_idle_s=idle_s, timeout_s=timeout_s))


def add(index: RegionIndex, *numbers: int, regions: int = REGIONS) -> None:
    for number in numbers:
        image, generation = ImageRef("bucket", f"{number}.jpg"), next_generation()
        index.insert_regions([region_row(image, one, generation=generation) for one in range(regions)])
        index.insert_images([image_row(image, generation=generation, regions=regions)])


def make(store: IndexStore, *numbers: int) -> RegionIndex:
    index = store.create(manifest_of(NAME), HASH_LAYER)
    add(index, *numbers)
    store.switch(NAME)
    return index


def keys(store: IndexStore) -> set[int]:
    """The images of the live index, each with its regions."""
    live = store.live()
    if live is None:
        return set()
    index = store.open(live.fingerprint)
    rows = list(index.iterate_images())
    assert len(rows) == len({row.image for row in rows}), "doubled"
    assert index.counts().regions == sum(row.regions for row in rows)
    return {int(row.image.key.removesuffix(".jpg")) for row in rows}


def made(file: Path, *numbers: int) -> None:
    """A file with an index that nobody serves any more."""
    with opened(file) as store:
        make(store, *numbers)
    wait_until_ended(file)


# Removed, replaced, restored


def test_removed_and_made_anew_while_the_server_lives(file: Path) -> None:
    with opened(file, idle_s=5.0) as store:
        make(store, 1, 2)
        file.unlink()
        assert store.live() is None
        assert not file.exists(), "reading made a file"
        make(store, 3)
        assert keys(store) == {3}
    with opened(file) as other:
        assert keys(other) == {3}
    kill_all(file)


def test_an_index_of_the_same_name_in_a_new_file_is_another_one(file: Path) -> None:
    """The same models give the same name, but words layers differ with the images that they are fitted to."""
    with opened(file) as store, opened(file) as other:
        make(store, 1)
        store.add_words(NAME, b"one", bits=64)
        assert store.live() == manifest_of(NAME)
        file.unlink()
        anew = replace(manifest_of(NAME), created_at_ms=manifest_of(NAME).created_at_ms + 1)
        other.create(anew, HASH_LAYER)
        other.switch(NAME)
        other.add_words(NAME, b"two", bits=64)
        assert store.live() == anew
        words = store.open(NAME).words
        assert words is not None
        assert words.layer == b"two"


def kill_all(file: Path) -> None:
    """Do not wait for servers that would stay long."""
    for pid in processes_of(file)["server"]:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("way", ["cp", "mv"])
def test_a_backup_put_back_while_the_server_lives_is_what_everybody_sees(file: Path, tmp_path: Path, way: str) -> None:
    made(file, 1, 2)
    shutil.copy(file, backup := tmp_path / "backup.db")
    with opened(file) as store, opened(file) as other:
        add(store.open(NAME), 3)
        assert keys(store) == keys(other) == {1, 2, 3}
        [server] = processes_of(file)["server"]
        if way == "cp":
            shutil.copyfile(backup, file)
        else:
            backup.replace(file)
        wait_until(lambda: server not in processes_of(file)["server"])
        assert keys(store) == keys(other) == {1, 2}
        add(other.open(NAME), 4)
        assert keys(store) == {1, 2, 4}


def test_another_program_that_only_reads_disturbs_nobody(file: Path) -> None:
    with opened(file) as store:
        make(store, 1)
        servers = processes_of(file)["server"]
        shutil.copy(file, file.with_name("copy.db"))
        time.sleep(0.7)  # longer than the supervisor's poll
        assert processes_of(file)["server"] == servers
        assert keys(store) == {1}


def test_a_run_whose_file_is_replaced_ends_with_words(file: Path, tmp_path: Path) -> None:
    """Else its regions would lie in one file, and its images in another."""
    made(file, 1)
    shutil.copy(file, backup := tmp_path / "backup.db")
    with opened(file) as store:
        index = store.open(NAME)
        image, generation = ImageRef("bucket", "2.jpg"), next_generation()
        index.insert_regions([region_row(image, generation=generation)])
        backup.replace(file)
        with pytest.raises(RegionIndexError, match="replaced while this process was writing"):
            index.insert_images([image_row(image, generation=generation, regions=1)])
        assert keys(store) == {1}
        add(index, 2)
        assert keys(store) == {1, 2}


@pytest.mark.parametrize("with_file", [True, False])
def test_all_files_deleted_under_a_living_server(file: Path, with_file: bool) -> None:
    """The old supervisor neither takes the new server's socket away nor serves the file beside it."""
    with opened(file, idle_s=20.0) as old:
        make(old, 1)
        [server] = processes_of(file)["server"]
        if with_file:
            file.unlink()
        shutil.rmtree(file.with_name(".index.db.host"))
        file.with_name(".index.db.lock").unlink()
        with opened(file) as store:
            if with_file:
                make(store, 2)
            expected = {2} if with_file else {1}
            assert keys(store) == expected
            wait_until(lambda: server not in processes_of(file)["server"])
            host = LiteHost(file, idle_s=0.3, timeout_s=10.0)
            assert Path(host.acquire()).is_socket()
            host.release()
            assert keys(store) == keys(old) == expected
            assert len(processes_of(file)["server"]) == 1


def test_a_socket_that_was_deleted_is_made_anew(file: Path) -> None:
    with opened(file) as store:
        make(store, 1)
        file.with_name(".index.db.host").joinpath("socket").unlink()
        with opened(file) as other:
            assert keys(other) == {1}


def test_two_names_of_one_file_never_have_two_servers(file: Path, tmp_path: Path) -> None:
    """Each ends the other's server: slow, and right."""
    with opened(file) as store:
        make(store, 1)
        os.link(file, tmp_path / "same.db")
        with opened(tmp_path / "same.db") as other:
            assert keys(other) == {1}
            assert not processes_of(file)["server"]
            add(other.open(NAME), 2)
        assert keys(store) == {1, 2}
    wait_until_ended(tmp_path / "same.db")


# Damage


@pytest.mark.parametrize("serving", [False, True])
@pytest.mark.parametrize("damage", ["flipped", "zeroed tail", "emptied"])
def test_damage_is_never_an_empty_index(file: Path, damage: str, serving: bool) -> None:
    with opened(file, idle_s=20.0 if serving else 0.3) as store:
        make(store, *range(8))
    if not serving:
        wait_until_ended(file)
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            [body] = database.execute(
                "SELECT CAST(data AS BLOB) FROM searchanything_meta ORDER BY id DESC LIMIT 1"
            ).fetchone()
        assert body in data
        # A row that SQLite gives back, and Milvus Lite cannot read; SQLite may keep an older copy of it before it.
        data = data.replace(body, b"\xff" * 12 + body[12:])
    elif damage == "zeroed tail":
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    file.write_bytes(b"" if damage == "emptied" else data)
    if serving:  # the server's supervisor notices; for some milliseconds its memory still tells the truth
        wait_until(lambda: not processes_of(file)["server"])
    for attempt in ("live", "create"):
        with opened(file) as store, pytest.raises(IndexDamagedError, match="restore it from a backup"):
            store.live() if attempt == "live" else make(store, 9)
    kill_all(file)


def test_the_files_seal_finds_what_sqlite_and_milvus_lite_do_not(file: Path) -> None:
    made(file, 1, 2)
    data = bytearray(file.read_bytes())
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        [body] = database.execute(
            "SELECT CAST(data AS BLOB) FROM searchanything_images_0000000000000000 LIMIT 1"
        ).fetchone()
    at = data.index(body) + body.index(b"1.jpg") if b"1.jpg" in body else data.index(b".jpg")
    data[at] ^= 1  # another image's name
    file.write_bytes(data)
    with opened(file) as store, pytest.raises(IndexDamagedError, match="changed after it was closed"):
        store.live()


# Acknowledged and lost


@pytest.fixture
def full_disk(file: Path) -> Iterator[None]:
    """The server of the file cannot make any file grow, as with a quota; its users can."""
    with opened(file, idle_s=5.0) as store:
        make(store, 1)
    [server] = processes_of(file)["server"]
    limit = file.stat().st_size
    resource.prlimit(server, resource.RLIMIT_FSIZE, (limit, limit))
    yield
    kill_all(file)


@pytest.mark.usefixtures("full_disk")
def test_a_server_that_cannot_write_any_more_is_replaced(file: Path) -> None:
    """Here the limit is the old server's alone, so the write is done by the next."""
    with opened(file) as store:
        add(store.open(NAME), 2, regions=200)
        assert keys(store) == {1, 2}
    wait_until_ended(file)
    with opened(file) as fresh:
        assert keys(fresh) == {1, 2}


@pytest.fixture
def read_only() -> Iterator[Path]:
    """An index that may be read but not written, by all but root."""
    folder = Path(tempfile.mkdtemp(prefix="sa-"))
    made(folder / "index.db", 1)
    (folder / "index.db").chmod(0o444)
    yield folder / "index.db"
    wait_until_ended(folder / "index.db")
    shutil.rmtree(folder)


def test_an_index_that_cannot_be_written_is_read_and_not_written(
    read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searchanything.stores.lite_host.prepare_file", lambda *_, **__: "attempt to write a readonly")
    with opened(read_only) as store:
        assert keys(store) == {1}
        with pytest.raises(IndexReadOnlyError, match=r"read but not written: attempt to write a readonly.*chmod u\+w"):
            add(store.open(NAME), 2)
        assert keys(store) == {1}
        monkeypatch.undo()
        read_only.chmod(0o600)
        add(store.open(NAME), 2)  # made writable meanwhile
        assert keys(store) == {1, 2}


# A server that others end


def test_a_run_goes_on_when_its_server_is_killed_again_and_again(file: Path) -> None:
    """In the middle of every write: nothing acknowledged is lost, nothing is doubled."""
    made(file, 100)
    rng = random.Random(3)  # noqa: S311  repeatable on purpose
    with opened(file) as store:
        index = store.open(NAME)
        for number in range(10):
            [server] = processes_of(file)["server"]
            killer = threading.Timer(rng.uniform(0.0, 0.02), os.kill, [server, signal.SIGKILL])
            killer.start()
            add(index, number, regions=60)
            killer.join()
            assert index.newest([ImageRef("bucket", f"{number}.jpg")])
        assert keys(store) == {*range(10), 100}


def test_a_stream_of_rows_goes_on_after_the_servers_end(file: Path) -> None:
    with opened(file) as store:
        index = make(store, 0)
        image, generation = ImageRef("bucket", "many.jpg"), next_generation()
        rows = [region_row(image, number, generation=generation) for number in range(2500)]
        index.insert_regions(rows)
        stream = index.iterate_attempts()
        first = next(stream)
        for pid in processes_of(file)["server"]:
            os.kill(pid, signal.SIGKILL)
        assert len([first, *stream]) == 2500 + REGIONS
    wait_until_ended(file)


# Other users of the machine


def test_nobody_else_can_read_or_hold_anything(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(file.parent))
    before = os.umask(0)
    try:
        with opened(file) as store:
            make(store, 1)
            found = {
                path.relative_to(file.parent): stat.S_IMODE(path.lstat().st_mode) for path in file.parent.rglob("*")
            }
    finally:
        os.umask(before)
    assert {str(path) for path, mode in found.items() if mode & 0o077} == set()
    folder = Path(".index.db.host")
    assert {Path("index.db"), Path(".index.db.lock"), folder, folder / "guard", folder / "server.log"} <= set(found)
    assert [path for path in found if "milvus" in path.name] == [folder / ".cache" / "milvus"], (
        "it left logs of its own"
    )


def test_what_others_can_read_is_closed(file: Path) -> None:
    made(file, 1)
    folder = file.with_name(".index.db.host")
    for path in (file, file.with_name(".index.db.lock")):
        path.chmod(0o644)
    folder.chmod(0o755)
    with opened(file) as store:
        add(store.open(NAME), 2)
        for path in (file, file.with_name(".index.db.lock"), folder):
            assert not path.stat().st_mode & 0o077, path


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, file: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file.with_name(".index.db.host").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IndexUnavailableError, match=r"belongs to another user|cannot be used"):
        LiteHost(file, idle_s=0.3, timeout_s=2.0).acquire()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_nothing_is_indexed_is_said_of_an_absent_file_alone(file: Path) -> None:
    with opened(file) as store:
        with pytest.raises(IndexNotFoundError):
            store.open(NAME)
        assert store.live() is None
        assert not file.exists()


SWITCHED_AHEAD = """
import sys, time
from pathlib import Path
now_ns = time.time_ns
time.time_ns = lambda: now_ns() + 86_400 * 10**9
from contracts.index_rows import HASH_LAYER, manifest_of
from integration.test_lite_faults import opened
with opened(Path(sys.argv[1])) as store:
    for name in sys.argv[2:]:
        store.create(manifest_of(name), HASH_LAYER)
        store.switch(name)
"""


def test_a_switch_counts_although_a_clock_a_day_ahead_made_the_one_before(file: Path) -> None:
    """Of the machine itself, that was set right meanwhile: what was live stayed live, and nothing was said."""
    tests = Path(__file__).parents[1]
    here = SWITCHED_AHEAD.replace("86_400 * 10**9", "0")
    for program, name in ((SWITCHED_AHEAD, "a" * 64), (here, "b" * 64)):
        paths = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
        subprocess.run([sys.executable, "-c", program, str(file), name], env=paths, check=True)
        with opened(file) as store:
            live = store.live()
        assert live is not None
        assert live.fingerprint == name
