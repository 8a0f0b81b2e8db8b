"""Where standing queries lie: notes beside the index, so that they are those of all who use it.

    standing-query-ID     one of them, with all that is asked
    standing-ID           what it was made of: the picture, and features by the models that made them
    standing-delivered    up to when the index was looked at for those with a webhook, and what was sent lately
    standing-fetched      the same for those without

Whoever adds one, or changes how far they have come, has a lease. It keeps nobody from writing later than they should: a
write may hang, or its process be paused, after the last look at the lease. So each query is a note of its own, which no
other change touches.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from searchanything.answers.standing_answers import StandingQuery
from searchanything.client.lease import CheckLease, Lease, TakenOverError
from searchanything.core.errors import IndexDamagedError, UsageError
from searchanything.core.protocols import IndexStore
from searchanything.core.types import FloatArray, RGBImage
from searchanything.features.parquet import FeatureBatch
from searchanything.images.decoding import decode_image

LASTS_S: Final = 120.0
EDIT_WAIT_S: Final = 30.0  # for whoever changes the same note
_SETTLE_S: Final = 0.1  # so long may a write be under way of whoever did not see yet that its note was taken over
LONGEST_PAUSE_S: Final = 3600.0  # between tries that fail
DELIVERED: Final = "standing-delivered"
FETCHED: Final = "standing-fetched"
_ADDING: Final = "standing"
_QUERY: Final = "standing-query-"
_PICTURE: Final = "picture"
_MASK, _IMAGE = "mask", "image"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Looked:
    """How far one query has come: what was indexed until then was looked at, but for what is in `failures`' way.

    A content that was first indexed before `new_from_ms` is not new; of the others, `seen` are the digests of the
    matches that are dealt with, each with the time its image was first indexed. `failures` counts tries that failed one
    after the other, the last with `error`; the next is not before `not_before_ms`.
    """

    until_ms: int
    new_from_ms: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)
    failures: int = 0
    error: str = ""
    not_before_ms: int = 0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Looked:
        """What was noted. Raises: TypeError, ValueError, AttributeError for anything else."""
        made = cls(**document)
        numbers = (made.until_ms, made.new_from_ms, made.failures, made.not_before_ms, *made.seen.values())
        if any(type(one) is not int for one in numbers) or not isinstance(made.error, str):
            raise ValueError("expected how far a query has come")
        return made

    def with_seen(self, matches: Mapping[str, int]) -> Looked:
        """The same with further matches that are dealt with, after a try that succeeded."""
        return Looked(self.until_ms, self.new_from_ms, {**self.seen, **matches})

    def with_again(self, matches: Mapping[str, int]) -> Looked:
        """The same where matches that are dealt with were found again, perhaps of a later time."""
        return replace(self, seen={**self.seen, **matches})

    def until(self, moment_ms: int) -> Looked:
        """The same up to a later moment. What is new stays so: later rows may be of a content that is old by then."""
        return replace(self, until_ms=max(self.until_ms, moment_ms))

    def done(self, *, overlap_ms: int) -> Looked:
        """After a look to its end: without what no look back will take for new again."""
        return self.new_from(self.until_ms - overlap_ms)

    def new_from(self, moment_ms: int) -> Looked:
        """The same where nothing of before that moment is new, so that it need not be remembered."""
        new_from_ms = max(self.new_from_ms, moment_ms)
        seen = {name: first for name, first in self.seen.items() if first >= new_from_ms}
        return replace(self, new_from_ms=new_from_ms, seen=seen)

    def at(self, now_ms: int, *, overlap_ms: int) -> Looked:
        """The same where a clock that was far ahead has noted it: nothing would be new until that time."""
        if self.new_from_ms <= now_ms:
            return self
        return replace(self, until_ms=now_ms, new_from_ms=now_ms - overlap_ms)

    def is_due(self, now_ms: int) -> bool:
        """Whether it may be tried again. A pause that is longer than any was noted by a clock that was ahead."""
        return not now_ms < self.not_before_ms <= now_ms + round(1000 * LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a query was made of. `features` are one row each, by the feature fingerprint of their models.

    `picture` is a JPEG file; empty for words.
    """

    picture: bytes
    features: Mapping[str, FeatureBatch]

    def to_bytes(self) -> bytes:
        """As a NumPy archive."""
        arrays: dict[str, Any] = {_PICTURE: np.frombuffer(self.picture, dtype=np.uint8)}
        for name, one in self.features.items():
            arrays[f"{name}.{_MASK}"], arrays[f"{name}.{_IMAGE}"] = one.mask, one.image
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Kept:
        """Raises: ValueError, KeyError for anything that `to_bytes` did not write."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                if sum(one.file_size for one in archive.zip.infolist()) > len(data):
                    raise ValueError("its arrays are packed")  # whatever they unpack to
                arrays = {name: archive[name] for name in archive.files}
        except Exception as error:  # `zipfile` has half a dozen for what is damaged
            raise ValueError(f"no NumPy archive: {error}") from error
        names = {name.partition(".")[0] for name in arrays} - {_PICTURE}
        features = {name: FeatureBatch(arrays[f"{name}.{_MASK}"], arrays[f"{name}.{_IMAGE}"]) for name in names}
        return cls(arrays[_PICTURE].tobytes(), features)

    def pixels(self, name: str, *, max_pixels: int) -> RGBImage:
        """The picture, (H, W, 3) uint8 RGB. Raises: ImageError."""
        return decode_image(self.picture, name=name, max_pixels=max_pixels)


@dataclass(frozen=True, slots=True, eq=False)
class StandingMemory:
    """The notes of one index store. All methods raise: RegionIndexError, IndexUnavailableError."""

    indexes: IndexStore
    _turns: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock), repr=False)

    def edit(self, change: Callable[[CheckLease], None], note: str = _ADDING) -> None:
        """Have a note changed by `change`, which reads it, calls what it is given and writes.

        Who begins at the same moment may read before that and write after it. So what another process is writing is
        waited for, and `change` is made again until none was seen; it has nothing to do where its outcome is there.
        Threads go by turns.
        Raises: RegionIndexError where others have the note for long; what `change` raises.
        """
        until = time.monotonic() + EDIT_WAIT_S
        with self._turns[note]:
            while True:
                try:
                    with self.lease(note).held(wait_s=EDIT_WAIT_S) as check:
                        time.sleep(_SETTLE_S)
                        change(check)
                        check(now=True)
                        return
                except TakenOverError:
                    if time.monotonic() >= until:
                        raise

    def lease(self, note: str) -> Lease:
        """What whoever changes a note has."""
        return Lease(self.indexes, f"{note}-lease", "changes standing queries, or sends their matches", LASTS_S)

    def queries(self) -> list[StandingQuery]:
        """All of them, in the order they were added. Raises: IndexDamagedError."""
        found = [self._query(kept) for kept in self.indexes.recall_all(_QUERY).values()]
        return sorted(found, key=lambda one: one.created_at_ms)

    def _query(self, kept: bytes) -> StandingQuery:
        try:
            document = json.loads(kept)
            if document["format"] != _FORMAT:
                raise IndexDamagedError(
                    f"{self.indexes.uri}: a standing query is of format {document['format']}, this program reads "
                    f"{_FORMAT}: update it"
                )
            return StandingQuery.from_json(document["query"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IndexDamagedError(
                f"{self.indexes.uri}: a standing query cannot be read ({type(error).__name__}: {error})"
            ) from error

    def keep_query(self, query: StandingQuery) -> None:
        """Have it there from now on."""
        kept = json.dumps({"format": _FORMAT, "query": query.to_json()}).encode()
        self.indexes.remember(f"{_QUERY}{query.id}", kept)

    def kept(self, query: StandingQuery) -> Kept:
        """What a query was made of. Raises: UsageError where it is damaged: whoever added the query can help that."""
        try:
            return Kept.from_bytes(self.indexes.recall(_note_of(query)))
        except (ValueError, KeyError) as error:
            raise UsageError(
                f"what standing query {query.name!r} was made of cannot be read ({error}): remove it, and add it again"
            ) from error

    def keep(self, query: StandingQuery, kept: Kept) -> None:
        """Keep what a query was made of."""
        self.indexes.remember(_note_of(query), kept.to_bytes())

    def keep_again(self, query: StandingQuery, kept: Kept) -> None:
        """Keep it with what other models made of it; nothing is left where the query was removed meanwhile."""
        self.keep(query, kept)
        if not self.indexes.recall(f"{_QUERY}{query.id}"):
            self.indexes.remember(_note_of(query), b"")

    def forget(self, query: StandingQuery) -> None:
        """Delete a query, and then what it was made of."""
        self.indexes.remember(f"{_QUERY}{query.id}", b"")
        self.indexes.remember(_note_of(query), b"")

    def notes(self) -> dict[str, bytes]:
        """All notes, for a backup: the queries first, and nothing of one that is removed meanwhile."""
        named = [(one, f"{_QUERY}{one.id}") for one in self.queries()]
        queries = [(one, name, kept) for one, name in named if (kept := self.indexes.recall(name))]
        names = [*(_note_of(one) for one, _, _ in queries), DELIVERED, FETCHED] if queries else []
        further = {name: kept for name in names if (kept := self.indexes.recall(name))}
        return {name: kept for _, name, kept in queries} | further

    def check_notes(self, notes: Mapping[str, bytes]) -> None:
        """See that notes are such as `notes` gives. Raises: ValueError, IndexDamagedError."""
        queries = [self._query(kept) for name, kept in notes.items() if name.startswith(_QUERY)]
        made_of = {_note_of(one) for one in queries}
        if odd := notes.keys() - {f"{_QUERY}{one.id}" for one in queries} - made_of - {DELIVERED, FETCHED}:
            raise ValueError(f"no note of standing queries is called {min(odd)!r}")
        for name in made_of & notes.keys():  # it lacks where a query was removed while the backup was taken
            Kept.from_bytes(notes[name])

    def looked(self, note: str) -> dict[str, Looked]:
        """How far the queries of a note have come, by their ids; nothing for what cannot be read."""
        try:
            return {name: Looked.of(one) for name, one in json.loads(self.indexes.recall(note) or b"{}").items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def keep_looked(self, note: str, looked: Mapping[str, Looked]) -> None:
        """Put these in the place of all of a note. For who has its lease."""
        document = {name: {**asdict(one), "seen": dict(one.seen)} for name, one in looked.items()}
        self.indexes.remember(note, json.dumps(document).encode())


def note_of_looks(query: StandingQuery) -> str:
    """In which note it stands how far a query has come."""
    return FETCHED if query.webhook is None else DELIVERED


def first_look(query: StandingQuery) -> Looked:
    """Of a query that was never asked."""
    return Looked(query.created_at_ms, query.new_from_ms, dict(query.known))


def text_features(embedding: FloatArray) -> FeatureBatch:
    """The embedding (1, D) of a text, as features of words alone."""
    return FeatureBatch(np.zeros((1, 0), dtype=np.float32), embedding)


def _note_of(query: StandingQuery) -> str:
    return f"standing-{query.id}"
