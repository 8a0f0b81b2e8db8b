"""What a run may forget of the images that are gone when it looks at them, or reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.indexing import GREEN_BLUE, RED, SMALL_BATCHES, Setting
from fakes.stores import InMemoryStore

from searchanything.core.errors import ObjectNotFoundError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.types import StoredObject
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest.forget import ForgetLimits
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.vanished import Said, VanishedCheck
from searchanything.stores.folder import FolderStore

LIMITS = ForgetLimits(images=10, share=0.1)


class Emptied(InMemoryStore):
    """A bucket of which only what `left` names is listed."""

    left: tuple[str, ...] = ()

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        self._check_bucket()
        return (one for one in super().list(prefix, omissions) if one.ref.key in self.left)


def names(count: int) -> list[str]:
    return [f"{number:03}.png" for number in range(count)]


def check_of(store: InMemoryStore, said: Said = "listed", limits: ForgetLimits = LIMITS) -> VanishedCheck:
    return VanishedCheck(store, Scope(), said, limits, dict)


def is_held(check: VanishedCheck, gone: Collection[str], looked: int) -> bool:
    try:
        check(gone, looked)
    except StoreUnavailableError:
        return True
    return False


@pytest.mark.parametrize(
    ("said", "looked", "gone", "listed", "held"),
    [
        ("listed", 20, 10, "z.png", False),  # no more than ten
        ("listed", 20, 11, "z.png", True),
        ("listed", 200, 20, "z.png", False),  # no more than a tenth
        ("listed", 200, 21, "z.png", True),
        ("listed", 200, 1, "", True),  # nothing is listed any more
        ("listed", 200, 1, "z.txt", True),  # nor any image
        ("listed", 200, 0, "", False),
        ("named", 200, 200, "z.png", False),
        ("named", 200, 200, "", False),  # a bucket says itself that it is empty
        ("gone", 200, 200, "", False),
    ],
)
def test_the_rule_of_listings_holds_for_what_vanished(
    said: Said, looked: int, gone: int, listed: str, held: bool
) -> None:
    store = Emptied()
    store.put(listed or "away.png", RED)
    store.left = (listed,)
    assert is_held(check_of(store, said), names(gone), looked) is held


def test_a_folder_that_is_empty_does_not_tell_that_the_last_image_was_deleted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    check = VanishedCheck(store, Scope(), "named", LIMITS, dict)
    assert is_held(check, ["a.png"], 1)
    (tmp_path / "b.png").write_bytes(RED)
    assert not is_held(check, ["a.png"], 0)


def test_of_a_bucket_that_is_believed_no_more_than_one_object_is_listed() -> None:
    """Millions of other objects may come before its first image, and events ask often."""
    listed: list[str] = []

    class Counting(InMemoryStore):
        def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
            for one in super().list(prefix, omissions):
                listed.append(one.ref.key)
                yield one

    store = Counting()
    for number in range(5):
        store.put(f"{number}.txt", RED)
    assert not is_held(check_of(store, "named"), ["a.png"], 1)
    assert len(listed) == 1


def test_what_is_excluded_is_not_gone() -> None:
    setting, keys = Setting(), names(12)
    for key in keys:
        setting.store.put(key, RED)
    setting.run()
    scope, check = Scope(patterns=Patterns(exclude=("*",))), check_of(setting.store)
    job = IndexingJob(setting.store, setting.encoder, setting.index, scope=scope, check_vanished=check)
    assert refresh_images(job, keys).deleted == 12


def test_what_the_index_never_had_does_not_make_a_few_of_what_is_gone() -> None:
    setting = Setting()
    told: list[int] = []
    for key in names(5):
        setting.store.put(key, RED)
    setting.run()
    for key in names(50):
        setting.store.put(key, GREEN_BLUE)

    def check(_: Collection[str], looked: int) -> None:
        told.append(looked)

    index_images(IndexingJob(setting.store, setting.encoder, setting.index, check_vanished=check), setting.store.list())
    assert sum(told) == 5


def test_many_that_vanish_a_few_at_a_time_are_many() -> None:
    store = Emptied()
    store.put("z.png", RED)
    store.left = ("z.png",)
    check = check_of(store)
    assert [is_held(check, [f"{batch}{name}" for name in names(4)], 4) for batch in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert not is_held(check, (), 1000)
    assert not is_held(check, ["another.png"], 0)  # of so many this is few


def test_where_the_source_cannot_be_listed_nothing_is_forgotten() -> None:
    store = Emptied()
    store.exists = False
    with pytest.raises(StoreUnavailableError, match="unknown: no such bucket") as raised:
        check_of(store)(["a.png"], 100)
    assert isinstance(raised.value.__cause__, ObjectNotFoundError)


def test_limits_of_nothing_leave_the_look_at_what_is_named() -> None:
    store = Emptied()
    store.put("z.png", RED)
    store.left = ("z.png",)
    none = ForgetLimits(images=0, share=0.0)
    assert is_held(check_of(store, "listed", none), ["a.png"], 100)
    assert not is_held(check_of(store, "named", none), ["a.png"], 0)


def emptied_at(moment: str, store: InMemoryStore, keys: Collection[str]) -> None:
    """Delete these at the first read, before or after its bytes are taken."""

    def empty(_: str = "") -> None:
        for key in keys:
            store.delete(key)

    if moment == "after reading":
        store.after_read = empty
    else:
        empty()


Run = Callable[[IndexingJob, list[StoredObject]], object]
RUNS: dict[str, Run] = {
    "index": index_images,
    "refresh": lambda job, listed: refresh_images(job, [one.ref.key for one in listed]),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("moment", ["before reading", "after reading"])
@pytest.mark.parametrize("known", [True, False])
def test_an_emptied_source_loses_no_row_whenever_it_happens(run: str, moment: str, known: bool) -> None:
    """What the index never had may vanish: temporary files do."""
    setting, keys = Setting(), names(5)
    for key in keys:
        setting.store.put(key, RED)
    if known:
        setting.run()
    before = setting.visible()
    for key in keys:
        setting.store.put(key, GREEN_BLUE)
    listed = list(setting.store.list())
    emptied_at(moment, setting.store, keys)
    check = check_of(setting.store)
    options = replace(SMALL_BATCHES, force=True)
    job = IndexingJob(setting.store, setting.encoder, setting.index, options, check_vanished=check)
    if known:
        with pytest.raises(StoreUnavailableError, match="all images that were there before are gone"):
            RUNS[run](job, listed)
    else:
        RUNS[run](job, listed)
    assert setting.visible() == before


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("moment", ["before reading", "after reading"])
def test_a_few_that_are_deleted_meanwhile_leave_the_index(run: str, moment: str) -> None:
    setting, keys = Setting(), names(30)
    for key in keys:
        setting.store.put(key, RED)
    setting.run()
    listed = list(setting.store.list())
    emptied_at(moment, setting.store, keys[:3])
    options = replace(SMALL_BATCHES, force=True)
    check = check_of(setting.store)
    job = IndexingJob(setting.store, setting.encoder, setting.index, options, check_vanished=check)
    RUNS[run](job, listed)
    assert set(setting.visible()) == set(keys[3:])
