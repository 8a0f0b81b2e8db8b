"""What a caller gives by mistake is a `UsageError` that says what is expected; what he changes later is no matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.client.client import Client
from searchanything.core.errors import UsageError
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef, RegionRef
from searchanything.prompts.prompt import Mask

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
    (lambda client, _: client.combine(all_of="red"), "all_of: expected a list of parts, got 'red'"),
    (lambda client, _: client.combine(all_of=[], none_of=None), "none_of: expected a list of parts, got None"),
    (lambda client, at: client.combine(all_of=[str(at / "0.png")]), r"0\.png is a file: as a part give \('.*', prompt"),
    (
        lambda client, at: client.combine(all_of=[RegionRef(ImageRef(str(at), "0.png"))]),
        r"a part is a region: .*0\.png as a whole is none",
    ),
    (lambda client, at: client.refresh(at, "0.png"), "keys: expected a list of keys, got '0.png'"),
    (lambda client, _: client.delete(None), "expected s3://bucket/prefix or a folder's path as source, got None"),
    (lambda client, _: client.index(None), "as source, got None"),
    (lambda client, _: client.backup(3), "expected a tar file's path or s3://bucket/prefix, got 3"),
    (
        lambda client, at: client.compare(at / "0.png", (10, 10), candidates=0),
        "^candidates: expected 1 or more, got 0",
    ),
    (lambda client, at: client.estimate(at, images=0), "images: expected 1 or more, got 0"),
    (lambda *_: searchanything.connect(3), "as uri, got 3"),
    (lambda *_: searchanything.connect("memory://", settings={}), "expected Settings, got {}"),
]


@pytest.mark.parametrize(("call", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_type_is_said(client: Client, tmp_path: Path, call: Call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call(client, tmp_path / "images")
    assert client.status().images == 3


def test_a_path_is_a_uri(tmp_path: Path) -> None:
    with searchanything.connect(tmp_path / "new.db") as found:
        assert found.status().uri == str(tmp_path / "new.db")


def test_a_hit_names_its_image(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "images" / "0.png", (10, 10))
    expected = found.explain(found[1].image).to_dict()
    for named in (found[1], found[1].ref):
        assert found.explain(named).to_dict() == expected


def test_the_receipt_of_a_part_is_replayed_as_that_part(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "images" / "0.png", (10, 10))
    assert len(found) > 2
    for part in (found[1:3], found[0:0], found[1:]):
        replayed = client.replay(part.receipt())
        assert replayed.same
        assert [hit.ref for hit in replayed.results] == [hit.ref for hit in part]
        assert f"the same: {len(part)} hits as on the receipt" in replayed.to_text()
    assert len(client.replay(found.receipt()).results) == len(found)
