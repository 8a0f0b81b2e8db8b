"""What a program does with a server's answers, and what it may hand over: slices, pictures, tables, names, numbers."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.serving import Served

import searchanything
from searchanything.client.awaited import AsyncRemoteClient
from searchanything.client.calls import Call, document
from searchanything.client.remote import RemoteClient
from searchanything.client.remote_results import Marks, RemoteResults
from searchanything.client.remote_segments import RemoteSegments
from searchanything.core.errors import UsageError
from searchanything.core.types import Filter, ImageRef, RegionRef


def test_numbers_of_libraries_are_sent(served: tuple[Served, str], remote: RemoteClient) -> None:
    region = RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0)
    plain = remote.query(region, limit=3)
    again = remote.query(
        RegionRef(region.image, np.int32(0)), limit=np.int64(3), offset=np.uint8(0), group_by_image=np.bool_(False),
        filter=Filter(metadata={}, area_px=(np.int64(0), None)),
    )  # fmt: skip
    body = {"a": np.float32(0.5), "b": np.arange(2)}
    assert Call("POST", "/", document, body).encoded()[1] == b'{"a": 0.5, "b": [0, 1]}'
    assert [hit.ref for hit in again] == [hit.ref for hit in plain]
    for odd in ({"limit": object()}, {"max_false_match": float("nan")}, {"limit": 1j}):
        with pytest.raises(UsageError, match="cannot be sent"):
            remote.query(region, **odd)


@pytest.mark.parametrize("key", ["sa_1_2\n", "sa\r\n1", "", " sa", "s\u00e4", "\ud800"])
def test_a_key_that_no_header_takes_is_refused_at_once(key: str) -> None:
    with pytest.raises(UsageError, match="expected a key") as caught:
        RemoteClient("http://localhost:1", key=key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h:99999", "http://[::1", "http://h:x", "ftp://h", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="address"):
        RemoteClient(url)


@pytest.mark.parametrize("address", ["http://root:se/cr@et@localhost:1", "http://root:se/cr@et@localhost:99999"])
def test_a_password_in_an_address_is_refused_and_never_shown(address: str) -> None:
    """It would be sent to nobody; a Milvus server's address may have one."""
    for open_client in (RemoteClient, AsyncRemoteClient, lambda url: searchanything.connect(url, key="k")):
        with pytest.raises(UsageError, match=r"expected .* address") as caught:
            open_client(address)
        assert "localhost" in str(caught.value)
        assert "et" not in str(caught.value).replace("expected", "")


def test_an_address_with_a_password_may_be_our_server(served: tuple[Served, str]) -> None:
    with pytest.raises(UsageError, match="without user and password"):
        searchanything.connect(served[1].replace("//", "//root:secret@"))


def test_what_is_not_offered_is_not_there(remote: RemoteClient) -> None:
    assert [hasattr(remote, name) for name in ("combine", "index", "_ipython_display_", "query")] == [False] * 3 + [
        True
    ]
    with pytest.raises(AttributeError, match="not offered by a server"):
        _ = remote.combine
    assert getattr(remote, "combine", 7) == 7


def test_explain_takes_an_image_by_any_name(served: tuple[Served, str], remote: RemoteClient) -> None:
    bucket = served[0].bucket
    found = remote.query(RegionRef(ImageRef(bucket, "a/two.png"), 0))
    hit = next(one for one in found if one.image.key == "b/blue.png")
    names = (f"{bucket}/b/blue.png", Path(bucket, "b", "blue.png"), "b/blue.png", hit, hit.image, hit.ref)
    for name in names:
        assert found.explain(name)["expected"]["key"] == "b/blue.png", name
    for missing in ("s3://b/k", "S3://b/k", "never.png", "/nowhere/never.png"):
        assert found.explain(missing)["verdict"] == "not_indexed"
    for odd in ("", " ", "s3://b", None, 7):
        with pytest.raises(UsageError, match="expected"):
            found.explain(odd)


