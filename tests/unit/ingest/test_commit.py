"""One commit: the order of its steps, and what its rows say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fakes.indexing import GREEN_BLUE, RED, new_index
from fakes.models import drawn, fake_encoder
from fakes.stores import InMemoryStore

from searchanything.core.errors import ImageError, IndexMismatchError, RegionIndexError, StoreError
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import ImageRef, StoredObject
from searchanything.encode.encoder import EncodedImage
from searchanything.ingest.commit import MESSAGE_CHARACTERS, Attempt, Committed, Failed, commit_batch
from searchanything.stores.memory import MemoryRegionIndex

IMAGE = drawn(40, 30, green=(2, 2, 12, 20), blue=(14, 4, 28, 36))


class Recording(MemoryRegionIndex):
    """Notes each step in `steps`."""

    steps: list[str]
    fails = False

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        self.steps.append(f"insert {len(rows)} regions")
        super().insert_regions(rows)

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        self.steps.append(f"insert {len(rows)} images")
        super().insert_images(rows)

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        self.steps.append(f"delete before {sorted(generations.values())}")
        super().delete_before(generations)

    def delete_regions(self, ids: Collection[str]) -> None:
        self.steps.append(f"delete {len(ids)} regions")
        if self.fails:
            raise RegionIndexError("no deletion now")
        super().delete_regions(ids)


class Asked(InMemoryStore):
    """Notes each question in `steps`."""

    steps: list[str]

    def stat(self, key: str) -> StoredObject | None:
        self.steps.append(f"stat {key}")
        if key in self.failures:
            raise self.failures[key]
        return super().stat(key)


@pytest.fixture
def index() -> Recording:
    recording = Recording(new_index().manifest)
    recording.steps = []
    return recording


@pytest.fixture
def store(index: Recording) -> Asked:
    asked = Asked()
    asked.steps = index.steps
    return asked


@pytest.fixture(scope="module")
def encoded() -> EncodedImage:
    return fake_encoder().encode_images([IMAGE])[0]


def commit(index: Recording, store: Asked, *batch: tuple[Attempt, EncodedImage | None]) -> Committed:
    with ThreadPoolExecutor(1) as pool:
        return commit_batch(index, store, batch, pool)


def test_regions_then_the_store_then_images_then_what_is_old(
    index: Recording, store: Asked, encoded: EncodedImage
) -> None:
    batch = [(Attempt(store.put(f"{number}.png", RED), 10 + number), encoded) for number in range(2)]
    committed = commit(index, store, *batch)
    assert index.steps == [
        "insert 4 regions",
        "stat 0.png",
        "stat 1.png",
        "insert 2 images",
        "delete before [10, 11]",
    ]
    assert [row.image.key for row in committed.rows] == ["0.png", "1.png"]
    assert committed.changed == ()


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_workers_on_the_same_images_the_newest_rows_alone_remain(
    index: Recording, store: Asked, encoded: EncodedImage, first: int
) -> None:
    """Whichever commits first, and although one's generations lie between the other's."""
    stored = [store.put(f"{number}.png", RED) for number in range(3)]
    ages = [(10, 30, 41), (20, 21, 40)]
    for worker in (first, 1 - first):
        commit(index, store, *((Attempt(one, age), encoded) for one, age in zip(stored, ages[worker], strict=True)))
    left = {(row.image.key, row.generation) for row in index.iterate_images()}
    assert left == {("0.png", 20), ("1.png", 30), ("2.png", 41)}
    assert index.counts().regions == 6


def test_rows_say_what_was_found(index: Recording, store: Asked, encoded: EncodedImage) -> None:
    stored = store.put("a.png", GREEN_BLUE, metadata={"shelf": "a"})
    (row,) = commit(index, store, (Attempt(stored, 7), encoded)).rows
    assert (row.image, row.etag, row.generation, row.metadata) == (stored.ref, stored.etag, 7, {"shelf": "a"})
    assert (row.image_height, row.image_width, row.regions, row.outcome) == (40, 30, 2, Outcome.INDEXED)
    assert (row.error, row.message, row.attempts, row.modified_at_ms) == ("", "", 1, stored.modified_at_ms)
    assert row.code == encoded.image_code.tobytes()
    assert row.first_at_ms == row.last_at_ms > 1_700_000_000_000
    regions = sorted(index._regions.rows, key=lambda one: one.region)
    assert [one.region for one in regions] == [0, 1]
    assert [one.code for one in regions] == [code.tobytes() for code in encoded.codes]
    assert [one.box_xyxy for one in regions] == [(14, 4, 28, 36), (2, 2, 12, 20)]  # the larger one first
    assert [one.mask for one in regions] == list(encoded.masks)
    assert all((one.image, one.etag, one.generation) == (stored.ref, stored.etag, 7) for one in regions)
    assert all((one.metadata, one.image_width, one.image_height) == ({"shelf": "a"}, 30, 40) for one in regions)
    assert len({row.id, *(one.id for one in regions)}) == 3


def test_an_area_is_at_least_one_pixel(index: Recording, store: Asked, encoded: EncodedImage) -> None:
    tiny = replace(encoded, areas_px=np.array([0.2, 3.6], dtype=np.float32))
    commit(index, store, (Attempt(store.put("a.png", RED), 7), tiny))
    assert sorted(row.area_px for row in index._regions.rows) == [1, 4]


def test_what_changed_is_not_committed_and_what_is_gone_leaves(
    index: Recording, store: Asked, encoded: EncodedImage
) -> None:
    same, changed, gone, vanished = (Attempt(store.put(f"{name}.png", RED), 5) for name in "scgv")
    store.put("c.png", GREEN_BLUE)
    store.delete("g.png")
    commit(index, store, (replace(gone, stored=gone.stored, generation=3), encoded))
    batch = [(same, encoded), (changed, encoded), (gone, encoded), (replace(vanished, vanished=True), None)]
    committed = commit(index, store, *batch)
    assert [row.image for row in committed.rows] == [same.stored.ref]
    assert committed.changed == (changed.stored.ref,)
    assert {row.image.key for row in index.iterate_images()} == {"s.png"}
    assert {row.image.key for row in index._regions.rows} == {"s.png"}
    assert index.steps[-3:] == ["insert 1 images", "delete before [5, 6, 6]", "delete 2 regions"]


@pytest.mark.parametrize("becomes", ["gone", "changed", "unknown"])
def test_regions_of_an_attempt_that_is_not_committed_leave_with_it(
    index: Recording, store: Asked, encoded: EncodedImage, becomes: str
) -> None:
    """What was committed before stays, region rows and all, and so do another worker's rows that are not committed."""
    stored = store.put("a.png", RED)
    commit(index, store, (Attempt(stored, 4), encoded))
    held = sorted(index.iterate_attempts())
    with ThreadPoolExecutor(1) as pool:
        running = MemoryRegionIndex(index.manifest)
        commit_batch(running, store, [(Attempt(stored, 6), encoded)], pool)
        super(Recording, index).insert_regions(list(running.iterate_regions()))  # no image row yet
        if becomes == "gone":
            store.delete("a.png")
        elif becomes == "changed":
            store.put("a.png", GREEN_BLUE)
        else:
            store.failures["a.png"] = StoreError("a.png: forbidden")
        done = commit_batch(index, store, [(Attempt(stored, 5), encoded)], pool, may_forget=lambda _: False)
    assert (len(done.rows), done.left, len(done.changed)) == (0, int(becomes == "gone"), int(becomes != "gone"))
    assert [row.generation for row in index.iterate_images()] == [4]
    assert sorted(index.iterate_attempts()) == [*held, *sorted(running.iterate_attempts())]


