"""A source up to its first image: one that has none makes no index, and the report says what there is instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from searchanything.core.batching import batches
from searchanything.core.omissions import Omissions
from searchanything.core.patience import PatientThreads
from searchanything.core.protocols import ImageStore
from searchanything.core.skips import sum_skips
from searchanything.core.types import StoredObject
from searchanything.images.content_types import ContentTypes
from searchanything.images.incoming import incoming, sound_object
from searchanything.images.scopes import Scope
from searchanything.ingest.counters import Counters
from searchanything.ingest.plan import PLAN_BATCH, is_usable, why_skipped
from searchanything.ingest.reports import IndexReport, SyncReport, skipped_warnings, unlisted_failures

_ASKING_THREADS = 8  # for the types of objects whose names say nothing


def from_first_image(
    source: tuple[ImageStore, Scope], types: ContentTypes, objects: Iterable[StoredObject]
) -> tuple[Iterator[StoredObject] | None, IndexReport]:
    """The listed objects from the first image on, None where there is none, and a report of those before it.

    Raises: what the listing raises; StoreUnavailableError where types are asked for.
    """
    store, scope = incoming(source[0]), source[1]
    counters, remaining = Counters(), iter(objects)
    usable = (sound_object(one) for one in remaining if is_usable(one.ref.key, counters))
    with PatientThreads(_ASKING_THREADS, thread_name_prefix="types") as pool:
        for listed in batches((one for one in usable if not scope.is_own(one.ref.key)), PLAN_BATCH):
            doubtful = listed[: _first_by_name(scope, listed)]
            reasons = list(pool.map(lambda one: why_skipped(scope, types, store, one, {}), doubtful))
            before = next((place for place, reason in enumerate(reasons) if reason is None), len(doubtful))
            for one, reason in zip(listed[:before], reasons[:before], strict=True):
                if reason is not None:
                    counters.skip(one.ref.key, reason)
            if before < len(listed):
                return chain(listed[before:], remaining), counters.report()
    return None, counters.report()


def _first_by_name(scope: Scope, listed: list[StoredObject]) -> int:
    """The place of the first object that is an image by its name."""
    named = (scope.may_be_image(one.ref.key) and not scope.needs_type(one.ref.key) for one in listed)
    return next((place for place, found in enumerate(named) if found), len(listed))


def nothing_to_repair(before: IndexReport, omissions: Omissions) -> SyncReport:
    """What a repair did where there is no index and no image to make one for."""
    return SyncReport(
        repaired=replace(before, skipped=0, skips=()),
        seconds=before.seconds,
        unlisted=unlisted_failures(omissions),
        skipped=skipped_warnings(omissions),
        skips=sum_skips(before.skips, omissions.skips.groups()),
    )
