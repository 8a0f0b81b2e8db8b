"""The light client: the same questions, asked of `searchanything serve` over REST.

It needs the standard library alone. What is asked and how answers are read is in `calls`; here it is sent. The twin for
programs that await is in `awaited`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from searchanything.client.calls import (
    Call,
    document,
    error_of,
    image_bytes,
    image_document,
    prompt_document,
    region_documents,
    seconds_of,
    sent_filter,
)
from searchanything.client.remote_many import ask_many
from searchanything.client.remote_results import Marks, RemoteResults
from searchanything.client.remote_segments import RemoteSegments
from searchanything.client.remote_standing import RemoteStanding
from searchanything.core.arguments import check_flags, whole_number_of
from searchanything.core.closing import Closing
from searchanything.core.errors import NotOfferedHereError, ServerUnreachableError, UsageError
from searchanything.core.many_answers import ManyAnswer
from searchanything.core.types import Filter

__all__ = ["RemoteClient", "RemoteResults", "RemoteSegments"]

Result = TypeVar("Result")
_PROBE_S: Final = 2.0
_NOT_THERE: Final = 404
_NOT_BEGUN: Final = 429  # all other errors are answers to work that was done, or still goes on
_KNOWN_UPLOADS: Final = 100
_UPLOAD_MARGIN_MS: Final = 60_000


class RemoteClient(Closing):
    """A client of `searchanything serve`. Thread-safe; it writes nothing to the index but standing queries.

    `retries` are of answers 429: not begun. `timeout_s` is for each wait for the server. What else a `Client` has is a
    `NotOfferedHereError`.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 2) -> None:
        parts = _parts_of(url)
        if parts is None:
            raise UsageError(f"expected a server's address, http(s)://host:port, got {_bare(url)!r}")
        if "@" in parts.netloc:
            raise UsageError(
                f"{_bare(url)}: expected an address without user and password, which are not sent: a server's key is "
                "given as key=…"
            )
        if key is not None and not _is_key(key):
            raise UsageError("expected a key of ASCII letters without spaces or line breaks at its ends")
        self.url = url.rstrip("/")
        self._parts, self._prefix = parts, parts.path.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._timeout_s, self._retries = timeout_s, retries
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = 0  # how often: a connection that was in use then is not kept
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._uploads: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RemoteClient of {self.url}>"

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a `Client` has
        if name.startswith("_"):
            raise AttributeError(name)
        raise not_offered(name)

    def query(
        self,
        image: object = None,
        prompt: object = None,
        *,
        text: str | None = None,
        limit: int = 10,
        offset: int = 0,
        filter: Filter | None = None,
        group_by_image: bool = False,
        max_false_match: float | None = None,
        rescore: int | None = None,
    ) -> RemoteResults:
        """As `Client.query`: `image` may be a `Hit`, a `RegionRef`, several of them, an indexed `ImageRef`, a path, …

        Images that are not indexed are uploaded. `expression` and `within` of a filter, and other rules of `Points`,
        are for an index that you open yourself: UsageError.

        Raises: as `Client.query`; AccessError, BusyError, TooLargeError, ServerUnreachableError.
        """
        if image is None and text is None:
            raise UsageError("expected an image, or words alone: query(text=…)")
        regions = region_documents(image)
        asked = {
            "image": None if image is None or regions is not None else self._image(image),
            "like": regions or [],
            "prompt": prompt_document(prompt),
            "text": text,
            "limit": limit,
            "offset": offset,
            "filter": sent_filter(filter),
            "group_by_image": group_by_image,
            "max_false_match": max_false_match,
            "rescore": rescore,
        }
        return RemoteResults.of(self.send(Call("POST", "/v1/query", document, asked)), asked, self.send, Marks())

    def query_many(
        self,
        questions: Iterable[object],
        *,
        limit: int = 10,
        filter: Filter | None = None,
        group_by_image: bool = False,
        max_false_match: float | None = None,
        rescore: int | None = None,
    ) -> Iterator[ManyAnswer[RemoteResults]]:
        """As `Client.query_many`: a few questions are asked at a time, and one that finds the server busy waits."""
        check_flags(group_by_image=group_by_image)
        page: dict[str, Any] = {"limit": whole_number_of(limit, "limit", least=1), "group_by_image": group_by_image}
        page["rescore"] = None if rescore is None else whole_number_of(rescore, "rescore", least=0)
        sent_filter(filter)  # what is wrong with it is wrong with all questions
        return ask_many(partial(self.query, **page, filter=filter, max_false_match=max_false_match), questions)

    def segment(self, image: object) -> RemoteSegments:
        """All regions of an image. Raises: as `query`."""
        asked = {"image": self._image(image)}
        return RemoteSegments.of(self.send(Call("POST", "/v1/segment", document, asked)), asked, self.send)

    @property
    def standing(self) -> RemoteStanding:
        """Standing queries: asked of all that is indexed from now on. The key needs the right `standing`."""
        return RemoteStanding(self.send, self._image)

    def status(self) -> dict[str, Any]:
        """The server, its index and what this key may do: the document of `GET /v1/status`.

        Raises: AccessError, ServerUnreachableError.
        """
        return self.send(Call("GET", "/v1/status", document))

    def send(self, call: Call[Result]) -> Result:
        """Send one request and read its answer. Raises: as the other methods."""
        headers, body = call.encoded()
        self._leave_parent()
        closed = self._closed
        for attempt in range(self._retries + 1):
            status, data, retry_after = self._exchange(call, headers, body)
            if status < 400:
                return call.read(data)
            if status != _NOT_BEGUN or attempt == self._retries:
                break
            time.sleep(min(seconds_of(retry_after), self._timeout_s))
            if closed != self._closed:  # nobody waits for it any more
                break
        if status == _NOT_THERE:  # perhaps an upload that the server dropped before its time: the next is a new one
            with self._lock:
                self._uploads.clear()
        raise error_of(status, data, retry_after)

    def close(self) -> None:
        """Close all connections, those in use when their answers are there; the client can be used again."""
        self._leave_parent()
        with self._lock:
            idle, self._idle = self._idle, []
            self._closed += 1
        for connection in idle:
            connection.close()

    def _leave_parent(self) -> None:
        """In a process that was forked: leave kept connections to the parent, whose answers would come to both."""
        if self._process != os.getpid():
            self._process, self._idle, self._lock = os.getpid(), [], threading.Lock()

    def _image(self, image: object) -> dict[str, Any]:
        """The image as the server names it; what is not indexed is uploaded, once while the upload lasts."""
        named = image_document(image)
        if named is not None:
            return named
        data = image_bytes(image)
        self._leave_parent()
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            known = self._uploads.get(digest)
        if known is None or known[1] - _UPLOAD_MARGIN_MS < time.time() * 1000:
            kept = self.send(Call("POST", "/v1/uploads", document, data=data))
            known = str(kept["upload"]), int(kept["expires_at_ms"])
            with self._lock:
                self._uploads[digest] = known
                while len(self._uploads) > _KNOWN_UPLOADS:
                    self._uploads.popitem(last=False)
        return {"upload": known[0]}

    def _exchange(self, call: Call[Any], headers: dict[str, str], body: bytes | None) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After. A kept connection that the server has closed meanwhile is opened again.

        What is to be done once goes over a new one: when a kept one ends, nobody knows whether the server has read it.
        """
        while True:
            with self._lock:
                kept, closed = self._idle.pop() if self._idle and not call.once else None, self._closed
            connection = kept or self._connect()
            try:
                connection.request(call.method, self._prefix + call.path, body, {**self._headers, **headers})
                response = connection.getresponse()
                answer = response.status, response.read(), response.getheader("Retry-After")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if kept is not None and isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                    continue
                raise ServerUnreachableError(f"{self.url}: {type(error).__name__}: {error}") from error
            self._keep(connection, closed)
            return answer

    def _keep(self, connection: http.client.HTTPConnection, closed: int) -> None:
        """Keep a connection for the next question, unless the client was closed since it was taken."""
        with self._lock:
            is_kept = closed == self._closed
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout_s)


def not_offered(name: str) -> NotOfferedHereError:
    """What a `Client` has under this name, a server's client has not."""
    return NotOfferedHereError(
        f"{name} is not offered by a server: run it where the index is, with searchanything.connect(URI)"
    )


def _is_key(key: object) -> bool:
    """Whether it can be sent in a header as it is."""
    return isinstance(key, str) and key.isascii() and key.isprintable() and key.strip() == key != ""


def _parts_of(url: object) -> SplitResult | None:
    """A server's address in its parts; None for anything else."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        return None
    return parts if valid else None


def _bare(url: object) -> object:
    """An address without user and password, for messages; anything else as it is."""
    return re.sub(r"(?<=//).*@", "", url) if isinstance(url, str) else url


def is_server(url: str) -> bool:
    """Whether `searchanything serve` answers there: it is asked for its name, which needs no key."""
    client = RemoteClient(str(_bare(url)), timeout_s=_PROBE_S, retries=0)
    try:
        status, data, _ = client._exchange(Call("GET", "/v1/server", document), {}, None)  # noqa: SLF001
    except ServerUnreachableError:
        return False
    finally:
        client.close()
    try:
        return status == 200 and json.loads(data).get("server") == "searchanything"
    except (ValueError, AttributeError):
        return False
