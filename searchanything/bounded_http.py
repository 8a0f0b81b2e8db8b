"""HTTP connections that cannot pile up: a limit for requests that never end, which uvicorn has not.

A connection gets `REQUEST_S` seconds for a whole request, however slowly it trickles, and as many for the next. There
are `CONNECTIONS` at most: one more, and the oldest that is not being answered, or does not read its answer, is closed.
So who opens thousands and sends or reads nothing closes his own, and a whole request, which takes milliseconds, passes.

A server that takes large bodies limits them itself, for it knows who sends: see `head_bounded_options`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS: Final = 256
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
HEADER_BYTES: Final = 16 * 2**10
REQUEST_S: Final = 15.0


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with those limits; give it to `uvicorn.Config` as `http`."""

    opened = 0.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and make room for it."""
        super().connection_made(transport)
        self.opened = self.loop.time()
        self._expect_request()
        while len(self.connections) > self.most_connections():
            waiting = (one for one in self.connections if isinstance(one, BoundedProtocol) and not one.is_answered)
            oldest = min(waiting, key=lambda one: one.opened, default=self)
            self.connections.discard(oldest)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its deadline."""
        self._forget_deadline()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Answer a request of two lengths as the last one: a proxy may see another end of it (RFC 9112, 6.1)."""
        super().handle_events()
        if self.headers is not None and _LENGTHS.issubset(name for name, _ in self.headers):
            self.headers.append((b"connection", b"close"))  # the scope's own list, which uvicorn asks when it answers

    def on_response_complete(self) -> None:
        """Wait for the next request. Who was answered before he had sent all of his gets no more time for the rest.

        Closing at once would reset the connection, and the answer would be lost with it.
        """
        if not self.cycle.more_body:
            self._expect_request()
        super().on_response_complete()

    @property
    def is_answered(self) -> bool:
        """Whether a request, or its begin, is with the application, and what was answered before is read."""
        return self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused

    def longest_s(self) -> float:
        """How long a request may take to arrive."""
        return REQUEST_S

    def most_connections(self) -> int:
        """How many connections there may be."""
        return CONNECTIONS

    def _expect_request(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(self.longest_s(), self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded_options() -> dict[str, Any]:
    """What `uvicorn.Config` is to be given."""
    return {"http": BoundedProtocol, "ws": "none", "h11_max_incomplete_event_size": HEADER_BYTES, "backlog": 128}


def head_bounded_options(*, head_s: float, connections: int) -> dict[str, Any]:
    """What `uvicorn.Config` is to be given by a server that limits bodies itself: a head gets `head_s` seconds."""

    class HeadBoundedProtocol(BoundedProtocol):
        """The deadline ends with the head, and begins again with the answer."""

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

    return {"http": HeadBoundedProtocol, "ws": "none", "h11_max_incomplete_event_size": HEADER_BYTES}
