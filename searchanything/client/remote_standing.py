"""Standing queries of a server, for programs: kept, listed, fetched and removed over REST.

Only the standard library is imported here, as in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

from searchanything.client.calls import Call, document, hit_of, prompt_document, region_documents, sent_filter
from searchanything.core.errors import UsageError
from searchanything.core.types import Filter, Hit

MOST_AT_ONCE: Final = 2000  # matches of one answer


class RemoteQuery(NamedTuple):
    """Which standing query something is of."""

    id: str
    name: str


class RemoteMatch(NamedTuple):
    """The nearest region of an image, and when the image's content was first indexed; `id` is the same each time."""

    hit: Hit
    first_at_ms: int
    id: str


class RemoteStandingMatches(NamedTuple):
    """New matches of one standing query."""

    query: RemoteQuery
    matches: tuple[RemoteMatch, ...]


@dataclass(frozen=True, slots=True)
class RemoteNewMatches:
    """New matches by query, and why others could not be asked, by their names, or ids where several have one name.

    `complete` is False where there may be more; `taken` is what `RemoteStanding.take` is given.
    """

    matches: tuple[RemoteStandingMatches, ...]
    failed: Mapping[str, str]
    complete: bool
    taken: Mapping[str, Any] = field(repr=False)
    _document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """What the server sent."""
        matches = [
            RemoteStandingMatches(RemoteQuery(one["query_id"], one["query"]), tuple(map(_match_of, one["matches"])))
            for one in answer["matches"]
        ]
        return cls(tuple(matches), answer["failed"], answer["complete"], answer["taken"], answer)

    def to_dict(self) -> dict[str, Any]:
        """The document of `GET /v1/standing/matches`."""
        return dict(self._document)


@dataclass(frozen=True, slots=True, eq=False)
class RemoteStanding:
    """What `RemoteClient.standing` gives: the standing queries that the key sees. It needs the right `standing`.

    Raises, all methods: AccessError, ServerUnreachableError, and what the server says.
    """

    send: Callable[[Call[Any]], Any]
    image: Callable[[object], Mapping[str, Any]]

    def add(
        self,
        name: str,
        image: object = None,
        prompt: object = None,
        *,
        text: str | None = None,
        filter: Filter | None = None,
        max_false_match: float = 1e-4,
        webhook: str | None = None,
    ) -> dict[str, Any]:
        """Keep a question, as `StandingQueries.add`; its document. The server sends to webhooks that it allows alone.

        Raises: as `RemoteClient.query`.
        """
        if image is None and text is None:
            raise UsageError("expected an image, or words alone: add(name, text=…)")
        if region_documents(image) is not None:
            raise UsageError("expected one region or image for a standing query: add one query for each")
        asked = {
            "name": name,
            "image": None if image is None else self.image(image),
            "prompt": prompt_document(prompt),
            "text": text,
            "filter": sent_filter(filter),
            "max_false_match": max_false_match,
            "webhook": webhook,
        }
        added: dict[str, Any] = self.send(Call("POST", "/v1/standing", document, asked, once=True))
        return added

    def list(self) -> list[dict[str, Any]]:
        """The standing queries in the order they were added, with how far each has come."""
        listed: list[dict[str, Any]] = self.send(Call("GET", "/v1/standing", document))["queries"]
        return listed

    def remove(self, name: str) -> None:
        """Ask a query no more, and forget it. Raises: UsageError where there is none of that name or id."""
        self.send(Call("DELETE", f"/v1/standing/{self._id(name)}", bytes, once=True))

    def test(self, name: str) -> None:
        """Have its webhook sent a message without matches. Raises: WebhookError; UsageError where it has none."""
        self.send(Call("POST", f"/v1/standing/{self._id(name)}/test", bytes, once=True))

    @contextmanager
    def new_matches(self, name: str | None = None) -> Iterator[RemoteNewMatches]:
        """The new matches of the queries without a webhook, or of one of them, about 2,000 at a time.

        They count as dealt with when the block ends; if it ends with an error they come again. Where `complete` is
        False there may be more: ask again.
        """
        found = self.fetch(name)
        yield found
        self.take(found.taken)

    def fetch(self, name: str | None = None, *, most: int = MOST_AT_ONCE) -> RemoteNewMatches:
        """What `new_matches` gives, not dealt with before `take`: about `most` matches, 2,000 at most."""
        asked = {"limit": min(most, MOST_AT_ONCE)} | ({} if name is None else {"query": self._id(name)})
        return RemoteNewMatches.of(self.send(Call("GET", f"/v1/standing/matches?{urlencode(asked)}", document)))

    def take(self, taken: Mapping[str, Any]) -> None:
        """Note matches as dealt with: `taken` of what was fetched."""
        if taken:
            self.send(Call("POST", "/v1/standing/matches/taken", bytes, {"taken": taken}))

    def _id(self, name: str) -> str:
        """Raises: UsageError where no query has that name or id, or several have the name."""
        known = self.list()
        found = [one for one in known if one["id"] == name] or [one for one in known if one["name"] == name]
        if len(found) != 1:
            what = "there is none" if not found else f"{len(found)} have this name, so give the id"
            raise UsageError(f"expected the name of a standing query, got {name!r}: {what}")
        return str(found[0]["id"])


def _match_of(one: Mapping[str, Any]) -> RemoteMatch:
    return RemoteMatch(hit_of(one), one["first_indexed_at_ms"], one["match_id"])
