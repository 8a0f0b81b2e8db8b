"""Who fills an index that is not live yet, with another hash layer, other models or a backup: one process at a time."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any, Final

from searchanything.client.lease import CheckLease, Lease
from searchanything.core.errors import RegionIndexError
from searchanything.core.protocols import IndexStore

logger = logging.getLogger(__name__)

APPLYING_S: Final = 600.0
_LEASE: Final = "hash-apply"  # as it was called when only layers were applied
_DOES: Final = "applies a hash layer or models, or restores a backup"


def change_lease(indexes: IndexStore, concerned: tuple[str, ...]) -> AbstractContextManager[CheckLease]:
    """Be the only one who fills an index, or switches. Raises: as `Lease.held`."""
    return _lease(indexes).held(concerned)


def check_free(indexes: IndexStore) -> None:
    """Raises: RegionIndexError where another process fills an index."""
    _lease(indexes).check_free()


def check_not_leased(indexes: IndexStore, fingerprint: str) -> None:
    """Raises: RegionIndexError where another process fills this index, which would become live half filled."""
    if fingerprint in leased(indexes).get("of", ()):
        raise RegionIndexError(
            f"{indexes.uri}: another process {_DOES}, and the index of these models is not whole yet; try again when "
            f"that is done, or {APPLYING_S / 60:.0f} minutes after it was killed on another machine"
        )


def leased(indexes: IndexStore) -> dict[str, Any]:
    """Who fills an index at present; empty if nobody."""
    return _lease(indexes).holder


def warn_of_killed(indexes: IndexStore, fingerprint: str) -> None:
    """Say, once, that the process which made this index live was killed before it was done."""
    note = _lease(indexes).kept
    if leased(indexes) or len(of := note.get("of", ())) != 2 or of[1] != fingerprint:  # a restore is of one
        return
    logger.warning(
        "the index is live, but what made it so was ended before it looked for what was written and deleted right "
        "before: searchanything sync repair SOURCE"
    )
    indexes.remember(_LEASE, b"")


def _lease(indexes: IndexStore) -> Lease:
    return Lease(indexes, _LEASE, _DOES, APPLYING_S)
