"""Files in a folder that are written over: links, modes, owners and groups, also of who may not give them away."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from searchanything.core.errors import StoreError
from searchanything.stores.files import FolderFiles

TEAM, SOMEBODY = 1234, 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that any user may write to, and reach."""
    folder = Path(tempfile.mkdtemp(prefix="sa-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_somebody(*groups: int) -> Iterator[None]:
    """Be another user for the length of a block, a member of these groups and of its primary group."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(SOMEBODY)
    os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@needs_root
@pytest.mark.parametrize(
    ("groups", "before", "after"),
    [((TEAM,), 0o640, (TEAM, 0o640)), ((), 0o640, (SOMEBODY, 0o600)), ((), 0o604, (SOMEBODY, 0o604))],
)
def test_no_other_group_gets_the_rights_of_a_group(
    shared: Path, groups: tuple[int, ...], before: int, after: tuple[int, int]
) -> None:
    (file := shared / "a").write_text("x")
    os.chown(file, 0, TEAM)
    file.chmod(before)
    with as_somebody(*groups):
        FolderFiles(shared).write("a", b"y")
    state = file.stat()
    assert (state.st_gid, state.st_mode & 0o7777) == after
    assert (state.st_uid, file.read_bytes()) == (SOMEBODY, b"y")


@needs_root
def test_owner_and_group_stay_and_rights_of_programs_do_not(shared: Path) -> None:
    (file := shared / "a").write_text("x")
    os.chown(file, SOMEBODY, TEAM)
    file.chmod(0o6740)
    FolderFiles(shared).write("a", b"y")
    state = file.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o7777) == (SOMEBODY, TEAM, 0o740)


def test_disk_without_owners_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of user namespaces and network disks that do not say EPERM."""

    def refuse(*_: int) -> None:
        raise OSError(22, "Invalid argument")

    (tmp_path / "a").write_text("x")
    if os.geteuid() == 0:
        os.chown(tmp_path / "a", SOMEBODY, TEAM)
    monkeypatch.setattr(os, "fchown", refuse)
    FolderFiles(tmp_path).write("a", b"y")
    assert (tmp_path / "a").read_bytes() == b"y"


@pytest.mark.parametrize("target", ["a", "missing", "folder", "../outside", "second"])
def test_links_that_lead_to_no_file_of_the_folder_are_refused(tmp_path: Path, target: str) -> None:
    (outside := tmp_path / "outside").write_text("x")
    (folder := tmp_path / "s").mkdir()
    (folder / "folder").mkdir()
    (folder / "second").symlink_to(outside)
    (folder / "a").symlink_to(target)
    with pytest.raises(StoreError, match="a link to something else than a file of this folder"):
        FolderFiles(folder).write("a", b"y")
    assert (outside.read_text(), str((folder / "a").readlink())) == ("x", target)


def test_file_that_somebody_deletes_meanwhile_is_written_anew(tmp_path: Path) -> None:
    files, ended = FolderFiles(tmp_path), threading.Event()

    def delete() -> None:
        while not ended.is_set():
            (tmp_path / "a").unlink(missing_ok=True)

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        for _ in range(4000):
            files.write("a", b"y")
    finally:
        ended.set()
        deleting.join()
