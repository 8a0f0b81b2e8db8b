"""What a sync reads of every index, and which rows it takes for garbage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from contracts.conftest import Bench
from contracts.index_rows import image_row, region_row

from searchanything.core.codes import generation_at, next_generation
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.manifest import IndexCounts
from searchanything.core.rows import ImageState, Outcome
from searchanything.core.types import ImageRef, RegionRef
from searchanything.ingest import garbage
from searchanything.ingest.garbage import Holdings, collect_garbage, holdings
from searchanything.search.stored import stored_rows
from searchanything.stores import milvus_connection

HOUR_NS = 3600 * 10**9


def put(bench: Bench, key: str, generation: int, *, rows: int = 2, says: int | None = None) -> ImageRef:
    """Commit an image with `rows` region rows, of which its row says that there are `says`."""
    image = bench.image(key)
    bench.index.insert_regions([region_row(image, number, generation=generation) for number in range(rows)])
    bench.index.insert_images([image_row(image, generation=generation, regions=rows if says is None else says)])
    return image


def left(bench: Bench) -> set[tuple[str, int]]:
    regions = {(image.key, generation) for image, generation in bench.index.iterate_attempts(bucket=bench.bucket)}
    return regions | {(row.image.key, row.generation) for row in bench.index.iterate_images(bucket=bench.bucket)}


def test_states_and_attempts_are_as_much_of_the_rows_as_a_sync_needs(bench: Bench) -> None:
    generation = next_generation()
    image = bench.image("a/ä.jpg")
    row = image_row(image, generation=generation, regions=7, modified_at_ms=1_760_000_123_000, sidecar_etag="s-1")
    bad = image_row(bench.image("b.jpg"), generation=generation, outcome=Outcome.FAILED, regions=0, code=bytes(32))
    bench.index.insert_images([row, bad])
    bench.index.insert_regions([region_row(image, 0, generation=generation), region_row(image, 1, generation=3)])
    assert list(bench.index.iterate_states(bucket=bench.bucket, key_prefix="a/")) == [
        ImageState(image, f"etag-{generation}", generation, Outcome.INDEXED, 7, 1_760_000_123_000, "s-1")
    ]
    assert {state.outcome for state in bench.index.iterate_states()} == {Outcome.INDEXED, Outcome.FAILED}
    assert sorted(bench.index.iterate_attempts(key_prefix="a/")) == [(image, 3), (image, generation)]
    assert list(bench.index.iterate_attempts(bucket=bench.bucket, key_prefix="b")) == []
    assert bench.index.newest([image])[image] == row


@pytest.mark.parametrize("most", [1, 3, 5, 10])
def test_streams_have_each_row_once_whatever_fits_into_a_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(milvus_connection, "PAGE_ROWS", most)
    for number in range(5):
        put(bench, f"{number}.jpg", 10 - number, rows=2)
    found = [(row.image.key, row.region) for row in bench.index.iterate_regions(bucket=bench.bucket)]
    assert sorted(found) == [(f"{number}.jpg", region) for number in range(5) for region in range(2)]
    assert sorted(state.image.key for state in bench.index.iterate_states()) == [f"{number}.jpg" for number in range(5)]
    some = bench.index.regions_of([bench.image("1.jpg"), bench.image("4.jpg")])
    assert sorted((row.image.key, row.region) for row in some) == [
        (f"{one}.jpg", row) for one in (1, 4) for row in (0, 1)
    ]


def test_rows_that_are_too_large_for_one_answer_are_streamed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 MB: a Milvus server sends 64 MiB at once, Milvus Lite as much."""
    monkeypatch.setattr(milvus_connection, "PAGE_ROWS", 1400)
    generation, metadata = next_generation(), {"note": "x" * 50_000}
    images = [bench.image(f"{number}.jpg") for number in range(56)]
    for image in images:
        bench.index.insert_regions(
            [region_row(image, one, generation=generation, metadata=metadata) for one in range(25)]
        )
    found = Counter(row.image for row in bench.index.iterate_regions(bucket=bench.bucket))
    assert found == dict.fromkeys(images, 25)