def test_a_batch_is_committed_even_if_what_it_refused_cannot_be_deleted(
    index: Recording, store: Asked, encoded: EncodedImage, caplog: pytest.LogCaptureFixture
) -> None:
    same, changed = (Attempt(store.put(f"{name}.png", RED), 5) for name in "sc")
    store.put("c.png", GREEN_BLUE)
    index.fails = True
    committed = commit(index, store, (same, encoded), (changed, encoded))
    assert [row.image.key for row in committed.rows] == ["s.png"]
    assert committed.changed == (changed.stored.ref,)
    assert {row.image.key for row in index.iterate_images()} == {"s.png"}
    assert {image.key for image, _ in index.iterate_attempts()} == {"s.png", "c.png"}
    assert "2 region rows left for garbage collection: no deletion now" in caplog.messages


def test_what_is_gone_spares_younger_generations(index: Recording, store: Asked, encoded: EncodedImage) -> None:
    stored = store.put("a.png", RED)
    for generation in (4, 6):
        commit(index, store, (Attempt(stored, generation), encoded))
    store.delete("a.png")
    commit(index, store, (Attempt(stored, 5), encoded))
    assert {row.generation for row in index.iterate_images()} == {6}
    assert {row.generation for row in index._regions.rows} == {6}


def test_nothing_is_asked_or_counted_of_what_is_gone_and_was_found_again(
    index: Recording, store: Asked, encoded: EncodedImage
) -> None:
    """The row is another worker's: a question about it would hold back, or count, what is not to be deleted."""
    older, younger = store.put("a.png", RED), store.put("b.png", RED)
    asked: list[Collection[str]] = []
    commit(index, store, (Attempt(older, 4), encoded), (Attempt(younger, 6), encoded))
    batch = [(Attempt(one, 5, vanished=True), None) for one in (older, younger)]
    with ThreadPoolExecutor(2) as pool:
        done = commit_batch(index, store, batch, pool, may_forget=lambda gone: asked.append(gone) is None)
        again = commit_batch(index, store, batch, pool, may_forget=lambda _: False)
    assert asked == [["a.png"]]
    assert (done.forgotten, done.left) == (1, 0)
    assert (again.forgotten, again.left) == (0, 0)
    assert (done.absent, again.absent) == ((), (older.ref,))


