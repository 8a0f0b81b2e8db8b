"""Images to codes: ingest and query agree, and nobody's code depends on his companions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fakes.models import PALETTE, FakeEmbedder, FakeSegmenter, drawn, fake_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.codes import hamming
from searchanything.core.errors import PromptError
from searchanything.core.geometry import Letterbox, decode_rle
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMasks, FloatArray, RGBImage
from searchanything.encode.encoder import EncodedImage, Encoder, Stopwatch, box_tuple
from searchanything.encode.region_policy import RegionPolicy
from searchanything.images.crop_policy import CropPolicy
from searchanything.prompts.prompt import Box, Mask, Points, Prompts, Text, WholeImage
from searchanything.search.rescoring import QueryValues

seed = st.integers(0, 2**32 - 1)


def scene(seed: int) -> RGBImage:
    """An image of any shape with up to seven rectangles, one beside the other."""
    generator = np.random.default_rng(seed)
    height, width = (int(side) for side in generator.integers(30, 150, 2))
    names = generator.permutation(list(PALETTE))[: generator.integers(0, len(PALETTE) + 1)].tolist()
    step = width / max(len(names), 1)
    boxes = {}
    for place, name in enumerate(names):
        x1, x2 = np.sort(generator.integers(int(place * step), int((place + 1) * step), 2))
        y1, y2 = np.sort(generator.integers(0, height, 2))
        boxes[name] = (int(x1), int(y1), int(x2) + 1, int(y2) + 1)
    return drawn(height, width, **boxes)


def assert_same(one: EncodedImage, other: EncodedImage) -> None:
    for name in ("boxes_xyxy", "areas_px", "scores", "codes", "image_code"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.height, one.width, one.masks) == (other.height, other.width, other.masks)


@given(st.lists(seed, min_size=2, max_size=6))
@settings(max_examples=40)
def test_an_image_has_the_same_codes_in_any_company(seeds: list[int]) -> None:
    images = [scene(seed) for seed in seeds]
    encoder = fake_encoder()
    together = encoder.encode_images(images)
    assert len(together) == len(images)
    for image, one in zip(images, together, strict=True):
        assert_same(one, encoder.encode_images([image])[0])
    for one, other in zip(together[::-1], encoder.encode_images(images[::-1]), strict=True):
        assert_same(one, other)


@given(seed)
@settings(max_examples=60)
def test_a_region_has_the_same_code_at_ingest_and_at_query_time(seed: int) -> None:
    """The invariant that makes search work."""
    image = scene(seed)
    encoder = fake_encoder()
    encoded = encoder.encode_images([image])[0]
    for box, code in zip(encoded.boxes_xyxy, encoded.codes, strict=True):
        query = encoder.encode_query(image, Box(*box_tuple(box)))
        found_itself = query.choice.rule == "box/iou" and query.choice.box_xyxy == box_tuple(box)
        assert found_itself or not is_plain(box, query.segmentation)
        if found_itself:
            np.testing.assert_array_equal(query.code, code)
    if len(encoded.codes):
        np.testing.assert_array_equal(encoder.encode_query(image, WholeImage()).code, encoded.image_code)


def is_plain(box: FloatArray, segmentation: Segmentation) -> bool:
    """Two grid cells long and wide or more, and no cell shared with a neighbour: its own box can mean nothing else."""
    row = int(np.flatnonzero((segmentation.boxes_xyxy == box).all(axis=1))[0])
    sides = box[2:] - box[:2]
    shared = (segmentation.masks & segmentation.masks[row]).any(axis=(1, 2)).sum() > 1
    return bool(sides.min() ** 2 >= 4 * segmentation.letterbox.cell_area_px and not shared)


def test_each_kind_of_prompt_finds_the_region_that_ingest_saw() -> None:
    image = drawn(90, 120, red=(4, 4, 40, 60), green=(56, 8, 112, 40), blue=(60, 52, 100, 80))
    encoder = fake_encoder()
    encoded = encoder.encode_images([image])[0]
    red = int(np.flatnonzero(encoded.boxes_xyxy[:, 0] == 4)[0])
    for prompt in (Points((20, 20)), Box(4, 4, 40, 60), Box(0, 0, 44, 66), Text("something red")):
        query = encoder.encode_query(image, prompt)
        np.testing.assert_array_equal(query.code, encoded.codes[red])
    given_mask = (image == PALETTE["red"]).all(axis=2)
    by_mask = encoder.encode_query(image, Mask(given_mask))
    distances = hamming(by_mask.code[None], encoded.codes)[0]
    assert int(distances.argmin()) == red


class RecordingEmbedder(FakeEmbedder):
    """Keeps the crops that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.crops: list[RGBImage] = []

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        self.crops += list(crops)
        return super().embed_crops(crops)


