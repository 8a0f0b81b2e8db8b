"""Receipts: every kind of question comes back as it was, and every difference is named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import image_row, region_row
from fakes.answers import PIXELS, RLE, SELECTION, THING, hit, read, results
from PIL import Image

from searchanything.answers.questions import (
    filter_of,
    image_of_receipt,
    kept_name,
    pixels_digest,
    prompt_of_receipt,
    receipt_prompt,
    stored_question_document,
    words_document,
)
from searchanything.answers.receipts import Receipt, Replay, compare_runs
from searchanything.answers.results import SearchResults
from searchanything.core.conditions import Where
from searchanything.core.errors import UsageError
from searchanything.core.geometry import encode_rle
from searchanything.core.types import Filter, ImageRef, RegionRef, SizeClass
from searchanything.prompts.prompt import Box, Mask, Points, Prompt, Prompts, Text, WholeImage
from searchanything.search.search import PageRequest

FULL_FILTER = Filter(
    bucket="b",
    key_prefix="k/",
    images=(ImageRef("b", "k/3"),),
    exclude=(ImageRef("b", "k/1"), ImageRef("c", "ü")),
    area_px=(1, None),
    size_class=SizeClass.MEDIUM,
    metadata={"year": 2024, "album": "sea", "ok": True, "ratio": 0.1},
    indexed_at_ms=(None, 9),
    within=(("b", "k/"), ("c", "")),
    expression="area_px > 3",
    where=(Where("year", ">=", 2020), Where("city", "in", ("Marburg", "é")), Where("stars", "between", (3, 5.5))),
)
A, B = ImageRef("b", "k/ä.jpg"), ImageRef("c", "2.jpg")


def replayed(then: SearchResults, now: SearchResults) -> Replay:
    return compare_runs(read(then), now)


@pytest.mark.parametrize(
    "prompt",
    [
        Points(((5, 5.25),)),
        Points(((5, 5), (1 / 3, 7)), ((0, 0),), granularity="part"),
        Points(((5, 5),), rule="fastsam"),
        Prompts((Box(1, 2, 3, 4), Box(2, 2, 1e3 / 3, 9))),
        Prompts((Box(1, 2, 3, 4),), ((5, 5.25),), ((0, 0),), "a red apple"),
        Box(1.5, 2, 12.125, 13),
        Text("ein „roter“ Apfel"),
        WholeImage(),
    ],
    ids=lambda prompt: type(prompt).__name__,
)
def test_a_prompt_comes_back_as_it_was(prompt: Prompt) -> None:
    assert read(results(prompt=prompt)).prompt == prompt


def test_a_mask_comes_back_pixel_by_pixel() -> None:
    mask = np.random.default_rng(1).random((20, 30)) > 0.5
    found = read(results(prompt=Mask(mask))).prompt
    assert isinstance(found, Mask)
    np.testing.assert_array_equal(found.mask, mask)
    assert receipt_prompt(Mask(mask))["area_px"] == mask.sum()


def test_a_similarity_is_no_difference_but_in_the_order() -> None:
    then = read(results(replace(hit(1), similarity=0.5)))
    assert compare_runs(then, results(replace(hit(1), similarity=0.499))).same


@pytest.mark.parametrize("filter", [None, Filter(), FULL_FILTER])
def test_filter_and_page_come_back_as_they_were(filter: Filter | None) -> None:
    found = read(results(filter=filter))
    assert found.filter == filter
    assert found.request == PageRequest(3, 2, group_by_image=True)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("q.png", Path("q.png").absolute()),
        (Path("/x/q.png"), Path("/x/q.png")),
        ("s3://bucket/a/b.png", ImageRef("bucket", "a/b.png")),
        (ImageRef("bucket", "a"), ImageRef("bucket", "a")),
    ],
)
def test_an_image_with_a_name_is_found_again(image: object, expected: object) -> None:
    found = read(results(image=image))
    assert found.image_to_ask(None) == expected
    assert found.image_to_ask("other.png") == "other.png"


@pytest.mark.parametrize(
    ("refs", "kind"),
    [
        ((RegionRef(A, 0),), "region"),
        ((RegionRef(A),), "image"),
        ((RegionRef(A, 3), RegionRef(B, 1)), "regions"),
        ((RegionRef(B), RegionRef(A)), "images"),
    ],
    ids=str,
)
def test_what_is_indexed_is_found_again(refs: tuple[RegionRef, ...], kind: str) -> None:
    codes = [bytes([number]) * 32 for number in range(len(refs))]
    rows = [
        image_row(ref.image, generation=1, code=code) if ref.region is None
        else region_row(ref.image, ref.region, generation=1, code=code)
        for ref, code in zip(refs, codes, strict=True)
    ]  # fmt: skip
    rows = [replace(row, etag=f"e{at}", image_width=30 + at, image_height=20 + at) for at, row in enumerate(rows)]
    asked = json.loads(json.dumps(stored_question_document(refs, rows, PageRequest(7, rescore=5), FULL_FILTER)))
    assert image_of_receipt(asked["image"]) == (refs[0] if len(refs) == 1 else refs)
    assert asked["prompt"] == {"kind": kind}
    assert prompt_of_receipt(asked["prompt"], (20, 30), 1000) == WholeImage()
    assert filter_of(asked["filter"]) == FULL_FILTER
    assert asked["page"] == {"limit": 7, "offset": 0, "group_by_image": False, "rescore": 5}
    assert asked["image"]["pixels_sha256"] == sha256(b"".join(codes)).hexdigest()
    assert (asked["image"]["width"], asked["image"]["height"]) == (30, 20)
    assert asked["image"].get("etag") == ("e0" if len(refs) == 1 else None)


def test_words_alone_are_found_again() -> None:
    for text in ("ein „roter“ Apfel", "\ud800"):
        asked = json.loads(json.dumps(words_document(text, PageRequest(7), None)))
        assert prompt_of_receipt(asked["prompt"], (0, 0), 1000) == Text(text)
        assert (asked["prompt"]["kind"], asked["image"]["source"], asked["filter"]) == ("words", "words", None)
        assert (asked["image"]["width"], asked["image"]["height"]) == (0, 0)
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        assert asked["image"]["pixels_sha256"] == digest
        assert image_of_receipt(asked["image"]) is None


def test_a_kept_name_holds_wherever_the_process_goes_and_no_bytes() -> None:
    for name in ("q.png", Path("q.png")):
        assert kept_name(name) == Path("q.png").absolute()
    assert kept_name("s3://b/k/1.jpg") == kept_name(ImageRef("b", "k/1.jpg")) == ImageRef("b", "k/1.jpg")
    assert kept_name(b"...") == b""
    assert kept_name(PIXELS) is PIXELS


@pytest.mark.parametrize(
    ("image", "named"), [(b"...", "bytes"), (PIXELS, "an array"), (Image.fromarray(PIXELS), "a PIL image")]
)
def test_an_image_without_a_name_must_be_given(image: object, named: str) -> None:
    found = read(results(image=image))
    with pytest.raises(UsageError, match=f"given as {named}, which a receipt does not hold.*--image"):
        found.image_to_ask(None)
    assert found.image_to_ask("q.png") == "q.png"


def test_digests_are_those_of_the_bytes() -> None:
    document = results().receipt()
    pixels = b"20x30 RGB\n" + bytes(PIXELS.reshape(-1).tolist())
    assert document["image"]["pixels_sha256"] == sha256(pixels).hexdigest()
    mask = f"({RLE.size[0]}, {RLE.size[1]}) {RLE.counts}"
    assert document["selection"]["mask_sha256"] == sha256(mask.encode()).hexdigest()
    assert pixels_digest(PIXELS[:, ::-1]) != pixels_digest(PIXELS)
    assert pixels_digest(PIXELS.reshape(30, 20, 3)) != pixels_digest(PIXELS)


def test_nothing_differs() -> None:
    found = replayed(results(hit(1), hit(2)), results(hit(1), hit(2)))
    assert found.same
    assert found.to_dict()["differences"] == []
    assert found.to_text() == "the same: 2 hits as on the receipt"
    assert repr(found) == "<Replay: the same: 2 hits as on the receipt>"


def test_hits_gained_lost_and_moved_are_told_with_their_ranks() -> None:
    found = replayed(results(hit(1), hit(2), hit(4), hit(5)), results(hit(2), hit(3), hit(4), hit(5, distance=6)))
    told = {(one.what, (one.then or one.now)["key"]): one for one in found.differences}
    assert set(told) == {("hit lost", "1.jpg"), ("hit moved", "2.jpg"), ("hit gained", "3.jpg"), ("hit moved", "5.jpg")}
    moved = told["hit moved", "2.jpg"]
    assert (moved.then["rank"], moved.now["rank"]) == (4, 3)  # the page begins after an offset of 2
    assert told["hit lost", "1.jpg"].then["rank"] == 3
    assert told["hit gained", "3.jpg"].now["rank"] == 4
    assert "6 bits now" in told["hit moved", "5.jpg"].sentence
    assert not found.same
    assert found.to_text().endswith("different in 4 points")
    assert repr(found) == "<Replay: different in 4 points>"


def test_replaced_content_is_a_difference() -> None:
    (one,) = replayed(results(hit(1)), results(hit(1, etag="other"))).differences
    assert "its content has changed" in one.sentence


def test_another_selection_is_told_with_its_overlap() -> None:
    half = THING.copy()
    half[:, 7:] = False
    other = replace(results(), selection=replace(SELECTION, mask=encode_rle(half), area_px=50))
    (one,) = replayed(results(), other).differences
    assert one.what == "selection"
    assert "IoU 0.500" in one.sentence
    nothing = replace(results(), selection=replace(SELECTION, kind="none"))
    (one,) = replayed(results(), nothing).differences
    assert one.sentence == "the prompt selected region then, none now"


def test_another_collection_of_the_same_models_is_noted_and_no_difference() -> None:
    moved = replace(results(hit(1)), collection="other")
    found = replayed(results(hit(1)), moved)
    assert found.same
    assert found.to_dict()["notes"] == list(found.notes)
    assert found.to_text().splitlines() == [
        "note: the answer came from collection c then, from other now: another index of the same models, made anew or "
        "elsewhere",
        "the same: 1 hit as on the receipt",
    ]
    assert (
        replayed(moved, results()).to_text().startswith("note: the answer came from collection other then, from c now")
    )
    assert replayed(results(hit(1)), results(hit(1))).to_dict()["notes"] == []
    assert replayed(results(), replace(moved, fingerprint="0" * 32)).notes == ()  # told by the fingerprint


def test_another_image_and_other_models_are_told() -> None:
    then, now = results(), replace(results(), fingerprint="0" * 32)
    asked = copy.deepcopy(dict(now.asked))
    asked["image"]["pixels_sha256"] = "0" * 64
    found = replayed(then, replace(now, asked=asked))
    assert [one.what for one in found.differences] == ["image", "fingerprint"]


@pytest.mark.parametrize("document", [None, [], {}, {"format": "searchanything-receipt/2"}, "text"])
def test_what_is_no_receipt_is_refused(document: object) -> None:
    with pytest.raises(UsageError, match="expected a receipt of format searchanything-receipt/1"):
        Receipt.parse(document)


@pytest.mark.parametrize(
    "path",
    [
        *[["image"], ["image", "source"], ["image", "pixels_sha256"], ["prompt"], ["prompt", "kind"], ["page"]],
        *[["page", "limit"], ["filter"], ["selection"], ["selection", "mask"], ["selection", "kind"], ["hits"]],
        *[["hits", 0, "etag"], ["fingerprint"]],
    ],
    ids=str,
)
@pytest.mark.parametrize("instead", ["nothing", 7])
def test_a_damaged_receipt_is_refused(path: list[str | int], instead: object) -> None:
    document = json.loads(json.dumps(results(hit(1)).receipt()))
    place = document
    for name in path[:-1]:
        place = place[name]
    if instead == "nothing":
        del place[path[-1]]
    elif path[-1] in ("kind", "source", "etag", "fingerprint", "limit") and "prompt" not in path:
        return  # a number is read as a text there, or differs from what comes now
    else:
        place[path[-1]] = instead
    with pytest.raises(UsageError, match="the receipt is damaged"):
        Receipt.parse(document)


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        (["page", "limit"], float("inf")),
        (["hits", 0, "key"], ["a", "list"]),
        (["hits", 0, "bucket"], 7),
        (["hits", 0, "region"], "0"),
        (["hits", 0, "region"], [0]),
    ],
)
def test_values_of_a_receipt_that_no_query_has_are_refused(path: list[str | int], instead: object) -> None:
    document = results(hit(1)).receipt()
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = instead
    with pytest.raises(UsageError, match="the receipt is damaged"):
        Receipt.parse(document)


def test_a_receipt_is_written_whole_under_a_json_name(tmp_path: Path) -> None:
    results(hit(1)).save_receipt(tmp_path / "r.json")
    assert Receipt.parse(json.loads((tmp_path / "r.json").read_text())).prompt == Points(((5, 5),))
    with pytest.raises(UsageError, match=r"ends in \.json"):
        results().save_receipt(tmp_path / "r.txt")
