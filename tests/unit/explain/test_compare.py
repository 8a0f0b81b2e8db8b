"""The five rankings on drawn images whose colour shares, and so cosines, are known."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes.models import drawn, fake_encoder
from fakes.stores import InMemoryStore
from PIL import Image

from searchanything.answers.comparison import Comparison
from searchanything.core.codes import hamming
from searchanything.core.errors import PromptError, UsageError
from searchanything.core.types import Filter, ImageRef, RGBImage
from searchanything.encode.encoder import RegionJob
from searchanything.encode.fingerprint import manifest_of
from searchanything.explain.compare import compare
from searchanything.explain.reencode import RegionFeatures, SearchContext, cosines
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.decoding import decode_image
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.prompts.prompt import Box, Points, Prompt, WholeImage
from searchanything.stores.memory import MemoryRegionIndex

THING, CENTRE = (8, 8, 56, 56), (20, 20, 44, 44)  # on the fakes' grid; 48 px shrink to crops of 16 without a blend
QUERY = drawn(64, 64, red=THING)
ON_THING = Points(((12, 12),))
IMAGES = {
    "a_ring": drawn(64, 64, red=THING, blue=CENTRE),
    "b_plain": QUERY,
    "c_green": drawn(64, 64, green=THING),
}


class World:
    def __init__(self, crops: CropPolicy = CropPolicy.PAPER) -> None:
        self.store = InMemoryStore()
        self.encoder = fake_encoder(bits=64, crops=crops)
        self.index = MemoryRegionIndex(manifest_of(self.encoder, "test"))
        for name, image in IMAGES.items():
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, format="PNG")
            self.store.put(f"{name}.png", buffer.getvalue())
        index_images(IndexingJob(self.store, lambda: self.encoder, self.index), self.store.list())
        self.store.reads.clear()

    def compare(self, prompt: Prompt = ON_THING, *, candidates: int = 10, filter: Filter | None = None) -> Comparison:
        context = SearchContext(self.index, self.encoder, self.read)
        return compare(context, QUERY, prompt, candidates=candidates, filter=filter)

    def read(self, image: ImageRef) -> tuple[str, Callable[[], RGBImage]]:
        stored, data = self.store.read(image.key)
        return stored.etag, partial(decode_image, data, name=image.key, max_pixels=10**6)


def ranking(found: Comparison, name: str) -> dict[tuple[str, int], float]:
    """Values by image and region, in the order of the ranking."""
    method = next(one for one in found.to_dict()["methods"] if one["name"] == name)
    assert [entry["rank"] for entry in method["ranking"]] == list(range(1, len(method["ranking"]) + 1))
    return {(entry["key"][0], entry["region"]): entry[method["measure"]] for entry in method["ranking"]}


def test_clip_alone_sees_what_lies_in_the_box() -> None:
    values = ranking(World().compare(), "clip")
    ring = 0.75 / np.hypot(0.75, 0.25)  # a quarter of the crop is blue
    assert values["a", 0] == pytest.approx(ring, abs=1e-4)
    assert values["b", 0] == pytest.approx(1)
    assert values["c", 0] == pytest.approx(0)
    assert list(values)[:2] == [("b", 0), ("a", 0)]
    assert list(values.values()) == sorted(values.values(), reverse=True)


def test_masked_clip_sees_the_thing_alone() -> None:
    values = ranking(World().compare(), "clip_masked")
    assert values["a", 0] == pytest.approx(1)
    assert values["b", 0] == pytest.approx(1)
    assert values["c", 0] == pytest.approx(0)


def test_mask_features_count_for_half() -> None:
    values = ranking(World().compare(), "clip_masked_and_mask_features")
    red, green = np.array([250, 20, 20, 5]), np.array([20, 250, 20, 5])
    assert values["b", 0] == pytest.approx(1)
    assert values["c", 0] == pytest.approx(red @ green / (red @ red) / 2, abs=1e-4)


@pytest.mark.parametrize("crops", CropPolicy)
@pytest.mark.parametrize("box", [Box(8, 8, 56, 56), Box(20, 20, 44, 44)])
def test_indexed_features_are_what_is_hashed(box: Box, crops: CropPolicy) -> None:
    """By another way: the cosine of what the hash layer gets of the encoder's own crops."""
    world = World(crops)
    big = drawn(160, 160, red=(8, 8, 152, 152), blue=(50, 50, 80, 80))  # one large region, one small
    found = compare(SearchContext(world.index, world.encoder, world.read), big, box)
    query = world.encoder.encode_query(big, box)
    own = RegionFeatures.of_job(world.encoder, RegionJob.of_choice(big, query.segmentation, query.choice))
    values = ranking(found, "indexed_features")
    for name, image in IMAGES.items():
        segmentation = world.encoder.segmenter.segment([image])[0]
        rows = world.encoder.policy.keep(segmentation)
        features = RegionFeatures.of_job(world.encoder, RegionJob.of_rows(image, segmentation, rows))
        for region, cosine in enumerate(features.cosines(own).tolist()):
            assert values[name[0], region] == pytest.approx(cosine, abs=1e-4)


