"""Who fills an index that is not live yet, with another hash layer, other models or a backup: one process at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from searchanything.client.lease import CheckLease, Lease
from searchanything.core.errors import RegionIndexError
from searchanything.core.protocols import IndexStore

logger = logging.getLogger(__name__)

APPLYING_S: Final = 600.0
_LEASE: Final = "hash-apply"  # as it was called when only layers were applied
_BEGUN: Final = "begun-indexes"
_BEHIND: Final = "behind-index"
_DOES: Final = "applies a hash layer or models, or restores a backup"


@contextmanager
def change_lease(indexes: IndexStore, concerned: tuple[str, ...], command: str) -> Iterator[CheckLease]:
    """Be the only one who fills an index, the last of those concerned, or switches. `command` is what goes on with it.

    Raises: as `Lease.held`.
    """
    with _lease(indexes).held(concerned) as check:
        note_begun(indexes, concerned, command)
        yield check


def note_begun(indexes: IndexStore, concerned: tuple[str, ...], command: str) -> None:
    """Note which command goes on with filling the last of those concerned; of the others none is begun any more."""
    begun = {name: how for name, how in begun_indexes(indexes).items() if name not in concerned}
    indexes.remember(_BEGUN, json.dumps(begun | {concerned[-1]: command}, sort_keys=True).encode())


def begun_indexes(indexes: IndexStore) -> dict[str, str]:
    """By fingerprint, the commands that go on with indexes which somebody began to fill: one that is not live, nor was
    since, holds a part. Raises: RegionIndexError.
    """
    begun: dict[str, str] = json.loads(indexes.recall(_BEGUN) or b"{}")
    there = {one.fingerprint for one in indexes.manifests()}
    return {name: command for name, command in begun.items() if name in there}


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


def note_behind(indexes: IndexStore, fingerprint: str) -> None:
    """Note, right before it becomes live, that this index lacks what is written meanwhile; "" when it has that."""
    indexes.remember(_BEHIND, fingerprint.encode())


def warn_of_ended(indexes: IndexStore, fingerprint: str) -> None:
    """Say, once, that what made this index live was ended, in whatever way, before it was done."""
    if leased(indexes) or indexes.recall(_BEHIND) != fingerprint.encode():
        return
    logger.warning(
        "the index is live, but what made it so was ended before it looked for what was written and deleted right "
        "before: searchanything sync repair SOURCE"
    )
    note_behind(indexes, "")


def _lease(indexes: IndexStore) -> Lease:
    return Lease(indexes, _LEASE, _DOES, APPLYING_S)
