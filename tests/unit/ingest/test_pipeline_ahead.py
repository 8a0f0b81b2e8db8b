"""How far indexing runs ahead: order, limits, budget, and what becomes of work in hand when it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from fakes.indexing import EMPTY, RED, Setting
from fakes.models import FakeSegmenter, fake_encoder
from fakes.stores import InMemoryStore

from searchanything.core.rows import ImageRow
from searchanything.core.types import StoredObject
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest import pipeline
from searchanything.ingest.ahead import map_ahead
from searchanything.ingest.plan import IndexingOptions
from searchanything.stores.memory import MemoryRegionIndex


class Counting(InMemoryStore):
    """Counts reads under way, and objects that were read and are not committed yet."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0
        self.started = self.committed = self.most_ahead = 0

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        with self.lock:
            self.started += 1
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.most_ahead = max(self.most_ahead, self.started - self.committed)
        try:
            time.sleep(0.0005)
            return super().read(key)
        finally:
            with self.lock:
                self.under_way -= 1


class Slow(MemoryRegionIndex):
    """Commits slowly, so that reading runs ahead as far as it may."""

    store: Counting

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        time.sleep(0.01)
        super().insert_images(rows)
        with self.store.lock:
            self.store.committed += len(rows)


@pytest.mark.parametrize(("batch_images", "threads"), [(1, 1), (2, 2), (4, 2), (2, 5)])
def test_reading_runs_ahead_by_a_bounded_number_of_images(batch_images: int, threads: int) -> None:
    store, index = Counting(), Slow(manifest_of(fake_encoder(), "fake"))
    index.store = store
    setting = Setting(index, store)
    for image in range(90):
        store.put(f"{image}.png", EMPTY)
    report = setting.run(options=IndexingOptions(batch_images=batch_images, transfer_threads=threads))
    assert report.empty == 90
    assert store.most_under_way <= threads
    ahead = 2 * max(batch_images, threads)  # of reading, and again of decoding
    in_batches = 10 * batch_images  # being filled, two in each stage, waiting for the writer (2), being written
    assert store.most_ahead <= 2 * ahead + in_batches + 2 < 90
    assert store.most_ahead > batch_images  # it does run ahead


def test_map_ahead_keeps_order_and_its_limit() -> None:
    running, most = [0], [0]
    lock = threading.Lock()
    consumed = [0]
    begun = [0]

    def work(item: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.001 * (item % 3))
        with lock:
            running[0] -= 1
        return item * item

    def items() -> Iterator[int]:
        for item in range(50):
            begun[0] += 1
            assert begun[0] - consumed[0] <= 5 + 1
            yield item

    with ThreadPoolExecutor(20) as pool:
        for place, result in enumerate(map_ahead(pool, work, items(), most=5)):
            assert result == place**2
            consumed[0] += 1
    assert 1 < most[0] <= 5


class Immediate:
    """A pool that works at once; `held` are the items handed to it whose results were not taken back yet."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.held_at_submission: list[list[int]] = []

    def submit(self, function: Callable[[int], int], item: int) -> Future[int]:
        self.held_at_submission.append(self.held.copy())
        self.held.append(item)
        future: Future[int] = Future()
        future.set_result(function(item))
        return future


def test_map_ahead_holds_as_much_as_its_budget_allows_and_no_more_unless_one_item_alone_costs_more() -> None:
    pool = Immediate()
    costs = [3, 3, 3, 50, 1, 9, 1, 2, 20, 20, 1]
    for result in map_ahead(pool, lambda cost: cost, costs, most=100, cost=lambda cost: cost, budget=10):  # type: ignore[arg-type]
        assert result == pool.held.pop(0)
    assert pool.held == []
    assert pool.held_at_submission == [[], [3], [3, 3], [], [], [1], [9], [1], [], [], []]


def test_map_ahead_raises_at_the_place_of_the_error() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    with ThreadPoolExecutor(1) as pool:
        results = map_ahead(pool, work, range(10), most=4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(results)


def test_map_ahead_begins_nothing_after_closing() -> None:
    begun: list[int] = []
    closed = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            closed.wait(10)
        return item

    with ThreadPoolExecutor(1) as pool:
        stage = map_ahead(pool, work, range(10), most=4)
        assert next(stage) == 0
        stage.close()
        closed.set()
    assert set(begun) <= {0, 1}


def test_large_images_pass_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a budget of one image's pixels, each batch ends as soon as it is full of them."""
    monkeypatch.setattr(pipeline, "DECODED_BYTES", 40 * 30 * 3)
    setting = Setting()
    for image in range(6):
        setting.store.put(f"{image}.png", RED)
    report = setting.run(options=IndexingOptions(batch_images=4, transfer_threads=3))
    assert report.indexed == 6
    segmenter = setting.encoder.segmenter
    assert isinstance(segmenter, FakeSegmenter)
    assert segmenter.batch_sizes == [1] * 6
