"""What a sync and a run of `index` may forget: few, or what is asked for, or what two listings far apart lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import image_row
from fakes.indexing import RED, SMALL_BATCHES
from fakes.models import fake_encoder
from fakes.stores import InMemoryStore
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.errors import StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageStore
from searchanything.core.rows import Outcome
from searchanything.core.types import ImageRef, StoredObject
from searchanything.encode.fingerprint import manifest_of
from searchanything.images.content_types import ContentTypes
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest import sync
from searchanything.ingest.forget import (
    FORGETTING,
    MISSING,
    Covered,
    Devices,
    ForgetLimits,
    SourceMemory,
    decide,
    find_unseen,
    marking,
    recalled,
)
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexReport, SyncReport
from searchanything.ingest.sync import SyncJob, account_for_gone, sync_images
from searchanything.ingest.vanished import VanishedCheck
from searchanything.stores.folder import FolderStore
from searchanything.stores.memory import MemoryIndexStore

LIMITS = ForgetLimits(images=10, share=0.1, after_s=100.0)


class Mounted(InMemoryStore):
    """A bucket some of whose places lie on other devices, or are not listed although they are there."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: dict[str, int] = {"": 1}
        self.hidden: tuple[str, ...] = ()

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
        if omissions is not None:
            omissions.devices.update(self.devices)
        listed = super().list(prefix, omissions)
        return (one for one in listed if not (self.hidden and one.ref.key.startswith(self.hidden)))


