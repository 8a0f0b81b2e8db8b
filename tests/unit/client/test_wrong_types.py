"""What a caller gives by mistake is a `UsageError` that says what is expected; what he changes later is no matter."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from fakes.serving import Served
from PIL import Image

import searchanything
from searchanything.client.client import Client
from searchanything.client.remote import RemoteClient
from searchanything.core.conditions import Where
from searchanything.core.counting import counted
from searchanything.core.errors import FilterError, PromptError, UsageError
from searchanything.core.settings import Settings
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.images.scopes import Patterns
from searchanything.prompts.prompt import Mask, as_prompt

GREEN = (4, 4, 30, 40)


@pytest.fixture
def client(tmp_path: Path, machine: Machine) -> Client:  # noqa: ARG001
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = "memory://", "small"
    (tmp_path / "images").mkdir()
    for number in range(3):
        pixels = drawn(48, 64, green=GREEN, red=(34, 6, 60, 40 - number))
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    client = searchanything.connect(settings=settings)
    client.index(tmp_path / "images", hash_file="untrained")
    return client


def test_pixels_and_masks_are_the_question_even_if_the_caller_uses_them_again(client: Client) -> None:
    """A video's frame, say, whose buffer holds the next one when a receipt or a picture is asked for."""
    frame, mask = drawn(48, 64, green=GREEN), np.zeros((48, 64), dtype=np.bool_)
    mask[4:40, 4:30] = True
    asked = [client.query(frame, prompt) for prompt in ((10, 10), Mask(mask))]
    expected = [found.receipt() for found in asked]
    again = [client.query(frame, prompt) for prompt in ((10, 10), Mask(mask))]
    frame[:], mask[:] = 0, False
    for found, receipt in zip(again, expected, strict=True):
        now = found.receipt()
        assert (now["image"], now["prompt"]) == (receipt["image"], receipt["prompt"])
        assert found.image.any()