def test_holdings_leave_garbage_out(bench: Bench) -> None:
    now = next_generation()
    put(bench, "a.jpg", now - 5, rows=3)
    put(bench, "a.jpg", now, rows=2)  # whoever committed it was killed before it deleted the older rows
    bench.index.insert_regions([region_row(bench.image("b.jpg"), generation=now)])
    bench.index.insert_images([image_row(bench.image("e.jpg"), generation=now, outcome=Outcome.EMPTY, regions=0)])
    held = holdings(bench.index)
    assert held.counts == IndexCounts(images=1, empty=1, failed=0, regions=2)
    assert held.garbage == 3 + 1 + 1  # regions of the older generation, its image row, a region without an image
    assert held.lost == 0


def test_holdings_say_how_many_regions_have_lost_their_rows(bench: Bench) -> None:
    put(bench, "whole.jpg", next_generation(), rows=2)
    put(bench, "short.jpg", next_generation(), rows=1, says=4)
    nothing = image_row(bench.image("nothing.jpg"), generation=next_generation(), outcome=Outcome.EMPTY, regions=0)
    bench.index.insert_images([nothing])
    held = holdings(bench.index)
    assert (held.counts.regions, held.garbage, held.lost) == (6, 0, 3)
    for name, number, told in (
        ("short.jpg", 1, "has no row"),
        ("short.jpg", 4, "from 0 to 3"),
        ("nothing.jpg", 0, "has no regions"),
    ):
        with pytest.raises(ObjectNotFoundError, match=told):
            stored_rows(bench.index, [RegionRef(bench.image(name), number)])


def test_many_images_are_not_looked_at_one_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = next_generation()
    put(bench, "a.jpg", now - 5, rows=3)
    put(bench, "a.jpg", now, rows=2)
    bad = image_row(bench.image("b.jpg"), generation=now, outcome=Outcome.FAILED, regions=0, code=bytes(32))
    bench.index.insert_images([bad])
    monkeypatch.setattr(garbage, "LOOKED_AT_IMAGES", 3)
    assert holdings(bench.index) == Holdings(IndexCounts(images=1, empty=0, failed=1, regions=2), 3 + 1, 0)
    monkeypatch.setattr(garbage, "LOOKED_AT_IMAGES", 2)
    assert holdings(bench.index) == Holdings(IndexCounts(images=2, empty=0, failed=1, regions=5), None, None)


@pytest.mark.parametrize("outcome", Outcome)
def test_states_of_one_outcome(bench: Bench, outcome: Outcome) -> None:
    generation = next_generation()
    images, no_code = {one: bench.image(f"in/{one}.jpg") for one in Outcome}, {"code": bytes(32)}
    bench.index.insert_images(
        [
            image_row(image, generation=generation, outcome=one, regions=0, **no_code if one is Outcome.FAILED else {})
            for one, image in images.items()
        ]
    )
    for place in ({}, {"bucket": bench.bucket}, {"bucket": bench.bucket, "key_prefix": "in/"}):
        found = bench.index.iterate_states(**place, outcome=outcome)
        assert [state.image for state in found] == [images[outcome]]
        [row] = bench.index.iterate_images(**place, outcome=outcome)
        assert bench.index.newest([row.image]) == {images[outcome]: row}
    assert list(bench.index.iterate_states(bucket=bench.bucket, key_prefix="out/", outcome=outcome)) == []


