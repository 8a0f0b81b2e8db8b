"""Standing queries: questions that are kept, and asked of what is indexed from then on.

A query holds what it was made of, so that it can be asked by any hash layer and any models: the features of what was
selected, and the picture with its mask (`client.standing_memory`). What stands here is plain JSON.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple, Self, cast, get_args
from urllib.parse import urlsplit

from searchanything.answers.questions import filter_of
from searchanything.core.arguments import check_kind
from searchanything.core.documents import filter_document, hit_document, mask_document, mask_of
from searchanything.core.errors import UsageError
from searchanything.core.geometry import check_rle
from searchanything.core.types import Filter, ImageRef, MaskRLE, Place
from searchanything.search.new_matches import NewMatch

MOST_NAME_LETTERS: Final = 100
_ID: Final = re.compile(r"[0-9a-f]{16}")
# Python 3.11 reads host fd00::7 out of evil.example[fd00::7], and sends to another.
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]@:\\]+)(:\d*)?")
StandingKind = Literal["regions", "images", "words"]


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A question that is kept. `kind` says which codes it is compared with.

    `prompt` and `image` say what was asked with, for people; `mask` is what that selected, None for whole images and
    words. A match is nearer than all but `max_false_match` of unrelated regions. `webhook` is where matches are sent;
    without one they wait to be fetched. What was first indexed before `new_from_ms` never matches; of what was indexed
    between that and `created_at_ms`, `known` are the matches. `known_bits` says, by the index's fingerprint, how many
    bits a match might differ by then: rates change, and what was too far is not to match later. The query is asked of
    what lies in `places`, if any, as whoever added it saw no more; `added_by` names the server's key that they had.
    """

    id: str
    name: str
    kind: StandingKind
    max_false_match: float
    created_at_ms: int
    prompt: Mapping[str, Any]
    image: str | None = None
    mask: MaskRLE | None = field(default=None, repr=False)
    filter: Filter | None = None
    webhook: str | None = field(default=None, repr=False)  # often a secret
    new_from_ms: int = 0
    known: Mapping[str, int] = field(default_factory=dict, repr=False)
    known_bits: Mapping[str, int] = field(default_factory=dict, repr=False)
    places: tuple[Place, ...] = ()
    added_by: str | None = None

    @property
    def text(self) -> str | None:
        """The words of a question in words alone."""
        return cast("str", self.prompt["text"]) if self.kind == "words" else None

    def to_json(self) -> dict[str, Any]:
        """All of it, to be kept."""
        return {one.name: getattr(self, one.name) for one in fields(self)} | {
            "prompt": dict(self.prompt),
            "mask": None if self.mask is None else mask_document(self.mask),
            "filter": None if self.filter is None else filter_document(self.filter),
            "known": dict(self.known),
            "known_bits": dict(self.known_bits),
            "places": list(map(list, self.places)),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote. Raises: KeyError, TypeError, ValueError for anything else."""
        mask = document["mask"]
        read = {
            "mask": None if mask is None else mask_of(mask),
            "filter": filter_of(document["filter"]),
            "places": tuple((str(bucket), str(key_prefix)) for bucket, key_prefix in document["places"]),
        }
        query = cls(**{**document, **read})
        _check_sound(query)
        return query

    def to_dict(self) -> dict[str, Any]:
        """As it is listed: without the paths of webhooks, which are often their secrets."""
        document = self.to_json()
        del document["known"], document["known_bits"], document["mask"], document["new_from_ms"]
        return document | {"webhook": None if self.webhook is None else shown_webhook(self.webhook)}


@dataclass(frozen=True, slots=True)
class StandingStatus:
    """A standing query, up to when what is indexed was looked at, and why that may stand still.

    `error` is what the last try ended with, "" if it succeeded; the next one is not before `not_before_ms`.
    """

    query: StandingQuery
    looked_until_ms: int
    error: str = ""
    not_before_ms: int = 0

    def to_dict(self) -> dict[str, Any]:
        """A JSON document: the query's fields and these."""
        return self.query.to_dict() | {
            "looked_until_ms": self.looked_until_ms,
            "error": self.error,
            "not_before_ms": self.not_before_ms,
        }


@dataclass(frozen=True, slots=True)
class StandingMatches:
    """New matches of one standing query; none of them in a test of its webhook alone."""

    query: StandingQuery
    matches: tuple[NewMatch, ...]

    @property
    def id(self) -> str:
        """The same for the same matches. Where some come again with others, only their own ids are the same."""
        digest = blake2b(self.query.id.encode(), digest_size=16)
        for one in sorted(map(match_digest, self.matches)):
            digest.update(one.encode())
        return digest.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """A JSON document: name and id of the query, and each hit with the time its image was first indexed.

        A match's `match_id` is that of its image and content: the same each time it comes.
        """
        matches = [
            {"match_id": match_digest(one)} | hit_document(one.hit) | {"first_indexed_at_ms": one.first_at_ms}
            for one in self.matches
        ]
        return {"query": self.query.name, "query_id": self.query.id, "matches": matches}


class Taken(NamedTuple):
    """How far a look has come with one query: up to a moment, with the matches in `seen` (digest: first indexed at)."""

    until_ms: int
    new_from_ms: int
    seen: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class NewMatches:
    """New matches by query, of those that have any; and why others could not be asked, as `labels_of` calls them.

    `taken` says how far each query has come with them, to be noted when they are dealt with. `complete` is False where
    there may be more.
    """

    matches: tuple[StandingMatches, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, Taken] = field(default_factory=dict, repr=False)
    complete: bool = True

    def to_dict(self) -> dict[str, Any]:
        """A JSON document."""
        matches = [one.to_dict() for one in self.matches]
        return {"matches": matches, "failed": dict(self.failed), "complete": self.complete}


@dataclass(frozen=True, slots=True)
class StandingDelivery:
    """What one look at the queries with a webhook came to: matches sent, and what failed, as `labels_of` calls them."""

    sent: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {"sent": dict(self.sent), "failed": dict(self.failed)}


def labels_of(queries: Iterable[StandingQuery]) -> dict[str, str]:
    """What each query is called in reports, by its id: its name, or the id where queries of several places share it."""
    listed = list(queries)
    names = Counter(one.name for one in listed)
    return {one.id: one.name if names[one.name] == 1 else one.id for one in listed}


def match_digest(match: NewMatch) -> str:
    """16 digits for an image in its content."""
    image = match.hit.image
    return blake2b(f"{image.bucket}\0{image.key}\0{match.hit.etag}".encode(), digest_size=8).hexdigest()


def _check_sound(query: StandingQuery) -> None:
    """Raises: ValueError, TypeError for values that no query has, as one of somebody else's backup may."""
    checked_name(query.name)
    checked_webhook(query.webhook)
    numbers = (query.created_at_ms, query.new_from_ms, *query.known.values(), *query.known_bits.values())
    texts = (query.image, query.added_by, query.prompt["text"] if query.kind == "words" else None)
    if (
        not _ID.fullmatch(query.id)
        or query.kind not in get_args(StandingKind)
        or (query.mask is None) == (query.kind == "regions")
        or not 0 < query.max_false_match <= 1
        or any(type(one) is not int or not 0 <= one < 2**63 for one in numbers)
        or any(not isinstance(one, str | None) for one in texts)
        or not isinstance(query.prompt["kind"], str)
    ):
        raise ValueError(f"no query has the values of {query.name!r}")
    if query.mask is not None:
        check_rle(query.mask)


def checked_name(name: object) -> str:
    """A query's name. Raises: UsageError for what cannot be one: no text, or nothing that can be seen of it."""
    check_kind(name, str, "name", "a name for the standing query")
    text = str(name)
    if not text.strip() or len(text) > MOST_NAME_LETTERS or not text.isprintable():
        raise UsageError(f"name: expected 1 to {MOST_NAME_LETTERS} letters that can be seen, got {json.dumps(text)}")
    return text


def checked_webhook(address: object) -> str | None:
    """An address that matches can be sent to; None for none. Raises: UsageError."""
    check_kind(address, str | None, "webhook", "the address of a webhook, http(s)://host/path")
    if address is None:
        return None
    text = str(address)
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not text.isascii() or not text.isprintable() or " " in text or "#" in text:
        raise UsageError(
            "webhook: expected http(s)://host/path, in ASCII letters, without # and without user and password"
        )
    return text


def shown_webhook(address: str) -> str:
    """As much of a webhook's address as may be shown."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/" + ("…" if parts.path.strip("/") or parts.query else "")


def name_of_image(source: Mapping[str, Any]) -> str | None:
    """How a receipt's image is called, for people; None where it came as bytes or an array."""
    match source["source"]:
        case "object":
            return str(ImageRef(str(source["bucket"]), str(source["key"])))
        case "file":
            return str(source["path"])
    return None
