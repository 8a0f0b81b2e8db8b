"""HTTP connections that cannot pile up: a limit for requests that never end, which uvicorn has not.

A connection gets `REQUEST_S` seconds for a whole request, however slowly it trickles, and as many for the next, from
its first byte on. Between requests it stays open for longer than the clients of S3 servers keep one: who closes second
never closes in the moment in which the next request comes, which would be lost. There are `CONNECTIONS` at most: one
more, and the one that waits longest, without being answered or without reading its answer, is closed. So who opens
thousands and sends or reads nothing closes his own, and a whole request, which takes milliseconds, passes.

Who is answered before he has sent all gets `Connection: close` and the end of what is sent; what he sends on is taken
and not read, until he closes or his time is over.

A body in very many tiny chunks ends the connection: each costs microseconds, before anybody is asked for a token.

A server that takes large bodies limits them itself, for it knows who sends: see `head_bounded_options`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS: Final = 256
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
_CLOSE: Final = (b"connection", b"close")
_MAY_ANSWER: Final = ("IDLE", "SEND_RESPONSE")  # states of h11
_SPARE_CHUNKS: Final = 1024  # of a body, of any length
_CHUNK_BYTES: Final = 64  # of the others, at least, in the mean
HEADER_BYTES: Final = 16 * 2**10
IDLE_S: Final = 120  # Go's clients, as of SeaweedFS and MinIO, keep a connection for 90 s; load balancers for 60
REQUEST_S: Final = 15.0


class _HalfClosing:
    """A connection to a cycle of uvicorn's, which closes it by `close`."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


class _ChunkCounting(h11.Connection):
    """A connection that ends with a body of very many tiny chunks."""

    _credit = 0  # in bytes

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As of any connection. Raises: h11.RemoteProtocolError, also for such a body."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._credit = _SPARE_CHUNKS * _CHUNK_BYTES
        elif isinstance(event, h11.Data):
            self._credit += len(event.data) - event.chunk_start * _CHUNK_BYTES
            if self._credit < 0:
                raise h11.RemoteProtocolError("very many tiny chunks")
        return event


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with those limits; give it to `uvicorn.Config` as `http`."""

    waits_since = 0.0  # by the loop's clock: opened, or answered last
    _has_ended = False  # what is sent
    _as_sent: list[tuple[bytes, bytes]] | None = None  # the headers of a request that is not here in full
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and make room for it."""
        super().connection_made(transport)
        self.conn = _ChunkCounting(h11.SERVER, HEADER_BYTES)
        self.waits_since = self.loop.time()
        self._expect_request()
        while len(self.connections) > self.most_connections():
            waiting = (one for one in self.connections if isinstance(one, BoundedProtocol) and not one.is_answered)
            longest = min(waiting, key=lambda one: one.waits_since, default=self)
            self.connections.discard(longest)
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its deadline."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What comes behind the last answer is not read."""
        if not self._has_ended:
            super().data_received(data)

    def handle_events(self) -> None:
        """A request that has begun must end, and one of two lengths is the last.

        A proxy may see another end of it (RFC 9112, 6.1). So is one that is answered before it is here in full.
        """
        super().handle_events()
        if self._deadline is None and not self._is_idle:
            self._expect_request()
        if self.headers is not None and _CLOSE not in self.headers and _has_two_lengths(self.headers):
            self.headers.append(_CLOSE)  # the scope's own list, which uvicorn asks when it answers
        self._announce_end()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read once: not where it was answered, nor by who is at work on its beginning."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if str(self.conn.our_state) in _MAY_ANSWER:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request. Who was answered before he had sent all of his gets no more time to close."""
        self.waits_since = self.loop.time()
        if not self.cycle.more_body:
            self._expect_request()
        super().on_response_complete()
        if self._is_idle:
            self._forget_deadline()

    @property
    def is_answered(self) -> bool:
        """Whether a request, or its begin, is with the application, and what was answered before is read."""
        if self.cycle is None or self._has_ended:
            return False
        return not self.cycle.response_complete and not self.flow.write_paused

    def longest_s(self) -> float:
        """How long a request may take to arrive."""
        return REQUEST_S

    def most_connections(self) -> int:
        """How many connections there may be."""
        return CONNECTIONS

    @property
    def _is_idle(self) -> bool:
        """Whether its last request was read and its answer sent, and nothing is here of another."""
        if self.cycle is None or not self.cycle.response_complete or self.cycle.more_body:
            return False
        return not self.conn.trailing_data[0] and not self.transport.get_write_buffer_size()

    def _announce_end(self) -> None:
        """Have a request that is not here in full answered as the last one."""
        if self.cycle is None or self.cycle.response_started:
            return
        if self.cycle.more_body and self._as_sent is None:
            self._as_sent = list(self.headers)
            self.headers.append(_CLOSE)
            self.cycle.transport = _HalfClosing(self.transport, self._end)  # type: ignore[assignment]
        elif self._as_sent is not None and not self.cycle.more_body:
            self.cycle.scope["headers"], self._as_sent = self._as_sent, None
            self.cycle.transport = self.transport

    def _end(self) -> None:
        """End what is sent; what comes is still taken, unread.

        To close the connection with a part of a request on its way would reset it, and the answer would be lost with it
        (RFC 9112, 9.6).
        """
        self._has_ended = True
        with suppress(OSError):  # the client has reset it meanwhile
            self.transport.write_eof()
        if self._deadline is None:
            self._expect_request()

    def _expect_request(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(self.longest_s(), self._end_unless_idle)

    def _end_unless_idle(self) -> None:
        """What was sent late, as to a slow reader, may be sent by now."""
        self._deadline = None
        if not self._is_idle:
            self.transport.abort()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded_options() -> dict[str, Any]:
    """What `uvicorn.Config` is to be given."""
    return _options(BoundedProtocol) | {"backlog": 128}


def head_bounded_options(*, head_s: float, connections: int) -> dict[str, Any]:
    """What `uvicorn.Config` is to be given by a server that limits bodies itself: a head gets `head_s` seconds."""

    class HeadBoundedProtocol(BoundedProtocol):
        """The deadline ends with the head, and begins again with the next, or with the rest of a body."""

        def longest_s(self) -> float:
            return head_s

        def most_connections(self) -> int:
            return connections

        def handle_events(self) -> None:
            super().handle_events()
            if self.is_answered:
                self._forget_deadline()

        def on_response_complete(self) -> None:
            self._expect_request()  # also for the rest of a body that nobody reads any more
            super().on_response_complete()

    return _options(HeadBoundedProtocol)


def _options(protocol: type[BoundedProtocol]) -> dict[str, Any]:
    return {
        "http": protocol,
        "ws": "none",
        "timeout_keep_alive": IDLE_S,
    }


def _has_two_lengths(headers: list[tuple[bytes, bytes]]) -> bool:
    return _LENGTHS.issubset(name for name, _ in headers)
