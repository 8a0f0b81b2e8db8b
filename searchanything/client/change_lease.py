"""Who fills an index that is not live yet, with another hash layer, other models or a backup: one process at a time.

By a note beside the index, which it renews.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from searchanything.core.errors import RegionIndexError
from searchanything.core.protocols import IndexStore

logger = logging.getLogger(__name__)

APPLYING_S: Final = 600.0
RENEW_S: Final = 20.0
_LEASE: Final = "hash-apply"  # as it was called when only layers were applied
_DOES: Final = "applies a hash layer or models, or restores a backup"


class CheckLease(Protocol):
    """Renews a lease where that is due; `now`: looks at once if nobody took it over. Raises: RegionIndexError."""

    def __call__(self, *, now: bool = False) -> None: ...


@contextlib.contextmanager
def change_lease(indexes: IndexStore, concerned: tuple[str, ...]) -> Iterator[CheckLease]:
    """Be the only one who fills an index; gives what renews the note. `concerned` are the indexes' fingerprints.

    Of two that begin at the same time the later note counts: who finds another one's gives way before it writes, or
    switches.

    Raises: RegionIndexError where another process does so.
    """
    own, kept_at = secrets.token_hex(8), -math.inf

    def check(*, now: bool = False) -> None:
        is_due = time.monotonic() - kept_at >= RENEW_S
        if (now or is_due) and _note(indexes).get("by") != own:  # its own one may have run out in one long step
            raise RegionIndexError(f"{indexes.uri}: another process {_DOES}; this one gives way")
        if is_due:
            keep()

    def keep() -> None:
        nonlocal kept_at
        kept_at = time.monotonic()
        note = {"by": own, "at": time.time(), "of": concerned, "machine": this_machine(), "pid": os.getpid()}
        indexes.remember(_LEASE, json.dumps(note).encode())

    check_free(indexes)
    keep()
    check(now=True)
    try:
        yield check
    finally:
        try:
            if _note(indexes).get("by") == own:
                indexes.remember(_LEASE, b"")
        except RegionIndexError as error:  # what the work raised, or that it is done, is what matters
            logger.warning("the note that an index is being filled stays for a while: %s", error)


def check_free(indexes: IndexStore) -> None:
    """Raises: RegionIndexError where another process fills an index."""
    if leased(indexes):
        raise RegionIndexError(
            f"{indexes.uri}: another process {_DOES}, or was killed on another machine less than "
            f"{APPLYING_S / 60:.0f} minutes ago; try again later"
        )


def _note(indexes: IndexStore) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(indexes.recall(_LEASE) or b"{}")
    return kept


def check_not_leased(indexes: IndexStore, fingerprint: str) -> None:
    """Raises: RegionIndexError where another process fills this index, which would become live half filled."""
    if fingerprint in leased(indexes).get("of", ()):
        raise RegionIndexError(
            f"{indexes.uri}: another process {_DOES}, and the index of these models is not whole yet; try again when "
            f"that is done, or {APPLYING_S / 60:.0f} minutes after it was killed on another machine"
        )


def leased(indexes: IndexStore) -> dict[str, Any]:
    """Who fills an index at present; empty if nobody."""
    kept = _note(indexes)
    is_fresh = abs(time.time() - kept.get("at", 0.0)) < APPLYING_S
    return {} if not is_fresh or (kept["machine"] == this_machine() and not _runs(kept["pid"])) else kept


def warn_of_killed(indexes: IndexStore, fingerprint: str) -> None:
    """Say, once, that the process which made this index live was killed before it was done."""
    note = _note(indexes)
    if leased(indexes) or len(of := note.get("of", ())) != 2 or of[1] != fingerprint:  # a restore is of one
        return
    logger.warning(
        "the index is live, but what made it so was ended before it looked for what was written and deleted right "
        "before: searchanything sync repair SOURCE"
    )
    indexes.remember(_LEASE, b"")


def this_machine() -> str:
    """Where this process runs; others of the same container or machine, and no others, see its number."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
