"""What has to be done: which objects the index does not have as they are now.

Two ways in: `plan_listed` trusts a listing and asks the store about doubtful objects alone;
`plan_keys` gets keys only, and looks at each object as it is now. Both end in the same `Attempt`s, so whether an
image is up to date, exhausted or wanted at all is decided here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.codes import next_generation
from searchanything.core.digests import KnownImages
from searchanything.core.errors import StoreError, StoreUnavailableError, UnusableKeyError
from searchanything.core.protocols import FeatureKeeper, ImageStore, RegionIndex
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.types import ImageRef, StoredObject
from searchanything.encode.encoder import OpenEncoder
from searchanything.images.content_types import ContentTypes
from searchanything.images.incoming import check_key, escaped, incoming, sound_object
from searchanything.images.names import SkipReason, may_be_image
from searchanything.images.scopes import Scope
from searchanything.images.sidecars import says_the_same
from searchanything.ingest.commit import Attempt, Failed, MayForget
from searchanything.ingest.contact_sheet import Sheet
from searchanything.ingest.counters import Counters
from searchanything.ingest.reports import Failure, failed_too_often

logger = logging.getLogger(__name__)

PLAN_BATCH: Final = 256  # objects per question to the index


@dataclass(frozen=True, slots=True)
class IndexingOptions:
    """How much is done at once, and what is done again.

    `force` indexes unchanged objects again. Images that failed `max_attempts` times with the same content are exhausted
    and skipped; None retries them forever. `listing_is_enough` is False where a change of metadata does not show in a
    listing (object tags): then every known object is asked about. Sidecars have lines of their own (`listed_sidecars`).
    """

    batch_images: int = 16
    transfer_threads: int = 8
    max_pixels: int = 100_000_000
    force: bool = False
    max_attempts: int | None = None
    listing_is_enough: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class IndexingJob:
    """Where images come from and which are meant, what encodes them, and where rows, features and tiles go.

    The encoder is opened at the first image that there is to encode: a source without changes needs none. `may_forget`
    says of keys that are indexed and gone whether their rows go. Of keys `keys_at_once` are looked at together.
    `replaced` are rows of another index that this one is to replace: what they say of when a content was first indexed
    stays. Of keys that a listing gave (`keys_are_listed`) those without an object are warned of.
    """

    store: ImageStore
    open_encoder: OpenEncoder
    index: RegionIndex
    options: IndexingOptions = IndexingOptions()
    scope: Scope = field(default_factory=Scope)
    keeper: FeatureKeeper | None = None
    sheet: Sheet | None = None
    types: ContentTypes = field(default_factory=ContentTypes)
    may_forget: MayForget = lambda _: True
    replaced: Mapping[ImageRef, ImageRow] = field(default_factory=dict)
    keys_at_once: int = PLAN_BATCH
    keys_are_listed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", incoming(self.store))


def plan_listed(
    job: IndexingJob,
    objects: Iterable[StoredObject],
    counters: Counters,
    pool: Executor,
    seen: KnownImages | None = None,
) -> Iterator[Attempt]:
    """Attempts at the images among listed `objects` that the index does not have as they are.

    Where `seen` says what the index held when the run began, rows are asked for of those alone that are not as it was:
    each question to an embedded index looks at all rows there are.
    """
    usable = (sound_object(one) for one in objects if is_usable(one.ref.key, counters))
    for listed in batches(usable, PLAN_BATCH):
        foreign = [one for one in listed if not job.scope.is_own(one.ref.key)]
        with counters.watch.stage("plan"):
            foreign = _changed(job, foreign, seen, counters)
            known = job.index.newest([one.ref for one in foreign if job.scope.may_be_image(one.ref.key)])
            images = _images(job, foreign, known, pool, counters)
            rows = [known.get(one.ref) for one in images]
            same = list(pool.map(partial(is_unchanged, job.store, job.options), images, rows))
        for one, unchanged in zip(images, same, strict=True):
            attempt = _attempt(job, one, known.get(one.ref), counters, unchanged=unchanged)
            if attempt is not None:
                yield attempt


def _changed(
    job: IndexingJob, listed: Sequence[StoredObject], seen: KnownImages | None, counters: Counters
) -> list[StoredObject]:
    """The listed objects but for images that the index has as they are by their digests; those are counted."""
    if seen is None or job.options.force or not job.options.listing_is_enough:
        return list(listed)
    same = seen.agree(seen.find([one.ref for one in listed]), [(one.etag, one.modified_at_ms) for one in listed])
    changed = []
    for one, is_same in zip(listed, same.tolist(), strict=True):
        if is_same and one.modified_at_ms != 0 and _is_image(job.scope, one):
            counters.skip_unchanged(one.ref.key)
        else:
            changed.append(one)
    return changed


def _is_image(scope: Scope, known: StoredObject) -> bool:
    """Whether an object that the index has as an image is a wanted one."""
    key = known.ref.key
    if not scope.may_be_image(key):
        return False
    return scope.needs_type(key) or scope.why_skipped(key, known.content_type) is None


def _images(
    job: IndexingJob,
    listed: Sequence[StoredObject],
    known: Mapping[ImageRef, ImageRow],
    pool: Executor,
    counters: Counters,
) -> list[StoredObject]:
    """The images among listed objects; the others are counted."""
    reasons = list(pool.map(lambda one: why_skipped(job.scope, job.types, job.store, one, known), listed))
    for one, reason in zip(listed, reasons, strict=True):
        if reason is not None:
            counters.skip(one.ref.key, reason)
    return [one for one, reason in zip(listed, reasons, strict=True) if reason is None]


def plan_keys(job: IndexingJob, keys: Iterable[str], counters: Counters, pool: Executor) -> Iterator[Attempt]:
    """Attempts at the objects that these keys name now, where the index does not have them as they are.

    What is not wanted or no image leaves the index; so does what is gone, if it may be forgotten. A sidecar's key
    stands for its image; keys may be repeated.
    """
    unique = dict.fromkeys(job.scope.image_key(key) for key in keys if is_usable(key, counters))
    for refs in batches((ImageRef(job.store.bucket, key) for key in unique), job.keys_at_once):
        before = next_generation()  # what others begin from now on is not ours to delete
        with counters.watch.stage("plan"):
            known = job.index.newest(refs)
            found = dict(zip(refs, pool.map(lambda ref: _look(job, ref), refs), strict=True))
            absent = [ref for ref, one in found.items() if one is None and ref in known]
            left = set(absent) if absent and not job.may_forget([ref.key for ref in absent]) else set()
            gone = [ref for ref, one in found.items() if one is None or isinstance(one, SkipReason)]
            gone = [ref for ref in gone if ref not in left]
            _forget(job, gone, known, pool, before=before)
        counters.forget(sum(ref in known for ref in gone), left=len(left))
        for ref, one in found.items():
            previous = known.get(ref)
            if isinstance(one, Failed):
                attempt = _refused(job, ref, one, previous, counters)
            elif isinstance(one, StoredObject):
                attempt = _attempt(job, one, previous, counters, unchanged=_is_same(one, previous))
            else:
                if isinstance(one, SkipReason) and not job.scope.is_own(ref.key):
                    counters.skip(ref.key, one)
                if one is None and previous is None and job.keys_are_listed:
                    counters.warn_of_absent([ref])
                continue
            if attempt is not None:
                yield attempt


def why_skipped(
    scope: Scope, types: ContentTypes, store: ImageStore, listed: StoredObject, known: Mapping[ImageRef, ImageRow]
) -> SkipReason | None:
    """Why a listed object is no image that is meant, None for one that is.

    Its type is asked for where the name says nothing, and the index does not know this very content as an image.
    """
    key, row = listed.ref.key, known.get(listed.ref)
    if not scope.may_be_image(key) or not scope.needs_type(key):
        return scope.why_skipped(key, listed.content_type)
    if row is not None and row.outcome is not Outcome.FAILED and row.etag == listed.etag:
        return None
    return scope.why_skipped(key, types.of(store, listed).content_type)


def is_usable(key: str, counters: Counters) -> bool:
    """Whether an index can keep this key; an image's that it cannot is a failure of its own."""
    try:
        check_key(key)
    except UnusableKeyError as error:
        why = Failed.of(error)
        if may_be_image(key):
            counters.add_failures([Failure(escaped(key), why.error, why.message)])
        return False
    return True


