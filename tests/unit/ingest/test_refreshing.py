"""`refresh_images`: keys are looked at as they are now, whatever was said of them; and what failed too often waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from fakes.indexing import EMPTY, GREEN_BLUE, RED, Setting, all_regions, png, whole, without_garbage
from fakes.models import drawn
from fakes.stores import InMemoryStore

from searchanything.core.errors import ObjectNotSentError, StoreError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.rows import Outcome
from searchanything.core.types import StoredObject
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest import commit, sync
from searchanything.ingest.estimate import estimate_images
from searchanything.ingest.pipeline import ROUNDS, index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.ingest.reports import FailedImage, Failure, IndexReport
from searchanything.ingest.sync import SyncJob, sync_images

OPTIONS = IndexingOptions(2, 2, max_attempts=3)


class Unlisted(InMemoryStore):
    """Refuses to be listed, and to tell of the keys in `denied`."""

    denied: tuple[str, ...] = ()

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        raise AssertionError(f"listed under {prefix!r}")

    def stat(self, key: str) -> StoredObject | None:
        if key in self.denied:
            raise StoreError(f"{key}: access denied")
        return super().stat(key)


@pytest.fixture
def setting() -> Setting:
    return Setting(store=Unlisted())


def job(setting: Setting, options: IndexingOptions = OPTIONS, scope: Scope | None = None) -> IndexingJob:
    return IndexingJob(setting.store, lambda: setting.encoder, setting.index, options, scope or Scope())


def refresh(setting: Setting, *keys: str, force: bool = False, scope: Scope | None = None) -> IndexReport:
    return refresh_images(job(setting, replace(OPTIONS, force=force), scope), keys)


def test_an_image_that_a_listing_named_and_nobody_finds_is_warned_of(setting: Setting) -> None:
    setting.store.put("a.png", RED)
    listed = replace(job(setting), keys_are_listed=True)
    report = refresh_images(listed, ["a.png", "ghost.png", "notes.txt"])
    assert [(one.key, one.error) for one in report.warnings] == [("ghost.png", "ObjectNotFoundError")]
    assert (report.indexed, report.failed, report.gone) == (1, 0, 0)
    assert not refresh(setting, "ghost.png").warnings, "an event names what was deleted"


def test_each_key_is_brought_to_what_it_is_now_and_nothing_is_listed(setting: Setting) -> None:
    setting.store.put("a.png", RED)
    setting.store.put("empty.png", EMPTY)
    setting.store.put("bad.png", b"x")
    setting.store.put("notes.txt", b"x")
    report = refresh(setting, "a.png", "a.png", "empty.png", "bad.png", "gone.png", "notes.txt")
    assert (report.indexed, report.empty, report.failed, report.deleted) == (1, 1, 1, 0)
    assert setting.store.reads == {"a.png": 1, "empty.png": 1, "bad.png": 1}
    setting.store.put("a.png", GREEN_BLUE)
    setting.store.delete("empty.png")
    report = refresh(setting, "empty.png", "a.png")
    assert (report.indexed, report.regions, report.deleted) == (1, 2, 1)
    assert set(setting.visible()) == {"a.png", "bad.png"}
    whole(setting.index)
    assert without_garbage(setting.index)


def test_many_keys_are_looked_at_in_parts(setting: Setting) -> None:
    keys = [f"{number}.png" for number in range(5)]
    for key in keys:
        setting.store.put(key, RED)
    assert refresh_images(replace(job(setting), keys_at_once=2), keys).indexed == 5


def test_what_may_not_be_forgotten_stays_and_is_counted_if_it_was_known(setting: Setting) -> None:
    setting.store.put("a.png", RED)
    refresh(setting, "a.png")
    setting.store.delete("a.png")
    asked: list[Collection[str]] = []
    kept = replace(job(setting), may_forget=lambda keys: asked.append(keys) is not None)
    report = refresh_images(kept, ["a.png", "never.png"])
    assert (report.gone, report.deleted, asked) == (1, 0, [["a.png"]])
    assert set(setting.visible()) == {"a.png"}


def test_what_is_skipped_is_said_by_its_reason_but_for_our_own(setting: Setting) -> None:
    report = refresh(setting, "notes.txt", "own/a.jpg", scope=Scope(own_prefix="own/"))
    assert [(one.count, one.examples) for one in report.skips] == [(1, ("notes.txt",))]


def test_unchanged_keys_are_skipped_unless_forced(setting: Setting) -> None:
    setting.store.put("a.png", RED)
    assert refresh(setting, "a.png").indexed == 1
    assert refresh(setting, "a.png").unchanged == 1
    assert setting.store.reads == {"a.png": 1}
    assert refresh(setting, "a.png", force=True).indexed == 1
    setting.store.put("a.png", RED, metadata={"k": "v"})
    assert refresh(setting, "a.png").indexed == 1


@pytest.mark.parametrize(
    "scope",
    [
        Scope(patterns=Patterns(exclude=("*.png",))),
        Scope(patterns=Patterns(include=("*.jpg", "b*"))),
        Scope(prefix="b"),
        Scope(own_prefix="a"),
    ],
)
def test_what_is_not_wanted_leaves_the_index(setting: Setting, scope: Scope) -> None:
    setting.store.put("a.png", RED)
    refresh(setting, "a.png")
    assert refresh(setting, "a.png", scope=scope).deleted == 1
    assert (setting.visible(), all_regions(setting.index)) == ({}, [])


def test_what_failed_too_often_is_skipped_until_its_content_changes(setting: Setting) -> None:
    setting.store.put("bad.png", b"x")
    counts = [(one.failed, one.exhausted) for one in (refresh(setting, "bad.png") for _ in range(5))]
    assert counts == [(1, 0)] * 3 + [(0, 1)] * 2
    assert setting.row("bad.png").attempts == 3
    assert refresh(setting, "bad.png", force=True).failed == 1
    retry_forever = job(setting, replace(OPTIONS, max_attempts=None))
    assert refresh_images(retry_forever, ["bad.png"]).failed == 1
    assert setting.row("bad.png").attempts == 5
    setting.store.put("bad.png", RED[:40])
    assert refresh(setting, "bad.png").failed == 1
    assert setting.row("bad.png").attempts == 1
    setting.store.put("bad.png", RED)
    assert refresh(setting, "bad.png").indexed == 1


def test_only_failures_exhaust_an_image(setting: Setting) -> None:
    """Its metadata changed often: that it was indexed again each time makes the first failure no final one."""
    for shelf in "abcd":
        setting.store.put("a.png", RED, metadata={"shelf": shelf})
        assert refresh(setting, "a.png").indexed == 1
    setting.store.put("a.png", RED, metadata={"shelf": "e"})
    setting.store.failures["a.png"] = StoreError("a.png: access denied")
    counts = [(one.failed, one.exhausted) for one in (refresh(setting, "a.png") for _ in range(4))]
    assert counts == [(1, 0)] * 3 + [(0, 1)]
    assert setting.row("a.png").attempts == 3


def test_what_a_server_does_not_send_is_tried_for_an_hour(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a server may be away for longer than a few syncs take: no one is to try its images again by hand."""
    now_s = time.time()
    clock = SimpleNamespace(time_ns=lambda: int(now_s * 1e9), perf_counter=time.perf_counter)
    monkeypatch.setattr(commit, "time", clock)
    setting.store.put("a.png", RED)
    setting.store.failures["a.png"] = ObjectNotSentError("a.png: sends other objects")
    for passed_s in (0, 30, 30, 30, 3509):
        now_s += passed_s
        report = refresh(setting, "a.png")
        assert (report.failed, report.exhausted) == (1, 0)
        assert not FailedImage.of(setting.row("a.png"), max_attempts=3).exhausted
    now_s += 1
    assert refresh(setting, "a.png").failed == 1
    assert FailedImage.of(setting.row("a.png"), max_attempts=3).exhausted
    assert not FailedImage.of(setting.row("a.png"), max_attempts=7).exhausted
    assert refresh(setting, "a.png").exhausted == 1


