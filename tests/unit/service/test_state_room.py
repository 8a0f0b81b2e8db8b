"""`watch` on a disk without room says so before it starts anything, and while it runs: once, and when it is over."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from searchanything.core.errors import ServiceError, SettingsError
from searchanything.core.settings import Settings
from searchanything.service import certificates, state_room
from searchanything.service.state_room import WANTED_BYTES, StateRoom
from searchanything.service.tree import ServiceTree


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Leave so many bytes of every disk."""
    found = os.statvfs("/")

    def left(free: int) -> None:
        given = {"f_frsize": 1, "f_bavail": free, "f_bfree": free, "f_flag": 0}
        values = [given.get(name, getattr(found, name)) for name in found.__match_args__]
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))

    return left


def test_nothing_is_started_on_a_full_disk(tmp_path: Path, leave: Callable[[int], None]) -> None:
    settings = Settings(_env_file=None)
    settings.service.folder = tmp_path / "state"
    leave(3_000_000)
    expected = f"no room on the disk of {tmp_path}/state (3.0 MB are free, 16 wanted); make room, or set "
    with pytest.raises(ServiceError, match=re.escape(expected)), ServiceTree(str(tmp_path), settings):
        pytest.fail("it has started")
    assert list((tmp_path / "state").iterdir()) == []


def test_what_has_changed_is_said_once(
    tmp_path: Path, leave: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_room, "_LOOK_S", 0.0)
    lines: list[str] = []
    room = StateRoom(tmp_path, lines.append)
    for free in (WANTED_BYTES, 0, 1_000_000, WANTED_BYTES - 1, WANTED_BYTES, 2 * WANTED_BYTES, 0):
        leave(free)
        room.look()
    texts = [line.partition("  ")[2] for line in lines]
    short = f"no room on the disk of {tmp_path} (0.0 MB are free, 16 wanted): runs may fail or go unrecorded"
    assert texts == [short, f"there is room again for {tmp_path}", short]


def test_a_terminal_that_is_gone_ends_nothing(tmp_path: Path, leave: Callable[[int], None]) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    leave(0)
    StateRoom(tmp_path, broken).look()
    StateRoom(tmp_path).look()


def test_a_disk_that_says_nothing_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StateRoom(tmp_path / "not there").check()
    found = os.statvfs("/")
    for odd in ({"f_blocks": 0}, {"f_flag": os.ST_RDONLY}):
        given = {"f_bavail": 0, "f_bfree": 0, **odd}
        values = [given.get(name, getattr(found, name)) for name in found.__match_args__]
        monkeypatch.setattr(os, "statvfs", lambda _, values=values: os.statvfs_result(values))
        StateRoom(tmp_path).check()


def test_a_key_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(certificates, "_key_and_certificate", full)
    with pytest.raises(SettingsError, match="cannot be written: No space left"):
        certificates.make_cluster_key(tmp_path / "cluster.pem", replace=True)
    assert list(tmp_path.iterdir()) == []
