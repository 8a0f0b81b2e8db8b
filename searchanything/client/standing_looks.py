"""One look at what is new: which standing queries can be asked, and what matches them that is not dealt with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from searchanything.answers.matching import Scale
from searchanything.answers.standing_answers import StandingQuery, match_digest
from searchanything.client.asking import Asking
from searchanything.client.standing_features import StandingFeatures
from searchanything.client.standing_memory import Kept, Looked, first_look
from searchanything.core.errors import IndexUnavailableError, SearchAnythingError, UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.public_texts import public_text
from searchanything.core.types import Place
from searchanything.encode.encoder import Encoder
from searchanything.search.calibration import LEAST_CODES
from searchanything.search.few_matches import few_matches
from searchanything.search.new_matches import NewMatch, Sought, new_matches
from searchanything.search.scoped import seen_in


class Fresh(NamedTuple):
    """New matches of a stretch of time up to a moment, and what is noted of those in it that are dealt with.

    That may say another time than was noted before: an image was deleted and uploaded again.
    """

    matches: list[NewMatch]
    again: Mapping[str, int]
    until_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class LookedFor:
    """One query at a look, and how far it had come. `wanted` and `scale` are None where `error` says why it cannot be
    asked; `few` is what is new for it, where that was found together with others.
    """

    query: StandingQuery
    looked: Looked
    wanted: Sought | None = None
    scale: Scale | None = None
    error: str = ""
    few: Fresh | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StandingLook:
    """A look at the live index at one moment, `now_ms`. Raises, all methods: RegionIndexError."""

    asking: Asking
    features: StandingFeatures
    index: RegionIndex
    now_ms: int

    def asked(self, queries: Sequence[StandingQuery], looked: Mapping[str, Looked]) -> list[LookedFor]:
        """The queries whose turn it is, by how far each has come; what few of them match is found for all together."""
        states = [
            (looked.get(one.id) or first_look(one)).at(self.now_ms, overlap_ms=self.overlap_ms) for one in queries
        ]
        due = [(one, state) for one, state in zip(queries, states, strict=True) if state.is_due(self.now_ms)]
        asked = [self.wanted(query, state) for query, state in due]
        few = self._few_matches([one for one in asked if one.wanted is not None])
        return [replace(one, few=few.get(one.query.id)) for one in asked]

    def index_of(self, query: StandingQuery) -> RegionIndex:
        """What a query is asked of: the places that whoever added it sees."""
        return seen_in(self.index, query.places)

    def _few_matches(self, asked: Sequence[LookedFor]) -> dict[str, Fresh]:
        """What is new for those with few matches, by their ids: those with the same places are asked together."""
        views = defaultdict[tuple[Place, ...], list[LookedFor]](list)
        for one in asked:
            views[one.query.places].append(one)
        known = dict[str, Fresh]()
        for places, alike in views.items():
            found = few_matches(seen_in(self.index, places), [one.wanted for one in alike if one.wanted is not None])
            for one, matches in zip(alike, found, strict=True):
                if matches is not None:
                    known[one.query.id] = self._fresh(one, matches, self.now_ms)
        return known

    def wanted(self, query: StandingQuery, looked: Looked, kept: Kept | None = None) -> LookedFor:
        """What a query looks for, in what was indexed since it came so far. `kept`: what is still to be kept of it."""
        try:
            code = self.features.code(query, self.index, self._open_encoder, kept)
            scale = self.asking.judging.scale(self.index_of(query), code, query.kind)
            _check_rates(scale, query)
            most_bits = scale.most_bits(query.max_false_match)
        except IndexUnavailableError:
            raise
        except SearchAnythingError as error:
            return LookedFor(query, looked, error=public_text(error))
        since = max(0, min(looked.until_ms, self.now_ms) - self.overlap_ms)
        least = query.new_from_ms if query.new_from_ms <= self.now_ms else 0  # else it was added by a clock ahead
        new_from = max(looked.new_from_ms, least)
        wanted = Sought(code, query.kind, -1 if most_bits is None else most_bits, query.filter, since, new_from)
        return LookedFor(query, looked, wanted, scale)

    def fresh(self, asked: LookedFor) -> Iterator[Fresh]:
        """New matches that are not dealt with, with their rates, by stretches of time.

        Raises: FilterError for a filter that this index does not understand.
        """
        if asked.wanted is None:
            return
        if asked.few is not None:
            yield asked.few
            return
        for found, until_ms in new_matches(self.index_of(asked.query), asked.wanted, now_ms=self.now_ms):
            yield self._fresh(asked, found, until_ms)

    def _fresh(self, asked: LookedFor, found: Sequence[NewMatch], until_ms: int) -> Fresh:
        """Of what matches and is new: what is not dealt with, with its rates, and what is noted of the rest."""
        dealt_with = [self._is_dealt_with(one, asked) for one in found]
        others = [one for one, known in zip(found, dealt_with, strict=True) if not known]
        again = digests_of(one for one, known in zip(found, dealt_with, strict=True) if known)
        scale = asked.scale
        return Fresh(
            [one if scale is None else replace(one, hit=scale.judged(one.hit)) for one in others], again, until_ms
        )

    def _is_dealt_with(self, match: NewMatch, asked: LookedFor) -> bool:
        """Whether it was taken, or is of what was there when the query was added, matching then or too far to match."""
        digest, query = match_digest(match), asked.query
        if digest in asked.looked.seen or match.first_at_ms <= query.known.get(digest, -1):
            return True
        limit = query.known_bits.get(self.index.manifest.fingerprint)
        return limit is not None and match.first_at_ms < query.created_at_ms and match.hit.distance_bits > limit

    @property
    def overlap_ms(self) -> int:
        """How far back from where a query has come is looked once more."""
        return overlap_ms_of(self.asking)

    def _open_encoder(self) -> Encoder:
        return self.asking.connection.open_to_ask()[1]


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
