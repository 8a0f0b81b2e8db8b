"""New matches of standing queries to whoever fetches them: what is new, and then the note that it was taken.

The two may lie in different processes, with a server between them: what is noted is what the first one gave.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from searchanything.answers.standing_answers import NewMatches, StandingMatches, StandingQuery, Taken, labels_of
from searchanything.client.lease import CheckLease
from searchanything.client.standing_delivery import lies_behind
from searchanything.client.standing_looks import LookedFor, StandingLook, digests_of
from searchanything.client.standing_memory import FETCHED, Looked, StandingMemory, first_look
from searchanything.core.errors import UsageError
from searchanything.core.types import Place
from searchanything.search.new_matches import NewMatch

MOST_FETCHED: Final = 10_000  # of one query at once; the others come with the next look
MOST_NOTED: Final = 1_000_000  # matches of one query that are remembered as dealt with
MOST_NOTED_OF_PLACES: Final = 200_000  # of all queries of some places: whoever looks reads them, also for other places


def fetched(
    look: StandingLook, memory: StandingMemory, queries: Sequence[StandingQuery], most: int | None
) -> NewMatches:
    """What is new for some queries: about so many matches, or some ten thousand of each. Raises: RegionIndexError."""
    found, failed, taken = list[StandingMatches](), dict[str, str](), dict[str, Taken]()
    labels = labels_of(queries)
    room, complete = math.inf if most is None else most, True
    for asked in look.asked(queries, memory.looked(FETCHED)):
        if room <= 0:
            complete = False
            break
        try:
            if asked.error:
                raise UsageError(asked.error)
            matches, one, is_all = _of_query(look, asked, most=min(room, MOST_FETCHED))
        except UsageError as error:
            failed[labels[asked.query.id]] = str(error)
            continue
        room, complete = room - len(matches), complete and is_all
        if matches:
            found.append(StandingMatches(asked.query, tuple(matches)))
        if matches or not is_all or lies_behind(asked, look.now_ms):
            taken[asked.query.id] = one
    return NewMatches(tuple(found), failed, taken, complete)


def note_taken(
    memory: StandingMemory,
    taken: Mapping[str, Taken],
    seen: Callable[[Iterable[StandingQuery]], Collection[StandingQuery]],
    *,
    overlap_ms: int,
    clock: Callable[[], int],
) -> None:
    """Note what is dealt with, beside what others noted meanwhile; of queries that whoever says so sees alone.

    Raises: RegionIndexError; UsageError for more than can be remembered.
    """

    def note(check: CheckLease) -> None:
        known, queries = memory.looked(FETCHED), memory.queries()
        ids, now = {one.id for one in queries}, clock()
        merged = {name: one for name, one in known.items() if name in ids}
        for query in seen(queries):
            if query.id in taken:
                before = known.get(query.id, first_look(query)).at(now, overlap_ms=overlap_ms)
                merged[query.id] = _with_taken(before, taken[query.id], now)
        _check_noted(queries, merged, taken)
        check(now=True)
        memory.keep_looked(FETCHED, merged)

    memory.edit(note, FETCHED)


def _of_query(look: StandingLook, asked: LookedFor, *, most: float) -> tuple[list[NewMatch], Taken, bool]:
    """What is new for a query, how far it has come then, and whether that is all. Raises: FilterError."""
    state, matches, seen = asked.looked, list[NewMatch](), dict[str, int]()
    is_all = True
    for fresh in look.fresh(asked):
        matches += fresh.matches
        noted = {**fresh.again, **digests_of(fresh.matches)}
        seen |= {name: first for name, first in noted.items() if asked.looked.seen.get(name) != first}
        state = state.until(fresh.until_ms)
        if len(matches) >= most or len(seen) >= MOST_FETCHED:
            is_all = fresh.until_ms >= look.now_ms
            break
    state = state.done(overlap_ms=look.overlap_ms) if is_all else state
    return matches, Taken(state.until_ms, state.new_from_ms, seen), is_all


def _check_noted(queries: Iterable[StandingQuery], looked: Mapping[str, Looked], taken: Collection[str]) -> None:
    """Raises: UsageError for more than can be remembered."""
    noted, concerned = Counter[tuple[Place, ...]](), set[tuple[Place, ...]]()
    for query in queries:
        noted[query.places] += len(looked[query.id].seen) if query.id in looked else 0
        if query.id in taken:
            concerned.add(query.places)
    for places in concerned:
        if places and noted[places] > MOST_NOTED_OF_PLACES:
            raise UsageError(f"expected at most {MOST_NOTED_OF_PLACES:,} matches of some places that are remembered")


def _with_taken(known: Looked, taken: Taken, now: int) -> Looked:
    """As far as either has come, where two processes fetched at once; no further than now, whoever says so."""
    seen = {name: min(first, now) for name, first in taken.seen.items()}
    looked = known.with_seen(seen).until(min(taken.until_ms, now)).new_from(min(taken.new_from_ms, now))
    if len(looked.seen) > MOST_NOTED:
        raise UsageError(f"expected at most {MOST_NOTED:,} matches of one query that are remembered")
    return looked