@pytest.mark.parametrize("policy", [CropPolicy.PAPER, CropPolicy.BOX])
@pytest.mark.parametrize("ask", ["ingest", "box", "text"])
def test_everything_shows_regions_by_the_encoders_own_policy(policy: CropPolicy, ask: str) -> None:
    """The frame is a large region: the paper's rule masks the square inside it, the box policy shows it."""
    frame = (16, 16, 240, 240)  # edges of the fakes' grid: cells of 16 px here
    image = drawn(256, 256, red=frame, blue=(80, 80, 176, 176))
    embedder = RecordingEmbedder()
    encoder = replace(fake_encoder(crops=policy), embedder=embedder)
    if ask == "ingest":
        encoder.encode_images([image])
    else:
        encoder.encode_query(image, Box(*frame) if ask == "box" else Text("something blue"))
    framed = [crop for crop in embedder.crops if (crop == PALETTE["red"]).all(axis=2).mean() > 0.7]
    assert len(framed) == 1
    assert (framed[0] == PALETTE["blue"]).all(axis=2).any() == (policy is CropPolicy.BOX)


def test_things_of_one_colour_are_close_and_others_are_not() -> None:
    encoder = fake_encoder(bits=256)
    one = encoder.encode_images([drawn(80, 80, red=(4, 4, 40, 60), blue=(44, 4, 76, 50))])[0].codes
    other = encoder.encode_images([drawn(60, 100, blue=(8, 4, 30, 50), red=(48, 8, 96, 50))])[0].codes
    distances = hamming(one, other)
    assert distances.argmin(axis=1).tolist() == [0, 1]
    assert np.diag(distances).max() < 40 < 80 < min(distances[0, 1], distances[1, 0])


@pytest.mark.parametrize("count", [1, 2, 3, 25])
def test_the_largest_regions_are_kept_largest_first(count: int) -> None:
    image = drawn(64, 64, red=(0, 0, 8, 8), green=(20, 20, 60, 60), blue=(0, 32, 16, 56))
    encoder = replace(fake_encoder(), policy=RegionPolicy("largest", count))
    encoded = encoder.encode_images([image])[0]
    assert encoded.areas_px.tolist() == [1600, 384, 64][:count]
    assert [int(decode_rle(mask).sum()) for mask in encoded.masks] == [100, 24, 4][:count]  # cells of 4 x 4 px
    np.testing.assert_allclose(encoded.scores, [0.85, 0.75, 0.95][:count])
    assert len(encoded.codes) == len(encoded.masks) == min(count, 3)


def test_images_without_regions_have_the_code_of_the_whole_image_and_disturb_no_other() -> None:
    encoder = fake_encoder()
    empty, full = np.full((20, 30, 3), 90, dtype=np.uint8), drawn(30, 40, red=(4, 4, 20, 20))
    nothing = encoder.encode_images([empty])[0]
    assert (nothing.codes.shape, nothing.boxes_xyxy.shape, nothing.masks) == ((0, 8), (0, 4), ())
    np.testing.assert_array_equal(nothing.image_code, encoder.encode_query(empty, WholeImage()).code)
    assert nothing.image_code.any()
    assert (nothing.height, nothing.width, len(nothing.image_code)) == (20, 30, 8)
    mixed = encoder.encode_images([empty, full, empty])
    assert_same(mixed[0], nothing)
    assert_same(mixed[2], nothing)
    assert_same(mixed[1], encoder.encode_images([full])[0])


def test_no_images_are_no_codes() -> None:
    assert fake_encoder().encode_images([]) == []


@pytest.mark.parametrize("prompt", [Points((2, 2)), Text("red")])
def test_a_prompt_that_matches_nothing_has_a_code_of_zeros(prompt: Points | Text) -> None:
    query = fake_encoder().encode_query(np.zeros((20, 30, 3), dtype=np.uint8), prompt)
    assert query.choice.kind == "none"
    assert (query.code.shape, query.code.any()) == ((8,), False)


def test_a_box_or_a_mask_has_a_code_even_where_there_is_no_region() -> None:
    image = np.full((20, 30, 3), 90, dtype=np.uint8)
    for prompt in (Box(2, 2, 9, 9), Mask(np.ones((20, 30), dtype=np.bool_)), WholeImage()):
        assert fake_encoder().encode_query(image, prompt).code.any()


def test_prompts_outside_the_image_are_refused() -> None:
    with pytest.raises(PromptError, match="30 x 20 pixels"):
        fake_encoder().encode_query(np.zeros((20, 30, 3), dtype=np.uint8), Points((40, 2)))


def test_a_text_is_closest_to_the_region_of_its_colour() -> None:
    image = drawn(90, 120, red=(4, 4, 40, 60), green=(56, 8, 112, 40), blue=(60, 52, 100, 80))
    encoder = fake_encoder()
    choice = encoder.encode_query(image, Text("a blue thing")).choice
    assert choice.box_xyxy == (60, 52, 100, 80)
    assert choice.score > 0.9
    assert choice.others == (0, 1)


