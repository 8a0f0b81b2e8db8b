"""Standing queries: questions that are kept, and asked again and again of what is new in the index.

    add ─► kept beside the index ─► asked of what was indexed since the last look ─┬► sent to a webhook (`deliver`)
                                                                                  └► fetched (`new_matches`)

Nothing is asked when an image is committed: whoever looks asks for the rows of a stretch of time, so that writers know
nothing of it, and what was missed for a day is found in one question. A match counts as dealt with after it was taken;
a look that is killed in between, or whose webhook fails, is made again. So each match comes at least once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from searchanything.answers.standing_answers import (
    NewMatches,
    StandingDelivery,
    StandingMatches,
    StandingQuery,
    StandingStatus,
    Taken,
    checked_name,
    checked_webhook,
)
from searchanything.client.asking import Asking
from searchanything.client.lease import CheckLease
from searchanything.client.standing_delivery import Delivery
from searchanything.client.standing_features import StandingFeatures
from searchanything.client.standing_fetching import fetched, note_taken
from searchanything.client.standing_looks import StandingLook, digests_of, overlap_ms_of
from searchanything.client.standing_memory import (
    DELIVERED,
    FETCHED,
    Looked,
    StandingMemory,
    first_look,
    note_of_looks,
)
from searchanything.client.standing_questions import StandingQuestion, standing_question
from searchanything.client.stored_questions import StoredInput
from searchanything.client.webhooks import Sender
from searchanything.core.arguments import check_filter_kind
from searchanything.core.errors import FilterError, UsageError
from searchanything.core.types import Filter, Place, RGBImage
from searchanything.images.inputs import ImageInput
from searchanything.ingest.forget import now_ms
from searchanything.search.calibration import rate_of
from searchanything.search.scoped import contains

RARE: Final = 1e-4  # the false-match rate of a query that names none
MOST_QUERIES: Final = 1000
MOST_OF_VIEW: Final = 100  # of one view of some places, so that no key of a server takes all
MOST_LETTERS_OF_VIEW: Final = 8_000_000  # of what they ask: whoever looks reads it, also for other places
NAMED: Final = 10  # in a message


@dataclass(frozen=True, slots=True, eq=False)
class StandingQueries:
    """What `Client.standing` gives. Thread-safe, and safe between processes.

    Through a view of some places (`Client.within`) only the queries that were added through it, or through a view of
    parts of it, can be seen, fetched and removed; and they are asked of those places alone.
    """

    # Over 200 lines: what can be done with them, with what it promises; each look, fetching and sending lie elsewhere.

    asking: Asking
    memory: StandingMemory
    features: StandingFeatures

    @classmethod
    def of(cls, asking: Asking) -> StandingQueries:
        """Those of the index that questions go to."""
        features = StandingFeatures.of(asking.connection)
        return cls(asking, features.memory, features)

    def within(self, asking: Asking) -> StandingQueries:
        """The same through another view of the index; codes that were made are shared."""
        return replace(self, asking=asking)

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
        added_by: str | None = None,
    ) -> StandingQuery:
        """Keep a question, and ask it of all that is indexed from now on.

        `image`, `prompt` and `text` are as for `Client.query`, but for several regions at once. An image matches if its
        nearest region is nearer than all but `max_false_match` of unrelated ones. It counts once for each content:
        what is indexed again, or gets other metadata, does not match again. Matches are sent to `webhook`
        (http(s)://…) by `watch` or `deliver`; without one, `new_matches` gives them. `added_by` is for people who read
        the list: a server's key.

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
        self._check_free(name)
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
            places=self.places,
            added_by=added_by,
            new_from_ms=max(0, begun_ms - overlap_ms_of(self.asking)),
        )
        return self._kept(query, question)

    def queries(self) -> Sequence[StandingQuery]:
        """The standing queries alone, in the order they were added. Raises: RegionIndexError."""
        return self._seen()

    def list(self) -> list[StandingStatus]:
        """The standing queries in the order they were added, with how far each has come. Raises: RegionIndexError."""
        looked = {note: self.memory.looked(note) for note in (DELIVERED, FETCHED)}
        listed = []
        for query in self._seen():
            one = looked[note_of_looks(query)].get(query.id) or first_look(query)
            listed.append(StandingStatus(query, one.until_ms, one.error, one.not_before_ms))
        return listed

    def remove(self, name: str) -> None:
        """Ask a query no more, and forget it. Raises: UsageError where there is none of that name or id;
        RegionIndexError.
        """
        self.memory.forget(named_query(name, self._seen()))

    def test(self, name: str) -> None:
        """Send a query's webhook a message without matches. Raises: WebhookError; UsageError where it has none."""
        query = named_query(name, self._seen())
        if query.webhook is None:
            raise UsageError(f"standing query {name!r} has no webhook: its matches are fetched")
        self._sender().send(StandingMatches(query, ()), self.memory.indexes.uri)

    def picture(self, name: str) -> RGBImage:
        """What a query was made of, (H, W, 3) uint8 RGB: of a region, the part that holds it.

        Raises: UsageError where there is none of that name or id, or it is one by words; RegionIndexError, ImageError.
        """
        query = named_query(name, self._seen())
        if query.kind == "words":
            raise UsageError(f"standing query {query.name!r} is one by words: there is no picture of it")
        return self.features.picture(query)

    @contextmanager
    def new_matches(self, name: str | None = None) -> Iterator[NewMatches]:
        """The new matches of the queries without a webhook, or of one of them, at most some ten thousand of each.

        They count as dealt with when the block ends; if it ends with an error they come again with the next look.

            with client.standing.new_matches() as found:
                for one in found.matches: ...

        A match may come twice, where two processes fetch at once or one is killed. Raises: IndexNotFoundError,
        RegionIndexError; UsageError where there is no query of that name or id, or it has a webhook.
        """
        found = self.fetch(name)
        yield found
        self.take(found.taken)

    def fetch(self, name: str | None = None, *, most: int | None = None) -> NewMatches:
        """What `new_matches` gives, not dealt with before `take`: about `most` matches, or as many as it would.

        Raises: as `new_matches`.
        """
        queries = self._fetchable(name)
        return fetched(self._look(queries), self.memory, queries, most) if queries else NewMatches()

    def take(self, taken: Mapping[str, Taken]) -> None:
        """Note matches as dealt with: `NewMatches.taken`, by the queries' ids. What is known of them already stays.

        Raises: RegionIndexError; UsageError for more than can be remembered.
        """
        if taken:
            note_taken(self.memory, taken, self._seen, overlap_ms=overlap_ms_of(self.asking), clock=now_ms)

    def deliver(self, *, progress: Callable[[], None] | None = None) -> StandingDelivery:
        """Send the new matches of the queries with a webhook, in messages of at most 100.

        A webhook that fails is tried again after 30 seconds, and after ever longer pauses up to an hour; nothing is
        lost meanwhile, and until then the answer says why. Of several processes one sends. `progress` is called before
        each message; what it raises ends the run. Raises: IndexNotFoundError, RegionIndexError, SettingsError;
        UsageError in a view of some places.
        """
        self.asking.connection.whole()
        queries = self._with_webhook()
        if not queries:
            return StandingDelivery()
        delivery = Delivery(self.memory, self._sender(), queries, progress or _go_on)
        look, lease = self._look(queries), self.memory.lease(DELIVERED)
        if not delivery.is_due(look) or lease.holder:
            return StandingDelivery(failed=delivery.paused(look))
        with lease.held() as check:  # another process may have sent for one that was added meanwhile
            queries = self._with_webhook()
            return replace(delivery, queries=queries).send(self._look(queries), check)

    def _with_webhook(self) -> Sequence[StandingQuery]:
        return [one for one in self.memory.queries() if one.webhook is not None]

    def _kept(self, query: StandingQuery, question: StandingQuestion) -> StandingQuery:
        """The query, kept with all that is new from now on. Raises: as `add`."""
        query = self._with_known(query, question)
        self.memory.keep(query, question.kept)
        try:
            self.memory.edit(partial(self._change, query))
            self._check_free(query.name, beside=query)  # what another one wrote late may be there by now
        except UsageError:
            self.memory.forget(query)
            raise
        except BaseException:
            if query.id not in {one.id for one in self.memory.queries()}:  # what broke off may have arrived
                self.memory.forget(query)
            raise
        return query

    def _change(self, query: StandingQuery, check: CheckLease) -> None:
        """Have the query there, if it is not. Raises: UsageError."""
        if any(one.id == query.id for one in self.memory.queries()):
            return
        queries = self._check_free(query.name)
        self._check_size([*self._seen(queries), query])
        check(now=True)
        self.memory.keep_query(query)

    def _with_known(self, query: StandingQuery, question: StandingQuestion) -> StandingQuery:
        """The query, with what was indexed just before: a later look back takes none of it for new.

        Raises: UsageError.
        """
        look = StandingLook(self.asking, self.features, question.index, query.created_at_ms)
        asked = look.wanted(query, Looked(query.created_at_ms, query.new_from_ms), question.kept)
        if asked.wanted is None:
            raise UsageError(asked.error)
        if asked.wanted.most_bits < 0 and asked.scale is not None and asked.scale.rates is not None:
            raise UsageError(
                f"max_false_match: even an equal code has a rate of {asked.scale.rates[0]:.1e} here, for this one has "
                f"many neighbours: take more than that, not {query.max_false_match:g}"
            )
        known = {name: first for fresh in look.fresh(asked) for name, first in digests_of(fresh.matches).items()}
        return replace(query, known=known, known_bits={question.index.manifest.fingerprint: asked.wanted.most_bits})

    @property
    def places(self) -> tuple[Place, ...]:
        """All that these queries are asked of; none: everything."""
        return self.asking.connection.places

    def _seen(self, queries: Iterable[StandingQuery] | None = None) -> Sequence[StandingQuery]:
        """Those of the queries that this view shows."""
        known = self.memory.queries() if queries is None else queries
        return [one for one in known if contains(self.places, one.places)]

    def _fetchable(self, name: str | None) -> Sequence[StandingQuery]:
        """Those whose matches are fetched, or that of a name. Raises: UsageError."""
        if name is None:
            return [one for one in self._seen() if one.webhook is None]
        query = named_query(name, self._seen())
        if query.webhook is not None:
            raise UsageError(f"standing query {query.name!r} has a webhook: its matches are sent")
        return [query]

    def _check_free(self, name: str, *, beside: StandingQuery | None = None) -> Sequence[StandingQuery]:
        """All other queries. Raises: UsageError where a name is taken, or there are too many."""
        queries = [one for one in self.memory.queries() if beside is None or one.id != beside.id]
        seen = self._seen(queries)
        if any(one.name == name for one in seen):
            raise UsageError(f"there is a standing query {name!r}: remove it first, or take another name")
        for number, most in ((len(seen) if self.places else 0, MOST_OF_VIEW), (len(queries), MOST_QUERIES)):
            if number >= most:
                raise UsageError(f"there are {most:,} standing queries, which is as many as there may be")
        return queries

    def _check_size(self, seen: Sequence[StandingQuery]) -> None:
        """Raises: UsageError where what a view asks is more than its share."""
        if self.places and sum(len(json.dumps(one.to_json())) for one in seen) > MOST_LETTERS_OF_VIEW:
            raise UsageError(
                "the standing queries of these places are too large together: ask with a plainer mask, with fewer "
                "images in the filter, or with a lower max_false_match"
            )

    def _look(self, queries: Iterable[StandingQuery]) -> StandingLook:
        index = self.asking.connection.live_index(for_words=any(one.kind == "words" for one in queries))
        return StandingLook(self.asking, self.features, index, now_ms())

    def _sender(self) -> Sender:
        return Sender.of(self.asking.connection.settings.standing)


def _go_on() -> None:
    """Nothing has to be said, nor ended."""


def named_query(name: str, queries: Collection[StandingQuery]) -> StandingQuery:
    """The query of a name or an id. Raises: UsageError where there is none, or several have the name."""
    found = [one for one in queries if one.id == name] or [one for one in queries if one.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(one.id for one in found)
        raise UsageError(
            f"{name!r} is the name of {len(found)} standing queries of different places: give an id, {ids}"
        )
    names = ", ".join(repr(one.name) for one in list(queries)[:NAMED]) or "there is none"
    names += f" and {len(queries) - NAMED:,} more" if len(queries) > NAMED else ""
    raise UsageError(f"expected the name of a standing query ({names}), got {name!r}")


def _check_filter(filter: Filter | None) -> None:
    """Raises: FilterError, UsageError."""
    check_filter_kind(filter)
    if filter is not None and filter.indexed_at_ms != (None, None):
        raise FilterError("indexed_at_ms: a standing query looks at what is indexed from now on; leave it out")
