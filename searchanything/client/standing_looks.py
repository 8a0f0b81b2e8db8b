"""One look at what is new: which standing queries can be asked, and what matches them that is not dealt with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from searchanything.answers.matching import Scale
from searchanything.answers.standing_answers import StandingQuery, match_digest
from searchanything.client.asking import Asking
from searchanything.client.standing_features import StandingFeatures
from searchanything.client.standing_memory import Looked, first_look
from searchanything.core.errors import IndexUnavailableError, SearchAnythingError, UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Place
from searchanything.encode.encoder import Encoder
from searchanything.search.calibration import LEAST_CODES
from searchanything.search.new_matches import NewMatch, Sought, may_match, new_matches
from searchanything.search.scoped import seen_in


@dataclass(frozen=True, slots=True, eq=False)
class LookedFor:
    """One query at a look, and how far it had come. `wanted` and `scale` are None where `error` says why it cannot be
    asked.
    """

    query: StandingQuery
    looked: Looked
    wanted: Sought | None = None
    scale: Scale | None = None
    error: str = ""


class Fresh(NamedTuple):
    """New matches of a stretch of time up to a moment, and what is noted of those in it that are dealt with.

    That may say another time than was noted before: an image was deleted and uploaded again.
    """

    matches: list[NewMatch]
    again: Mapping[str, int]
    until_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class StandingLook:
    """A look at the live index at one moment, `now_ms`. Raises, all methods: RegionIndexError."""

    asking: Asking
    features: StandingFeatures
    index: RegionIndex
    now_ms: int

    def asked(self, queries: Sequence[StandingQuery], looked: Mapping[str, Looked]) -> list[LookedFor]:
        """The queries whose turn it is, by how far each has come; one question to the index rules most of them out."""
        states = [
            (looked.get(one.id) or first_look(one)).at(self.now_ms, overlap_ms=self.overlap_ms) for one in queries
        ]
        due = [(one, state) for one, state in zip(queries, states, strict=True) if state.is_due(self.now_ms)]
        asked = [self.wanted(query, state) for query, state in due]
        may = self._may_match([one for one in asked if one.wanted is not None])
        return [one if one.wanted is None or one.query.id in may else _without_match(one) for one in asked]

    def index_of(self, query: StandingQuery) -> RegionIndex:
        """What a query is asked of: the places that whoever added it sees."""
        return seen_in(self.index, query.places)

    def _may_match(self, asked: Sequence[LookedFor]) -> set[str]:
        """The ids of those that may have a match: those with the same places are asked together."""
        views = defaultdict[tuple[Place, ...], list[LookedFor]](list)
        for one in asked:
            views[one.query.places].append(one)
        may = set[str]()
        for places, alike in views.items():
            found = may_match(seen_in(self.index, places), [one.wanted for one in alike if one.wanted is not None])
            may.update(one.query.id for one, near in zip(alike, found, strict=True) if near)
        return may

    def wanted(self, query: StandingQuery, looked: Looked) -> LookedFor:
        """What a query looks for, in what was indexed since it came so far."""
        try:
            code = self.features.code(query, self.index, self._encoder_of(query))
            scale = self.asking.judging.scale(self.index_of(query), code, query.kind)
            _check_rates(scale, query)
            most_bits = scale.most_bits(query.max_false_match)
        except IndexUnavailableError:
            raise
        except SearchAnythingError as error:
            return LookedFor(query, looked, error=str(error))
        since = max(0, min(looked.until_ms, self.now_ms) - self.overlap_ms)
        least = query.new_from_ms if query.new_from_ms <= self.now_ms else 0  # else it was added by a clock ahead
        new_from = max(looked.new_from_ms, least)
        wanted = Sought(code, query.kind, -1 if most_bits is None else most_bits, query.filter, since, new_from)
        return LookedFor(query, looked, wanted, scale)

    def fresh(self, asked: LookedFor) -> Iterator[Fresh]:
        """New matches that are not dealt with, with their rates, by stretches of time.

        Raises: FilterError for a filter that this index does not understand.
        """
        if asked.wanted is None or asked.scale is None:
            return
        if asked.wanted.most_bits < 0:
            yield Fresh([], {}, self.now_ms)
            return
        index, max_limit = self.index_of(asked.query), self.asking.connection.indexes.max_limit
        for found, until_ms in new_matches(index, asked.wanted, max_limit=max_limit, now_ms=self.now_ms):
            others = [one for one in found if not _is_dealt_with(one, asked)]
            again = digests_of(one for one in found if _is_dealt_with(one, asked))
            yield Fresh([replace(one, hit=asked.scale.judged(one.hit)) for one in others], again, until_ms)

    @property
    def overlap_ms(self) -> int:
        """How far back from where a query has come is looked once more."""
        return overlap_ms_of(self.asking)

    def _encoder_of(self, query: StandingQuery) -> Callable[[], Encoder]:
        connection = self.asking.connection
        return lambda: (connection.open_for_words() if query.kind == "words" else connection.open_to_ask())[1]


def overlap_ms_of(asking: Asking) -> int:
    """The setting `standing.overlap_s`, in milliseconds."""
    return round(1000 * asking.connection.settings.standing.overlap_s)


def digests_of(matches: Iterable[NewMatch]) -> dict[str, int]:
    """What is noted of matches that are dealt with."""
    return {match_digest(one): one.first_at_ms for one in matches}


def _check_rates(scale: Scale, query: StandingQuery) -> None:
    """Raises: UsageError where the index is too small for rates."""
    if scale.rates is None:
        what = "images" if query.kind == "images" else "regions"
        raise UsageError(
            f"such a standing query needs an index of at least {LEAST_CODES} {what}, for its matches are nearer than "
            f"nearly all of them; this one has {len(scale.background.codes)}"
        )


def _is_dealt_with(match: NewMatch, asked: LookedFor) -> bool:
    digest = match_digest(match)
    return digest in asked.looked.seen or match.first_at_ms <= asked.query.known.get(digest, -1)


def _without_match(asked: LookedFor) -> LookedFor:
    return asked if asked.wanted is None else replace(asked, wanted=replace(asked.wanted, most_bits=-1))