def test_pictures_are_those_of_the_refined_answer(served: tuple[Served, str], remote: RemoteClient) -> None:
    region = RegionRef(ImageRef(served[0].bucket, "b/blue.png"), 0)
    there, here = remote.query(region), served[0].client.query(region)
    marks = {"right": [there[-1].ref], "wrong": [there[2].ref]}  # other codes than the query's, which the nearest have
    once, by_hand = there.refine(**marks), here.refine(**marks)
    assert [hit.ref for hit in once] != [hit.ref for hit in there]
    assert once._repr_png_() == by_hand._repr_png_() != there._repr_png_()
    saved = there.refine(probe=once.probe["saved"])
    assert saved._repr_png_() != there._repr_png_()


def test_a_slice_is_an_answer(served: tuple[Served, str], remote: RemoteClient, tmp_path: Path) -> None:
    region = RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0)
    there, here = remote.query(region), served[0].client.query(region)
    for index in (slice(1, 3), slice(None, None, 2), slice(2, None, -1), slice(0, 0)):
        part, own = there[index], here[index]
        assert isinstance(part, RemoteResults)
        assert [hit.ref for hit in part] == [hit.ref for hit in own]
        assert len(part.to_dict()["hits"]) == len(part)
        assert part._repr_png_() == own._repr_png_()
        receipt = part.receipt()
        assert (receipt["hits"], receipt["positions"]) == (own.receipt()["hits"], own.receipt()["positions"])
        again = part[:1]
        assert again.positions == own[:1].positions
    assert there[:].positions is None
    there[1:3].save_receipt(tmp_path / "receipt.json")
    assert json.loads((tmp_path / "receipt.json").read_text("utf-8")) == there[1:3].receipt()
    with pytest.raises(UsageError, match="json"):
        there.save_receipt(tmp_path / "receipt.txt")
    table, own_table = there.to_pandas(), here.to_pandas()
    assert list(table.columns) == list(own_table.columns)
    for name in ("key", "region", "distance_bits", "x1", "etag"):
        assert table[name].equals(own_table[name]), name


def test_segments_are_drawn_as_in_the_index(served: tuple[Served, str], remote: RemoteClient, tmp_path: Path) -> None:
    image = ImageRef(served[0].bucket, "a/two.png")
    there, here = remote.segment(image), served[0].client.segment(image)
    assert there._repr_png_() == here._repr_png_()
    assert there.to_dict() == here.to_dict()
    assert repr(there) == "<RemoteSegments: 2 regions in an image of 96 × 64 px>"
    for index in (slice(1, 2), slice(None, None, -1), slice(0, 0), slice(0, 2)):
        part, own = there[index], here[index]
        assert type(part) is type(there)
        assert part.to_dict() == own.to_dict()
        assert part._repr_png_() == own._repr_png_()
        assert part[:1]._repr_png_() == own[:1]._repr_png_()
    there.save(tmp_path / "regions.png")
    assert (tmp_path / "regions.png").read_bytes() == here._repr_png_()
    with there.plot() as drawn_there:
        assert drawn_there.size == here.plot().size
    with pytest.raises(UsageError, match="png"):
        there.save(tmp_path / "regions.gif")


def test_segments_in_a_notebook_are_the_picture(remote: RemoteClient, served: tuple[Served, str]) -> None:
    found = remote.segment(ImageRef(served[0].bucket, "a/red.png"))
    page = found._repr_html_()
    assert base64.b64decode(page.partition("base64,")[2].partition('"')[0]) == found._repr_png_()
    assert "1 region in an image" in page
    assert "<ol" not in page


def test_segments_of_no_server_say_so() -> None:
    with pytest.raises(UsageError, match="not from a server"):
        RemoteSegments((), 4, 4)._repr_png_()


def test_a_sheet_of_a_refined_answer_is_cut_as_it_is(served: tuple[Served, str], remote: RemoteClient) -> None:
    sent: list[dict[str, Any]] = []
    region = RegionRef(ImageRef(served[0].bucket, "b/blue.png"), 0)
    found = remote.query(region)
    marked = dataclasses.replace(
        found,
        asked={**found.asked, "max_false_match": 1e-3},
        marks=Marks(right=(region,)),
        send=lambda call: sent.append(call.body) or b"",
    )
    marked._repr_png_()
    assert sent[0]["max_false_match"] == 1e-3
    assert sent[0]["right"] == [{"bucket": served[0].bucket, "key": "b/blue.png", "region": 0}]