def test_a_text_in_a_box_or_under_a_point_is_looked_for_there() -> None:
    image = drawn(90, 120, red=(4, 4, 40, 60), green=(56, 8, 112, 40), blue=(60, 52, 100, 80))
    encoder = fake_encoder()
    for place in ({"boxes": (0, 0, 120, 62)}, {"foreground": ((10, 10), (60, 20))}):
        choice = encoder.encode_query(image, Prompts(**place, text="red or blue")).choice  # type: ignore[arg-type]
        assert (4, 4, 40, 60)[:2] == choice.box_xyxy[:2]
        assert 2 not in choice.rows
        assert choice.text_match is not None


class Counting(FakeEmbedder):
    """Counts the crops of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def embed_crops(self, crops: RGBImage) -> np.ndarray:
        self.calls.append(len(crops))
        return super().embed_crops(crops)


def test_each_model_runs_once_for_a_batch() -> None:
    embedder = Counting()
    encoder = replace(fake_encoder(), embedder=embedder)
    images = [drawn(30, 40, red=(4, 4, 20, 20)), drawn(30, 40), drawn(40, 40, blue=(0, 0, 9, 9), red=(20, 20, 40, 40))]
    watch = Stopwatch()
    encoder.encode_images(images, watch)
    assert isinstance(encoder.segmenter, FakeSegmenter)
    assert encoder.segmenter.batch_sizes == [3]
    assert embedder.calls == [2 + 1 + 3]  # regions, and the whole image of each
    assert set(watch.timings_ms) == {"segment", "pool", "crop", "embed", "hash", "masks"}


def test_regions_are_measured_once_to_choose_and_only_the_kept_ones_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, measure = list[int](), Letterbox.areas_px

    def counted(letterbox: Letterbox, masks: BoolMasks) -> FloatArray:
        measured.append(len(masks))
        return measure(letterbox, masks)

    monkeypatch.setattr(Letterbox, "areas_px", counted)
    image = drawn(60, 90, red=(2, 2, 12, 20), blue=(30, 5, 50, 20), green=(60, 5, 80, 40))
    (found,) = replace(fake_encoder(), policy=RegionPolicy(count=1)).encode_images([image])
    assert len(found.areas_px) == 1
    assert measured == [3, 1]


def test_images_are_not_touched() -> None:
    image = scene(3)
    before = image.copy()
    encoder = fake_encoder()
    encoder.encode_images([image])
    encoder.encode_query(image, WholeImage())
    np.testing.assert_array_equal(image, before)


def test_an_encoder_serves_several_threads() -> None:
    images: Sequence[RGBImage] = [scene(seed) for seed in range(12)]
    encoder: Encoder = fake_encoder()
    alone = [encoder.encode_images([image])[0] for image in images]
    with ThreadPoolExecutor(6) as pool:
        for one, other in zip(alone, pool.map(lambda image: encoder.encode_images([image])[0], images), strict=True):
            assert_same(one, other)


def test_a_stopwatch_adds_up() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("one"):
            pass
    first = watch.timings_ms["one"]
    with pytest.raises(ValueError, match="failed"), watch.stage("one"):
        raise ValueError("failed")
    assert watch.timings_ms["one"] > first > 0


def test_a_stopwatch_loses_nothing_to_other_threads() -> None:
    watch = Stopwatch()

    def work(_: int) -> None:
        with watch.stage("shared"):
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    assert watch.timings_ms["shared"] >= 64 * 10


@pytest.mark.parametrize("noise", [-2e-6, 0.0, 2e-6])
def test_a_word_is_not_better_than_itself_where_its_values_are_rounded_otherwise(noise: float) -> None:
    """Of the words' values one is the text's own, two are nearer to the hit's code, and the rest are opposite."""
    hit = np.random.default_rng(5).integers(0, 256, 16, dtype=np.uint8)
    signs = np.unpackbits(hit).astype(np.float32) * 2 - 1
    text = signs.copy()
    text[:9] *= -1  # cosines of 1 - 2 k / 128 for k signs that differ
    nearer = signs.copy()
    nearer[:4] *= -1
    values = np.stack([text, nearer, signs, *[-signs] * 5])

    class Layer:
        def project_texts(self, texts: FloatArray) -> FloatArray:  # noqa: ARG002 - the same for all
            return values

    asked = QueryValues(np.packbits(text > 0), text - noise * signs)
    match = replace(fake_encoder(), words=Layer()).judge_words(asked, hit)  # type: ignore[arg-type]
    assert (match.better, match.words) == (2, 8)
    assert match.cosine == pytest.approx(1 - 18 / 128, abs=1e-4)
