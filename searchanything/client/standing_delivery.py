"""New matches of standing queries to their webhooks: a message, then the note that it was sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from searchanything.answers.standing_answers import StandingDelivery, StandingMatches, StandingQuery, labels_of
from searchanything.client.lease import CheckLease
from searchanything.client.standing_looks import LookedFor, StandingLook, digests_of
from searchanything.client.standing_memory import DELIVERED, LONGEST_PAUSE_S, Looked, StandingMemory
from searchanything.client.webhooks import Sender
from searchanything.core.batching import batches
from searchanything.core.errors import FilterError, UsageError, WebhookError

MATCHES_AT_ONCE: Final = 100  # in a message
LIST_S: Final = 10.0  # after so long a look sees that a query was removed
ADVANCE_S: Final = 600.0  # so far may the kept moment lie behind where nothing is found
_FIRST_PAUSE_S: Final = 30.0  # between tries that fail, doubling


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """What is to be sent for the queries that have a webhook. Raises, all methods: RegionIndexError."""

    memory: StandingMemory
    sender: Sender
    queries: Sequence[StandingQuery]
    progress: Callable[[], None]

    def is_due(self, look: StandingLook) -> bool:
        """Whether there is anything to send or to note: as long as there is not, nothing is written."""
        for asked in look.asked(self.queries, self.memory.looked(DELIVERED)):
            if asked.error or lies_behind(asked, look.now_ms):
                return True
            try:
                if any(fresh.matches for fresh in look.fresh(asked)):
                    return True
            except FilterError:
                return True
        return False

    def paused(self, look: StandingLook) -> dict[str, str]:
        """Why the queries of which it is not the turn could not be sent, by their names."""
        known = self.memory.looked(DELIVERED)
        labels = labels_of(self.queries)
        states = ((labels[one.id], known.get(one.id)) for one in self.queries)
        return {name: state.error for name, state in states if state is not None and not state.is_due(look.now_ms)}

    def send(self, look: StandingLook, check: CheckLease) -> StandingDelivery:
        """Send what is new at a look. For who has the lease, which is renewed before each message."""
        sent, failed, dead = Counter[str](), self.paused(look), dict[str | None, str]()
        known = self.memory.looked(DELIVERED)
        looked = {one.id: known[one.id] for one in self.queries if one.id in known}
        still_stands, labels = self._removals(), labels_of(self.queries)
        for asked in look.asked(self.queries, looked):
            query, state = asked.query, asked.looked
            if not still_stands(query):
                continue
            try:
                if asked.error or query.webhook in dead:
                    raise UsageError(asked.error or dead[query.webhook])
                for fresh in look.fresh(asked):
                    state = state.with_again(fresh.again)
                    for some in batches(fresh.matches, MATCHES_AT_ONCE):
                        self.progress()
                        check(now=True)
                        self.sender.send(StandingMatches(query, tuple(some)), self.memory.indexes.uri)
                        sent[labels[query.id]] += len(some)
                        looked[query.id] = state = state.with_seen(digests_of(some))
                        self.memory.keep_looked(DELIVERED, looked)
                    state = state.until(fresh.until_ms)
                looked[query.id] = state.with_seen({}).done(overlap_ms=look.overlap_ms)
            except (WebhookError, UsageError) as error:
                failed[labels[query.id]] = str(error)
                if isinstance(error, WebhookError):
                    dead[query.webhook] = str(error)
                looked[query.id] = _failed(state, str(error), look.now_ms)
        check(now=True)
        self.memory.keep_looked(DELIVERED, looked)
        return StandingDelivery(dict(sent), failed)

    def _removals(self) -> Callable[[StandingQuery], bool]:
        """Whether a query was not removed meanwhile: the list is read again now and then, for webhooks may be slow."""
        read_at, ids = time.monotonic(), {one.id for one in self.queries}

        def still_stands(query: StandingQuery) -> bool:
            nonlocal read_at, ids
            if time.monotonic() - read_at >= LIST_S:
                ids, read_at = {one.id for one in self.memory.queries()}, time.monotonic()
            return query.id in ids

        return still_stands


def lies_behind(asked: LookedFor, now: int) -> bool:
    """Whether how far a query has come is to be noted although nothing matches: looks back grow longer."""
    return now - asked.looked.until_ms >= 1000 * ADVANCE_S


def _failed(state: Looked, error: str, now: int) -> Looked:
    """After a try that failed: the next one comes after a pause."""
    pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(state.failures, 20), LONGEST_PAUSE_S)
    return replace(state, failures=state.failures + 1, error=error, not_before_ms=now + round(1000 * pause_s))
