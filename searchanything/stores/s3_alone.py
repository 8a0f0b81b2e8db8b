"""Objects that a server cannot send while it sends others, such as one on a damaged disk: that is no outage.

Who asks for such an object has an `ObjectNotSentError` of it, so that one bad image never stops a run. The server may
be restarting a part of itself: long work waits for half a minute before it takes an object for one of these, until it
has met the first. One that it asks to come later for is one of these after half a minute, whoever waits. The time of an
outage, in which it sends none, does not count.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from minio.error import S3Error
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError, ResponseError

from searchanything.core.errors import ObjectNotSentError, StoreError, StoreUnavailableError
from searchanything.core.patience import is_waited_for, patiently
from searchanything.stores.s3_access import S3Access, s3_server
from searchanything.stores.s3_errors import FOREIGN_ERRORS

ALONE_S: Final = 30.0
_OTHERS: Final = 5  # objects that are asked for: one may have been deleted, or be as bad
_LISTED: Final = 1000  # objects of a folder: as many as one answer holds
_BUSY: Final = frozenset(ResponseError.SPECIFIC_ERROR.format(status_code=status) for status in (429, 503))
_BUSY_KEPT_S: Final = 1800.0  # a watch comes later than a retry: after a listing, or the waves of a sync
_BUSY_KEPT: Final = 10_000  # objects: a few megabytes
Result = TypeVar("Result")


class BrokenOffError(StoreUnavailableError):
    """A body broke off each time that it was asked for."""


class BusyObjects:
    """Since when a server asks to come later for what, as MinIO does for a damaged object. Thread-safe.

    Of one that nobody has come for in half an hour nothing is known any more, nor of those beyond so many.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[tuple[str, str, str], tuple[float, float]] = {}  # since when, and last; the last ones last

    def since(self, name: tuple[str, str, str], now: float) -> float:
        """Since when the server has asked so of this one, which it does now: of no other answer in between."""
        with self._lock:
            first, last = self._times.pop(name, (now, now))
            first = now if now - last > _BUSY_KEPT_S else first
            self._times[name] = first, now
            if len(self._times) > _BUSY_KEPT:
                del self._times[next(iter(self._times))]
            return first

    def end(self, name: tuple[str, str, str]) -> None:
        """The server does not ask so of this one any more."""
        with self._lock:
            self._times.pop(name, None)


AWAY: Final = (HTTPError, BrokenOffError)
_busy: Final = BusyObjects()  # of all stores: a watch comes later with another one
_NO_ANSWER: Final = (*FOREIGN_ERRORS, StoreError)  # the latter where new credentials are looked for


@dataclass(slots=True, eq=False)
class ObjectQuestions:
    """Asks a bucket's server for one object each. Thread-safe."""

    access: S3Access
    bucket: str
    headers: Mapping[str, str]
    _met: bool = False  # an object that the server does not send
    _sent_last: str = ""

    def ask(self, question: Callable[[], Result], key: str) -> Result:
        """The answer about an object, which long work waits for. Raises: what asking raises; ObjectNotSentError."""
        endpoint = self.access.server.endpoint
        server, first = s3_server(endpoint), math.inf
        waits, name = is_waited_for(server), (endpoint, self.bucket, key)

        def asked() -> Result:
            nonlocal first
            is_busy = False
            try:
                return question()
            except AWAY as error:
                now, is_busy = time.monotonic(), _says_busy(error)
                first = min(first, _busy.since(name, now) if is_busy else now)
                patience_s = ALONE_S if is_busy or (waits and not self._met) else 0.0
                if _not_reached(error) or (now - first >= patience_s and not self._sends_another(key)):
                    first, is_busy = math.inf, False  # an outage: what it does not send is seen when that is over
                    raise
                if now - first < patience_s:
                    raise
                self._met = True
                raise ObjectNotSentError(
                    f"{self.bucket}/{key}: {endpoint} sends other objects, but not this one ({_why(error)}); look for "
                    "the reason in the server's log, or upload it again"
                ) from error
            finally:
                if not is_busy:
                    _busy.end(name)

        answer = patiently(asked, server, AWAY)
        self._sent_last = key
        return answer

    def _sends_another(self, key: str) -> bool:
        """Whether the server sends a byte of another object."""
        return any(map(self._sends, islice(self._others(key), _OTHERS)))

    def _others(self, key: str) -> Iterator[str]:
        """The object that was sent last, then those beside this one: who may read it need not see all of a bucket.

        Of empty ones, such as folders' markers, no byte is sent.
        """
        named = {key, "", self._sent_last}
        if self._sent_last not in ("", key):
            yield self._sent_last
        for folder in _folders(key):
            try:
                listed = self.access.brief_client.list_all(self.bucket, folder, self.headers)
                some = list(islice(listed, _LISTED))
            except S3Error:
                continue  # refused here
            except _NO_ANSWER:
                return
            beside = [one.object_name for one in some if one.object_name and one.size]
            yield from (name for name in beside if name not in named)
            named.update(beside)

    def _sends(self, key: str) -> bool:
        try:
            response = self.access.brief_client.get_object(
                self.bucket, key, length=1, request_headers=dict(self.headers)
            )
            with closing(response):
                return bool(response.read(1))  # a gateway answers while what holds the bodies does not
        except _NO_ANSWER:
            return False


def _folders(key: str) -> list[str]:
    """Those that an object is in, the innermost first and the bucket last: `a/b/`, `a/` and ``."""
    names = key.split("/")[:-1]
    return ["".join(f"{name}/" for name in names[:depth]) for depth in range(len(names), -1, -1)]


def _why(error: Exception) -> object:
    return error.reason if isinstance(error, MaxRetryError) else error


def _not_reached(error: Exception) -> bool:
    return isinstance(_why(error), NewConnectionError | ConnectTimeoutError)


def _says_busy(error: Exception) -> bool:
    """Whether the server asks to come later: it does so of whatever is asked too often."""
    return str(_why(error)) in _BUSY
