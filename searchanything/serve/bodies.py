"""How a request's body is taken: in parts that come in time, and never more of it than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.types import Message, Receive

from searchanything.core.errors import BodyTimeoutError, BusyError, TooLargeError

PROGRESS_BYTES: Final = 16 * 2**10  # a body that trickles makes none
_RETRY_S: Final = 5


class HeldBytes:
    """What all uploads and forms together hold of memory until each is answered: at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    @contextmanager
    def counted(self, receive: Receive) -> Iterator[Receive]:
        """`receive` for one request, which raises BusyError where there is no room for more."""
        taken = 0

        async def part() -> Message:
            nonlocal taken
            message = await receive()
            length = len(message.get("body", b""))
            taken += length
            self._held += length
            if self._held > self._most >= taken:  # what is too large by itself has a limit of its own
                raise BusyError(f"uploads hold {self._most:,} bytes already", retry_after_s=_RETRY_S)
            return message

        try:
            yield part
        finally:
            self._held -= taken


def limited(receive: Receive, max_bytes: int) -> Receive:
    """`receive`, which raises TooLargeError where more comes than an upload or a form may have."""
    taken = 0

    async def part() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > max_bytes:
            raise TooLargeError(f"expected a form of at most {max_bytes:,} bytes")
        return message

    return part


def in_time(receive: Receive, seconds: float) -> Receive:
    """`receive`, which raises BodyTimeoutError where `PROGRESS_BYTES` more, or the body's end, take too long."""
    deadline, taken, ended = asyncio.get_running_loop().time() + seconds, 0, False

    async def part() -> Message:
        nonlocal deadline, taken, ended
        if ended:
            return await receive()  # who waits now waits for a disconnect
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise BodyTimeoutError(
                f"expected the rest of the body, or {PROGRESS_BYTES:,} bytes of it, within {seconds:g} s"
            ) from None
        taken += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if taken >= PROGRESS_BYTES:
            deadline, taken = asyncio.get_running_loop().time() + seconds, 0
        return message

    return part


async def whole(receive: Receive, max_bytes: int, announced: str) -> Receive:
    """`receive` with a body that has come as a whole. Raises: TooLargeError, BodyTimeoutError."""
    if announced.isascii() and announced.isdigit() and int(announced) > max_bytes:
        raise TooLargeError(f"expected at most {max_bytes:,} bytes of JSON, got {announced}")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise TooLargeError(f"expected at most {max_bytes:,} bytes of JSON")
        if not message.get("more_body", False):
            break
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return again
