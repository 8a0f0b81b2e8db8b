"""An answer may go to another process, as workers of multiprocessing and Dask give it back; its client may not."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from fakes.serving import Served

from searchanything.client.awaited import AsyncRemoteClient
from searchanything.client.remote import RemoteClient
from searchanything.client.remote_results import RemoteResults
from searchanything.client.remote_segments import RemoteSegments
from searchanything.core.errors import UsageError
from searchanything.core.types import ImageRef, RegionRef


def there_and_back(value: Any) -> Any:
    found = pickle.loads(pickle.dumps(value))  # noqa: S301 - made by this very line
    assert type(found) is type(value)
    return found


def test_an_answer_keeps_all_but_its_client(served: tuple[Served, str]) -> None:
    client, folder = served[0].client, served[0].folder
    stored = client.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0))
    for found in (client.query(folder / "a/two.png", (10, 10)), stored, stored[:1], client.query(text="a red thing")):
        again = there_and_back(found)
        assert (again.hits, again.selection, again.confidences) == (found.hits, found.selection, found.confidences)
        assert (again.to_dict(), again.receipt(), repr(again)) == (found.to_dict(), found.receipt(), repr(found))
        for ask in (lambda again=again: again.explain("a/two.png"), lambda again=again: again.refine(right=again[:1])):
            with pytest.raises(UsageError, match=r"was pickled: .* ask the question again"):
                ask()
    assert there_and_back(client.query(folder / "a/two.png", (10, 10))).plot().size[0] > 0
    assert there_and_back(client.query(folder / "a/two.png", (10, 10)).refine(right=stored[:1])).probe.to_dict()[
        "right"
    ]


def test_other_answers(served: tuple[Served, str]) -> None:
    client, image = served[0].client, served[0].folder / "a/two.png"
    region = RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0)
    for found in (
        client.combine(all_of=[region]),
        client.duplicates(max_bits=31),
        client.segment(image),
        client.query(region).explain("a/two.png"),
        client.replay(client.query(region).receipt()),
    ):
        assert there_and_back(found).to_dict() == found.to_dict()


def test_answers_of_a_server(served: tuple[Served, str], remote: RemoteClient) -> None:
    image = served[0].folder / "a/two.png"
    for found in (remote.query(image, (10, 10)), remote.segment(image)):
        again = there_and_back(found)
        assert again.to_dict() == found.to_dict()
        with pytest.raises(UsageError, match="was pickled"):
            again.plot()

    async def ask() -> tuple[Any, Any]:
        async with AsyncRemoteClient(served[1]) as client:
            return await client.query(image, (10, 10)), await client.segment(image)

    kinds = [type(pickle.loads(pickle.dumps(one))) for one in asyncio.run(ask())]  # noqa: S301
    assert kinds == [RemoteResults, RemoteSegments]


def test_a_copy_asks_the_same_client(served: tuple[Served, str]) -> None:
    found = served[0].client.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0))
    for again in (copy.copy(found), copy.deepcopy({"found": found})["found"]):
        assert again.explain("a/two.png").verdict == "hit"


def test_a_client_says_that_it_stays(served: tuple[Served, str], remote: RemoteClient) -> None:
    for client, name in ((served[0].client, "Client"), (remote, "RemoteClient")):
        with pytest.raises(UsageError, match=f"a {name} cannot be pickled: .* open one in each process"):
            pickle.dumps(client)
    assert repr(served[0].client) == f"<Client of {served[0].client.uri}>"
