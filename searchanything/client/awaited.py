"""The light client for programs that await: the same methods, each of them run in a thread.

Whatever asks the server is named once in the classes below; what it does is written in `remote`, `remote_results`,
`remote_segments` and `remote_standing` alone. What only reads an answer is inherited and does not await.

A thread that waits for a server cannot be interrupted: a question that is cancelled keeps its thread until the answer
is there or late. So the threads are the client's, and whatever else the program does in threads finds its own free.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping  # noqa: F401 - hints of what is inherited
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar, overload

from searchanything.client.calls import Call  # noqa: F401 - as above
from searchanything.client.remote import RemoteClient, not_offered
from searchanything.client.remote_results import Marks, RemoteAnswer, RemoteResults  # noqa: F401 - as above
from searchanything.client.remote_segments import RemoteRegions, RemoteSegments
from searchanything.client.remote_standing import RemoteNewMatches, RemoteStanding
from searchanything.core.errors import UsageError
from searchanything.core.many_answers import ManyAnswer
from searchanything.core.types import Filter, Hit, Selection  # noqa: F401 - as above

Given = ParamSpec("Given")
Result = TypeVar("Result")
Twin = TypeVar("Twin")
Blocking = TypeVar("Blocking")
Blocking_co = TypeVar("Blocking_co", covariant=True)
Blocking_contra = TypeVar("Blocking_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
_THREADS: Final = 32  # questions of one client at a time; further ones wait


class Threads:
    """The threads of one client, in which it waits for its server."""

    def __init__(self) -> None:
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="searchanything")
        self._process = os.getpid()

    async def run(self, work: Callable[[], Result]) -> Result:
        """What the work gives, done in a thread. Raises: UsageError once the client is closed."""
        if self._closed:
            raise UsageError("the client is closed: ask, and use what asks again, inside of `async with`")
        if self._process != os.getpid():  # a process that was forked has none of its parent's threads
            self._begin()
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(context.run, work))

    def close(self) -> None:
        """Begin nothing more: what waits is cancelled, and what has begun is not waited for."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


class HasBlocking(Protocol[Blocking_co]):
    """A twin: `blocking` is the very same for programs that do not await; it is asked in `threads`."""

    @property
    def blocking(self) -> Blocking_co: ...

    @property
    def threads(self) -> Threads: ...


class InThread(Protocol[Blocking_contra, Given, Result_co]):
    """What `in_thread` makes, a function, as type checkers see it: a `Callable` in a class is no method to some."""

    def __get__(
        self, twin: HasBlocking[Blocking_contra], kind: type | None = None, /
    ) -> Callable[Given, Coroutine[Any, Any, Result_co]]: ...


@overload
def in_thread(method: Callable[Concatenate[Blocking, Given], Result]) -> InThread[Blocking, Given, Result]: ...


@overload
def in_thread(
    method: Callable[Concatenate[Blocking, Given], Result], twin: Callable[[Result, Threads], Twin]
) -> InThread[Blocking, Given, Twin]: ...


