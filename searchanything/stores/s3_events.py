"""Listening to a bucket: MinIO's extension of S3, which RustFS and the JuiceFS gateway speak too.

One HTTP answer that never ends, a JSON line per notification. minio's own iterator connects again without a word when
the stream breaks; what happened meanwhile is lost then, and nobody knows. So here the stream ends with an error.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from minio.error import S3Error
from urllib3 import BaseHTTPResponse, HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from searchanything.core.closing import Closing
from searchanything.core.errors import EventsNotOfferedError, StoreError, StoreUnavailableError
from searchanything.core.settings import StorageSettings
from searchanything.stores.s3_access import S3Access, S3Pool, http_client
from searchanything.stores.s3_errors import FOREIGN_ERRORS, store_error

logger = logging.getLogger(__name__)

_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
_NOT_OFFERED = frozenset({"NotImplemented", "MethodNotAllowed", "InvalidRequest", "InvalidArgument"})


class BucketEvents(Closing):
    """The notifications of one bucket, from now on; iterate once. `close`, from any thread, ends the iteration.

    Raises, while iterating: EventsNotOfferedError; StoreUnavailableError as soon as the stream breaks; StoreError.
    """

    def __init__(self, settings: StorageSettings, bucket: str, prefix: str = "") -> None:
        self._bucket, self._prefix = bucket, prefix
        self._pool = http_client(settings, 1, _OneStream)  # silence beyond its waits counts as broken
        self._access = S3Access(settings, bucket, self._pool)
        self._endpoint = self._access.server.endpoint
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Notifications as they come, in S3's format; an empty one for a line that is none."""
        if self._closed.is_set():
            return
        try:
            stream = self._access.client.listen_bucket_notification(self._bucket, prefix=self._prefix, events=_EVENTS)
            with stream:
                while True:
                    try:
                        notification = next(stream)
                    except (KeyError, TypeError, RecursionError):  # minio's iterator looks for Records in anything
                        notification = {}
                    yield notification
        except FOREIGN_ERRORS as error:
            if not self._closed.is_set():
                raise self._explained(error) from error
        except AttributeError:  # minio's iterator, when its answer is closed by another thread
            if not self._closed.is_set():
                raise

    @property
    def connected(self) -> bool:
        """True once the server has begun to answer: what happens from then on is told."""
        return self._pool.stream is not None

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        self._pool.end()

    def _explained(self, error: Exception) -> Exception:
        subject = f"bucket {self._bucket}"
        refused = isinstance(error, S3Error) and (
            error.code in _NOT_OFFERED or (error.code == "SignatureDoesNotMatch" and self._is_listed())
        )
        if refused or isinstance(error, _NotOfferedError) or "not supported in Amazon" in str(error):
            return EventsNotOfferedError(f"{subject}: {self._endpoint} does not offer to listen to buckets")
        if isinstance(error, _EndedError):
            return StoreUnavailableError(f"{subject}: {self._endpoint} ended the stream of notifications")
        return store_error(error, subject=subject, endpoint=self._endpoint)

    def _is_listed(self) -> bool:
        """Whether the keys are good for a listing: Ceph does not know the question, and calls its signature wrong."""
        try:
            next(self._access.client.list_all(self._bucket, self._prefix, {}), None)
        except (*FOREIGN_ERRORS, StoreError):
            return False
        return True


class _EndedError(HTTPError):
    """The stream of notifications is over."""


class _NotOfferedError(HTTPError):
    """The server answered with something that is no stream of notifications."""


def _line_of_json(readline: Callable[[], bytes]) -> bytes:
    """The next line, `{}` for one that is no JSON: at half a line minio's iterator ends the stream."""
    line = readline()
    try:
        if line.strip():
            json.loads(line)
    except ValueError:
        return b"{}\n"
    except RecursionError:  # met again where its notification is looked for
        pass
    return line


class _OneStream(S3Pool):
    """Connections that carry one stream of notifications; they refuse a second one, and any once they are to end."""

    stream: BaseHTTPResponse | None = None

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self._ended = threading.Event()
        self._made: list[HTTPConnection] = []

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]  # noqa: ANN401, FBT001, FBT002
        """As `S3Pool.urlopen`; minio asks for the stream by the parameter `events`."""
        listening = "events=" in url
        if self._ended.is_set() or (listening and self.stream is not None):
            raise _EndedError("it was answered once, or is to end")
        response = super().urlopen(method, url, redirect, **options)
        if listening and response.status == 200:
            if "xml" in response.headers.get("content-type", ""):  # the server took it for a listing
                response.close()
                raise _NotOfferedError("an XML document")
            response.readline = partial(_line_of_json, response.readline)  # type: ignore[method-assign]
            self.stream = response
            if self._ended.is_set():  # meanwhile, so `end` may not have seen this connection
                self.end()
        return response

    def end(self) -> None:
        """Wake up whoever reads the stream, or waits for the answer that begins it."""
        self._ended.set()
        for connection in self._made:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        self.clear()

    def _new_pool(self, *args: Any, **options: Any) -> HTTPConnectionPool:  # noqa: ANN401
        """A pool whose connections are known from their begin: nothing else tells of one that waits for its answer."""
        pool = super()._new_pool(*args, **options)
        ended, made, kind = self._ended, self._made, pool.ConnectionCls

        class Ending(kind):  # type: ignore[misc,valid-type]
            def connect(self) -> None:
                made.append(self)
                if not ended.is_set():
                    super().connect()
                if ended.is_set():  # it may be a repetition, which urllib3 begins by itself
                    self.close()
                    raise _EndedError("it is to end")

        pool.ConnectionCls = Ending
        return pool
