"""The light client over a socket: the same answers as the index itself gives, and errors of the same classes."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.models import drawn
from fakes.serving import IMAGES, Served, listening, png_of
from PIL import Image

import searchanything
from deploy.local import holding_a_port
from searchanything.answers.results import SearchResults
from searchanything.client.awaited import AsyncRemoteClient
from searchanything.client.calls import error_of, seconds_of, sent_filter
from searchanything.client.remote import RemoteClient
from searchanything.client.remote_results import RemoteResults
from searchanything.core import errors
from searchanything.core.conditions import Where
from searchanything.core.errors import (
    AccessError,
    BusyError,
    FilterError,
    ImageError,
    ObjectNotFoundError,
    PromptError,
    SearchAnythingError,
    ServerUnreachableError,
    UsageError,
)
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.prompts.prompt import Box, Mask, Points, Prompts, Text, WholeImage
from searchanything.search.probe import Probe
from searchanything.serve.problems import problem_response, status_of
from searchanything.serve.wire import FilterModel

PROMPTS: list[Any] = [
    (60, 20), [60, 20], [(60, 20), (10, 10)], (48, 6, 92, 42), "blue", None,
    {"foreground": (60, 20), "background": (10, 10)},
    {"boxes": Box(48, 6, 92, 42)}, {"box": Box(48, 6, 92, 42)}, {"boxes": np.array([48, 6, 92, 42])},
    {"boxes": [(0, 0, 96, 64)], "foreground": [(60, 20)]}, Points((60, 20), granularity="whole"), Box(48, 6, 92, 42),
    Text("blue"), WholeImage(), Prompts((Box(0, 0, 96, 64),), ((60, 20),)), np.array([60, 20]),
    Mask((IMAGES["a/two.png"] == (20, 20, 250)).all(axis=2)),
]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_every_prompt_has_the_answer_of_the_index(
    served: tuple[Served, str], remote: RemoteClient, prompt: Any
) -> None:
    image = ImageRef(served[0].bucket, "a/two.png")
    here, there = served[0].client.query(image, prompt), remote.query(image, prompt)
    assert [(hit.ref, hit.distance_bits, hit.mask) for hit in there] == [
        (hit.ref, hit.distance_bits, hit.mask) for hit in here
    ]
    assert there.selection.kind == here.selection.kind
    if here.selection.kind == "region":  # a whole image is not segmented again
        assert there.selection.mask == here.selection.mask
    assert there.fingerprint == here.fingerprint


def test_a_hit_is_a_question_and_a_page_too(served: tuple[Served, str], remote: RemoteClient) -> None:
    first = remote.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0), limit=3)
    again = remote.query(first[0], limit=2, offset=1, filter=Filter(key_prefix="b/"), group_by_image=True)
    assert {hit.image.key for hit in again} < {"b/blue.png", "b/green.png"}
    assert first.good_match
    assert "hits" in repr(first)
    assert first.receipt()["format"] == "searchanything-receipt/1"
    assert served[0].client.replay(first.receipt()).same


def same(there: RemoteResults, here: SearchResults) -> bool:
    """Whether a server's answer is the index's own."""
    assert [(hit.ref, hit.distance_bits, hit.mask, hit.metadata) for hit in there] == [
        (hit.ref, hit.distance_bits, hit.mask, hit.metadata) for hit in here
    ]
    for name in ("similarity", "false_match"):
        pairs = zip((getattr(one, name) for one in there), (getattr(one, name) for one in here), strict=True)
        assert all(one is other is None or one == pytest.approx(other, rel=0.1) for one, other in pairs)
    document = here.to_dict()
    assert there.matching == document["matching"]
    assert (there.verdict, there.hint) == (here.verdict, here.hint)
    assert [stage["candidates"] for stage in there.stages] == [stage.candidates for stage in here.stages]
    assert there.confidences == here.confidences
    assert (there.fingerprint, there.exact) == (here.fingerprint, here.exact)
    return there.selection.reason == here.selection.reason


def test_a_filter_that_lets_nothing_through_says_why(remote: RemoteClient, served: tuple[Served, str]) -> None:
    region = RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0)
    nothing = remote.query(region, filter=Filter(metadata={"album": "sea"}))
    assert len(nothing) == 0
    assert nothing.hint == served[0].client.query(region, filter=Filter(metadata={"album": "sea"})).hint
    assert "none has metadata of that name" in nothing.hint


def test_an_answer_in_a_notebook_is_the_sheet_with_its_doubts(remote: RemoteClient, served: tuple[Served, str]) -> None:
    found = remote.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0), limit=2)
    said = json.loads(json.dumps(found.to_dict()))
    said["hits"][1]["confidence"]["word"], said["hits"][1]["key"] = "weak", "<script>.png"
    page = dataclasses.replace(found, document={**said, "good_match": False})._repr_html_()
    sheet = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
    assert sheet == found._repr_png_()
    assert (page.count("weak match"), page.count("<li>"), page.count("no good match</span>")) == (1, 2, 1)
    assert "<script>" not in page
    assert "a/two.png" in page
    assert "no good match" not in found._repr_html_()


def test_words_alone_have_the_answer_of_the_index(served: tuple[Served, str], remote: RemoteClient) -> None:
    asked = {"text": "blue", "limit": 3, "filter": Filter(key_prefix="b/"), "rescore": 2}
    there, here = remote.query(**asked), served[0].client.query(**asked)
    assert same(there, here)
    assert there.selection.text_match is not None
    assert there.selection.text_match.better == here.selection.text_match.better
    with pytest.raises(UsageError, match="or words alone"):
        remote.query()
    with pytest.raises(UsageError, match="by themselves"):
        remote.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0), text="blue")


def test_several_regions_have_the_answer_of_the_index(served: tuple[Served, str], remote: RemoteClient) -> None:
    image = ImageRef(served[0].bucket, "a/two.png")
    regions = [RegionRef(image, 0), RegionRef(image, 1)]
    assert same(remote.query(regions), served[0].client.query(regions))
    found = remote.query(regions[0])
    assert same(remote.query(found[:2]), served[0].client.query(list(found[:2])))
    for odd in ([], ["a.png"]):
        with pytest.raises(UsageError, match="as one question"):
            remote.query(odd)


def test_marks_refine_as_in_the_index(served: tuple[Served, str], remote: RemoteClient, tmp_path: Path) -> None:
    region = RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0)
    there, here = remote.query(region, limit=4), served[0].client.query(region, limit=4)
    once = there.refine(right=[there[1]], wrong=[there[3].ref])
    by_hand = here.refine(right=[here[1]], wrong=[here[3]])
    assert same(once, by_hand)
    twice = once.refine(wrong=[there[2]])
    assert same(twice, by_hand.refine(wrong=[here[2]])), "marks add up"
    assert {name: twice.probe[name] for name in ("right", "wrong")} == {"right": 1, "wrong": 2}, "of one code"
    twice.save_probe(tmp_path / "probe.json")
    saved = Probe.read(tmp_path / "probe.json")
    assert same(there.refine(probe=saved), here.refine(probe=saved))
    assert same(there.refine(probe=saved).refine(probe=saved), here.refine(probe=saved).refine(probe=saved))
    with pytest.raises(UsageError, match="no receipt"):
        twice.receipt()
    with pytest.raises(UsageError, match="right or wrong"):
        there.refine()
    with pytest.raises(UsageError, match="refine the answer first"):
        there.save_probe(tmp_path / "none.json")
    with pytest.raises(ObjectNotFoundError):
        there.refine(right=[RegionRef(ImageRef(served[0].bucket, "never.png"), 0)])


VALUES: dict[str, Any] = {
    "bucket": "b", "key_prefix": "b/", "images": (ImageRef("b", "k"),), "exclude": (ImageRef("b", "k"),),
    "within": (("b", "b/"),), "area_px": (1, None), "size_class": "small", "metadata": {"album": "sea"},
    "indexed_at_ms": (None, 5), "expression": "region == 1",
    "where": (Where("year", ">=", 2020), Where("city", "in", ("Marburg", "Kassel"))),
}  # fmt: skip


def test_every_part_of_a_filter_is_sent_or_refused() -> None:
    assert set(VALUES) == {one.name for one in dataclasses.fields(Filter)}
    for name, value in VALUES.items():
        asked = Filter(**{name: value})
        if name in ("within", "expression"):
            with pytest.raises(UsageError, match="that you open yourself"):
                sent_filter(asked)
            continue
        sent = json.loads(json.dumps(sent_filter(asked)))
        assert FilterModel(**sent).filter() == asked, name


def test_an_upload_that_the_server_dropped_early_is_made_anew_by_the_next_question(
    remote: RemoteClient, served: tuple[Served, str]
) -> None:
    image = drawn(64, 96, green=(11, 10, 60, 50))
    remote.query(image, (20, 20), limit=1)
    for upload in (served[0].folder.parent / "serve" / "uploads").iterdir():
        upload.unlink()  # as for newer ones, where they are many
    with pytest.raises(ObjectNotFoundError, match="upload the image again"):
        remote.query(image, (20, 20), limit=1)
    assert remote.query(image, (20, 20), limit=1)[0].image.key == "b/green.png"


def test_images_of_ones_own_are_uploaded_once(remote: RemoteClient, tmp_path: Path, served: tuple[Served, str]) -> None:
    image = drawn(64, 96, green=(10, 10, 60, 50))
    path = tmp_path / "green.png"
    path.write_bytes(png_of(image))
    uploads = served[0].folder.parent / "serve" / "uploads"
    before = len(list(uploads.glob("*")))
    for given in (path, str(path), path.read_bytes()):
        assert remote.query(given, (20, 20), limit=1)[0].image.key == "b/green.png"
    assert len(list(uploads.glob("*"))) == before + 1
    for given in (Image.fromarray(image), image):
        assert remote.query(given, (20, 20), limit=1)[0].image.key == "b/green.png"
    segments = remote.segment(path)
    assert (len(segments), segments.width, segments.height) == (1, 96, 64)


def test_sheets_and_explanations(served: tuple[Served, str], remote: RemoteClient, tmp_path: Path) -> None:
    found = remote.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0))
    found.save(tmp_path / "hits.png")
    with Image.open(tmp_path / "hits.png") as saved, found.plot() as drawn_anew:
        assert saved.size == drawn_anew.size
    expected = ImageRef(served[0].bucket, "b/blue.png")
    assert found.explain(expected)["verdict"] == "hit"
    here = served[0].client.query(RegionRef(ImageRef(served[0].bucket, "a/two.png"), 0))
    for box in (Box(20, 8, 60, 40), (20, 8, 60, 40), [20, 8, 60, 40], np.array([20, 8, 60, 40])):
        there = found.explain(expected, box)
        assert (there["expected"]["box_xyxy"], there["sentence"]) == (
            [20, 8, 60, 40],
            here.explain(expected, box).sentence,
        )
    with pytest.raises(UsageError, match="png"):
        found.save(tmp_path / "hits.gif")
    for save, name in ((found.save, "hits.png"), (found.save_receipt, "hits.json")):
        with pytest.raises(UsageError, match="there is no folder"):
            save(tmp_path / "nowhere" / name)


def test_the_async_twin(served: tuple[Served, str]) -> None:
    async def ask() -> tuple[list[str], int, str]:
        async with AsyncRemoteClient(served[1]) as client:
            image = ImageRef(served[0].bucket, "a/red.png")
            found, segments = await asyncio.gather(client.query(image, limit=2), client.segment(image))
            assert (await client.query(text="red", limit=1))[0].image.key in ("a/red.png", "a/two.png")
            with pytest.raises(UsageError, match="combine is not offered by a server"):
                _ = client.combine
            assert not hasattr(client, "_ipython_display_")
            return [hit.image.key for hit in found], len(segments), (await client.status())["index"]["preset"]

    keys, segments, preset = asyncio.run(ask())
    assert (keys[0], segments, preset) == ("a/red.png", 1, "pico")


def test_errors_are_of_the_same_classes(served: tuple[Served, str], remote: RemoteClient) -> None:
    image = ImageRef(served[0].bucket, "a/two.png")
    with pytest.raises(PromptError, match="outside"):
        remote.query(image, (600, 20))
    with pytest.raises(PromptError, match="expected"):
        remote.query(image, object())
    with pytest.raises(ObjectNotFoundError):
        remote.query(ImageRef(served[0].bucket, "never.png"))
    with pytest.raises(ImageError):
        remote.query(b"no image", (1, 1))
    with pytest.raises(FilterError):
        remote.query(RegionRef(image, 0), filter=Filter(metadata={"": 1}))
    with pytest.raises(UsageError, match="not offered by a server"):
        _ = remote.index
    with pytest.raises(UsageError, match="that you open yourself"):
        remote.query(image, filter=Filter(expression="region == 1"))


def subclasses(kind: type[SearchAnythingError]) -> list[type[SearchAnythingError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in subclasses(child))]


MORE_THAN_A_MESSAGE = (ImageError, errors.AnnotationsError, errors.DeviceError, errors.LibraryError)


def test_every_error_comes_back_as_itself(remote: RemoteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    remote._retries = 0
    for kind in subclasses(SearchAnythingError)[1:]:
        if kind.__module__ != errors.__name__ or kind in MORE_THAN_A_MESSAGE:
            continue
        sent = problem_response(kind("what happened"), "r")
        header = sent.headers.get("retry-after")
        monkeypatch.setattr(remote, "_exchange", lambda *_, s=sent, h=header: (s.status_code, s.body, h))
        with pytest.raises(kind, match=r"what happened|has the cause under request r$") as caught:
            remote.status()
        assert type(caught.value) is kind
        assert status_of(caught.value) == sent.status_code


def test_a_busy_server_is_asked_again(remote: RemoteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [problem_response(BusyError("wait", retry_after_s=0), "r") for _ in range(3)]
    monkeypatch.setattr(remote, "_exchange", lambda *_: (429, answers.pop().body, "0"))
    with pytest.raises(BusyError):
        remote.status()
    assert answers == [], "asked three times"


def test_a_client_that_was_closed_meanwhile_does_not_ask_again(
    remote: RemoteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [problem_response(BusyError("wait", retry_after_s=7), "r") for _ in range(3)]
    monkeypatch.setattr(remote, "_exchange", lambda *_: (429, answers.pop().body, "7"))
    monkeypatch.setattr(time, "sleep", lambda _: remote.close())
    with pytest.raises(BusyError):
        remote.status()
    assert len(answers) == 2


@pytest.mark.parametrize("kind", [errors.AnswerTimeoutError, errors.IndexUnavailableError, errors.StoreError])
def test_work_that_was_begun_is_not_asked_for_again(
    remote: RemoteClient, monkeypatch: pytest.MonkeyPatch, kind: type[SearchAnythingError]
) -> None:
    asked: list[int] = []
    sent = problem_response(kind("no"), "r")

    def exchange(*_: object) -> tuple[int, bytes, str]:
        asked.append(1)
        return sent.status_code, sent.body, "0"

    monkeypatch.setattr(remote, "_exchange", exchange)
    with pytest.raises(kind):
        remote.status()
    assert asked == [1]


@pytest.mark.parametrize("sent", ["Wed, 21 Oct 2026 07:28:00 GMT", "", "-1", "²", None])
def test_a_retry_after_that_is_no_number_is_a_second(sent: str | None) -> None:
    assert seconds_of(sent) == 1
    caught = error_of(429, problem_response(BusyError("wait"), "r").body, sent)
    assert isinstance(caught, BusyError)


def test_connect_knows_a_server_by_its_answer(served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch) -> None:
    client = searchanything.connect(served[1])
    assert isinstance(client, RemoteClient)
    assert isinstance(searchanything.connect(served[1], key="sa_1_2"), RemoteClient)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # like a server of another kind, which never answers
        monkeypatch.setattr("searchanything.client.remote._PROBE_S", 0.05)
        other = searchanything.connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert isinstance(other, searchanything.Client)
    other.close()
    with pytest.raises(UsageError, match="a key goes with"):
        searchanything.connect("index.db", key="sa_1_2")
    with pytest.raises(UsageError, match="address"):
        RemoteClient("index.db")


BARE = """
import sys
import time
sys.path.insert(0, sys.argv[1])
import searchanything
with searchanything.connect(sys.argv[2]) as client:
    found = client.query(sys.argv[3], (20, 20), limit=2, filter=searchanything.Filter(key_prefix="b/"))
    regions = client.segment(sys.argv[3])
    regions.save(sys.argv[3] + ".regions.png")
    print(found[0].image.key, len(regions), found.receipt()["format"])
    found.save(sys.argv[3] + ".hits.png")
    try:
        found.show()
    except searchanything.SearchAnythingError as error:
        print(error)
