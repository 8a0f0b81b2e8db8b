"""Another program's transactions in the file of an embedded index: nothing is lost or doubled."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from contracts.index_rows import HASH_LAYER, manifest_of
from integration.lite_processes import wait_until_ended
from integration.test_lite_faults import NAME, add, keys, made, make, opened

from searchanything.core.errors import IndexUnavailableError
from searchanything.core.types import ImageRef
from searchanything.stores import lite_connection
from searchanything.stores.lite_client import LiteClient
from searchanything.stores.lite_file import WHOLE_COLLECTION, parts_of_collection, wait_for_readers
from searchanything.stores.milvus import MilvusIndexStore

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
def held_by_another_program(file: Path, begin: str, *, for_s: float | None = None) -> Iterator[None]:
    """Another process's transaction, as long as the block if no time is said.

    One of this process would end with any look of ours at the file (POSIX locks).
    """
    command = [sys.executable, "-c", _OTHER_PROGRAM, str(file), begin]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        end = threading.Timer(for_s or 0.0, other.stdin.close)
        if for_s is not None:
            end.start()
        yield
        if for_s is None:
            end.start()
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
            add(index, 2, 3)
        assert keys(store) == {1, 2, 3}
        with held_by_another_program(file, begin, for_s=0.5):
            index.delete_images([ImageRef("bucket", "1.jpg")])
        assert keys(store) == {2, 3}
    wait_until_ended(file)
    with opened(file) as fresh:
        assert keys(fresh) == {2, 3}


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
def test_what_another_program_keeps_from_being_made_is_made_in_the_end(file: Path, begin: str) -> None:
    """Milvus Lite refuses it once, then acknowledges it: a file of such words, or layers, could not be opened again."""
    made(file, 1)
    with opened(file) as store:
        store.open(NAME).counts()
        with held_by_another_program(file, begin, for_s=0.5):
            store.add_words(NAME, b"words", bits=64)
        with held_by_another_program(file, begin, for_s=0.5):
            store.create(manifest_of("1" * 64), HASH_LAYER)
    wait_until_ended(file)
    with opened(file) as fresh:
        assert keys(fresh) == {1}
        assert fresh.open(NAME).words is not None
        assert fresh.open("1" * 64).counts().images == 0
        assert fresh.hash_layer("1" * 64) == HASH_LAYER


def test_no_index_of_codes_is_made_before_its_collection_is_in_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lay there without a collection could neither be used nor dropped."""
    made(file, 1)
    create_index, seen = LiteClient.create_index, []

    def noting(client: LiteClient, name: str, *rest: Any, **named: Any) -> None:
        seen.append(parts_of_collection(file, name))
        create_index(client, name, *rest, **named)

    monkeypatch.setattr(LiteClient, "create_index", noting)
    with opened(file) as store:
        store.open(NAME).counts()
        with held_by_another_program(file, "BEGIN", for_s=0.5):
            store.add_words(NAME, b"words", bits=64)
    assert seen == [WHOLE_COLLECTION - 1]


def test_what_a_reader_keeps_from_being_dropped_does_not_come_back(file: Path) -> None:
    made(file, 1)
    with opened(file) as store:
        store.withdraw()
        assert isinstance(store, MilvusIndexStore)
        for name in store.open(NAME).collections:
            with held_by_another_program(file, "BEGIN", for_s=0.3):
                store._connection.drop_collection(name)
            assert parts_of_collection(file, name) == 0
        store.drop(NAME)
        assert make(store).counts().images == 0


def test_who_reads_the_file_for_too_long_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(file, 1)
    patience_s: list[float] = []

    def impatient(locked: Path, timeout_s: float) -> None:
        patience_s.append(timeout_s)
        wait_for_readers(locked, 0.5)

    with opened(file, timeout_s=60.0) as store:
        index = store.open(NAME)
        monkeypatch.setattr(lite_connection, "wait_for_readers", impatient)
        with (
            held_by_another_program(file, "BEGIN"),
            pytest.raises(IndexUnavailableError, match="locked; which program reads it"),
        ):
            add(index, 2)
        assert patience_s
        assert min(patience_s) >= 60.0
        monkeypatch.undo()
        assert keys(store) == {1}
        add(index, 3)
        assert keys(store) == {1, 3}
