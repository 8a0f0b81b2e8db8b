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
from searchanything.images.content_types import ContentTypes
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest import vanished
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexReport
from searchanything.ingest.vanished import MOST_LOOKED_AT, Said, VanishedCheck
from searchanything.stores.folder import FolderStore


class Emptied(InMemoryStore):
    """A bucket of which only what `left` names is listed."""

    left: tuple[str, ...] = ()

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        self._check_bucket()
        return (one for one in super().list(prefix, omissions) if one.ref.key in self.left)


def names(count: int) -> list[str]:
    return [f"{number:03}.png" for number in range(count)]


def check_of(store: InMemoryStore | FolderStore, said: Said = "listed", scope: Scope | None = None) -> VanishedCheck:
    return VanishedCheck(store, scope or Scope(), ContentTypes(), said, dict)


@pytest.mark.parametrize(
    ("said", "listed", "forgotten"),
    [
        ("listed", "z.png", False),  # the next listing decides
        ("listed", "", None),  # nothing is listed any more
        ("listed", "z.txt", None),  # nor any image
        ("named", "z.png", True),
        ("named", "", True),  # a bucket says itself that it is empty
        ("gone", "", True),
    ],
)
def test_what_was_said_of_keys_tells_whether_they_are_forgotten(
    said: Said, listed: str, forgotten: bool | None
) -> None:
    store = Emptied()
    store.put(listed or "away.png", RED)
    store.left = (listed,)
    check = check_of(store, said)
    if forgotten is None:
        with pytest.raises(StoreUnavailableError, match="no image is left"):
            check(["a.png"])
    else:
        assert check(["a.png"]) is forgotten


def is_away(check: VanishedCheck) -> bool:
    try:
        check(["a.png"])
    except StoreUnavailableError:
        return True
    return False


def test_a_folder_that_is_empty_does_not_tell_that_the_last_image_was_deleted(tmp_path: Path) -> None:
    check = check_of(FolderStore(tmp_path), "named")
    assert is_away(check)
    (tmp_path / "LICENSE").write_text("no image, though its name does not say so")
    assert is_away(check)
    (tmp_path / "b").write_bytes(RED)
    assert not is_away(check)


def test_an_image_that_is_excluded_is_none_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(RED)
    assert is_away(check_of(FolderStore(tmp_path), "named", Scope(patterns=Patterns(exclude=("b*",)))))


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
    assert check_of(store, "named")(["a.png"])
    assert len(listed) == 1


def test_images_beside_the_prefix_are_none_of_the_source() -> None:
    store = InMemoryStore()
    store.put("beside/a.png", RED)
    assert is_away(check_of(store, scope=Scope(prefix="in/")))


def test_where_nothing_is_forgotten_the_look_for_an_image_ends_soon() -> None:
    """Each of these names says nothing: a question each, for each batch of which an image is gone."""
    asked: list[str] = []

    class Asked(InMemoryStore):
        def stat(self, key: str) -> StoredObject | None:
            asked.append(key)
            return super().stat(key)

    store = Asked()
    for number in range(MOST_LOOKED_AT):
        store.put(f"{number}", b"text", content_type="text/plain")
    check = check_of(store)
    assert is_away(check)
    assert len(asked) == MOST_LOOKED_AT
    store.put("more", b"text", content_type="text/plain")
    asked.clear()
    assert check(["a.png"]) is False
    assert len(asked) <= MOST_LOOKED_AT


def test_of_a_folder_whose_images_may_be_forgotten_all_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vanished, "MOST_LOOKED_AT", 2)
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text("text")
    assert is_away(check_of(FolderStore(tmp_path), "named"))
    assert not is_away(check_of(FolderStore(tmp_path), "listed"))


def test_what_is_excluded_is_not_gone() -> None:
    setting, keys = Setting(), names(12)
    for key in keys:
        setting.store.put(key, RED)
    setting.run()
    scope, check = Scope(patterns=Patterns(exclude=("*",))), check_of(setting.store)
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, scope=scope, may_forget=check)
    assert refresh_images(job, keys).deleted == 12


def test_where_the_source_cannot_be_listed_nothing_is_forgotten() -> None:
    store = Emptied()
    store.exists = False
    with pytest.raises(StoreUnavailableError, match="unknown: no such bucket") as raised:
        check_of(store)(["a.png"])
    assert isinstance(raised.value.__cause__, ObjectNotFoundError)


def emptied_at(moment: str, store: InMemoryStore, keys: Collection[str]) -> None:
    """Delete these at the first read, before or after its bytes are taken."""

    def empty(_: str = "") -> None:
        for key in keys:
            store.delete(key)

    if moment == "after reading":
        store.after_read = empty
    else:
        empty()


Run = Callable[[IndexingJob, list[StoredObject]], IndexReport]
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
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, options, may_forget=check)
    if known:
        with pytest.raises(StoreUnavailableError, match="no image is left"):
            RUNS[run](job, listed)
    else:
        RUNS[run](job, listed)
    assert setting.visible() == before


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("moment", ["before reading", "after reading"])
@pytest.mark.parametrize("said", ["listed", "named", "gone"])
def test_some_that_are_deleted_meanwhile_stay_if_a_listing_named_them(run: str, moment: str, said: Said) -> None:
    setting, keys = Setting(), names(30)
    for key in keys:
        setting.store.put(key, RED)
    setting.run()
    listed = list(setting.store.list())
    emptied_at(moment, setting.store, keys[:3])
    options = replace(SMALL_BATCHES, force=True)
    check = check_of(setting.store, said)
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, options, may_forget=check)
    report = RUNS[run](job, listed)
    stays = said == "listed"
    assert set(setting.visible()) == set(keys if stays else keys[3:])
    assert (report.gone, report.deleted) == ((3, 0) if stays else (0, 3))
    assert report.indexed == 27