def is_unchanged(store: ImageStore, options: IndexingOptions, listed: StoredObject, previous: ImageRow | None) -> bool:
    """Same content and metadata as the row's, with a good outcome. Asks the store only if the object may be touched.

    Some servers list other etags than they send with an object: of the same time, it is asked for as well.
    """
    if previous is None or not previous.is_findable:
        return False
    same_etag, same_time = previous.etag == listed.etag, listed.modified_at_ms == previous.modified_at_ms != 0
    if not (same_etag or same_time):
        return False
    if options.force:
        return False  # whatever the answer, it is indexed again
    if options.listing_is_enough and same_etag and same_time:
        return True
    try:
        found = store.stat(listed.ref.key)
    except StoreUnavailableError:
        raise
    except StoreError:
        return False  # reading it will raise the reason
    return found is not None and _is_same(found, previous)


def _is_same(found: StoredObject, previous: ImageRow | None) -> bool:
    """The row has this content, metadata and given regions, and a good outcome."""
    return (
        previous is not None and previous.is_findable and previous.etag == found.etag and says_the_same(found, previous)
    )


def _attempt(
    job: IndexingJob, stored: StoredObject, previous: ImageRow | None, counters: Counters, *, unchanged: bool
) -> Attempt | None:
    """An attempt at an object, or None where nothing is to be done, which is counted."""
    if not job.options.force:
        if unchanged:
            counters.skip_unchanged(stored.ref.key)
            return None
        if is_exhausted(job.options, previous, stored.etag):
            counters.skip_exhausted(stored.ref.key)
            return None
    generation = next_generation(after=previous.generation if previous else 0)
    replaced = job.replaced.get(stored.ref)
    return Attempt(stored=stored, generation=generation, previous=previous, replaced=replaced)