Call = Callable[[Client, Path], Any]
WRONG: list[tuple[Call, str]] = [
    (lambda client, _: client.combine(all_of="red"), "all_of: expected a list of parts: .*, got 'red'"),
    (lambda client, _: client.combine(all_of=[], none_of=None), "none_of: expected a list of parts: .*, got None"),
    (lambda client, at: client.combine(all_of=[str(at / "0.png")]), r"0\.png is a file: give \('.*', prompt"),
    (
        lambda client, at: client.combine(all_of=[RegionRef(ImageRef(str(at), "0.png"))]),
        r"each part must be a region, and .*0\.png is a whole image",
    ),
    (lambda client, _: client.combine(all_of=3), r"all_of: expected a list of parts: .*, got 3$"),
    (
        lambda client, at: client.combine(all_of=[RegionRef(ImageRef(str(at), "0.png"), 0)], limit="3"),
        "limit: expected a whole number of 1 or more, got '3'",
    ),
    (lambda client, at: client.refresh(at, "0.png"), "keys: expected a list of keys, got '0.png': put it in brackets"),
    (lambda client, at: client.refresh(at, [3]), "keys: expected keys, got 3"),
    (lambda client, _: client.delete(None), "source: expected s3://bucket/prefix or a folder's path, got None"),
    (lambda client, _: client.index(None), "source: expected s3://bucket/prefix or a folder's path, got None"),
    (lambda client, at: client.index(at, hash_file=3), "hash_file: expected a file's path, or 'untrained', got 3"),
    (
        lambda client, at: client.index(at, patterns="*.png"),
        "patterns: expected searchanything.Patterns, got '",
    ),
    (lambda client, at: client.sync(at, patterns="*.png"), "patterns: expected searchanything.Patterns, got '"),
    (
        lambda *_: Patterns(include="*.png"),
        "include: expected a list of patterns .*: put it in brackets",
    ),
    (lambda *_: Patterns(exclude=[3]), "exclude: expected patterns .*, got 3"),
    (lambda client, _: client.backup(3), "target: expected a tar file's path or s3://bucket/prefix, got 3"),
    (lambda client, _: client.export(3), "path: expected the name of a file, got 3"),
    (lambda client, _: client.image("a.jpg"), "image: expected an ImageRef .*, got 'a.jpg'"),
    (lambda client, _: client.regions("a.jpg"), "image: expected an ImageRef .*, got 'a.jpg'"),
    (lambda client, _: client.locate(3), "expected the name of an image: .*, got 3"),
    (lambda client, _: client.locate(" "), "expected the name of an image: .*, got ' '"),
    (lambda client, _: client.images(most=-1), "most: expected a whole number of 1 or more, got -1"),
    (lambda client, _: client.images(key_prefix=3), "key_prefix: expected a text, got 3"),
    (lambda client, _: client.duplicates(bucket=3), "bucket: expected a text, got 3"),
    (lambda client, _: client.within("photos"), "places: expected pairs of a bucket and a key prefix, got 'photos'"),
    (lambda client, _: client.within(["photos"]), "places: expected pairs of a bucket and a key prefix, got"),
    (
        lambda client, at: client.compare(at / "0.png", (10, 10), candidates=0),
        "^candidates: expected a whole number of 1 or more, got 0",
    ),
    (lambda client, at: client.estimate(at, images=0), "images: expected a whole number of 1 or more, got 0"),
    (lambda *_: searchanything.connect(3), "uri: expected a file's name, an address or memory://, got 3"),
    (lambda *_: searchanything.connect("memory://", settings={}), "expected Settings, got {}"),
    (lambda *_: searchanything.connect("memory://", preset=3), "preset: expected the name of a preset, got 3"),
    (lambda *_: searchanything.connect("http://127.0.0.1:1", key=3), "expected a key of ASCII letters"),
    (lambda *_: searchanything.RemoteClient(3), "expected a server's address, .*, got 3"),
]
WRONG_MARKS: list[tuple[dict[str, Any], str]] = [
    ({"right": 3}, "right: expected a list of hits or RegionRefs, got 3"),
    ({"right": None}, "right: expected a list of hits or RegionRefs, got None"),
    ({"right": [ImageRef("a", "b")]}, "right: expected hits or RegionRefs, got ImageRef"),
    ({"wrong": "ab"}, "wrong: expected a list of hits or RegionRefs, got 'ab'"),
    ({"probe": "bag.json"}, "expected a (searchanything.Probe|probe)"),
]


