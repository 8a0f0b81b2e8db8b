"""A new index that several processes make, or write into, at the same time: which one all take, and none is lost."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Final

from searchanything.core.errors import IndexNotFoundError
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore
from searchanything.search.committed import holds_rows

logger = logging.getLogger(__name__)

SETTLING_S: Final = 2.0  # longer than it takes to look for other new indexes and to switch
NEW_MS: Final = 3_600_000


def is_empty(indexes: IndexStore, manifest: IndexManifest) -> bool:
    """Whether an index holds no row. Raises: RegionIndexError."""
    return not holds_rows(indexes.open(manifest.fingerprint))


def taken_meanwhile(indexes: IndexStore, before: IndexManifest | None) -> bool:
    """Whether another index than `before` is live by now, or that one is empty no more. Raises: RegionIndexError."""
    now = indexes.live()
    if now is None:
        return False
    return before is None or now.fingerprint != before.fingerprint or not is_empty(indexes, now)


def agreed_index(indexes: IndexStore, own: IndexManifest, before: IndexManifest | None) -> IndexManifest:
    """The index that all take who made one at the same time: their layers differ, as their samples do.

    It is the one that is live by now, else the oldest of the new ones. Each looks a while after its own is there to
    be seen, so that of two either both see both, or the later one sees the earlier one live.
    """
    time.sleep(SETTLING_S)
    old = None if before is None else before.fingerprint
    now = indexes.live()
    if now is not None and now.fingerprint != old:
        return now
    made = [
        one
        for one in indexes.manifests()
        if one.feature_fingerprint == own.feature_fingerprint
        and one.hash_trained == own.hash_trained
        and one.fingerprint != old
        and own.created_at_ms - one.created_at_ms < NEW_MS
        and is_empty(indexes, one)
    ]
    return min([own, *made], key=lambda one: (one.created_at_ms, one.fingerprint))


def drop_empty(indexes: IndexStore, manifest: IndexManifest) -> None:
    """Drop what was replaced as it held nothing, unless somebody, such as a watcher, wrote into it meanwhile."""
    with contextlib.suppress(IndexNotFoundError):  # another process was faster
        if is_empty(indexes, manifest):
            indexes.drop(manifest.fingerprint)
        else:
            logger.warning("another process wrote into the index that was replaced: searchanything index SOURCE again")