def is_exhausted(options: IndexingOptions, previous: ImageRow | None, etag: str) -> bool:
    """True where this content failed so often that it is not tried again automatically."""
    return (
        previous is not None
        and previous.outcome is Outcome.FAILED
        and previous.etag == etag
        and failed_too_often(previous, options.max_attempts)
    )


def _look(job: IndexingJob, ref: ImageRef) -> StoredObject | Failed | SkipReason | None:
    """The object as it is now; None where it is gone; why it is skipped, or why the store refuses to say."""
    if not job.scope.may_be_image(ref.key):
        return job.scope.why_skipped(ref.key, None)
    try:
        found = job.store.stat(ref.key)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        return Failed.of(error)
    return None if found is None else job.scope.why_skipped(ref.key, found.content_type) or found


def _refused(
    job: IndexingJob, ref: ImageRef, why: Failed, previous: ImageRow | None, counters: Counters
) -> Attempt | None:
    """The attempt at an object that the store refuses to describe: its etag is unknown, so it is "".

    A good row stays as long as nobody knows better; without one the failure is recorded.
    """
    if previous is not None and previous.outcome is not Outcome.FAILED:
        counters.add_failures([Failure(ref.key, why.error, why.message)])
        return None
    attempt = _attempt(job, StoredObject(ref, "", 0), previous, counters, unchanged=False)
    return None if attempt is None else replace(attempt, failed=why)


def _forget(
    job: IndexingJob, gone: Iterable[ImageRef], known: Mapping[ImageRef, ImageRow], pool: Executor, *, before: int
) -> None:
    """Delete the rows of images that were seen to be gone, but none that another worker begins to write after that.

    A known row may be younger than this machine's clock.
    """
    ages = {ref: max(before, known[ref].generation + 1 if ref in known else 0) for ref in gone}
    tombstones = {ref: age for ref, age in ages.items() if ref in known}
    if job.keeper is not None and tombstones:
        job.keeper.add_tombstones(tombstones)
    if ages:
        job.index.delete_before(ages)
    if job.sheet is not None:
        job.sheet.delete_before(ages, pool)
