"""Standing queries through the light clients, over a socket."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.http_servers import Answer, Asked, web_server
from fakes.models import drawn
from fakes.serving import Served, listening, png_of
from fakes.standing import add_noise

from searchanything.client.awaited import AsyncRemoteClient
from searchanything.client.remote import RemoteClient
from searchanything.core.errors import AccessError, ServerUnreachableError, UsageError
from searchanything.core.types import Filter, ImageRef, RegionRef

BLUE = (70.0, 20.0)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, RemoteClient]]:
    served = Served.make(tmp_path, monkeypatch, words=True)
    add_noise(served.client)
    with listening(served) as url, RemoteClient(url) as remote:
        yield served, remote


def index_new(served: Served, key: str) -> None:
    (served.folder / key).write_bytes(png_of(drawn(64, 96, blue=(50, 8, 90, 40), green=(4, 4, 40, 60))))
    served.client.index(served.folder)


def test_what_is_kept_is_fetched_once(asked: tuple[Served, RemoteClient]) -> None:
    served, remote = asked
    two = ImageRef(served.bucket, "a/two.png")
    query = remote.standing.add("point", two, BLUE)
    remote.standing.add("file", served.folder / "a/two.png", BLUE, filter=Filter(key_prefix="b/"))
    remote.standing.add("region", RegionRef(two, served.region("a/two.png", 60)))
    assert [one["name"] for one in remote.standing.list()] == ["point", "file", "region"]
    index_new(served, "a/new.png")
    with pytest.raises(RuntimeError), remote.standing.new_matches():
        raise RuntimeError
    assert [one.query.name for one in remote.standing.fetch("point").matches] == ["point"]
    assert [remote.standing.fetch(most=most).complete for most in (1, 10_000)] == [False, True]
    with remote.standing.new_matches() as found:
        assert {one.query.name: len(one.matches) for one in found.matches} == {"point": 1, "region": 1}
        [match] = next(one.matches for one in found.matches if one.query.id == query["id"])
        assert remote.query(match.hit)[0].image == match.hit.image == ImageRef(served.bucket, "a/new.png")
        assert match.first_at_ms > query["created_at_ms"]
        assert found.complete
        assert found.to_dict()["matches"]
    with remote.standing.new_matches() as found:
        assert found.matches == ()
    assert served.client.standing.fetch().matches == (), "it is noted in the index itself"


def test_it_is_removed_by_name_or_id(asked: tuple[Served, RemoteClient]) -> None:
    served, remote = asked
    query = remote.standing.add("a/b?c", ImageRef(served.bucket, "a/two.png"), BLUE)
    other = remote.standing.add("other", ImageRef(served.bucket, "a/two.png"), BLUE)
    remote.standing.remove(query["name"])
    remote.standing.remove(other["id"])
    assert remote.standing.list() == []
    with pytest.raises(UsageError, match="there is none"):
        remote.standing.remove("other")


def test_what_cannot_be_kept_is_said_as_by_the_index(asked: tuple[Served, RemoteClient]) -> None:
    served, remote = asked
    two = ImageRef(served.bucket, "a/two.png")
    with pytest.raises(UsageError, match="one query for each"):
        remote.standing.add("q", [RegionRef(two, 0), RegionRef(two, 1)])
    with pytest.raises(UsageError, match="or words alone"):
        remote.standing.add("q")
    with pytest.raises(AccessError) as refused:
        remote.standing.add("q", two, BLUE, webhook="http://127.0.0.1:1/")
    assert refused.value.known
    remote.standing.add("q", two, BLUE)
    with pytest.raises(UsageError, match="has no webhook"):
        remote.standing.test("q")


def test_its_twin_is_awaited(asked: tuple[Served, RemoteClient]) -> None:
    served, remote = asked

    async def ask() -> list[str]:
        async with AsyncRemoteClient(remote.url) as client:
            await client.standing.add("words", text="blue", max_false_match=1.0)
            await asyncio.to_thread(index_new, served, "a/new.png")
            async with client.standing.new_matches("words") as found:
                keys = [match.hit.image.key for one in found.matches for match in one.matches]
            assert [one["name"] for one in await client.standing.list()] == ["words"]
            assert (await client.standing.fetch()).matches == ()
            await client.standing.remove("words")
            return keys

    assert asyncio.run(ask()) == ["a/new.png"]
    assert remote.standing.list() == []


@pytest.mark.parametrize("lost", ["added", "removed", "tested"])
def test_what_is_to_be_done_once_is_not_repeated_where_the_answer_is_lost(
    asked: tuple[Served, RemoteClient], lost: str
) -> None:
    """On a kept connection, too, which may have ended because nobody used it: then the server has not read it."""
    served, remote = asked
    method = "DELETE" if lost == "removed" else "POST"

    def passed_on(one: Asked) -> Answer:
        body, headers = one.body or None, {"content-type": "application/json"}
        request = urllib.request.Request(remote.url + one.target, body, headers, method=one.method)  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                said = answer.status, {}, answer.read()
        finally:
            if one.method == method:
                raise ConnectionResetError
        return said

    two = ImageRef(served.bucket, "a/two.png")
    first = remote.standing.add("first", two, BLUE)["id"]
    with web_server(passed_on) as way, RemoteClient(f"http://{way.endpoint}") as far:
        far.status()
        with pytest.raises(ServerUnreachableError):
            {
                "added": lambda: far.standing.add("second", two, BLUE),
                "removed": lambda: far.standing.remove(first),
                "tested": lambda: far.standing.test(first),
            }[lost]()
        assert [one.method for one in way.asked].count(method) == 1
    there = {"added": ["first", "second"], "removed": [], "tested": ["first"]}[lost]
    assert [one["name"] for one in remote.standing.list()] == there
