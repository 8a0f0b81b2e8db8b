"""The light client for programs that await: the same methods, each of them run in a thread.

Whatever asks the server is named once in the classes below; what it does is written in `remote`, `remote_results` and
`remote_segments` alone. What only reads an answer is inherited and does not await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import fields
from functools import update_wrapper
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from searchanything.client.remote import RemoteClient
from searchanything.client.remote_results import RemoteAnswer, RemoteResults
from searchanything.client.remote_segments import RemoteRegions, RemoteSegments

Given = ParamSpec("Given")
Result = TypeVar("Result")
Twin = TypeVar("Twin")
Blocking = TypeVar("Blocking")
Blocking_co = TypeVar("Blocking_co", covariant=True)


class HasBlocking(Protocol[Blocking_co]):
    """A twin: `blocking` is the very same for programs that do not await."""

    @property
    def blocking(self) -> Blocking_co: ...


@overload
def in_thread(
    method: Callable[Concatenate[Blocking, Given], Result],
) -> Callable[Concatenate[HasBlocking[Blocking], Given], Coroutine[Any, Any, Result]]: ...


@overload
def in_thread(
    method: Callable[Concatenate[Blocking, Given], Result], twin: Callable[[Result], Twin]
) -> Callable[Concatenate[HasBlocking[Blocking], Given], Coroutine[Any, Any, Twin]]: ...


def in_thread(method: Callable[..., Any], twin: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    """A method that blocks, as one to be awaited; `twin` makes a twin of what it gives."""

    async def ask(self: HasBlocking[Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the method
        found = await asyncio.to_thread(method, self.blocking, *args, **kwargs)
        return found if twin is None else twin(found)

    update_wrapper(ask, method)
    return ask


def _results(found: RemoteResults) -> AsyncRemoteResults:
    return AsyncRemoteResults(**_values(found))


def _segments(found: RemoteSegments) -> AsyncRemoteSegments:
    return AsyncRemoteSegments(**_values(found))


def _values(answer: RemoteAnswer | RemoteRegions) -> dict[str, Any]:
    return {one.name: getattr(answer, one.name) for one in fields(answer)}


class AsyncRemoteResults(RemoteAnswer):
    """The hits of a query, as `RemoteResults`; what asks the server again is awaited."""

    __slots__ = ()

    @property
    def blocking(self) -> RemoteResults:
        """The same answer for programs that do not await."""
        return RemoteResults(**_values(self))

    refine = in_thread(RemoteResults.refine, _results)
    explain = in_thread(RemoteResults.explain)
    plot = in_thread(RemoteResults.plot)
    save = in_thread(RemoteResults.save)
    show = in_thread(RemoteResults.show)


class AsyncRemoteSegments(RemoteRegions):
    """All regions of an image, as `RemoteSegments`; what asks the server again is awaited."""

    __slots__ = ()

    @property
    def blocking(self) -> RemoteSegments:
        """The same answer for programs that do not await."""
        return RemoteSegments(**_values(self))

    plot = in_thread(RemoteSegments.plot)
    save = in_thread(RemoteSegments.save)
    show = in_thread(RemoteSegments.show)


class AsyncRemoteClient:
    """`RemoteClient` for programs that await: each question is asked in a thread, and so is what answers ask again.

    `refine`, `explain`, `plot`, `save` and `show` of its answers are awaited. A notebook shows an answer by
    `await found.show()`: what it shows by itself cannot be awaited, so it is a line of text.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 2) -> None:
        self.blocking = RemoteClient(url, key=key, timeout_s=timeout_s, retries=retries)

    def __repr__(self) -> str:
        return f"<AsyncRemoteClient of {self.blocking.url}>"

    query = in_thread(RemoteClient.query, _results)
    segment = in_thread(RemoteClient.segment, _segments)
    status = in_thread(RemoteClient.status)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.blocking.close()
