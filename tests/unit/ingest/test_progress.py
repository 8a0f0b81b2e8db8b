"""Progress knows its total while it lists, speaks where there is no terminal, and says what a Ctrl-C leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from searchanything.cli import progress as bars
from searchanything.core.errors import StoreError
from searchanything.core.types import ImageRef, StoredObject
from searchanything.ingest.listing import ListingAhead
from searchanything.ingest.progress import ProgressLine, in_notebooks, lines
from searchanything.ingest.reports import IndexProgress


def stored(number: int) -> StoredObject:
    return StoredObject(ImageRef("b", f"{number}.jpg"), "e", 1)


def test_the_total_is_there_when_the_first_image_is() -> None:
    listing = ListingAhead(map(stored, range(240)), lambda one: one.ref.key != "3.jpg")
    objects = iter(listing)
    assert next(objects) == stored(0)
    assert len(list(objects)) == 239
    told: list[IndexProgress] = []
    listing.progress(told.append)(IndexProgress(160, None, 160, 0, "k"))
    assert (told[0].done, told[0].total, told[0].total_is_final) == (160, 239, True)


def test_a_listing_runs_ahead_only_so_far_and_stops_with_its_reader() -> None:
    given = 0

    def endless() -> Iterator[StoredObject]:
        nonlocal given
        while True:
            given += 1
            yield stored(given)

    listing = ListingAhead(endless(), lambda _: True, most=10)
    objects = iter(listing)
    next(objects)
    told: list[IndexProgress] = []
    listing.progress(told.append)(IndexProgress(1, None, 1, 0, "k"))
    assert not told[0].total_is_final
    objects.close()
    _until(lambda: not any(one.name == "listing" for one in threading.enumerate()))
    assert given <= 12


def test_what_breaks_a_listing_comes_after_what_it_gave() -> None:
    def breaking() -> Iterator[StoredObject]:
        yield stored(0)
        raise StoreError("gone")

    listing = ListingAhead(breaking(), lambda _: True)
    objects = iter(listing)
    assert next(objects) == stored(0)
    with pytest.raises(StoreError, match="gone"):
        next(objects)
    assert not listing.complete


def test_the_line_says_total_rate_time_left_and_failures() -> None:
    now = 0.0
    line = ProgressLine("indexing", clock=lambda: now)
    assert str(line) == "indexing: nothing done yet, 0:00:00 so far"
    line(IndexProgress(0, 1200, 0, 0, "k"))
    now = 10.0
    line(IndexProgress(160, 1200, 150, 10, "k"))
    assert str(line) == "indexing: 160 of 1,200 (13%), 16.0 images/s, about 0:01:05 left, 10 failed"
    line(IndexProgress(160, 300, 160, 0, "k", total_is_final=False))
    assert str(line) == "indexing: 160 of 300 or more, 16.0 images/s"
    line(IndexProgress(3, None, 0, 0, "", stage="training the hash"))
    assert str(line) == "training the hash: 3 done"


def test_lines_come_by_themselves() -> None:
    written: list[str] = []
    with lines("indexing", written.append, every_s=0.01):
        _until(lambda: len(written) >= 2)
    count = len(written)
    assert not any(one.name == "progress" for one in threading.enumerate())
    assert len(written) == count


def test_without_a_terminal_the_command_line_speaks_and_says_what_ctrl_c_leaves(capsys, monkeypatch) -> None:
    monkeypatch.setattr("searchanything.ingest.progress.EVERY_S", 0.01)

    def work() -> None:
        with bars.indexing_progress() as show:
            show(IndexProgress(5, 9, 5, 1, "k"))
            time.sleep(0.1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    said = capsys.readouterr().err
    assert "indexing: 5 of 9" in said
    assert "1 failed" in said
    assert "run the same command again to continue" in said


def test_notebooks_get_a_line_without_asking(monkeypatch, capsys) -> None:
    monkeypatch.setattr("searchanything.ingest.progress.is_notebook", lambda: True)
    with in_notebooks(None, "indexing") as tell:
        assert tell is not None
        tell(IndexProgress(5, 9, 5, 0, "k"))
    assert "indexing: 5 of 9" in capsys.readouterr().err
    own: list[IndexProgress] = []
    with in_notebooks(own.append, "indexing") as tell:
        tell(IndexProgress(5, 9, 5, 0, "k"))
    assert len(own) == 1
    assert capsys.readouterr().err == ""


def test_elsewhere_nothing_is_said() -> None:
    with in_notebooks(None, "indexing") as tell:
        assert tell is None


def _until(holds) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("never")