def test_a_clock_that_was_set_back_makes_no_try_the_last_but_one(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that started with a wrong date would try such an image until that date."""
    now_s = time.time()
    monkeypatch.setattr(commit, "time", SimpleNamespace(time_ns=lambda: int(now_s * 1e9), perf_counter=lambda: 0.0))
    setting.store.put("a.png", RED)
    setting.store.failures["a.png"] = ObjectNotSentError("a.png: sends other objects")
    refresh(setting, "a.png")
    now_s -= 365 * 86400
    counts = [refresh(setting, "a.png").exhausted for _ in range(4)]
    assert counts == [0, 0, 1, 1]


def test_a_store_that_is_gone_is_no_images_failure(setting: Setting) -> None:
    setting.store.put("a.png", RED)
    setting.store.failures["a.png"] = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError):
        refresh(setting, "a.png")
    assert setting.visible() == {}
    setting.store.failures.clear()
    assert refresh(setting, "a.png").indexed == 1
    assert setting.row("a.png").attempts == 1


def test_a_store_that_is_gone_while_it_is_compared_makes_no_image_stale() -> None:
    class Going(InMemoryStore):
        away = False

        def stat(self, key: str) -> StoredObject | None:
            if self.away:
                raise StoreUnavailableError(f"gone before {key}")
            return super().stat(key)

    store = Going()
    setting = Setting(store=store)
    store.put("a.png", RED)
    setting.run()
    store.put("a.png", RED)  # touched: a listing alone does not say whether its metadata changed
    store.away = True
    with pytest.raises(StoreUnavailableError):
        sync_images(SyncJob(store, setting.index, Scope()))


def test_an_object_that_is_refused_has_failed_but_a_good_row_stays(setting: Setting) -> None:
    setting.store.put("a.png", RED)
    setting.store.put("b.png", RED)
    refresh(setting, "a.png")
    setting.store.denied = ("a.png", "b.png")  # type: ignore[attr-defined]
    for attempts in (1, 2, 3, 3):
        report = refresh(setting, "a.png", "b.png")
        assert Failure("a.png", "StoreError", "a.png: access denied") in report.failures
        assert setting.row("b.png").attempts == attempts
    assert report.exhausted == 1
    assert setting.row("a.png").outcome is Outcome.INDEXED
    setting.store.denied = ()  # type: ignore[attr-defined]
    assert refresh(setting, "b.png").indexed == 1


def test_keys_that_are_no_images_are_not_even_asked_for(setting: Setting) -> None:
    """As an event source may name them: texts, folders, nothing at all."""
    keys = ("notes.txt", "folder/", "", "a.png.part")
    setting.store.denied = keys  # type: ignore[attr-defined]
    report = refresh(setting, *keys)
    assert (report.failures, report.deleted, setting.visible()) == ((), 0, {})


def test_an_object_that_never_rests_is_left_and_told(setting: Setting) -> None:
    shades = iter(range(20, 200))

    def overwrite(key: str) -> None:
        shade = next(shades)
        setting.store.put(key, png(drawn(9 + shade, 9, red=(0, 0, 4, 4))))

    setting.store.put("a.png", RED)
    setting.store.after_read = overwrite
    report = refresh(setting, "a.png")
    assert (report.left, report.failed, report.indexed) == (("a.png",), 1, 0)
    assert setting.store.reads["a.png"] == ROUNDS
    setting.store.after_read = lambda _: None
    assert refresh(setting, *report.left).indexed == 1


def synced(setting: Setting, scope: Scope, *, repair: bool = False) -> tuple[tuple[str, ...], ...]:
    store = setting.store
    repairing: Callable[[object], IndexReport] | None = partial(refresh_images, job(setting, scope=scope))
    found = sync_images(SyncJob(store, setting.index, scope, OPTIONS, repairing if repair else None))
    return found.missing, found.stale, found.orphaned, found.failed


def test_orphans_are_looked_for_within_the_source_alone() -> None:
    setting = Setting()
    for key in ("in/a.png", "in/b.png", "inn/c.png", "out/d.png"):
        setting.store.put(key, RED)
    index_images(job(setting), setting.store.list())
    for key in ("in/a.png", "inn/c.png", "out/d.png"):
        setting.store.delete(key)
    assert synced(setting, Scope(prefix="in/")) == ((), (), ("in/a.png",), ())
    assert synced(setting, Scope(prefix="in")) == ((), (), ("in/a.png", "inn/c.png"), ())
    synced(setting, Scope(prefix="in/"), repair=True)
    assert set(setting.visible()) == {"in/b.png", "inn/c.png", "out/d.png"}


def test_lost_rows_are_counted_within_the_source_alone() -> None:
    setting = Setting()
    for key in ("in/a.png", "out/b.png"):
        setting.store.put(key, GREEN_BLUE)
    refresh(setting, "in/a.png", "out/b.png")
    setting.index.delete_regions([next(setting.index.regions_of([setting.ref("in/a.png")])).id])
    lost = [
        sync_images(SyncJob(setting.store, setting.index, Scope(prefix=prefix), OPTIONS)).lost
        for prefix in ("in/", "out/", "")
    ]
    assert lost == [1, 0, 1]


def test_what_other_models_have_indexed_is_stale_rather_than_missing() -> None:
    setting = Setting()
    for key in ("a.png", "b.png"):
        setting.store.put(key, RED)
    work = SyncJob(setting.store, setting.index, Scope(), OPTIONS, elsewhere=lambda images: images[:1])
    found = sync_images(work)
    assert (found.stale, found.missing) == (("b.png",), ("a.png",))  # listed in this order
    refresh(setting, "a.png", "b.png")
    work = SyncJob(setting.store, setting.index, Scope(), OPTIONS, ask_each=True, elsewhere=lambda images: images)
    assert not sync_images(work).differs


def test_what_failed_and_has_other_bytes_since_is_stale() -> None:
    setting = Setting()
    for key in ("changed.png", "same.png"):
        setting.store.put(key, b"x")
    refresh(setting, "changed.png", "same.png")
    assert synced(setting, Scope()) == ((), (), (), ("changed.png", "same.png"))
    setting.store.put("changed.png", RED)
    assert synced(setting, Scope()) == ((), ("changed.png",), (), ("same.png",))


class PartlyLocked(InMemoryStore):
    """A listing that cannot look into `locked/`, and passes over a pipe and what is excluded."""

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        assert omissions is not None
        yield from (one for one in super().list(prefix) if not one.ref.key.startswith("locked/"))
        omissions.miss("locked/", "cannot be read: Permission denied")
        omissions.skip("pipe.png", "a pipe")
        omissions.skip("not/wanted.png", "a pipe")


def half_locked() -> Setting:
    """`locked/` was readable when it was indexed; an image is gone since, and another is new."""
    setting = Setting(store=PartlyLocked())
    for key in ("locked/a.png", "locked/not/b.png", "gone.png"):
        setting.store.put(key, RED)
    refresh(setting, "locked/a.png", "locked/not/b.png", "gone.png")
    setting.store.delete("gone.png")
    setting.store.put("new.png", RED)
    return setting


def test_what_lies_in_an_unreadable_place_is_unknown_and_not_gone() -> None:
    scope = Scope(patterns=Patterns(exclude=("*not/*",)))
    setting = half_locked()
    repairing = partial(refresh_images, job(setting, scope=scope))
    found = sync_images(SyncJob(setting.store, setting.index, scope, OPTIONS, repairing))
    assert found.missing == ("new.png",)
    assert found.orphaned == ("gone.png", "locked/not/b.png")  # excluded ones leave wherever they lie
    assert set(setting.visible()) == {"locked/a.png", "new.png"}
    assert [one.to_dict() for one in found.unlisted] == [
        {"key": "locked/", "error": "StoreError", "message": "cannot be read: Permission denied"}
    ]
    assert [one.key for one in found.skipped] == ["pipe.png"]


def test_an_excluded_place_need_not_be_readable() -> None:
    scope = Scope(patterns=Patterns(exclude=("locked/*",)))
    setting = half_locked()
    assert sync_images(SyncJob(setting.store, setting.index, scope, OPTIONS)).unlisted == ()
    only = Scope(patterns=Patterns(include=("*.png",)))
    assert len(sync_images(SyncJob(setting.store, setting.index, only, OPTIONS)).unlisted) == 1


def test_a_run_over_an_unreadable_place_ends_with_its_report() -> None:
    setting, omissions = half_locked(), Omissions()
    report = index_images(job(setting), setting.store.list("", omissions), omissions=omissions)
    assert (report.indexed, report.failed, report.skipped) == (1, 1, 2)
    assert [(one.key, one.error) for one in report.failures] == [("locked/", "StoreError")]
    assert [(one.key, one.message) for one in report.warnings] == [("pipe.png", "a pipe"), ("not/wanted.png", "a pipe")]
    assert set(setting.visible()) == {"locked/a.png", "locked/not/b.png", "gone.png", "new.png"}


def test_a_listing_that_breaks_orphans_nothing() -> None:
    class Broken(InMemoryStore):
        def list(self, prefix: str = "", omissions: Omissions | None = None):
            yield from list(super().list(prefix, omissions))[:1]
            raise StoreUnavailableError("gone amid the listing")

    setting = Setting(store=Broken())
    for key in ("a.png", "b.png"):
        setting.store.put(key, RED)
    refresh(setting, "a.png", "b.png")
    with pytest.raises(StoreUnavailableError):
        synced(setting, Scope(), repair=True)
    assert set(setting.visible()) == {"a.png", "b.png"}


def test_what_was_repaired_before_a_listing_breaks_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking(InMemoryStore):
        def list(self, prefix: str = "", omissions: Omissions | None = None):
            yield from super().list(prefix, omissions)
            raise StoreUnavailableError("gone amid the listing")

    monkeypatch.setattr(sync, "WAVE_KEYS", 2)
    monkeypatch.setattr(sync, "LISTED_BATCH", 2)
    setting = Setting(store=Breaking())
    for key in ("a.png", "b.png", "c.png"):
        setting.store.put(key, RED)
    with pytest.raises(StoreUnavailableError):
        synced(setting, Scope(), repair=True)
    assert len(setting.visible()) == 2


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        (Scope(), {"a.jpg", "2024/b.jpg", "2024/x/c.PNG"}),
        (Scope(prefix="2024/"), {"2024/b.jpg", "2024/x/c.PNG"}),
        (Scope(patterns=Patterns(include=("*.jpg",))), {"a.jpg", "2024/b.jpg"}),
        (Scope(patterns=Patterns(include=("2024/*",), exclude=("*/x/*",))), {"2024/b.jpg"}),
        (Scope(patterns=Patterns(exclude=("?.jpg", "[0-9]*.jpg"))), {"2024/x/c.PNG"}),
        (Scope(own_prefix="2024/"), {"a.jpg", ".searchanything/s.jpg"}),
        (Scope(own_prefix=""), {"a.jpg", "2024/b.jpg", "2024/x/c.PNG", ".searchanything/s.jpg"}),
    ],
)
def test_scopes(scope: Scope, wanted: set[str]) -> None:
    keys = {"a.jpg", "2024/b.jpg", "2024/x/c.PNG", ".searchanything/s.jpg"}
    assert {key for key in keys if scope.wants(key)} == wanted


def test_an_estimate_counts_everything_and_writes_rows_for_a_sample_alone() -> None:
    setting = Setting()
    for number in range(40):
        setting.store.put(f"{number:02}.png", GREEN_BLUE)
    setting.store.put("notes.txt", b"x")
    setting.store.put("draft.png", RED)
    scope = Scope(patterns=Patterns(exclude=("draft*",)))
    start = time.perf_counter()
    estimate = estimate_images(job(setting, scope=scope), sample=8)
    spent_s = time.perf_counter() - start
    assert (estimate.images, estimate.bytes, estimate.regions) == (40, 40 * len(GREEN_BLUE), 80)
    assert estimate.sample.indexed == len(setting.visible()) == 8
    assert len({key[0] for key in setting.visible()}) > 1  # from all over the listing
    indexing_s = 40 / estimate.images_per_s
    assert estimate.load_seconds + indexing_s <= estimate.seconds <= spent_s + indexing_s
    assert not replace(estimate, disk_free_bytes=estimate.disk_bytes).fits
    assert estimate.fits
    assert replace(estimate, disk_free_bytes=estimate.disk_bytes + 1).fits


def test_an_estimate_is_of_the_bytes_of_all_rows_those_of_words_codes_included() -> None:
    """Of 12 images with two regions, and of as many objects that turn out to be no images."""
    setting, again = Setting(), Setting()
    for number in range(12):
        setting.store.put(f"{number:02}.png", GREEN_BLUE, metadata={"shelf": "ä"})
        setting.store.put(f"{number:02}", b"text", content_type="text/plain")
    plain = estimate_images(job(setting), sample=100)
    words = estimate_images(replace(job(again), store=setting.store), sample=100, words_bits=256)
    assert (plain.images, plain.regions) == (words.images, words.regions) == (12, 24)
    rows = list(setting.index.iterate_regions())
    beside = 80 + 64 + len((setting.store.bucket + "00.png" + rows[0].etag + '{"shelf": "ä"}').encode())
    masks = sum(len(row.mask.counts) for row in rows) / 24
    assert plain.disk_bytes == round(36 * (beside + masks + 8 + 670))
    assert plain.index_memory_bytes == round(36 * (beside + masks + 8 + 530))
    assert words.disk_bytes - plain.disk_bytes == 24 * (beside + 32 + 670)
    assert words.index_memory_bytes - plain.index_memory_bytes == 24 * (beside + 32 + 530)


def test_an_estimate_of_nothing_is_nothing() -> None:
    estimate = estimate_images(job(Setting()), sample=8)
    assert (estimate.images, estimate.regions, estimate.disk_bytes) == (0, 0, 0)
