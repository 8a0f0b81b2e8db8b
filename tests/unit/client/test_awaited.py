"""The twin for programs that await: while a server thinks, the event loop goes on, whatever is asked."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_origin, get_overloads

import pytest
from fakes.serving import Served
from PIL import Image, ImageShow

from searchanything.client.awaited import (
    AsyncRemoteClient,
    AsyncRemoteResults,
    AsyncRemoteSegments,
    InThread,
    in_thread,
)
from searchanything.client.remote import RemoteClient
from searchanything.client.remote_results import Marks, RemoteAnswer, RemoteResults
from searchanything.client.remote_segments import RemoteRegions, RemoteSegments
from searchanything.core.errors import UsageError
from searchanything.core.types import ImageRef, RegionRef

MASK = {"size": [4, 4], "counts": "04L"}
REGION = {"box_xyxy": [0, 0, 2, 2], "area_px": 4, "score": 0.5, "mask": MASK}
SELECTION = REGION | {"kind": "region", "rule": "r", "reason": "why", "runners_up": [], "text_match": None}
ANSWER: dict[str, Any] = {
    "hits": [], "selection": SELECTION, "good_match": True, "exact": True, "fingerprint": "f", "matching": None,
    "probe": None, "stages": [], "receipt": None, "timings_ms": {},
}  # fmt: skip
ANSWERS = {
    "/v1/query": ANSWER, "/v1/refine": ANSWER, "/v1/explain": {"verdict": "hit"}, "/v1/status": {"version": "1"},
    "/v1/segment": {"image": {"width": 4, "height": 4}, "regions": [REGION]},
}  # fmt: skip
PICTURES = ("/v1/sheet", "/v1/segment/sheet")
IMAGE = ImageRef("b", "a.png")
LONGEST_S = 10.0  # until a server that is not released gives up


class Thinking:
    """A server that answers a question when it is released; a loop that stands still can release nothing."""

    def __init__(self) -> None:
        self.arrived, self.released, self.timed_out = threading.Event(), threading.Event(), False
        self.arrivals: list[str] = []

    def wait(self) -> None:
        self.arrivals.append("one more")
        self.arrived.set()
        self.timed_out = self.timed_out or not self.released.wait(LONGEST_S)

    async def reached(self, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(2 * LONGEST_S):
            while len(self.arrivals) < times:
                await asyncio.sleep(0.001)


@pytest.fixture
def thinking(tmp_path: Path) -> Iterator[tuple[Thinking, str]]:
    server = Thinking()
    Image.new("RGB", (4, 4)).save(tmp_path / "sheet.png")
    sheet = (tmp_path / "sheet.png").read_bytes()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            server.wait()
            body = sheet if self.path in PICTURES else json.dumps(ANSWERS[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server, f"http://127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()
        thread.join(LONGEST_S)


def an_answer(client: AsyncRemoteClient) -> AsyncRemoteResults:
    blocking = RemoteResults.of(ANSWER, {"image": {"bucket": "b", "key": "a.png"}}, client.blocking.send, Marks())
    values = {name: getattr(blocking, name) for name in RemoteAnswer.__slots__}
    return AsyncRemoteResults(**values, threads=client.threads)


def some_segments(client: AsyncRemoteClient) -> AsyncRemoteSegments:
    asked = {"image": {"bucket": "b", "key": "a.png"}}
    return AsyncRemoteSegments((), 4, 4, asked, client.blocking.send, threads=client.threads)


Asked = Callable[[AsyncRemoteClient, Path], Awaitable[Any]]
QUESTIONS: dict[tuple[type, str], Asked] = {
    (RemoteClient, "query"): lambda client, _: client.query(IMAGE),
    (RemoteClient, "segment"): lambda client, _: client.segment(IMAGE),
    (RemoteClient, "status"): lambda client, _: client.status(),
    (RemoteResults, "refine"): lambda client, _: an_answer(client).refine(right=[RegionRef(IMAGE, 0)]),
    (RemoteResults, "explain"): lambda client, _: an_answer(client).explain(IMAGE),
    (RemoteResults, "plot"): lambda client, _: an_answer(client).plot(),
    (RemoteResults, "save"): lambda client, folder: an_answer(client).save(folder / "hits.png"),
    (RemoteResults, "show"): lambda client, _: an_answer(client).show(),
    (RemoteSegments, "plot"): lambda client, _: some_segments(client).plot(),
    (RemoteSegments, "save"): lambda client, folder: some_segments(client).save(folder / "regions.png"),
    (RemoteSegments, "show"): lambda client, _: some_segments(client).show(),
}
TWINS: dict[type, tuple[type, type]] = {  # and what they have in common, which only reads
    RemoteClient: (AsyncRemoteClient, object),
    RemoteResults: (AsyncRemoteResults, RemoteAnswer),
    RemoteSegments: (AsyncRemoteSegments, RemoteRegions),
}
SENDS = {"send", "close"}  # a client's own business


@pytest.mark.parametrize(("kind", "name"), QUESTIONS, ids=lambda one: getattr(one, "__name__", one))
def test_the_loop_goes_on_while_the_server_thinks(
    kind: type, name: str, thinking: tuple[Thinking, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageShow, "show", lambda _: True)

    async def ask() -> Any:
        async with AsyncRemoteClient(thinking[1]) as client:
            question = asyncio.ensure_future(QUESTIONS[kind, name](client, tmp_path))
            await thinking[0].reached(1)
            thinking[0].released.set()
            return await question

    found = asyncio.run(ask())
    assert not thinking[0].timed_out, f"{kind.__name__}.{name} held the loop"
    answers = {"query": AsyncRemoteResults, "refine": AsyncRemoteResults, "segment": AsyncRemoteSegments}
    assert name not in answers or type(found) is answers[name]


@pytest.mark.parametrize("kind", TWINS)
def test_the_twin_has_every_method_that_asks(kind: type) -> None:
    twin, reading = TWINS[kind]
    methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    asking = methods - {name for name in dir(reading) if not name.startswith("_")} - SENDS
    streams = {"query_many"} & asking
    assert asking - streams == {name for one, name in QUESTIONS if one is kind}
    assert all(inspect.iscoroutinefunction(getattr(twin, name)) for name in asking - streams)
    assert all(inspect.isasyncgenfunction(getattr(twin, name)) for name in streams)


def test_type_checkers_see_methods() -> None:
    """pyrefly and ty take a `Callable` in a class for a function that is given the client as an argument."""
    declared = [inspect.signature(one, eval_str=True).return_annotation for one in get_overloads(in_thread)]
    assert [get_origin(one) for one in declared] == [InThread, InThread]
    assert inspect.isfunction(vars(AsyncRemoteClient)["query"])
    assert inspect.isfunction(vars(InThread)["__get__"])


def test_questions_that_were_cancelled_keep_no_thread_of_the_program(thinking: tuple[Thinking, str]) -> None:
    """Each waits for its server still; who has other work done in threads, and who asks the next question, does not."""

    async def ask() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with AsyncRemoteClient(thinking[1]) as client:
            questions = [asyncio.ensure_future(client.status()) for _ in range(3)]
            await thinking[0].reached(len(questions))
            for question in questions:
                question.cancel()
            assert {type(one) for one in await asyncio.gather(*questions, return_exceptions=True)} == {
                asyncio.CancelledError
            }
            done = await asyncio.to_thread(lambda: "done")
            thinking[0].released.set()
            return done

    assert asyncio.run(ask()) == "done"
    assert not thinking[0].timed_out, "the program's own thread was taken"


def test_a_client_that_was_left_asks_no_more(thinking: tuple[Thinking, str]) -> None:
    thinking[0].released.set()

    async def ask() -> None:
        async with AsyncRemoteClient(thinking[1]) as client:
            found, segments = await client.query(IMAGE), await client.segment(IMAGE)
            part = found[:0]
        for asked in (client.status(), found.plot(), part.plot(), segments.plot(), found.explain(IMAGE)):
            with pytest.raises(UsageError, match="client is closed"):
                await asked

    asyncio.run(ask())


def test_leaving_waits_for_nothing(thinking: tuple[Thinking, str]) -> None:
    """What has begun ends when its server answers; its connection is closed then."""

    async def ask() -> AsyncRemoteClient:
        async with AsyncRemoteClient(thinking[1]) as client:
            question = asyncio.ensure_future(client.status())
            await thinking[0].reached(1)
            question.cancel()
        return client

    client = asyncio.run(ask())
    assert not thinking[0].timed_out, "the exit waited for the answer"
    working = [one for one in threading.enumerate() if one.name.startswith("searchanything")]
    thinking[0].released.set()
    for thread in working:
        thread.join(LONGEST_S)
    assert len(working) == 1
    assert client.blocking._idle == []


def test_a_connection_in_use_while_its_client_is_closed_is_not_kept(thinking: tuple[Thinking, str]) -> None:
    client = RemoteClient(thinking[1])
    asking = threading.Thread(target=client.status)
    asking.start()
    assert thinking[0].arrived.wait(LONGEST_S)
    client.close()
    thinking[0].released.set()
    asking.join(LONGEST_S)
    assert client._idle == []
    assert client.status() == {"version": "1"}, "it can be used again"
    assert len(client._idle) == 1
    client.close()
    assert client._idle == []


def test_answers_are_those_of_the_client_that_blocks(served: tuple[Served, str], remote: RemoteClient) -> None:
    image = ImageRef(served[0].bucket, "a/two.png")
    region = RegionRef(image, 0)

    async def ask() -> None:
        async with AsyncRemoteClient(served[1]) as client:
            found, blocking = await client.query(region), remote.query(region)
            assert [hit.ref for hit in found] == [hit.ref for hit in blocking]
            assert (found.verdict, found.good_match, found.receipt()["hits"]) == ("", True, blocking.receipt()["hits"])
            part = found[1:3]
            assert type(part) is AsyncRemoteResults
            assert (await part.plot()).tobytes() == blocking[1:3].plot().tobytes()
            refined = await found.refine(right=[found[0]])
            assert refined.probe == blocking.refine(right=[found[0]]).probe
            assert (await found.explain(image))["verdict"] == "hit"
            segments = (await client.segment(image))[:1]
            assert type(segments) is AsyncRemoteSegments
            assert (await segments.plot()).size == remote.segment(image).plot().size
            assert not hasattr(found, "_repr_html_"), "it would block the loop of a notebook"
            assert repr(found).startswith("<AsyncRemoteResults: 5 hits")

    asyncio.run(ask())