def test_codes_are_those_of_the_index() -> None:
    world = World()
    found = world.compare()
    values = ranking(found, "codes")
    query = world.encoder.encode_query(QUERY, ON_THING).code
    for name, image in IMAGES.items():
        (encoded,) = world.encoder.encode_images([image])
        for region, distance in enumerate(hamming(query[None], encoded.codes)[0].tolist()):
            assert values[name[0], region] == distance
    assert [one.distance_bits for one in found.candidates] == sorted(values.values())


def test_every_method_ranks_the_same_candidates_and_images_are_read_once() -> None:
    world = World()
    found = world.compare()
    assert len(found.candidates) == 4
    for method in found.methods:
        assert sorted(method.order) == [0, 1, 2, 3]
        assert [found.ranks(method)[number] for number in method.order] == [1, 2, 3, 4]
    assert world.store.reads == {f"{name}.png": 1 for name in IMAGES}


def test_candidates_are_as_many_as_wanted_and_filtered() -> None:
    assert len(World().compare(candidates=2).candidates) == 2
    assert {one.image.key for one in World().compare(filter=Filter(key_prefix="c")).candidates} == {"c_green.png"}


def test_a_candidate_that_changed_is_left_out_and_named() -> None:
    world = World()
    world.store.put("b_plain.png", b"other")
    found = world.compare()
    assert {key for key, _ in ranking(found, "codes")} == {"a", "c"}
    assert [one["key"] for one in found.to_dict()["left_out"]] == ["b_plain.png"]


def test_a_prompt_on_nothing_has_empty_rankings() -> None:
    found = World().compare(Points(((1, 1),)))
    assert found.selection.kind == "none"
    assert [one["ranking"] for one in found.to_dict()["methods"]] == [[], [], [], [], []]
    assert found.plot().size[0] > 0
    assert found.to_html().startswith("<!doctype html>")


def test_whole_images_are_refused() -> None:
    with pytest.raises(PromptError, match="add a prompt"):
        World().compare(WholeImage())


def test_the_sheet_has_a_row_per_method() -> None:
    one, all_of_them = (World().compare(Box(8, 8, 56, 56), candidates=number).plot() for number in (1, 4))
    assert one.size[1] == all_of_them.size[1]
    assert all_of_them.size[0] > 2 * one.size[0]


def test_the_page_stands_alone_and_shows_every_rank(tmp_path: Path) -> None:
    found = World().compare()
    found.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    # Names are shown whole and in order: cut at their beginning, from the right, "0001.jpg" once read "jpg.0001".
    names = re.findall(r"<b>(.*?)</b>", page)
    assert names[:4] == [hit.image.key for hit in (found.candidates[number] for number in found.methods[0].order)]
    assert "ellipsis" not in page
    assert "rtl" not in page
    assert page.count("averaged over the mask") == 3
    assert "f_M" not in page + found.to_text()
    assert page.count("<li>") == 20
    assert page.count("<h2>") == 5
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(?!data:)[a-z/.]", page)
    assert page.count("data:image/jpeg;base64,") == 5  # four candidates and the query, each once
    found.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == found.plot().size
    with pytest.raises(UsageError, match=r"\.html, \.png"):
        found.save(tmp_path / "sheet.pdf")


def test_what_has_no_features_has_no_cosine() -> None:
    """The embedding of a crop that the models see nothing in."""
    rows, nothing = np.array([[0, 0], [6, 8], [4, -3]], dtype=np.float32), np.zeros((1, 2), dtype=np.float32)
    assert cosines(rows, np.array([[3, 4]], dtype=np.float32)).tolist() == [0, 1, 0]
    assert cosines(rows, nothing).tolist() == [0, 0, 0]


def test_documents_are_plain() -> None:
    found = World().compare()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["candidates"] == 4
    assert "256-bit" not in found.to_text()
    assert "64-bit code:" in found.to_text()
    assert repr(found) == "<Comparison: 4 candidates by 5 methods>"
