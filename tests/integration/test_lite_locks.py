"""Another program's transactions in the file of an embedded index: nothing is lost or doubled."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.lite_processes import wait_until_ended
from integration.test_lite_faults import NAME, add, keys, made, opened

from searchanything.core.errors import IndexUnavailableError

_OTHER_PROGRAM = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute(sys.argv[2])
other.execute("SELECT count(*) FROM searchanything_meta").fetchone()
print("held", flush=True)
sys.stdin.readline()
other.execute("ROLLBACK")
"""


@contextmanager
def held_by_another_program(file: Path, begin: str, *, for_s: float) -> Iterator[None]:
    """Another process's transaction; one of this process would end with any look of ours at the file (POSIX locks)."""
    command = [sys.executable, "-c", _OTHER_PROGRAM, str(file), begin]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        end = threading.Timer(for_s, other.stdin.close)
        end.start()
        yield
        end.join()
        assert other.wait() == 0


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_write_that_another_programs_lock_refuses_is_done_in_the_end(file: Path, begin: str) -> None:
    """SQLite refuses it at once. Milvus Lite acknowledges it nevertheless, or refuses it and shows what it refused."""
    made(file, 1)
    with opened(file) as store:
        index = store.open(NAME)
        index.counts()
        with held_by_another_program(file, begin, for_s=0.5):
            add(index, 2)
        assert keys(store) == {1, 2}
    wait_until_ended(file)
    with opened(file) as fresh:
        assert keys(fresh) == {1, 2}


def test_who_reads_the_file_for_too_long_is_said(file: Path) -> None:
    made(file, 1)
    with opened(file, timeout_s=1.0) as store:
        index = store.open(NAME)
        with (
            held_by_another_program(file, "BEGIN", for_s=2.0),
            pytest.raises(IndexUnavailableError, match="locked; which program reads it"),
        ):
            add(index, 2)
        assert keys(store) == {1}
        add(index, 3)
        assert keys(store) == {1, 3}