def in_thread(method: Callable[..., Any], twin: Callable[[Any, Threads], Any] | None = None) -> object:
    """A method that blocks, as one to be awaited; `twin` makes a twin of what it gives."""

    async def ask(self: HasBlocking[Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the method
        found = await self.threads.run(partial(method, self.blocking, *args, **kwargs))
        return found if twin is None else twin(found, self.threads)

    update_wrapper(ask, method)
    return ask


def _results(found: RemoteResults, threads: Threads) -> AsyncRemoteResults:
    return AsyncRemoteResults(**_values(found, RemoteAnswer), threads=threads)


def _segments(found: RemoteSegments, threads: Threads) -> AsyncRemoteSegments:
    return AsyncRemoteSegments(**_values(found, RemoteRegions), threads=threads)


def _values(answer: RemoteAnswer | RemoteRegions, kind: type[RemoteAnswer | RemoteRegions]) -> dict[str, Any]:
    return {one.name: getattr(answer, one.name) for one in fields(kind)}


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class AsyncRemoteResults(RemoteAnswer):
    """The hits of a query, as `RemoteResults`; what asks the server again is awaited, in `threads`."""

    threads: Threads

    @property
    def blocking(self) -> RemoteResults:
        """The same answer for programs that do not await."""
        return RemoteResults(**_values(self, RemoteAnswer))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.blocking.__reduce__()  # threads do not go along, and alone there is nothing to await

    refine = in_thread(RemoteResults.refine, _results)
    explain = in_thread(RemoteResults.explain)
    plot = in_thread(RemoteResults.plot)
    save = in_thread(RemoteResults.save)
    show = in_thread(RemoteResults.show)


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class AsyncRemoteSegments(RemoteRegions):
    """All regions of an image, as `RemoteSegments`; what asks the server again is awaited, in `threads`."""

    threads: Threads

    @property
    def blocking(self) -> RemoteSegments:
        """The same answer for programs that do not await."""
        return RemoteSegments(**_values(self, RemoteRegions))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.blocking.__reduce__()

    plot = in_thread(RemoteSegments.plot)
    save = in_thread(RemoteSegments.save)
    show = in_thread(RemoteSegments.show)


@dataclass(frozen=True, slots=True, eq=False)
class AsyncRemoteStanding:
    """Standing queries, as `RemoteStanding`; each method is awaited, and so is the block of `new_matches`."""

    blocking: RemoteStanding
    threads: Threads

    add = in_thread(RemoteStanding.add)
    list = in_thread(RemoteStanding.list)
    remove = in_thread(RemoteStanding.remove)
    test = in_thread(RemoteStanding.test)
    fetch = in_thread(RemoteStanding.fetch)
    take = in_thread(RemoteStanding.take)

    @asynccontextmanager
    async def new_matches(self, name: str | None = None) -> AsyncIterator[RemoteNewMatches]:
        """As `RemoteStanding.new_matches`."""
        found = await self.fetch(name)
        yield found
        await self.take(found.taken)


class AsyncRemoteClient:
    """`RemoteClient` for programs that await: each question is asked in a thread, and so is what answers ask again.

    `refine`, `explain`, `plot`, `save` and `show` of its answers are awaited. A notebook shows an answer by
    `await found.show()`: what it shows by itself cannot be awaited, so it is a line of text. A question that is
    cancelled is not waited for any more; the server does not learn of that and goes on with it.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 2) -> None:
        self.blocking = RemoteClient(url, key=key, timeout_s=timeout_s, retries=retries)
        self.threads = Threads()

    def __repr__(self) -> str:
        return f"<AsyncRemoteClient of {self.blocking.url}>"

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a `Client` has
        raise AttributeError(name) if name.startswith("_") else not_offered(name)

    query = in_thread(RemoteClient.query, _results)
    segment = in_thread(RemoteClient.segment, _segments)
    status = in_thread(RemoteClient.status)

    async def query_many(
        self,
        questions: Iterable[object],
        *,
        limit: int = 10,
        filter: Filter | None = None,
        group_by_image: bool = False,
        max_false_match: float | None = None,
        rescore: int | None = None,
    ) -> AsyncIterator[ManyAnswer[AsyncRemoteResults]]:
        """As `RemoteClient.query_many`; the answers come by `async for`."""
        page: dict[str, Any] = {"limit": limit, "group_by_image": group_by_image, "rescore": rescore}
        answers = self.blocking.query_many(questions, **page, filter=filter, max_false_match=max_false_match)
        while (answer := await self.threads.run(partial(next, answers, None))) is not None:
            found = None if answer.results is None else _results(answer.results, self.threads)
            yield ManyAnswer(answer.number, answer.question, found, answer.error)

    @property
    def standing(self) -> AsyncRemoteStanding:
        """As `RemoteClient.standing`."""
        return AsyncRemoteStanding(self.blocking.standing, self.threads)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.threads.close()
        self.blocking.close()
