"""A note beside the index by which one process at a time does some work; it renews the note while it works.

A holder that was killed is seen at once on its own machine; on others its note runs out.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from searchanything.core.errors import RegionIndexError
from searchanything.core.protocols import IndexStore

logger = logging.getLogger(__name__)

RENEW_S: Final = 20.0
_ASK_AGAIN_S: Final = 0.2


class TakenOverError(RegionIndexError):
    """Another process began at the same moment; its note is the later one, so this one gives way."""


class CheckLease(Protocol):
    """Renews a lease where that is due; `now`: looks at once if nobody took it over. Raises: RegionIndexError."""

    def __call__(self, *, now: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Lease:
    """A kind of work on an index store that one process at a time does. `does` says what the other one does."""

    indexes: IndexStore
    note: str
    does: str
    lasts_s: float

    @property
    def holder(self) -> dict[str, Any]:
        """Who has it at present; empty if nobody."""
        kept = self.kept
        is_fresh = abs(time.time() - kept.get("at", 0.0)) < self.lasts_s
        return {} if not is_fresh or (kept["machine"] == this_machine() and not _runs(kept["pid"])) else kept

    def check_free(self, *, wait_s: float = 0.0) -> None:
        """Wait so long for another process to end. Raises: RegionIndexError where one has it still."""
        until, holder = time.monotonic() + wait_s, self.holder
        while holder and time.monotonic() < until:
            time.sleep(_ASK_AGAIN_S)
            holder = self.holder
        if holder:
            raise RegionIndexError(f"{self.indexes.uri}: another process {self.does}; {self._until(holder)}")

    def _until(self, holder: dict[str, Any]) -> str:
        """Who has it, and how to go on, also where that one was killed."""
        age_s = max(0.0, time.time() - holder["at"])
        machine = str(holder["machine"]).partition(" ")[0]
        who = f"it is process {holder['pid']} on {machine}, last heard of {age_s:.0f} s ago"
        if holder["machine"] == this_machine():
            return f"{who}; try again when it has ended"
        return (
            f"{who}; try again when it has ended. If it was killed, the same command goes on in "
            f"{math.ceil(max(0.0, self.lasts_s - age_s) / 60)} min, and on {machine} at once"
        )

    @contextlib.contextmanager
    def held(self, concerned: tuple[str, ...] = (), *, wait_s: float = 0.0) -> Iterator[CheckLease]:
        """Have it; gives what renews it. `concerned` are the fingerprints of the indexes that the work is about.

        Of two that begin at the same time the later note counts: who finds another one's gives way, before it does
        anything. So long is waited for another process to end.

        Raises: RegionIndexError where another process has it.
        """
        own, kept_at = secrets.token_hex(8), -math.inf

        def check(*, now: bool = False) -> None:
            is_due = time.monotonic() - kept_at >= RENEW_S
            if (now or is_due) and self.kept.get("by") != own:  # its own one may have run out in one long step
                raise TakenOverError(
                    f"{self.indexes.uri}: another process {self.does}; this one gives way, try again later"
                )
            if is_due:
                keep()

        def keep() -> None:
            nonlocal kept_at
            kept_at = time.monotonic()
            note = {"by": own, "at": time.time(), "of": concerned, "machine": this_machine(), "pid": os.getpid()}
            self.indexes.remember(self.note, json.dumps(note).encode())

        self.check_free(wait_s=wait_s)
        keep()
        check(now=True)
        try:
            yield check
        finally:
            try:
                if self.kept.get("by") == own:
                    self.indexes.remember(self.note, b"")
            except RegionIndexError as error:  # what the work raised, or that it is done, is what matters
                logger.warning("the note of who %s stays for a while: %s", self.does, error)

    @property
    def kept(self) -> dict[str, Any]:
        """The note as it stands, whoever wrote it and when; empty if the last holder ended as it should."""
        kept: dict[str, Any] = json.loads(self.indexes.recall(self.note) or b"{}")
        return kept


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
