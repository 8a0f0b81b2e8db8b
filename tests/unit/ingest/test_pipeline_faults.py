"""Stores and indexes that fail at every place: what was committed stays whole, and the next run does the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
import pytest
from fakes.breaking_index import BreakingIndex, do_part
from fakes.indexing import EMPTY, GREEN_BLUE, RED, Setting, whole
from fakes.models import fake_encoder
from fakes.stores import InMemoryStore

from searchanything.core.errors import RegionIndexError, StoreError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.rows import Outcome
from searchanything.core.types import StoredObject
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest.plan import IndexingOptions
from searchanything.search.search import PageRequest, search_regions


class Unreliable(InMemoryStore):
    """Raises `error` at the `number`-th call of `read`, `stat` or of the listing's steps."""

    def __init__(self, method: str, number: int, error: Exception) -> None:
        super().__init__()
        self.method, self.number, self.error = method, number, error
        self.calls = 0

    def _tick(self, method: str) -> None:
        if method == self.method:
            self.calls += 1
            if self.calls == self.number:
                raise self.error

    def read(self, key: str) -> tuple[StoredObject, bytes]:
        self._tick("read")
        return super().read(key)

    def stat(self, key: str) -> StoredObject | None:
        self._tick("stat")
        return super().stat(key)

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        for stored in super().list(prefix, omissions):
            self._tick("list")
            yield stored


@pytest.mark.parametrize("method", ["read", "stat"])
@pytest.mark.parametrize("number", [1, 5, 12])
def test_an_unreachable_store_stops_the_run_and_what_was_committed_stays(method: str, number: int) -> None:
    store = Unreliable(method, number, StoreUnavailableError("the server has gone"))
    setting = Setting(store=store)
    for image in range(12):
        store.put(f"{image:02}.png", RED)
    with pytest.raises(StoreUnavailableError, match="the server has gone"):
        setting.run()
    whole(setting.index)
    done = len(setting.visible())
    assert done < 12
    if method == "stat":
        assert done >= (number - 1) // 2 * 2 - 2  # the batches whose every object was asked for
    assert setting.run().indexed == 12 - done
    assert len(setting.visible()) == 12


@pytest.mark.parametrize("method", ["read", "stat"])
def test_an_object_that_the_store_refuses_stops_nothing(method: str) -> None:
    class Denied(InMemoryStore):
        def read(self, key: str) -> tuple[StoredObject, bytes]:
            self._check(key)
            return super().read(key)

        def stat(self, key: str) -> StoredObject | None:
            self._check(key, "stat")
            return super().stat(key)

        def _check(self, key: str, called: str = "read") -> None:
            if key == "denied.png" and (called == "stat" or method == "read"):
                raise StoreError(f"{key}: access denied")

    setting = Setting(store=Denied())
    for key in ("a.png", "denied.png", "z.png"):
        setting.store.put(key, RED)
    for _ in range(2):
        report = setting.run()
        assert report.failed == 1
        assert report.failures[0].key == "denied.png"
        assert {key for key, value in setting.visible().items() if value[1] is Outcome.INDEXED} == {"a.png", "z.png"}
    if method == "read":
        row = setting.row("denied.png")
        assert (row.error, row.message, row.attempts) == ("StoreError", "denied.png: access denied", 2)


def test_a_known_object_that_can_no_longer_be_asked_for_stops_nothing() -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.run()
    refusing = Unreliable("stat", 1, StoreError("access denied"))
    refusing.put("b.png", RED)
    refusing.put("a.png", RED)  # touched, so that the store is asked
    setting.store = refusing
    report = setting.run()
    assert report.indexed == 2


def test_a_listing_that_breaks_is_indexed_as_far_as_it_went() -> None:
    store = Unreliable("list", 6, StoreError("a subfolder cannot be read"))
    setting = Setting(store=store)
    for image in range(9):
        store.put(f"{image}.png", RED)
    with pytest.raises(StoreError, match="a subfolder cannot be read"):
        setting.run(options=IndexingOptions())
    assert len(setting.visible()) == 5
    whole(setting.index)


class Faulty(BreakingIndex):
    """Raises at the `number`-th call: before its effect, after it, or after half of it."""

    def __init__(self, number: int, effect: str) -> None:
        super().__init__(manifest_of(fake_encoder(), "fake"))
        self.number, self.effect = number, effect
        self.calls = 0

    def through(self, call: Callable[..., object], subjects: Collection[object]) -> object:
        self.calls += 1
        if self.calls != self.number:
            return call(subjects)
        do_part(call, subjects, self.effect)
        raise RegionIndexError("the index broke down")


FIRST = {f"{image}.png": RED if image % 2 else GREEN_BLUE for image in range(5)} | {"bad.png": b"nothing"}
SECOND = {"0.png": EMPTY, "1.png": GREEN_BLUE, "2.png": b"broken now", "bad.png": RED, "new.png": RED}


def eventful(setting: Setting) -> None:
    """Two states of a bucket: the second by additions, changes, repairs, and a deletion that the listing missed."""
    for key, data in FIRST.items():
        setting.store.put(key, data)
    setting.run()
    second_state(setting)


def second_state(setting: Setting) -> None:
    for key, data in {**FIRST, **SECOND, "3.png": GREEN_BLUE}.items():
        setting.store.put(key, data)
    listed = list(setting.store.list())
    setting.store.delete("3.png")
    setting.run(objects=listed)


def undisturbed() -> tuple[Setting, int]:
    index = Faulty(0, "before")
    setting = Setting(index)
    eventful(setting)
    setting.store.reads.clear()
    return setting, index.calls


@pytest.mark.parametrize("effect", ["before", "half", "after"])
def test_a_run_killed_at_any_call_of_the_index_shows_nothing_half_and_is_repaired_by_the_next(effect: str) -> None:
    expected, calls = undisturbed()
    assert calls > 15
    for number in range(1, calls + 1):
        setting = Setting(Faulty(number, effect))
        with pytest.raises(RegionIndexError, match="broke down"):
            eventful(setting)
        check_nothing_half(setting, effect)
        second_state(setting)
        assert setting.visible() == expected.visible(), number
        whole(setting.index)


def check_nothing_half(setting: Setting, effect: str) -> None:
    """What is committed is complete, and nothing but its newest generation can be found."""
    whole(setting.index)
    found = search_regions(setting.index, np.zeros(8, np.uint8), PageRequest(100), filter=None)
    committed = {key: (value[0], len(value[3])) for key, value in setting.visible().items()}
    for hit in found.hits:
        assert committed[hit.image.key][0] == hit.etag, effect
    assert len(found.hits) == sum(count for _, count in committed.values())
