"""Standing queries: questions that are kept, and asked again and again of what is new in the index.

    add ─► kept beside the index ─► asked of what was indexed since the last look ─┬► sent to a webhook (`deliver`)
                                                                                  └► fetched (`new_matches`)

Nothing is asked when an image is committed: whoever looks asks for the rows of a stretch of time, so that writers know
nothing of it, and what was missed for a day is found in one question. A match counts as dealt with after it was taken;
a look that is killed in between, or whose webhook fails, is made again. So each match comes at least once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from searchanything.answers.standing_answers import (
    NewMatches,
    StandingDelivery,
    StandingMatches,
    StandingQuery,
    StandingStatus,
    checked_name,
    checked_webhook,
)
from searchanything.client.asking import Asking
from searchanything.client.standing_delivery import Delivery, lies_behind
from searchanything.client.standing_features import StandingFeatures
from searchanything.client.standing_looks import LookedFor, StandingLook, digests_of, overlap_ms_of
from searchanything.client.standing_memory import (
    DELIVERED,
    FETCHED,
    Looked,
    StandingMemory,
    first_look,
    note_of_looks,
)
from searchanything.client.standing_questions import standing_question
from searchanything.client.stored_questions import StoredInput
from searchanything.client.webhooks import Sender
from searchanything.core.arguments import check_filter_kind
from searchanything.core.errors import FilterError, UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Filter
from searchanything.images.inputs import ImageInput
from searchanything.ingest.forget import now_ms
from searchanything.search.calibration import rate_of
from searchanything.search.new_matches import NewMatch

RARE: Final = 1e-4  # the false-match rate of a query that names none
MOST_QUERIES: Final = 1000
MOST_FETCHED: Final = 10_000  # of one query at once; the others come with the next look
NAMED: Final = 10  # in a message
EDIT_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class StandingQueries:
    """What `Client.standing` gives. Thread-safe, and safe between processes."""

    asking: Asking
    memory: StandingMemory
    features: StandingFeatures

    @classmethod
    def of(cls, asking: Asking) -> StandingQueries:
        """Those of the index that questions go to. Raises: UsageError in a view of some places."""
        features = StandingFeatures.of(asking.connection)
        return cls(asking, features.memory, features)

    def add(
        self,
        name: str,
        image: ImageInput | StoredInput | None = None,
        prompt: object = None,
        *,
        text: str | None = None,
        filter: Filter | None = None,
        max_false_match: float = RARE,
        webhook: str | None = None,
    ) -> StandingQuery:
        """Keep a question, and ask it of all that is indexed from now on.

        `image`, `prompt` and `text` are as for `Client.query`, but for several regions at once. An image matches if its
        nearest region is nearer than all but `max_false_match` of unrelated ones. It counts once for each content:
        what is indexed again, or gets other metadata, does not match again. Matches are sent to `webhook`
        (http(s)://…) by `watch` or `deliver`; without one, `new_matches` gives them.

        The picture is kept, at most 1,280 px wide or high, so that a change of hash layer or models changes nothing.

        Raises: UsageError for a name that is taken, a rate that no distance has, or an index of fewer than 200 regions;
        and as `Client.query`.
        """
        name, address = checked_name(name), checked_webhook(webhook)
        _check_filter(filter)
        rate = rate_of(max_false_match)
        if rate is None:
            raise UsageError("max_false_match: a standing query needs a rate, such as 1e-4")
        if address is not None:
            self._sender()
        _check_free(name, self.memory.queries())
        begun_ms = now_ms()
        question = standing_question(self.asking, image, prompt, text)
        query = StandingQuery(
            id=secrets.token_hex(8),
            name=name,
            kind=question.kind,
            max_false_match=rate,
            created_at_ms=begun_ms,
            prompt=question.prompt,
            image=question.image,
            mask=question.mask,
            filter=filter,
            webhook=address,
            new_from_ms=max(0, begun_ms - overlap_ms_of(self.asking)),
        )
        self.memory.keep(query, question.kept)
        try:
            query = replace(query, known=self._known(query, question.index))
            with self.memory.lease().held(wait_s=EDIT_WAIT_S) as check:
                queries = self.memory.queries()
                _check_free(name, queries)
                check(now=True)
                self.memory.keep_queries([*queries, query])
        except BaseException:
            self.memory.forget(query)
            raise
        return query

    def list(self) -> list[StandingStatus]:
        """All standing queries in the order they were added, with how far each has come. Raises: RegionIndexError."""
        looked = {note: self.memory.looked(note) for note in (DELIVERED, FETCHED)}
        listed = []
        for query in self.memory.queries():
            one = looked[note_of_looks(query)].get(query.id) or first_look(query)
            listed.append(StandingStatus(query, one.until_ms, one.error, one.not_before_ms))
        return listed

    def remove(self, name: str) -> None:
        """Ask a query no more, and forget it. Raises: UsageError where there is none of that name; RegionIndexError."""
        with self.memory.lease().held(wait_s=EDIT_WAIT_S) as check:
            queries = self.memory.queries()
            query = _named(name, queries)
            check(now=True)
            self.memory.keep_queries(one for one in queries if one.name != name)
        self.memory.forget(query)

    def test(self, name: str) -> None:
        """Send a query's webhook a message without matches. Raises: WebhookError; UsageError where it has none."""
        query = _named(name, self.memory.queries())
        if query.webhook is None:
            raise UsageError(f"standing query {name!r} has no webhook: its matches are fetched")
        self._sender().send(StandingMatches(query, ()), self.memory.indexes.uri)

    @contextmanager
    def new_matches(self) -> Iterator[NewMatches]:
        """The new matches of the queries without a webhook, at most some ten thousand of each.

        They count as dealt with when the block ends; if it ends with an error they come again with the next look.

            with client.standing.new_matches() as found:
                for one in found.matches: ...

        A match may come twice, where two processes fetch at once or one is killed. Raises: IndexNotFoundError,
        RegionIndexError.
        """
        queries = [one for one in self.memory.queries() if one.webhook is None]
        if not queries:
            yield NewMatches()
            return
        look, found, failed, after = self._look(), list[StandingMatches](), dict[str, str](), dict[str, Looked]()
        for asked in look.asked(queries, self.memory.looked(FETCHED)):
            try:
                if asked.error:
                    raise UsageError(asked.error)
                matches, looked = _fetched(look, asked)
            except UsageError as error:
                failed[asked.query.name] = str(error)
                continue
            if matches:
                found.append(StandingMatches(asked.query, tuple(matches)))
            if matches or lies_behind(asked, look.now_ms):
                after[asked.query.id] = looked
        yield NewMatches(tuple(found), failed)
        if after:
            self._keep_fetched(after)

    def deliver(self, *, progress: Callable[[], None] | None = None) -> StandingDelivery:
        """Send the new matches of the queries with a webhook, in messages of at most 100.

        A webhook that fails is tried again after 30 seconds, and after ever longer pauses up to an hour; nothing is
        lost meanwhile, and until then the answer says why. Of several processes one sends. `progress` is called before
        each message; what it raises ends the run. Raises: IndexNotFoundError, RegionIndexError, SettingsError.
        """
        queries = [one for one in self.memory.queries() if one.webhook is not None]
        if not queries:
            return StandingDelivery()
        delivery = Delivery(self.memory, self._sender(), queries, progress or _go_on)
        look, lease = self._look(), self.memory.lease(DELIVERED)
        if not delivery.is_due(look) or lease.holder:
            return StandingDelivery(failed=delivery.paused(look))
        with lease.held() as check:
            return delivery.send(self._look(), check)

    def _keep_fetched(self, after: Mapping[str, Looked]) -> None:
        """Note what is dealt with, beside what others noted meanwhile."""
        with self.memory.lease(FETCHED).held(wait_s=EDIT_WAIT_S) as check:
            known, ids = self.memory.looked(FETCHED), {one.id for one in self.memory.queries()}
            now, overlap_ms = now_ms(), overlap_ms_of(self.asking)
            merged = {name: one for name, one in known.items() if name in ids}
            for name in after.keys() & ids:
                merged[name] = _both(known.get(name, after[name]).at(now, overlap_ms=overlap_ms), after[name])
            check(now=True)
            self.memory.keep_looked(FETCHED, merged)

    def _known(self, query: StandingQuery, index: RegionIndex) -> dict[str, int]:
        """What matches and was indexed just before: a later look back is not to take it for new. Raises: UsageError."""
        look = StandingLook(self.asking, self.features, index, query.created_at_ms)
        asked = look.wanted(query, Looked(query.created_at_ms, query.new_from_ms))
        if asked.wanted is None:
            raise UsageError(asked.error)
        if asked.wanted.most_bits < 0 and asked.scale is not None and asked.scale.rates is not None:
            raise UsageError(
                f"max_false_match: even an equal code has a rate of {asked.scale.rates[0]:.1e} here, for this one has "
                f"many neighbours: take more than that, not {query.max_false_match:g}"
            )
        return {name: first for fresh in look.fresh(asked) for name, first in digests_of(fresh.matches).items()}

    def _look(self) -> StandingLook:
        return StandingLook(self.asking, self.features, self.asking.connection.read_index(), now_ms())

    def _sender(self) -> Sender:
        return Sender.of(self.asking.connection.settings.standing)


def _go_on() -> None:
    """Nothing has to be said, nor ended."""


def _fetched(look: StandingLook, asked: LookedFor) -> tuple[list[NewMatch], Looked]:
    """What is new for a query, and how far it has come then. Raises: FilterError."""
    looked, matches = asked.looked, list[NewMatch]()
    for fresh in look.fresh(asked):
        matches += fresh.matches
        looked = looked.with_seen({**fresh.again, **digests_of(fresh.matches)}).until(fresh.until_ms)
        if len(matches) >= MOST_FETCHED:
            return matches, looked
    return matches, looked.done(overlap_ms=look.overlap_ms)


def _both(one: Looked, other: Looked) -> Looked:
    """Where two processes fetched at once: as far as either has come."""
    return one.with_seen(other.seen).until(other.until_ms).new_from(other.new_from_ms)


def _check_free(name: str, queries: Collection[StandingQuery]) -> None:
    """Raises: UsageError where a name is taken, or there are too many queries."""
    if any(one.name == name for one in queries):
        raise UsageError(f"there is a standing query {name!r}: remove it first, or take another name")
    if len(queries) >= MOST_QUERIES:
        raise UsageError(f"there are {MOST_QUERIES:,} standing queries, which is as many as there may be")


def _named(name: str, queries: Collection[StandingQuery]) -> StandingQuery:
    """Raises: UsageError where there is none of that name."""
    for one in queries:
        if one.name == name:
            return one
    names = ", ".join(repr(one.name) for one in list(queries)[:NAMED]) or "there is none"
    names += f" and {len(queries) - NAMED:,} more" if len(queries) > NAMED else ""
    raise UsageError(f"expected the name of a standing query ({names}), got {name!r}")


def _check_filter(filter: Filter | None) -> None:
    """Raises: FilterError, UsageError."""
    check_filter_kind(filter)
    if filter is not None and filter.indexed_at_ms != (None, None):
        raise FilterError("indexed_at_ms: a standing query looks at what is indexed from now on; leave it out")