try:
    searchanything.connect("index.db")
except searchanything.SearchAnythingError as error:
    print(error)
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__"}
print(sorted(foreign))
"""


def test_it_works_where_nothing_is_installed(served: tuple[Served, str], tmp_path: Path) -> None:
    path = tmp_path / "green.png"
    path.write_bytes(png_of(drawn(64, 96, green=(10, 10, 60, 50))))
    root = str(Path(searchanything.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", BARE, root, served[1], str(path)]  # -S: without site-packages
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "b/green.png 1 searchanything-receipt/1"
    assert lines[1] == "plot needs Pillow: pip install pillow; save() does without"
    assert f"pip install '{root}[local]'" in lines[2]  # nothing of ours is installed there: from the source
    assert lines[3] == "['searchanything']"
    with Image.open(f"{path}.hits.png") as sheet:
        assert sheet.format == "PNG"


def test_the_package_itself_is_small() -> None:
    folder = Path(searchanything.__file__).parent
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert size < 30 * 2**20


def test_nobody_there() -> None:
    with holding_a_port() as held, pytest.raises(ServerUnreachableError):
        RemoteClient(f"http://127.0.0.1:{held.getsockname()[1]}").status()


def test_a_key_is_sent_in_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True)
    token, _ = served.desk.ring.add("one", places=[(served.bucket, "a/")])
    with listening(served) as url:
        with RemoteClient(url) as nobody, pytest.raises(AccessError) as caught:
            nobody.status()
        assert not caught.value.known
        client = searchanything.connect(url, key=token)
        assert client.status()["index"]["images"] == 2
        assert {hit.image.key[0] for hit in client.query(RegionRef(ImageRef(served.bucket, "a/two.png"), 0))} == {"a"}
        client.close()