def test_rows_are_counted_by_place(bench: Bench) -> None:
    """Also where an expression cannot say the place."""
    generation = next_generation()
    for number, key in enumerate(("a/1.jpg", "a/2.jpg", "b/1.jpg", "a\tb/1.jpg", "a\tc/1.jpg"), start=1):
        put(bench, key, generation, rows=number)
    bench.index.insert_images(
        [
            image_row(bench.image(f"a/{one}.jpg"), generation=generation, outcome=one, regions=0)
            for one in (Outcome.EMPTY, Outcome.FAILED)
        ]
    )
    for prefix, counts in {
        "": IndexCounts(images=5, empty=1, failed=1, regions=15),
        "a": IndexCounts(images=4, empty=1, failed=1, regions=12),
        "a/": IndexCounts(images=2, empty=1, failed=1, regions=3),
        "a\t": IndexCounts(images=2, empty=0, failed=0, regions=9),
        "a\tb": IndexCounts(images=1, empty=0, failed=0, regions=4),
        "c": IndexCounts(images=0, empty=0, failed=0, regions=0),
    }.items():
        assert bench.index.counts(bucket=bench.bucket, key_prefix=prefix) == counts
        assert bench.index.count_regions(bucket=bench.bucket, key_prefix=prefix) == counts.regions
    assert bench.index.counts(bucket="another").regions == 0


def test_garbage_is_what_no_running_attempt_can_own(bench: Bench) -> None:
    now = next_generation()
    old, older = now - 30 * HOUR_NS, now - 40 * HOUR_NS
    put(bench, "whole.jpg", old)
    put(bench, "replaced.jpg", now - 3)
    put(bench, "replaced.jpg", now - 2)
    put(bench, "again.jpg", older)
    put(bench, "short.jpg", now - 1, rows=1, says=2)
    for key, generation in (("killed.jpg", old), ("running.jpg", now), ("again.jpg", old), ("whole.jpg", now)):
        bench.index.insert_regions([region_row(bench.image(key), 5, generation=generation)])
    asked: list[Sequence[str]] = []
    collected = collect_garbage(bench.index, bucket=bench.bucket, key_prefix="", again=asked.append, age_s=24 * 3600.0)
    assert collected == 2
    assert asked == [["again.jpg", "short.jpg"]]
    assert left(bench) == {
        ("whole.jpg", old),
        ("whole.jpg", now),  # may be running
        ("replaced.jpg", now - 2),
        ("again.jpg", older),  # its garbage is younger: the next commit deletes both
        ("again.jpg", old),
        ("short.jpg", now - 1),
        ("running.jpg", now),
    }


def test_another_source_is_not_collected(bench: Bench) -> None:
    now = next_generation()
    put(bench, "in/a.jpg", now)
    bench.index.insert_regions([region_row(bench.image(key), 5, generation=7) for key in ("in/b.jpg", "out/b.jpg")])
    assert collect_garbage(bench.index, bucket=bench.bucket, key_prefix="in/", again=pytest.fail) == 1
    assert left(bench) == {("in/a.jpg", now), ("out/b.jpg", 7)}


def test_what_was_committed_long_ago_stays(bench: Bench) -> None:
    """Also in another bucket, whose rows lie in the same index."""
    now = next_generation()
    old, older = now - 40 * HOUR_NS, now - 50 * HOUR_NS
    put(bench, "a.jpg", old)
    bench.index.insert_regions([region_row(bench.image("a.jpg"), 5, generation=older)])
    elsewhere = bench.image("a.jpg", bucket=f"{bench.bucket}-other")
    bench.index.insert_regions([region_row(elsewhere, 0, generation=old)])
    bench.index.insert_images([image_row(elsewhere, generation=old, regions=1)])
    assert collect_garbage(bench.index, bucket=bench.bucket, key_prefix="", again=pytest.fail) == 1
    assert left(bench) == {("a.jpg", old)}
    assert bench.index.count_regions(bucket=bench.bucket) == 2
    assert bench.index.count_regions(bucket=elsewhere.bucket) == 1
    assert bench.index.newest([elsewhere])[elsewhere].generation == old


def test_an_older_image_row_alone_is_garbage(bench: Bench) -> None:
    """Of an image without regions, whose numbers of rows show nothing."""
    now = next_generation()
    put(bench, "empty.jpg", now - 2, rows=0)
    put(bench, "empty.jpg", now - 1, rows=0)
    put(bench, "other.jpg", now - 3)
    assert collect_garbage(bench.index, bucket=bench.bucket, key_prefix="", again=pytest.fail) == 1
    assert left(bench) == {("empty.jpg", now - 1), ("other.jpg", now - 3)}


