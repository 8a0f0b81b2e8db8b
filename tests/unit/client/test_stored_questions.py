"""Questions by an indexed region: its code is the question, so neither a model nor an image is touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import ObjectNotFoundError, PromptError, UsageError
from searchanything.core.types import Filter, ImageRef, RegionRef

IMAGES = {
    "a/two.png": drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40)),
    "a/red.png": drawn(64, 96, red=(8, 4, 44, 60)),
    "b/blue.png": drawn(64, 96, blue=(20, 8, 60, 40)),
}


@pytest.fixture
def client(machine: Machine, tmp_path: Path) -> Client:
    for name, image in IMAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    machine.segmenter.batch_sizes.clear()
    for name in IMAGES:
        (tmp_path / name).rename(tmp_path / f"{name}.away")
    return client


def ref(client: Client, key: str) -> ImageRef:
    return next(row.image for row in client.images()[0] if row.image.key == key)


def colour_of(client: Client, key: str, x: float) -> int:
    """The number of the region at this column."""
    rows = client.regions(ref(client, key))
    return next(row.region for row in rows if row.box_xyxy[0] <= x < row.box_xyxy[2])


def test_a_region_finds_its_like_without_model_or_image(client: Client, machine: Machine) -> None:
    red = RegionRef(ref(client, "a/two.png"), colour_of(client, "a/two.png", 10))
    found = client.query(red, limit=2)
    assert {hit.image.key for hit in found} == {"a/two.png", "a/red.png"}
    assert found[0].distance_bits == 0
    assert found.selection.kind == "region"
    assert found.selection.box_xyxy == (4.0, 4.0, 40.0, 60.0)
    assert machine.segmenter.batch_sizes == []


def test_a_hit_is_a_question(client: Client) -> None:
    blue = RegionRef(ref(client, "a/two.png"), colour_of(client, "a/two.png", 60))
    second = client.query(blue, limit=2)[1]
    assert second.image.key == "b/blue.png"
    again = {hit.ref: hit.distance_bits for hit in client.query(second, limit=2)}
    assert again[second.ref] == 0


def test_a_whole_image_finds_images(client: Client) -> None:
    found = client.query(RegionRef(ref(client, "a/red.png")))
    assert found[0].image.key == "a/red.png"
    assert found[0].region is None
    assert found.selection.kind == "image"


def test_the_answer_is_that_of_the_image_itself(client: Client, tmp_path: Path) -> None:
    for name in IMAGES:
        (tmp_path / f"{name}.away").rename(tmp_path / name)
    image = ref(client, "a/two.png")
    asked = client.query(image, (10, 10))
    stored = client.query(RegionRef(image, colour_of(client, "a/two.png", 10)))
    assert {hit.ref: hit.distance_bits for hit in stored} == {hit.ref: hit.distance_bits for hit in asked}
    assert stored.image.tolist() == asked.image.tolist()
    explained = stored.explain("b/blue.png")
    assert explained.sentence
    replayed = client.replay(stored.receipt())
    assert replayed.same, replayed.differences


def test_several_regions_are_asked_for_by_what_they_have_in_common(client: Client, machine: Machine) -> None:
    image = ref(client, "a/two.png")
    red, blue = (RegionRef(image, colour_of(client, "a/two.png", x)) for x in (10, 60))
    reds = client.query([red, RegionRef(ref(client, "a/red.png"), 0)], limit=3)
    assert {hit.image.key for hit in reds[:2]} == {"a/red.png", "a/two.png"}
    codes = [row.code for row in client.regions(image)]
    mean = sum(np.unpackbits(np.frombuffer(code, np.uint8)) * 2.0 - 1.0 for code in codes)
    both = client.query([red, blue], rescore=10)
    for hit in both:
        row = next(one for one in client.regions(hit.image) if one.region == hit.region)
        signs = np.unpackbits(np.frombuffer(row.code, np.uint8)) * 2.0 - 1.0
        cosine = float(mean @ signs / (np.linalg.norm(mean) * np.linalg.norm(signs)))
        assert hit.similarity == pytest.approx(cosine, abs=1e-6)
    assert [hit.similarity for hit in both] == sorted((hit.similarity for hit in both), reverse=True)
    assert both[0].similarity == both[1].similarity, "the two that were asked with are equally near"
    assert machine.segmenter.batch_sizes == []
    assert [h.ref for h in client.query([red])] == [h.ref for h in client.query(red)]
    why = both.explain("a/red.png")
    assert (why.verdict, [step.name for step in why.steps]) == ("hit", ["indexed", "region", "codes", "page"])
    own = np.frombuffer(client.regions(ref(client, "a/red.png"))[0].code, np.uint8)
    apart = [int(np.unpackbits(own ^ np.frombuffer(code, np.uint8)).sum()) for code in codes]
    assert why.steps[1].figures["bits_to_each"] == [apart[red.region], apart[blue.region]]
    assert machine.segmenter.batch_sizes == [], "no pixels are needed"


def test_an_image_without_regions_says_so(client: Client, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    Image.fromarray(drawn(64, 96)).save(tmp_path / "c/none.png")
    assert client.index(tmp_path / "c").empty == 1
    for number in (0, -1):
        with pytest.raises(ObjectNotFoundError, match=r"none\.png has no regions: only the image as a whole"):
            client.query(RegionRef(ref(client, "none.png"), number))


def test_several_whole_images_are_explained(client: Client) -> None:
    found = client.query([RegionRef(ref(client, "a/two.png")), RegionRef(ref(client, "a/red.png"))], limit=1)
    why = found.explain("b/blue.png")
    assert (why.verdict, why.steps[-1].figures["rank"], why.region) == ("paging", 3, None)
    with pytest.raises(PromptError, match="whole images"):
        found.explain("b/blue.png", (0, 0, 5, 5))


def test_a_set_s_receipt_is_replayed(client: Client) -> None:
    image = ref(client, "a/two.png")
    found = client.query([RegionRef(image, 0), RegionRef(image, 1)], limit=3)
    replayed = client.replay(json.loads(json.dumps(found.receipt())))
    assert replayed.same, replayed.differences
    refined = found.refine(right=[found[0]])
    assert refined.probe is not None
    assert len(refined.probe.right) == 2, "both are right from the start, and the hit is as one of them"


def test_what_is_no_set(client: Client) -> None:
    image = ref(client, "a/two.png")
    for odd, said in (
        ([], "got 0"),
        ([RegionRef(image, 0), "b.png"], "got str"),
        ([[1, 2]], "got list"),
        ([RegionRef(image, 0), RegionRef(image)], "compared apart"),
        ([RegionRef(image, n) for n in range(101)], "got 101"),
    ):
        with pytest.raises(UsageError, match=said):
            client.query(odd)
    with pytest.raises(ObjectNotFoundError, match="from 0 to 1, got 7"):
        client.query([RegionRef(image, 0), RegionRef(image, 7)])
    with pytest.raises(PromptError, match="says by itself"):
        client.query([RegionRef(image, 0), RegionRef(image, 1)], (1, 1))


def test_filters_and_pages_hold(client: Client) -> None:
    red = RegionRef(ref(client, "a/two.png"), colour_of(client, "a/two.png", 10))
    assert [hit.image.key for hit in client.query(red, filter=Filter(key_prefix="b/"))] == ["b/blue.png"]
    assert client.query(red, limit=1, offset=1)[0] == client.query(red)[1]
    keys = [hit.image.key for hit in client.query(red, group_by_image=True)]
    assert len(keys) == len(set(keys)) == 3


def test_a_view_of_some_places_knows_nothing_else(client: Client) -> None:
    bucket = ref(client, "a/two.png").bucket
    view = client.within([(bucket, "a/")])
    assert [row.image.key for row in view.images()[0]] == ["a/red.png", "a/two.png"]
    with pytest.raises(ObjectNotFoundError):
        view.query(RegionRef(ref(client, "b/blue.png"), 0))
    with pytest.raises(ObjectNotFoundError):
        view.regions(ref(client, "b/blue.png"))
    blue = RegionRef(ref(client, "a/two.png"), colour_of(client, "a/two.png", 60))
    assert {hit.image.key for hit in view.query(blue)} == {"a/red.png", "a/two.png"}
    assert (view.status().images, client.status().images) == (2, 3)


def test_what_is_not_there(client: Client) -> None:
    image = ref(client, "a/red.png")
    with pytest.raises(ObjectNotFoundError, match="from 0 to 0, got 7"):
        client.query(RegionRef(image, 7))
    with pytest.raises(ObjectNotFoundError, match="not in the index"):
        client.query(RegionRef(ImageRef(image.bucket, "never.png"), 0))
    with pytest.raises(PromptError, match="says by itself"):
        client.query(RegionRef(image, 0), (1, 1))