@pytest.mark.parametrize(("call", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_type_is_said(client: Client, tmp_path: Path, call: Call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call(client, tmp_path / "images")
    assert client.status().images == 3


@pytest.mark.parametrize(("marks", "said"), WRONG_MARKS, ids=[said for _, said in WRONG_MARKS])
def test_a_mark_of_a_wrong_type_is_said(
    remote: RemoteClient, served: tuple[Served, str], marks: dict[str, Any], said: str
) -> None:
    image = served[0].folder / "a/two.png"
    for found in (served[0].client.query(image, (10, 10)), remote.query(image, (10, 10))):
        with pytest.raises(UsageError, match=said):
            found.refine(**marks)
        with pytest.raises(UsageError, match=r"right: .*: put it in brackets"):
            found.refine(right=found[0])


def test_what_is_no_filter_is_said(remote: RemoteClient, served: tuple[Served, str]) -> None:
    client, wrong = served[0].client, cast("Filter", 3)
    image = ImageRef(served[0].bucket, "a/two.png")
    asked: list[Callable[[], object]] = [
        lambda: client.query(image, (10, 10), filter=wrong),
        lambda: client.combine(all_of=[RegionRef(image, 0)], filter=wrong),
        lambda: remote.query(image, filter=wrong),
    ]
    for ask in asked:
        with pytest.raises(FilterError, match=r"filter: expected a searchanything\.Filter, got 3"):
            ask()


@pytest.mark.parametrize("prompt", [{"point": 3}, {"point": [[1, 2], 3]}, {"boxes": 3}, {"box": "ab"}], ids=str)
def test_a_prompt_of_wrong_values_is_said(remote: RemoteClient, served: tuple[Served, str], prompt: object) -> None:
    for client in (served[0].client, remote):
        with pytest.raises(PromptError, match=r"expected (numbers|points|boxes|a box)"):
            client.query(ImageRef(served[0].bucket, "a/two.png"), prompt)


def test_a_box_in_shares_of_the_size_is_said_where_a_thing_is_expected(
    remote: RemoteClient, served: tuple[Served, str]
) -> None:
    image, expected = ImageRef(served[0].bucket, "a/two.png"), ImageRef(served[0].bucket, "b/blue.png")
    by_point = served[0].client.query(image, (20, 20))
    several = served[0].client.query([hit.ref for hit in by_point[:2]])
    for found in (by_point, several, several.refine(right=[several[0]]), remote.query(image, (20, 20))):
        with pytest.raises(PromptError, match=r"pixels of the image \(96 x 64\), got .* give \(19, 6, 58, 38\)"):
            found.explain(expected, (0.2, 0.1, 0.6, 0.6))
        with pytest.raises(PromptError, match="expected a box as four numbers x1, y1, x2, y2, got 3"):
            found.explain(expected, 3)


def test_lists_of_any_kind_are_taken(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "images" / "0.png", (10, 10))
    assert len(found.refine(right=(hit for hit in found[:1]))) == len(found.refine(right={found[0].ref})) > 0
    assert client.combine(all_of=(hit for hit in found[:1]))[0].image == found[0].image
    assert client.index(tmp_path / "images", patterns=Patterns(include=["0.*"])).unchanged == 1


def test_a_path_is_a_uri(tmp_path: Path) -> None:
    with searchanything.connect(tmp_path / "new.db") as found:
        assert found.status().uri == str(tmp_path / "new.db")


def test_a_hit_names_its_image(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "images" / "0.png", (10, 10))
    expected = found.explain(found[1].image).to_dict()
    for named in (found[1], found[1].ref):
        assert client.locate(named) == found[1].image
        assert found.explain(named).to_dict() == expected


def test_the_receipt_of_a_part_is_replayed_as_that_part(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "images" / "0.png", (10, 10))
    assert len(found) > 2
    for part in (found[1:3], found[0:0], found[1:]):
        replayed = client.replay(part.receipt())
        assert replayed.same
        assert [hit.ref for hit in replayed.results] == [hit.ref for hit in part]
        assert f"the same: {counted(len(part), 'hit')} as on the receipt" in replayed.to_text()
    for whole in (found.receipt(), found.receipt() | {"positions": None}):
        assert len(client.replay(whole).results) == len(found)


def test_of_a_part_that_is_no_longer_there_the_rest_is_replayed(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "images" / "0.png", (10, 10))
    receipt = found[:1].receipt()
    lost = receipt["hits"][0] | {"key": "lost.png"}
    replayed = client.replay(receipt | {"hits": [*receipt["hits"], lost], "positions": [0, len(found)]})
    assert [one.what for one in replayed.differences] == ["hit lost"]
    assert [hit.ref for hit in replayed.results] == [found[0].ref]


class Tensor:
    """What is no array and can become one."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.zeros((4, 4), dtype=np.bool_)


def odd(value: object) -> Any:
    return value


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        (bytearray(b"x"), "got bytearray: bytes"),
        (memoryview(b"x"), "got memoryview: bytes"),
        (io.BytesIO(b"x"), r"got BytesIO: give what its read\(\) gives"),
        (Tensor(), "got Tensor: numpy.asarray"),
    ],
)
def test_an_image_of_another_kind_is_said_with_its_cure(
    served: tuple[Served, str], remote: RemoteClient, image: object, cure: str
) -> None:
    for client in (served[0].client, remote):
        with pytest.raises(UsageError, match=f"expected a path, bytes, PIL image, array or ImageRef, {cure}"):
            client.query(odd(image))


def test_a_long_prompt_is_not_said_in_full() -> None:
    with pytest.raises(PromptError, match="expected numbers, got") as caught:
        as_prompt(np.ones((300, 300), dtype=np.bool_).tolist())
    assert len(str(caught.value)) < 500
    for mask in (Tensor(), Image.new("1", (4, 4))):
        with pytest.raises(PromptError, match=r"numpy\.asarray"):
            as_prompt(mask)


def test_numbers_of_numpy_are_numbers(served: tuple[Served, str]) -> None:
    client, region = served[0].client, RegionRef(ImageRef(served[0].bucket, "a/two.png"), odd(np.int64(0)))
    few = Filter(
        metadata={"a": odd(np.int64(3))},
        where=[Where("b", "in", odd(np.arange(2))), Where("c", ">", odd(np.uint8(1)))],
        area_px=(odd(np.int64(1)), None), indexed_at_ms=(odd(np.uint8(1)), None),
    )  # fmt: skip
    plain = Filter(
        metadata={"a": 3}, where=[Where("b", "in", (0, 1)), Where("c", ">", 1)], area_px=(1, None),
        indexed_at_ms=(1, None),
    )  # fmt: skip
    assert repr(few) == repr(plain)
    for given in (few, None):
        found = client.query(region, limit=2, filter=given)
        assert client.replay(json.loads(json.dumps(found.receipt()))).same


@pytest.mark.parametrize("wrong", ["no", b"", None, 2, np.array([True, False])])
def test_neither_true_nor_false(client: Client, tmp_path: Path, wrong: Any) -> None:
    """`prune="false"` would forget images."""
    images = tmp_path / "images"
    (images / "0.png").unlink()
    for call in (
        lambda: client.index(images, prune=wrong),
        lambda: client.index(images, force=wrong),
        lambda: client.index(images, add_words=wrong),
        lambda: client.sync(images, repair=wrong),
        lambda: client.sync(images, forget=wrong),
        lambda: client.sync(images, repair=True, forget=wrong),
        lambda: client.refresh(images, ["0.png"], force=wrong),
        lambda: client.duplicates(whole_images=wrong),
        lambda: client.query(images / "1.png", group_by_image=wrong),
    ):
        with pytest.raises(UsageError, match="expected True or False, got"):
            call()
    assert client.status().images == 3


def test_progress_that_cannot_be_called(client: Client, tmp_path: Path) -> None:
    images, wrong = tmp_path / "images", odd(3)
    for call in (
        lambda: client.index(images, progress=wrong),
        lambda: client.estimate(images, progress=wrong),
        lambda: client.refresh(images, [], progress=wrong),
        lambda: client.sync(images, progress=wrong),
        lambda: client.sync(images, repair=True, progress=wrong),
        lambda: client.retry_failed(progress=wrong),
        lambda: client.drop_failed(progress=wrong),
        lambda: client.models.apply("small", progress=wrong),
        lambda: client.hash_layers.apply(tmp_path / "layer.safetensors", progress=wrong),
        lambda: client.delete(images, progress=wrong),
        lambda: client.duplicates(progress=wrong),
        lambda: client.export(tmp_path / "regions.json", progress=wrong),
        lambda: client.backup(tmp_path / "index.tar", progress=wrong),
        lambda: client.restore(tmp_path / "index.tar", progress=wrong),
    ):
        with pytest.raises(UsageError, match="progress: expected a function that takes an IndexProgress, got 3"):
            call()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageRef(odd(Path("/images")), "a"),
        lambda: ImageRef("b", odd(3)),
        lambda: RegionRef(odd("s3://b/a"), 0),
        lambda: RegionRef(ImageRef("b", "a"), odd("0")),
        lambda: RegionRef(ImageRef("b", "a"), odd(0.5)),
        lambda: RegionRef(ImageRef("b", "a"), odd(value=True)),
    ],
)
def test_names_of_other_types(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        make()