@dataclass
class World:
    """A source whose rows are there without models, an index that remembers, and a clock that the test moves."""

    store: ImageStore = field(default_factory=Mounted)
    indexes: MemoryIndexStore = field(default_factory=MemoryIndexStore)
    scope: Scope = field(default_factory=Scope)
    now_ms: int = 1_000_000
    limits: ForgetLimits = LIMITS
    made_ms: int = 0

    def __post_init__(self) -> None:
        manifest = replace(manifest_of(fake_encoder(), "fake"), created_at_ms=self.made_ms)
        self.index = self.indexes.create(manifest, b"")

    def put(self, *keys: str) -> World:
        """Upload objects, and index them: their rows alone."""
        assert isinstance(self.store, InMemoryStore)
        return self.know(*(self.store.put(key, RED) for key in keys))

    def know(self, *objects: StoredObject) -> World:
        for generation, one in enumerate(objects, start=1):
            of_object = {"etag": one.etag, "modified_at_ms": one.modified_at_ms, "regions": 0}
            code = bytes(self.index.manifest.bits // 8)
            row = image_row(one.ref, generation=generation, code=code, outcome=Outcome.EMPTY, **of_object)
            self.index.insert_images([row])
        return self

    def delete(self, *keys: str) -> World:
        assert isinstance(self.store, InMemoryStore)
        for key in keys:
            self.store.delete(key)
        return self

    def job(self, *, repair: bool, forget: bool = False) -> SyncJob:
        limits = replace(self.limits, always=forget)
        forgetting = recalled(self.indexes, ImageRef(self.store.bucket, self.scope.prefix), limits)
        forgetting = replace(forgetting, clock=lambda: self.now_ms, remember=forgetting.remember if repair else None)
        work = IndexingJob(self.store, fake_encoder, self.index, SMALL_BATCHES, self.scope)
        refresh = partial(refresh_images, work) if repair else None
        return SyncJob(self.store, self.index, self.scope, SMALL_BATCHES, refresh, forgetting=forgetting)

    def sync(self, *, repair: bool = True, forget: bool = False) -> SyncReport:
        return sync_images(self.job(repair=repair, forget=forget))

    def run(self, *, prune: bool) -> IndexReport:
        """As `Client.index`."""
        job, omissions = self.job(repair=True), Omissions()
        known = Covered(self.index, self.store.bucket, self.scope).known()
        work = IndexingJob(self.store, fake_encoder, self.index, SMALL_BATCHES, self.scope)
        index_images(work, marking(self.store.list("", omissions), known), omissions=omissions)
        return account_for_gone(job if prune else replace(job, refresh=None), known, omissions)

    @property
    def keys(self) -> set[str]:
        return {row.image.key for row in self.index.iterate_images()}


def names(count: int, folder: str = "") -> list[str]:
    return [f"{folder}{number:03}.png" for number in range(count)]


@pytest.mark.parametrize(
    ("images", "gone", "held"),
    [
        (20, 10, False),  # no more than ten
        (20, 11, True),
        (200, 20, False),  # no more than a tenth
        (200, 21, True),
        (3, 2, False),
        (3, 3, True),  # all: an empty folder may be one whose disk is away
        (1, 1, True),
    ],
)
def test_much_at_once_is_held_back(images: int, gone: int, held: bool) -> None:
    world = World().put(*names(images))
    world.delete(*names(gone))
    checked = world.sync(repair=False)
    report = world.sync()
    assert checked.held == report.held == (tuple(names(gone)) if held else ())
    assert report.orphaned == tuple(names(gone))
    assert report.repaired is not None
    assert report.repaired.deleted == (0 if held else gone)
    assert world.keys == set(names(images) if held else names(images)[gone:])


def test_an_object_that_turns_out_to_be_no_image_does_not_make_an_emptied_source_one_with_images() -> None:
    """Its name says nothing, so it is looked into."""
    world = World().put(*names(3))
    world.delete(*names(3))
    world.store.put("LICENSE", b"any text", content_type="text/plain")
    assert world.sync(repair=False).held == world.sync().held == tuple(names(3))
    assert world.keys == set(names(3))


def test_it_does_the_rest_meanwhile() -> None:
    world = World().put(*names(30))
    world.delete(*names(20))
    world.store.put("new.png", RED)  # type: ignore[attr-defined]
    report = world.sync()
    assert (report.missing, len(report.held)) == (("new.png",), 20)
    assert world.keys == {*names(30), "new.png"}


def test_whoever_means_it_says_so() -> None:
    world = World().put(*names(30))
    world.delete(*names(30))
    assert len(world.sync().held) == 30
    assert world.sync(forget=True).held == ()
    assert world.keys == set()


def test_a_second_listing_after_a_while_ends_the_hold() -> None:
    world = World().put(*names(30))
    world.delete(*names(20))
    assert len(world.sync().held) == 20
    world.now_ms += 99_999
    assert len(world.sync().held) == 20
    world.now_ms += 1
    assert world.sync(repair=False).held == ()
    assert world.sync().held == ()
    assert world.keys == set(names(30)[20:])


def test_checks_alone_never_end_it() -> None:
    world = World().put(*names(30))
    world.delete(*names(20))
    for _ in range(3):
        assert len(world.sync(repair=False).held) == 20
        world.now_ms += 1_000_000
    assert len(world.sync().held) == 20


def test_without_a_waiting_time_it_takes_two_listings_all_the_same() -> None:
    world = World(limits=replace(LIMITS, after_s=0)).put(*names(30))
    world.delete(*names(30))
    assert len(world.sync().held) == 30
    assert world.sync().held == ()
    assert world.keys == set()


def test_it_goes_in_steps_that_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FORGOTTEN_AT_ONCE", 2)
    world, said = World().put(*names(20)).delete(*names(5)), list[tuple[str, int, int | None]]()
    report = sync_images(world.job(repair=True), progress=lambda now: said.append((now.stage, now.done, now.total)))
    assert (report.repaired.deleted, len(world.keys)) == (5, 15)
    assert [one for one in said if one[0]] == [(FORGETTING, 0, 5), (FORGETTING, 2, 5), (FORGETTING, 4, 5)]


def test_what_goes_later_waits_for_itself() -> None:
    """One disk was really taken away; while that ripens, another is away: it is not forgotten along with the first."""
    world = World().put(*names(20, "a/"), *names(20, "b/"))
    world.delete(*names(20, "a/"))
    world.sync()
    world.now_ms += 100_000
    world.delete(*names(20, "b/"))
    assert world.sync().held == tuple(names(20, "b/"))
    assert world.keys == set(names(20, "b/"))


def test_what_comes_back_begins_anew() -> None:
    world = World().put(*names(30))
    store = world.store
    assert isinstance(store, Mounted)
    for _ in range(5):
        store.hidden = tuple(names(20))
        assert len(world.sync().held) == 20
        world.now_ms += 60_000
        store.hidden = ()
        assert not world.sync().differs
        world.now_ms += 60_000
    assert world.keys == set(names(30))


def test_a_listing_cut_short_forgets_nothing_however_often_it_comes() -> None:
    """The objects are there: looking at each before it is forgotten tells."""
    world = World().put(*names(30))
    world.store.hidden = ("01", "02")  # type: ignore[attr-defined]
    for _ in range(3):
        world.sync()
        world.now_ms += 1_000_000
    assert world.keys == set(names(30))


def test_patterns_that_leave_out_nearly_all_are_held_back_too() -> None:
    world = World(scope=Scope(patterns=Patterns(include=("000*",)))).put(*names(30))
    assert len(world.sync().held) == 29


def test_a_place_that_cannot_be_listed_is_not_covered() -> None:
    """Of the twenty images that were looked at, twelve are gone."""

    class Locked(Mounted):
        def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
            assert omissions is not None
            yield from super().list(prefix, omissions)
            omissions.miss("locked/", "Permission denied")

    world = World(store=Locked()).put(*names(500, "locked/"), *names(20))
    world.store.hidden = ("locked/",)  # type: ignore[attr-defined]
    world.delete(*names(12))
    report = world.sync()
    assert (report.held, [one.key for one in report.unlisted]) == (tuple(names(12)), ["locked/"])


class TestDevices:
    """What lies on another device than before was not listed."""

    @pytest.fixture
    def world(self) -> World:
        world = World().put(*names(40), *names(3, "sub/"))
        world.store.devices = {"": 1, "sub/": 7}  # type: ignore[attr-defined]
        assert not world.sync().differs
        return world

    @pytest.mark.parametrize("devices", [{"": 1}, {"": 1, "sub/": 8}])
    @pytest.mark.parametrize("rounds", [1, 3])
    def test_a_disk_that_is_away(self, world: World, devices: dict[str, int], rounds: int) -> None:
        """Its mount point is an ordinary folder, another disk is there instead, or the folder is gone as well."""
        world.store.devices = devices  # type: ignore[attr-defined]
        world.delete(*names(3, "sub/"), *names(1))
        for _ in range(rounds):
            report = world.sync()
            assert [one.key for one in report.unlisted] == ["sub/"]
            assert "3 of 3 indexed images missing" in report.unlisted[0].message
            world.now_ms += 1_000_000
        assert world.keys == {*names(40)[1:], *names(3, "sub/")}
        assert world.sync(forget=True).unlisted == ()
        assert world.keys == set(names(40)[1:])
        assert world.sync().unlisted == ()

    def test_a_source_on_another_disk(self, world: World) -> None:
        world.store.devices = {"": 9}  # type: ignore[attr-defined]
        world.delete(*names(40), *names(3, "sub/"))
        for _ in range(3):
            report = world.sync()
            assert (report.orphaned, [one.key for one in report.unlisted]) == ((), ["./", "sub/"])
            world.now_ms += 1_000_000
        assert len(world.keys) == 43

    def test_a_disk_that_is_mounted_over_a_folder_of_images(self) -> None:
        world = World().put(*names(40), *names(3, "sub/"))
        world.sync()
        world.store.devices = {"": 1, "sub/": 7}  # type: ignore[attr-defined]
        world.delete(*names(3, "sub/"))
        assert [one.key for one in world.sync().unlisted] == ["sub/"]
        assert len(world.keys) == 43

    def test_the_same_disk_under_another_number(self, world: World) -> None:
        """Numbers change when a machine is started anew. What is gone meanwhile is forgotten by the next sync."""
        world.store.devices = {"": 2, "sub/": 8}  # type: ignore[attr-defined]
        assert world.sync().unlisted == ()
        world.store.devices = {"": 3, "sub/": 9}  # type: ignore[attr-defined]
        world.delete(*names(1, "sub/"))
        assert [one.key for one in world.sync().unlisted] == ["sub/"]
        assert len(world.keys) == 43
        assert world.sync().unlisted == ()
        assert len(world.keys) == 42

    def test_two_machines_that_see_other_numbers(self, world: World) -> None:
        for number in (8, 7, 8, 7):
            world.store.devices = {"": 1, "sub/": number}  # type: ignore[attr-defined]
            world.delete(*world.keys - set(names(40)) - {"sub/000.png", "sub/001.png"})
            world.sync()
        assert len(world.keys) == 42

    @pytest.mark.parametrize("gone", [1, 2])
    def test_a_place_that_lacks_half_of_its_images_is_not_the_same(self, gone: int) -> None:
        world = World().put(*names(40), *names(4, "sub/"))
        world.store.devices = {"": 1, "sub/": 7}  # type: ignore[attr-defined]
        world.sync()
        world.store.devices = {"": 1, "sub/": 8}  # type: ignore[attr-defined]
        world.delete(*names(gone, "sub/"))
        assert [one.key for one in world.sync().unlisted] == ["sub/"]
        assert [one.key for one in world.sync().unlisted] == (["sub/"] if gone == 2 else [])

    def test_of_a_place_that_cannot_be_listed_no_new_device_is_known(self, world: World) -> None:
        """Its mount point may be entered by nobody, until somebody changes that."""

        class Locked(Mounted):
            def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
                assert omissions is not None
                omissions.miss("sub/", "Permission denied")
                return super().list(prefix, omissions)

        world.store.__class__ = Locked
        world.store.devices = {"": 1}  # type: ignore[attr-defined]
        world.delete(*names(3, "sub/"))
        assert "Permission denied" in str(world.sync().unlisted)
        world.store.__class__ = Mounted
        assert "3 of 3 indexed images missing" in str(world.sync().unlisted)
        assert len(world.keys) == 43

    def test_the_last_devices_of_a_place_are_remembered(self, world: World) -> None:
        for number in range(8, 20):
            world.store.devices = {"": 1, "sub/": number}  # type: ignore[attr-defined]
            world.sync()
        devices = world.job(repair=True).forgetting.memory.devices
        assert devices == {"": (1,), "sub/": tuple(range(12, 20))}

    def test_a_run_of_index_remembers_devices_as_well(self) -> None:
        world = World().put(*names(40), *names(3, "sub/"))
        world.store.devices = {"": 1, "sub/": 7}  # type: ignore[attr-defined]
        assert world.run(prune=False) == IndexReport()
        world.store.devices = {"": 1}  # type: ignore[attr-defined]
        world.delete(*names(3, "sub/"))
        report = world.run(prune=True)
        assert (report.gone, report.deleted, [one.key for one in report.failures]) == (0, 0, ["sub/"])
        assert world.run(prune=False).failed == report.failed == 1
        assert [one.key for one in world.sync().unlisted] == ["sub/"]
        assert len(world.keys) == 43


class TestIndex:
    """A run of `index` tells what is gone, and prunes as a sync would."""

    @pytest.mark.parametrize(("gone", "held"), [(0, 0), (5, 0), (12, 12), (20, 20)])
    def test_what_is_gone_is_counted_and_pruned(self, gone: int, held: int) -> None:
        world = World().put(*names(20))
        world.delete(*names(gone))
        assert world.run(prune=False) == IndexReport(gone=gone)
        assert len(world.keys) == 20
        report = world.run(prune=True)
        assert (report.gone, len(report.held), report.deleted) == (held, held, gone - held)
        assert len(world.keys) == 20 - gone + held

    def test_what_is_excluded_now_is_there(self) -> None:
        world = World(scope=Scope(patterns=Patterns(include=("000*",)))).put(*names(20))
        world.delete("005.png")
        assert world.run(prune=False).gone == 1

    def test_a_run_that_does_not_prune_is_no_first_listing(self) -> None:
        world = World().put(*names(20))
        world.delete(*names(20))
        world.run(prune=False)
        world.now_ms += 1_000_000
        assert len(world.sync().held) == 20
        world.run(prune=False)
        world.now_ms += 1_000_000
        assert world.sync().held == ()

    def test_a_run_that_lists_them_again_ends_the_hold(self) -> None:
        world = World().put(*names(20), *names(20, "gone/"))
        world.delete(*names(20, "gone/"))
        assert len(world.sync().held) == 20
        for key in names(10, "gone/"):
            world.store.put(key, RED)  # type: ignore[attr-defined]
        world.run(prune=False)
        world.delete(*names(10, "gone/"))
        world.now_ms += 1_000_000
        assert world.sync().held == tuple(names(10, "gone/"))


OnDisks = Callable[[Sequence[str], dict[str, int]], dict[str, int]]


@pytest.fixture
def on_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnDisks:
    """Writes images into `tmp_path`, whose folders lie on these disks, others on disk 1, as the dict then says."""

    def written(names: Sequence[str], disks: dict[str, int]) -> dict[str, int]:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(RED)
        monkeypatch.setattr(FolderStore, "_device", lambda _, folder: disks.get(folder, 1))
        return disks

    return written


def test_a_folder_names_its_devices(tmp_path: Path, on_disks: OnDisks) -> None:
    on_disks(["a.png", "sub/deep/b.png", "plain/c.png"], {"sub/": 7})
    noted = Omissions()
    assert len(list(FolderStore(tmp_path).list("", noted))) == 3
    assert (noted.devices, noted.unreadable) == ({"": 1, "sub/": 7, "sub/deep/": 1}, [])


def test_a_disk_that_goes_while_it_is_listed_was_not_listed(tmp_path: Path, on_disks: OnDisks) -> None:
    """Its files vanish one by one, and what is listed of it may be the end of what is there."""
    mounted = on_disks(["sub/a.png", "sub/b.png", "z.png"], {"sub/": 7})
    noted = Omissions()
    for one in FolderStore(tmp_path).list("", noted):
        if one.ref.key == "sub/a.png":
            (tmp_path / "sub/b.png").unlink()
            mounted.clear()
    assert [one.key for one in noted.unreadable] == ["sub/"]


@pytest.mark.parametrize("moment", ["a.png", "c.png", "sub/d.png"])
def test_a_folder_that_is_emptied_while_it_is_listed_loses_no_image(tmp_path: Path, moment: str) -> None:
    """Some of it was listed by then, the rest is few: as if these alone had been deleted."""
    folder, away = tmp_path / "images", tmp_path / "away"
    (folder / "sub").mkdir(parents=True)
    names = {"a.png", "b.png", "c.png", "sub/d.png", "sub/e.png"}
    for name in names:
        (folder / name).write_bytes(RED)

    class Emptied(FolderStore):
        def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:
            for one in super().list(prefix, omissions):
                yield one
                if one.ref.key == moment and not away.exists():
                    folder.rename(away)
                    (folder / "sub").mkdir(parents=True)

    world = World(Emptied(folder)).know(*FolderStore(folder).list())
    report = world.sync()
    assert ([one.key for one in report.unlisted], report.orphaned, world.keys) == (["./"], (), names)
    (folder / "sub").rmdir()
    folder.rmdir()
    away.rename(folder)
    (folder / "a.png").unlink()
    away.mkdir()  # nothing is moved any more
    assert (world.sync().orphaned, world.keys) == (("a.png",), names - {"a.png"})


@pytest.mark.parametrize("key", ["a.png", "c.png"])
def test_a_listing_whose_first_or_last_image_is_deleted_meanwhile_is_believed(tmp_path: Path, key: str) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(RED)
    noted = Omissions()
    for one in FolderStore(tmp_path).list("", noted):
        if one.ref.key == "c.png":
            (tmp_path / key).unlink()
    assert noted.unreadable == []


@pytest.mark.parametrize("force", [True, False])
def test_a_disk_that_goes_while_its_images_are_read_deletes_none(
    tmp_path: Path, on_disks: OnDisks, force: bool
) -> None:
    mounted = on_disks(["sub/a.png", "sub/b.png"], {"sub/": 7})
    store = FolderStore(tmp_path)
    world = World(store).know(*store.list())
    listed = list(store.list())
    (tmp_path / "sub/a.png").unlink()
    mounted.clear()
    work = IndexingJob(store, fake_encoder, world.index, replace(SMALL_BATCHES, force=force), world.scope)
    with pytest.raises(StoreUnavailableError, match="its disk was mounted or unmounted"):
        index_images(work, listed) if force else refresh_images(work, ["sub/a.png"])
    assert world.keys == {"sub/a.png", "sub/b.png"}


@pytest.mark.parametrize("place", ["", "sub/"])
def test_another_process_that_is_given_keys_knows_the_disks_of_earlier_listings(
    tmp_path: Path, on_disks: OnDisks, place: str
) -> None:
    """A service's worker opens the folder anew: what it looks for and does not find may lie on a disk that went."""
    mounted = on_disks(["z.png", "sub/a.png"], {"": 1, "sub/": 7})
    world = World(FolderStore(tmp_path)).know(*FolderStore(tmp_path).list())
    world.sync()
    gone = "sub/a.png" if place else "z.png"
    (tmp_path / gone).unlink()

    def refresh() -> None:
        memory = recalled(world.indexes, ImageRef(world.store.bucket, ""), LIMITS).memory
        fresh = FolderStore(tmp_path)
        check = VanishedCheck(fresh, Scope(), ContentTypes(), "gone", lambda: memory.devices)
        refresh_images(IndexingJob(fresh, fake_encoder, world.index, SMALL_BATCHES, may_forget=check), [gone])

    mounted[place] += 1
    with pytest.raises(StoreUnavailableError, match="lies on another disk"):
        refresh()
    assert world.keys == {"z.png", "sub/a.png"}
    mounted[place] -= 1
    refresh()
    assert world.keys == {"z.png", "sub/a.png"} - {gone}


def test_a_file_that_was_deleted_from_a_disk_that_is_there_leaves_the_index(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    store = FolderStore(tmp_path)
    world = World(store).know(*store.list())
    (tmp_path / "a.png").unlink()
    refresh_images(IndexingJob(store, fake_encoder, world.index, SMALL_BATCHES, world.scope), ["a.png"])
    assert world.keys == set()


@pytest.mark.parametrize("pruned", [False, True])
def test_a_first_listing_by_a_clock_that_was_not_set_counts_from_the_next_one(pruned: bool) -> None:
    """A machine without a battery begins in 1970, and its disks may not be there yet either."""
    world = World(now_ms=5_000, made_ms=1_000_000).put(*names(20))

    def held() -> int:
        return len(world.run(prune=True).held if pruned else world.sync().held)

    world.delete(*names(20))
    assert held() == 20
    world.now_ms = 2_000_000
    assert held() == 20, "the clock was set, and no time went by"
    world.now_ms += 99_000
    assert held() == 20
    world.now_ms += 1_000
    assert held() == 0
    assert world.keys == set()


KEYS = st.sets(st.text("abc/", min_size=1, max_size=4), max_size=40)


@given(KEYS, KEYS, st.integers(0, 200), st.integers(0, 5), st.floats(0, 1), st.booleans())
def test_every_image_is_forgotten_or_held_and_no_other(
    before: set[str], now: set[str], waited_s: int, images: int, share: float, listed: bool
) -> None:
    limits = ForgetLimits(images, share, after_s=100.0)
    indexes, source = MemoryIndexStore(), ImageRef("b", "")
    first = replace(recalled(indexes, source, limits), clock=lambda: 0)
    decided = decide([ImageRef("b", key) for key in before], first, covered=50, listed=0)
    first.keep(SourceMemory(decided.missing, {}))
    assert decided.forget == ()
    second = replace(recalled(indexes, source, limits), clock=lambda: waited_s * 1000)
    gone = {ImageRef("b", key) for key in now}
    decided = decide(gone, second, covered=50, listed=int(listed))
    assert len(decided.forget) + len(decided.held) == len(gone)
    assert {*decided.forget, *decided.held} == gone
    if listed and (len(gone) <= images or len(gone) <= share * 50):
        assert decided.held == ()
    else:
        ripe = {ImageRef("b", key) for key in before} if waited_s >= 100 else set()
        assert set(decided.forget) == gone & ripe


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**60)), max_size=20),
    st.dictionaries(st.text(max_size=8), st.lists(st.integers(0, 2**64), max_size=3).map(tuple), max_size=4),
)
def test_a_memory_survives_its_bytes(missing: list[tuple[int, int]], devices: dict[str, tuple[int, ...]]) -> None:
    memory = SourceMemory(np.array(sorted(missing), dtype=MISSING), devices)
    assert SourceMemory.from_bytes(memory.to_bytes()).same_as(memory)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_memory_are_an_empty_one(data: bytes) -> None:
    good = SourceMemory(np.array([(1, 2)], dtype=MISSING), {"": (1,)}).to_bytes()
    for damaged in (data, good[: len(data)], good[:-3] + data, b"null\n", b'{"format": 1, "devices": []}\n'):
        memory = SourceMemory.from_bytes(damaged)
        assert isinstance(memory.devices, dict)
        assert memory.missing.dtype == MISSING


def test_a_memory_of_another_format_is_an_empty_one() -> None:
    """What its parts mean is not known: nothing was missing before, and all is held back."""
    data = SourceMemory(np.array([(1, 2)], dtype=MISSING), {"": (1,)}).to_bytes()
    assert b'"format": 1' in data
    assert SourceMemory.from_bytes(data.replace(b'"format": 1', b'"format": 2')).same_as(SourceMemory())


def test_an_image_that_is_committed_while_rows_are_compared_is_not_gone() -> None:
    world = World().put("a.png", "b.png")
    covered, omissions = Covered(world.index, world.store.bucket, world.scope), Omissions()
    known = covered.known()
    world.put("new.png")
    unseen = find_unseen(covered, known, omissions, Devices({}, {}))
    assert {image.key for image in unseen.images} == {"a.png", "b.png"}
    assert unseen.covered == 2


def test_nothing_is_written_where_nothing_changed() -> None:
    world = World().put(*names(5))
    world.sync()
    written: list[str] = []
    world.indexes.remember = lambda name, _: written.append(name)  # type: ignore[method-assign]
    world.sync()
    assert written == []
    world.delete(*names(5))
    world.sync()
    assert len(written) == 1