@pytest.mark.parametrize(
    ("etag", "attempts", "first_at_ms"), [("same", 4, 1000), ("another", 1, None)], ids=["same", "other content"]
)
def test_attempts_count_as_long_as_the_content_stays(
    index: Recording, store: Asked, etag: str, attempts: int, first_at_ms: int | None
) -> None:
    stored = store.put("a.png", b"broken")
    (row,) = commit(index, store, (Attempt(stored, 7, failed=Failed("ImageError", "broken")), None)).rows
    previous = replace(row, attempts=3, first_at_ms=1000, last_at_ms=2000, etag=stored.etag if etag == "same" else etag)
    (again,) = commit(
        index, store, (Attempt(stored, 8, previous=previous, failed=Failed("ImageError", "broken")), None)
    ).rows
    assert again.attempts == attempts
    assert again.first_at_ms == (first_at_ms or again.last_at_ms)
    assert again.last_at_ms > 2000


def test_a_failure_is_recorded_with_zeros_for_a_code(index: Recording, store: Asked) -> None:
    failed = Attempt(store.put("a.png", b"x"), 7, failed=Failed("ImageError", "is no image"), height=3, width=4)
    (row,) = commit(index, store, (failed, None)).rows
    assert (row.outcome, row.error, row.message) == (Outcome.FAILED, "ImageError", "is no image")
    assert (row.code, row.regions, row.image_height, row.image_width) == (bytes(8), 0, 3, 4)


def test_no_result_and_no_reason_is_a_failure_too(index: Recording, store: Asked) -> None:
    (row,) = commit(index, store, (Attempt(store.put("a.png", RED), 7), None)).rows
    assert (row.outcome, row.error) == (Outcome.FAILED, "ModelError")


def test_an_image_without_regions_is_empty(index: Recording, store: Asked) -> None:
    nothing = fake_encoder().encode_images([np.full((20, 30, 3), 90, dtype=np.uint8)])[0]
    (row,) = commit(index, store, (Attempt(store.put("a.png", RED), 7), nothing)).rows
    assert (row.outcome, row.regions, row.error, row.is_findable) == (Outcome.EMPTY, 0, "", True)
    assert row.code == nothing.image_code.tobytes() != bytes(8)


def test_an_index_that_refuses_a_row_shows_nothing_of_the_batch(index: Recording, store: Asked) -> None:
    wrong = fake_encoder(bits=128).encode_images([IMAGE])[0]
    with pytest.raises(IndexMismatchError):
        commit(index, store, (Attempt(store.put("a.png", RED), 7), wrong))
    assert list(index.iterate_images()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ImageError("a.png", "is cut off"), Failed("ImageError", "a.png: is cut off")),
        (RuntimeError("out of memory\n  on line 3\n"), Failed("RuntimeError", "out of memory")),
        (RuntimeError("\n\n  second line first"), Failed("RuntimeError", "second line first")),
        (ValueError(), Failed("ValueError", "")),
        (ValueError("x" * 1000), Failed("ValueError", "x" * MESSAGE_CHARACTERS)),
    ],
)
def test_a_failure_keeps_the_first_line_of_its_error(error: Exception, expected: Failed) -> None:
    assert Failed.of(error) == expected


class Lying(Recording):
    """Acknowledges image rows and keeps none."""

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        self.steps.append(f"lie about {len(rows)}")


def lying() -> Lying:
    index = Lying(new_index().manifest)
    index.steps = []
    return index


def test_an_index_that_acknowledges_and_does_not_keep_is_found_out(encoded: EncodedImage) -> None:
    index, store = lying(), Asked()
    store.steps = index.steps
    with pytest.raises(RegionIndexError, match=r"acknowledged .*a\.png"):
        commit(index, store, (Attempt(store.put("a.png", RED), 7), encoded))
    assert not [step for step in index.steps if step.startswith("delete")], "older rows must stay"


def test_a_row_that_another_worker_deleted_as_its_object_vanished_is_no_lie(encoded: EncodedImage) -> None:
    class DeletedMeanwhile(Lying):
        def insert_images(self, rows: Sequence[ImageRow]) -> None:
            store.delete(rows[0].image.key)

    index, store = DeletedMeanwhile(new_index().manifest), Asked()
    index.steps = store.steps = []
    commit(index, store, (Attempt(store.put("a.png", RED), 7), encoded))
