"""Any history of uploads, deletions, lost, doubled and late refreshes, and kills: one repair fixes it all."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from fakes.breaking_index import BreakingIndex, do_part
from fakes.indexing import EMPTY, GREEN_BLUE, POISONED, RED, all_regions, new_index, whole, without_garbage
from fakes.models import fake_encoder
from fakes.stores import InMemoryStore
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from searchanything.core import codes
from searchanything.core.errors import IndexUnavailableError
from searchanything.core.rows import Outcome
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest.forget import ForgetLimits, Forgetting
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.ingest.reports import SyncReport
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.stores.sidecars import SidecarStore

OPTIONS = IndexingOptions(batch_images=2, transfer_threads=2, max_attempts=2, listing_is_enough=False)
SCOPE = Scope(prefix="in/", patterns=Patterns(exclude=("*/draft*",)), own_prefix="in/own/", sidecar_suffix=".json")
IMAGES = ("in/a.png", "in/b.png", "in/c/d.png")
OTHERS = ("in/draft.png", "in/own/sheet.png", "in/notes.txt", "out/a.png")
FORGET_ALL = Forgetting(ForgetLimits(always=True))  # what is held back: `test_forgetting`
OUTCOMES = {RED: Outcome.INDEXED, GREEN_BLUE: Outcome.INDEXED, EMPTY: Outcome.EMPTY}
REGIONS = {RED: 1, GREEN_BLUE: 2}  # how many coloured rectangles were drawn
CONTENTS = st.sampled_from([RED, GREEN_BLUE, EMPTY, POISONED, b"broken"])
KEYS = st.sampled_from(IMAGES * 3 + OTHERS)
KEY_LISTS = st.one_of(st.just([*IMAGES, *OTHERS]), st.lists(KEYS, min_size=1, max_size=6))
KILLS = st.one_of(st.none(), st.tuples(st.integers(1, 8), st.sampled_from(["before", "half", "after"])))


class Killable(BreakingIndex):
    """Dies at a given call, before, after or amid its effect, and stays dead until it is revived."""

    def __init__(self) -> None:
        super().__init__(new_index().manifest)
        self.left: int | None = None
        self.effect = "before"

    def dying(self, kill: tuple[int, str] | None) -> None:
        self.left, self.effect = kill or (None, "before")

    def through(self, call: Callable[..., object], subjects: Collection[object]) -> object:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                do_part(call, subjects, self.effect)
            if self.left <= 0:
                raise IndexUnavailableError("killed")
        return call(subjects)


class Histories(RuleBasedStateMachine):
    """What may happen to a bucket and its workers. No event is promised: a refresh is called or it is not."""

    @initialize(contents=st.lists(CONTENTS, min_size=len(IMAGES + OTHERS), max_size=len(IMAGES + OTHERS)))
    def start(self, contents: list[bytes]) -> None:
        codes._last = 0  # tests of clocks that run ahead leave this process's generations in the future
        self.bucket = InMemoryStore()
        self.index = Killable()
        self.encoder = fake_encoder()
        for key, content in zip(IMAGES + OTHERS, contents, strict=True):
            self.bucket.put(key, content)

    @rule(key=KEYS, content=CONTENTS)
    def upload(self, key: str, content: bytes) -> None:
        self.bucket.put(key, content)

    @rule(key=KEYS, shelf=st.sampled_from(["a", "b"]))
    def relabel(self, key: str, shelf: str) -> None:
        """New metadata and the same content."""
        if key in self.bucket._objects:
            self.bucket.put(key, self.bucket._objects[key][1], metadata={"shelf": shelf})

    @rule(key=st.sampled_from(IMAGES), shelf=st.sampled_from(["c", "d", None]))
    def relabel_beside(self, key: str, shelf: str | None) -> None:
        """A new sidecar, another one, or none any more."""
        if shelf is None:
            self.bucket.delete(f"{key}.json")
        else:
            self.bucket.put(f"{key}.json", json.dumps({"shelf": shelf}).encode())

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.bucket.delete(key)

    @rule(keys=KEY_LISTS, force=st.booleans(), kill=KILLS)
    def refresh(self, keys: list[str], force: bool, kill: tuple[int, str] | None) -> None:
        self.attempted(kill, lambda: refresh_images(self.job(force=force), keys))

    @rule(kill=KILLS)
    def index_all(self, kill: tuple[int, str] | None) -> None:
        self.attempted(kill, lambda: index_images(self.job(), self.store().list()))

    @rule(keys=KEY_LISTS, key=KEYS, content=st.one_of(st.none(), CONTENTS))
    def refresh_while_it_changes(self, keys: list[str], key: str, content: bytes | None) -> None:
        """An object is overwritten or deleted once its bytes, or those of another, have been read."""

        def change(_: str) -> None:
            self.bucket.after_read = lambda _: None
            if content is None:
                self.bucket.delete(key)
            else:
                self.bucket.put(key, content)

        self.bucket.after_read = change
        refresh_images(self.job(), keys)
        self.bucket.after_read = lambda _: None

    @rule(keys=KEY_LISTS, content=CONTENTS)
    def two_workers(self, keys: list[str], content: bytes) -> None:
        """Another worker brings everything up to date while this one has just read the old bytes."""

        def meet(_: str) -> None:
            self.bucket.after_read = lambda _: None
            self.bucket.put(keys[0], content)
            refresh_images(self.job(), keys)

        self.bucket.after_read = meet
        refresh_images(self.job(), keys)
        self.bucket.after_read = lambda _: None

    @rule(kill=KILLS)
    def repair(self, kill: tuple[int, str] | None) -> None:
        self.attempted(kill, lambda: self.sync(repair=True))

    def teardown(self) -> None:
        if not hasattr(self, "bucket"):
            return
        self.sync(repair=True)
        self.agrees()
        again = self.sync(repair=False)
        assert (again.missing, again.stale, again.orphaned) == ((), (), ())
        assert again.checked == sum(key in self.bucket._objects for key in IMAGES)
        quiet = self.sync(repair=True)
        assert quiet.repaired is not None
        assert (quiet.repaired.indexed, quiet.repaired.deleted, quiet.garbage) == (0, 0, 0)

    def agrees(self) -> None:
        """Read the store and the rows directly: they tell of the same objects, whole, and of nothing else."""
        rows = {row.image.key: row for row in self.index.iterate_images()}
        expected = {key: self.bucket._objects[key] for key in IMAGES if key in self.bucket._objects}
        assert rows.keys() == expected.keys()
        for key, (stored, data) in expected.items():
            row = rows[key]
            assert row.etag == stored.etag, key
            beside = self.bucket._objects.get(f"{key}.json", (None, b"{}"))[1]
            metadata = {**stored.metadata, **json.loads(beside)}
            assert row.outcome is Outcome.FAILED or dict(row.metadata) == metadata, key
            assert (row.outcome, row.regions) == (OUTCOMES.get(data, Outcome.FAILED), REGIONS.get(data, 0)), key
        whole(self.index)
        assert without_garbage(self.index)
        assert all(dict(one.metadata) == dict(rows[one.image.key].metadata) for one in all_regions(self.index))

    def attempted(self, kill: tuple[int, str] | None, work: Callable[[], object]) -> None:
        self.index.dying(kill)
        try:
            work()
        except IndexUnavailableError:
            pass
        finally:
            self.index.dying(None)

    def store(self) -> SidecarStore:
        return SidecarStore(self.bucket, ".json")

    def job(self, *, force: bool = False) -> IndexingJob:
        options = replace(OPTIONS, force=force)
        return IndexingJob(self.store(), lambda: self.encoder, self.index, options, SCOPE)

    def sync(self, *, repair: bool) -> SyncReport:
        if not repair:
            return sync_images(SyncJob(self.store(), self.index, SCOPE, OPTIONS, forgetting=FORGET_ALL))
        refresh, again = partial(refresh_images, self.job()), partial(refresh_images, self.job(force=True))
        job = SyncJob(self.store(), self.index, SCOPE, OPTIONS, refresh, again, garbage_age_s=0)
        return sync_images(replace(job, forgetting=FORGET_ALL))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=12)
