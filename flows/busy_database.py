"""Prefect's SQLite refuses a write at once if another is under way, or was committed, since its transaction began.

Prefect answers 503 then (SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT), with everything rolled back, and its client tries again
after 2 s: so long a wave waited that began while the last one's events were written. A moment later it succeeds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PAUSES_S: Final = (0.01, 0.03, 0.1, 0.3)
_LONGEST_S: Final = 0.5  # of all tries together, after which there is none
_LONGEST_BODY: Final = 2**20  # bytes; a longer one is left to the client, which has it


class WritesAgain:
    """An ASGI application that tries a write that was answered by 503 again, a few times within half a second.

    The last answer is passed on as it is, so that the client waits and tries again by itself. What SQLite itself has
    waited for, up to a minute, is not tried again: the client would have asked anew long before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As every ASGI application."""
        if scope["type"] != "http" or scope["method"] not in _WRITES:
            await self._app(scope, receive, send)
            return
        messages, began = await _request(receive), monotonic()
        if messages[-1].get("more_body", False):
            await self._app(scope, _again(messages, receive), send)
            return
        pauses_s = iter(_PAUSES_S)
        while (refusal := await self._refusal(scope, _again(messages, receive), send)) is not None:
            pause_s = next(pauses_s, None)
            if pause_s is None or monotonic() - began > _LONGEST_S:
                await refusal.pass_on(send)
                return
            await asyncio.sleep(pause_s)

    async def _refusal(self, scope: Scope, receive: Receive, send: Send) -> _Refusal | None:
        """An answer by 503, which is not sent; None where there was another one."""
        refused: list[Message] = []

        async def send_unless_refused(message: Message) -> None:
            if refused or (message["type"] == "http.response.start" and message["status"] == 503):
                refused.append(message)
            else:
                await send(message)

        try:
            await self._app(dict(scope), receive, send_unless_refused)
        except Exception as error:
            if not refused:  # else it is the reason for the 503, which Starlette raises besides
                raise
            return _Refusal(refused, error)
        return _Refusal(refused) if refused else None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A 503 as Starlette gave it: its messages, and what it raised after them."""

    messages: list[Message]
    error: Exception | None = None

    async def pass_on(self, send: Send) -> None:
        for message in self.messages:
            await send(message)
        if self.error is not None:
            raise self.error


async def _request(receive: Receive) -> list[Message]:
    """The messages of a request's body, up to the longest that is kept; the last one says whether there is more."""
    messages, size = [await receive()], 0
    while messages[-1].get("more_body", False):
        size += len(messages[-1].get("body", b""))
        if size > _LONGEST_BODY:
            break
        messages.append(await receive())
    return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A `receive` that begins with these messages."""
    left = iter(messages)

    async def receive_again() -> Message:
        for message in left:
            return message
        return await receive()

    return receive_again