def test_rows_of_a_running_attempt_do_not_stand_for_lost_ones(bench: Bench) -> None:
    now = next_generation()
    put(bench, "short.jpg", now - 1, rows=1, says=2)
    for number in (0, 1):
        bench.index.insert_regions([region_row(bench.image("short.jpg"), number, generation=now)])
    asked: list[Sequence[str]] = []
    assert collect_garbage(bench.index, bucket=bench.bucket, key_prefix="", again=asked.append) == 0
    assert asked == [["short.jpg"]]
    assert left(bench) == {("short.jpg", now - 1), ("short.jpg", now)}


class Meanwhile:
    """An index in which another worker does something just before a method is called for the so many-th time."""

    def __init__(self, bench: Bench, method: str, call: int, act: Callable[[], object]) -> None:
        self._index, self._method, self._calls, self._act = bench.index, method, call, act

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            self._calls -= 1
            if self._calls == 0:
                self._act()
        return getattr(self._index, name)


def test_an_image_that_another_worker_commits_meanwhile_is_no_garbage(bench: Bench) -> None:
    """It was planned before the images that are known were committed."""
    now = next_generation()
    put(bench, "a.jpg", now - 2)
    put(bench, "a.jpg", now - 1)
    busy = Meanwhile(bench, "iterate_states", 2, lambda: put(bench, "new.jpg", now - 50))
    assert collect_garbage(busy, bucket=bench.bucket, key_prefix="", again=pytest.fail) == 1  # type: ignore[arg-type]
    assert left(bench) == {("a.jpg", now - 1), ("new.jpg", now - 50)}


def test_images_that_are_replaced_or_deleted_meanwhile_lost_their_rows_rightly(bench: Bench) -> None:
    now = next_generation()
    images = [put(bench, key, now - 2, rows=1, says=2) for key in ("deleted.jpg", "replaced.jpg", "short.jpg")]

    def act() -> None:
        bench.index.delete_images([images[0]])
        put(bench, "replaced.jpg", now - 1)

    asked: list[Sequence[str]] = []
    busy: Any = Meanwhile(bench, "newest", 1, act)
    assert collect_garbage(busy, bucket=bench.bucket, key_prefix="", again=asked.append) == 0
    assert asked == [["short.jpg"]]


class Watched:
    """An index that another source's writer is busy with, and what is streamed of it."""

    def __init__(self, bench: Bench) -> None:
        self._index = bench.index
        self.streamed: list[tuple[str, str | None]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._index, name)
        if not name.startswith("iterate_"):
            return method

        def noted(*, bucket: str | None = None, key_prefix: str = "") -> Any:
            self.streamed.append((name, bucket))
            return method(bucket=bucket, key_prefix=key_prefix)

        return noted


def test_what_others_write_meanwhile_makes_nobody_read_more(bench: Bench) -> None:
    now = next_generation()
    put(bench, "a.jpg", now)
    elsewhere = bench.image("b.jpg", bucket=f"{bench.bucket}-other")
    bench.index.insert_regions([region_row(elsewhere, number, generation=now) for number in range(3)])
    watched = Watched(bench)
    assert collect_garbage(watched, bucket=bench.bucket, key_prefix="", again=pytest.fail) == 0  # type: ignore[arg-type]
    assert watched.streamed == [("iterate_states", bench.bucket)]
    assert bench.index.count_regions(bucket=bench.bucket) == 2
    assert bench.index.count_regions() == 5
    assert bench.index.count_regions(bucket=elsewhere.bucket, key_prefix="b") == 3
    assert bench.index.count_regions(bucket=elsewhere.bucket, key_prefix="c") == 0


def test_ages_are_those_of_generations() -> None:
    taken = next_generation()
    assert generation_at(age_s=60) < taken <= generation_at(age_s=-60)
    assert generation_at(age_s=10**12) == 0
