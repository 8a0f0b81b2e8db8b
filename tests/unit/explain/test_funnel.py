"""The funnel on constructed cases: every verdict, with figures that are known by construction."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fakes.interrupted_index import InterruptedIndex
from fakes.models import drawn, fake_encoder
from fakes.stores import InMemoryStore
from PIL import Image

from searchanything.answers.explanation import Explanation, Verdict
from searchanything.core.errors import (
    ImageError,
    IndexUnavailableError,
    ObjectNotFoundError,
    PromptError,
    StoreError,
    UsageError,
)
from searchanything.core.rows import RegionRow
from searchanything.core.types import BoxXYXY, Filter, Hit, ImageRef, RegionRef, RGBImage, SizeClass
from searchanything.encode.fingerprint import manifest_of
from searchanything.explain.funnel import explain
from searchanything.explain.reencode import Recollection, SearchContext, reencode
from searchanything.explain.steps import Expected, SearchQuestion
from searchanything.images.decoding import decode_image
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.prompts.prompt import Points, Prompt, WholeImage
from searchanything.search.locate import find_image
from searchanything.search.search import PageRequest, search_regions
from searchanything.stores.memory import MemoryRegionIndex

BIG, SMALL = (4, 4, 44, 44), (48, 48, 60, 60)
RED_POINT = Points(((20, 20),))
QUERY = drawn(64, 64, red=BIG)


def png(image: RGBImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def ref(name: str) -> ImageRef:
    """The image that `World` keeps under a name."""
    return ImageRef("memory", f"{name}.png")


class FlippingIndex(MemoryRegionIndex):
    """Stores the complement of the codes of some keys' regions: a hash layer that loses them."""

    flipped: frozenset[str] = frozenset()

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        def flip(row: RegionRow) -> RegionRow:
            lost = row.image.key.removesuffix(".png") in self.flipped
            return replace(row, code=bytes(255 - byte for byte in row.code)) if lost else row

        super().insert_regions([flip(row) for row in rows])


class World:
    """A bucket of drawn images, indexed by fake models."""

    def __init__(self, *, regions: int = 25, flipped: tuple[str, ...] = (), **images: RGBImage | bytes) -> None:
        self.store = InMemoryStore()
        self.encoder = fake_encoder(regions=regions)
        self.manifest = manifest_of(self.encoder, "test")
        self.index = FlippingIndex(self.manifest)
        self.index.flipped = frozenset(flipped)
        for name, image in images.items():
            data = image if isinstance(image, bytes) else png(image)
            self.store.put(ref(name).key, data, metadata={"album": name[0]})
        index_images(IndexingJob(self.store, lambda: self.encoder, self.index), self.store.list())

    def read(self, image: ImageRef) -> tuple[str, Callable[[], RGBImage]]:
        stored, data = self.store.read(image.key)
        return stored.etag, partial(decode_image, data, name=image.key, max_pixels=10**6)

    @property
    def context(self) -> SearchContext:
        return SearchContext(self.index, self.encoder, self.read)

    def explain(
        self,
        name: str,
        box: BoxXYXY | None = None,
        *,
        prompt: Prompt = RED_POINT,
        request: PageRequest | None = None,
        filter: Filter | None = None,
        first: int = 3,
    ) -> Explanation:
        question = SearchQuestion(QUERY, prompt, request or PageRequest(limit=2), filter)
        found = explain(self.context, question, Expected(ref(name), box), first=first)
        assert [step.passed for step in found.steps[:-1]] == [True] * (len(found.steps) - 1)
        assert found.steps[-1].passed == (found.verdict is Verdict.HIT)
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == found.verdict
        return found


def reds(count: int) -> dict[str, RGBImage]:
    """Images with the query's red thing; ties of code and features, ordered by key."""
    return {f"red{number}": QUERY for number in range(count)}


def last(found: Explanation) -> dict[str, object]:
    return dict(found.steps[-1].figures)


def figures(found: Explanation, name: str) -> dict[str, object]:
    return dict(next(step.figures for step in found.steps if step.name == name))


def test_a_prompt_on_nothing_explains_all() -> None:
    found = World(**reds(1)).explain("red0", prompt=Points(((60, 5),)))
    assert (found.verdict, len(found.steps)) == (Verdict.NOTHING_SELECTED, 1)
    assert last(found)["kind"] == "none"


def test_an_image_that_was_never_indexed() -> None:
    found = World(**reds(1)).explain("other")
    assert found.verdict is Verdict.NOT_INDEXED
    assert found.expected_image is None
    assert last(found)["other_fingerprints"] == []


def test_an_image_under_another_fingerprint_only() -> None:
    world, other = World(**reds(1)), World(regions=7, blue=drawn(64, 64, blue=BIG))
    question = SearchQuestion(QUERY, RED_POINT, PageRequest())
    expected = Expected(ref("blue"))
    found = explain(world.context, question, expected, others=[other.index])
    assert found.verdict is Verdict.OTHER_FINGERPRINT
    assert other.manifest.fingerprint != world.manifest.fingerprint
    assert last(found)["other_fingerprints"] == [other.manifest.fingerprint]


def test_an_image_that_failed_says_why() -> None:
    found = World(bad=b"\x89PNG no image").explain("bad")
    assert found.verdict is Verdict.FAILED
    assert last(found)["error"] == "ImageError"
    assert last(found)["attempts"] == 1


def test_an_image_without_regions() -> None:
    assert World(black=drawn(64, 64)).explain("black").verdict is Verdict.EMPTY


def test_an_image_without_regions_is_a_hit_among_whole_images() -> None:
    world = World(grey=np.full((64, 64, 3), 90, dtype=np.uint8), **reds(1))
    question = SearchQuestion(np.full((64, 64, 3), 90, dtype=np.uint8), WholeImage(), PageRequest())
    assert explain(world.context, question, Expected(ref("grey"))).verdict is Verdict.HIT


def test_an_object_that_changed_or_went_after_it_was_indexed() -> None:
    world = World(**reds(2))
    before = world.store.stat(ref("red0").key)
    after = world.store.put(ref("red0").key, png(drawn(64, 64, blue=BIG)))
    found = world.explain("red0")
    assert before is not None
    assert found.verdict is Verdict.CHANGED
    assert last(found) == {"etag_indexed": before.etag, "etag_now": after.etag}
    world.store.delete(ref("red1").key)
    gone = world.explain("red1")
    assert gone.verdict is Verdict.CHANGED
    assert last(gone)["etag_now"] is None


def test_no_mask_where_the_thing_is() -> None:
    world = World(one=drawn(64, 64, red=(0, 0, 20, 20)))
    found = world.explain("one", (0, 0, 40, 40))
    assert found.verdict is Verdict.NO_MASK
    assert last(found)["best_iou"] == pytest.approx(0.25)  # 20² of 40²
    assert last(found)["mask_iou"] == pytest.approx(0.25)
    assert found.region is not None
    assert found.region.box_xyxy == (0, 0, 20, 20)
    assert world.explain("one", (0, 0, 25, 25)).verdict is Verdict.HIT  # 0.64
    apart = world.explain("one", (30, 30, 40, 40))
    assert (apart.verdict, last(apart)["best_iou"], apart.region) == (Verdict.NO_MASK, 0, None)
    with pytest.raises(PromptError, match="outside the image of 64 x 64"):
        world.explain("one", (64, 0, 80, 20))


@pytest.mark.parametrize("box", [(np.nan, 0, 1, 1), (0, 0, np.inf, 9), (9, 9, 1, 1), (1, 2), "abcd"])
def test_what_is_no_box_is_refused_before_anything_is_looked_at(box: object) -> None:
    with pytest.raises(PromptError, match=r"box|'abcd'"):
        Expected(ref("one"), box)  # type: ignore[arg-type]


def test_a_region_too_small_to_be_kept() -> None:
    image = drawn(64, 64, red=(0, 0, 40, 40), blue=(44, 0, 64, 40), green=(0, 44, 16, 60))
    found = World(regions=2, busy=image).explain("busy", (0, 44, 16, 60))
    assert found.verdict is Verdict.NOT_KEPT
    assert last(found) == {
        "area_px": 256, "area_rank": 3, "regions": 3, "kept": 2, "policy": "largest", "count": 2,
    }  # fmt: skip
    assert [one.area_px for one in found.kept] == [1600, 800]


def test_without_a_box_the_most_similar_region_is_taken_even_if_it_has_no_code() -> None:
    image = drawn(64, 64, blue=(0, 0, 40, 40), green=(44, 0, 64, 40), red=(0, 44, 16, 60))
    found = World(regions=2, **reds(4), busy=image).explain("busy")
    assert figures(found, "mask")["box_xyxy"] == [0, 44, 16, 60]
    assert found.verdict is Verdict.NOT_KEPT


def test_features_that_are_not_similar() -> None:
    found = World(**reds(5), sky=drawn(64, 64, blue=BIG)).explain("sky", BIG)
    assert found.verdict is Verdict.DISSIMILAR
    seen = last(found)
    assert (seen["rank"], seen["candidates"], seen["encoded_again"]) == (4, 3, 3)
    assert seen["best_cosine"] == pytest.approx(1)
    assert seen["cosine_image_features"] == pytest.approx(0, abs=1e-6)  # red and blue share no axis
    mask = np.array([20, 20, 250, 5]) @ np.array([250, 20, 20, 5]) / (20**2 + 20**2 + 250**2 + 5**2)
    assert seen["cosine_mask_features"] == pytest.approx(mask, abs=1e-4)  # mean colour and darkness (255 - 250)
    assert seen["cosine"] == pytest.approx(mask / 2, abs=1e-4)  # both parts count alike


def test_a_code_that_lost_what_features_see() -> None:
    found = World(**reds(5), zed=QUERY, flipped=("zed",)).explain("zed", BIG)
    assert found.verdict is Verdict.HASHING
    seen = last(found)
    assert (seen["rank"], seen["features_rank"], seen["first"]) == (6, 1, 3)
    assert (seen["distance_bits"], seen["bits"]) == (64, 64)
    assert figures(found, "features")["cosine"] == pytest.approx(1)


def test_a_rank_beyond_the_index_limit_is_owned_up_to() -> None:
    world = World(**reds(9), zed=QUERY, flipped=("zed",))
    world.index.max_limit = 6
    question = SearchQuestion(QUERY, RED_POINT, PageRequest(limit=2))
    found = explain(world.context, question, Expected(ref("zed"), BIG), first=3)
    assert found.verdict is Verdict.HASHING
    assert (last(found)["rank"], last(found)["looked_at"], last(found)["exact"]) == (None, 6, False)


def test_an_image_is_found_behind_any_number_of_rows_with_its_prefix() -> None:
    """More rows than a search returns lie nearer, and their keys begin as the expected one does."""
    world = World(zed=drawn(64, 64, blue=BIG))
    world.store.put("zed.png-and-more", png(QUERY), content_type="image/png")
    for number in range(9):
        world.store.put(f"zed.png-{number}.png", png(QUERY))
    index_images(IndexingJob(world.store, lambda: world.encoder, world.index), world.store.list())
    world.index.max_limit = 6
    for prompt, box in [(RED_POINT, BIG), (WholeImage(), None)]:
        question = SearchQuestion(QUERY, prompt, PageRequest(limit=2))
        found = explain(world.context, question, Expected(ref("zed"), box), first=3)
        assert found.verdict is Verdict.DISSIMILAR


@pytest.mark.parametrize(
    ("filter", "parts"),
    [
        (Filter(bucket="other"), ["bucket"]),
        (Filter(key_prefix="x"), ["key_prefix"]),
        (Filter(exclude=(ref("red0"),)), ["exclude"]),
        (Filter(images=(ref("red1"),)), ["images"]),
        (Filter(area_px=(1, 1599)), ["area_px"]),
        (Filter(size_class=SizeClass.SMALL), ["size_class"]),
        (Filter(metadata={"album": "r", "year": 3}), ["metadata year"]),
        (Filter(indexed_at_ms=(None, 5)), ["indexed_at_ms"]),
        (Filter(within=(("memory", "x"), ("elsewhere", ""))), ["within"]),
        (Filter(expression="area_px > 9999"), ["expression"]),
        (Filter(where=("year >= 2020", "album = r")), ["where year >= 2020"]),
        (
            Filter(
                bucket="memory",
                key_prefix="red",
                images=(ref("red0"),),
                exclude=(ref("red1"),),
                within=(("memory", "r"),),
                area_px=(9999, None),
                size_class=SizeClass.LARGE,
            ),
            ["area_px", "size_class"],
        ),
    ],
)
def test_a_filter_names_which_part_excludes(filter: Filter, parts: list[str]) -> None:
    found = World(**reds(1)).explain("red0", BIG, filter=filter)
    assert (found.verdict, last(found)) == (Verdict.FILTER, {"excluded_by": parts})
    assert figures(found, "codes")["filter_applied"] is False


def test_a_filter_that_lets_it_pass_leaves_fewer_before_it() -> None:
    world = World(**reds(5), sky=drawn(64, 64, blue=BIG))
    found = world.explain("sky", BIG, filter=Filter(key_prefix="s"))
    assert found.verdict is Verdict.HIT
    assert (last(found)["rank"], figures(found, "codes")["filter_applied"]) == (1, True)
    named = world.explain("sky", BIG, filter=Filter(key_prefix="r"))
    assert named.verdict is Verdict.DISSIMILAR
    assert "excludes it as well, by key_prefix" in named.sentence


def test_a_nearer_region_stands_for_its_image() -> None:
    image = drawn(64, 64, red=BIG, blue=SMALL)
    found = World(both=image).explain("both", SMALL, request=PageRequest(limit=5, group_by_image=True))
    assert found.verdict is Verdict.GROUPING
    assert (last(found)["region"], last(found)["shown_region"], last(found)["rank"]) == (1, 0, 1)
    alone = World(both=image).explain("both", SMALL, request=PageRequest(limit=5))
    assert (alone.verdict, last(alone)["rank"]) == (Verdict.HIT, 2)


@pytest.mark.parametrize(
    ("offset", "limit", "verdict", "cure"),
    [(0, 2, Verdict.PAGING, "--limit 3 "), (3, 1, Verdict.PAGING, "an offset below 3 "), (2, 1, Verdict.HIT, "")],
)
def test_a_page_that_ends_before_or_begins_after(offset: int, limit: int, verdict: Verdict, cure: str) -> None:
    found = World(**reds(4)).explain("red2", BIG, request=PageRequest(limit, offset))
    assert (found.verdict, last(found)["rank"]) == (verdict, 3)
    assert cure in found.sentence
    said = "(by features it is number 1)" in found.sentence  # nothing is more similar
    assert said == (verdict is not Verdict.HIT)


def test_the_rank_is_that_of_the_search() -> None:
    images = reds(3) | {"wide": drawn(64, 64, red=(4, 4, 44, 20)), "pair": drawn(64, 64, red=BIG, blue=SMALL)}
    world = World(**images)
    code = world.encoder.encode_query(QUERY, RED_POINT).code
    page = search_regions(world.index, code, PageRequest(20), filter=None)
    assert len(page.hits) == 6
    for rank, hit in enumerate(page.hits, start=1):
        found = world.explain(hit.image.key.removesuffix(".png"), hit.box_xyxy, request=PageRequest(20))
        assert (found.verdict, last(found)["rank"]) == (Verdict.HIT, rank)
        assert figures(found, "codes")["distance_bits"] == hit.distance_bits
        assert figures(found, "kept")["region"] == hit.region


def test_without_a_box_the_region_among_the_hits_is_taken() -> None:
    found = World(both=drawn(64, 64, red=BIG, blue=SMALL)).explain("both")
    assert found.verdict is Verdict.HIT
    assert figures(found, "mask")["box_xyxy"] == list(BIG)


def test_whole_images_have_no_masks_to_lose() -> None:
    world = World(**reds(2), sky=drawn(64, 64, blue=BIG))
    found = world.explain("sky", prompt=WholeImage(), request=PageRequest(3))
    assert [step.name for step in found.steps] == ["prompt", "indexed", "unchanged", "features", "codes", "page"]
    assert (found.verdict, last(found)["rank"]) == (Verdict.HIT, 3)
    assert world.explain("red1", prompt=WholeImage(), request=PageRequest(1)).verdict is Verdict.PAGING
    excluded = world.explain("red1", prompt=WholeImage(), filter=Filter(metadata={"album": "s"}))
    assert (excluded.verdict, last(excluded)["excluded_by"]) == (Verdict.FILTER, ["metadata album"])
    with pytest.raises(PromptError, match="leave the expected box out"):
        world.explain("red1", BIG, prompt=WholeImage())


def test_candidates_that_cannot_be_read_again_are_counted() -> None:
    world = World(**reds(4))
    world.store.failures["red0.png"] = ObjectNotFoundError("gone")
    world.store.put(ref("red1").key, png(drawn(64, 64, green=BIG)))
    found = world.explain("red3", BIG, first=4)
    seen = figures(found, "features")
    assert (seen["candidates"], seen["encoded_again"], seen["left_out"]) == (3, 1, 2)
    code = world.encoder.encode_query(QUERY, RED_POINT).code
    hits = search_regions(world.index, code, PageRequest(4), filter=None).hits
    reasons = {hit.image.key: why for batch in reencode(world.context, hits) for hit, why in batch.left_out}
    assert reasons == {"red0.png": "gone", "red1.png": "changed since it was indexed"}


def test_the_drawing_shows_both_images_side_by_side() -> None:
    found = World(both=drawn(64, 64, red=BIG, blue=SMALL)).explain("both", BIG)
    sheet = np.asarray(found.plot())
    assert sheet.shape[1] > 1.5 * sheet.shape[0]
    missing = World(**reds(1)).explain("other")
    assert missing.plot().width == found.plot().width
    assert "other" in missing.to_text()


def test_text_has_a_line_per_step_and_the_verdict() -> None:
    found = World(**reds(4)).explain("red2", BIG)
    lines = found.to_text().splitlines()
    assert len(lines) == len(found.steps) + 2
    assert lines[-1] == "verdict: paging"
    assert repr(found).startswith("<Explanation: s3://memory/red2.png: paging: ")


def test_what_has_no_place_is_not_where_it_is() -> None:
    world = World(**reds(4))
    headings = [
        world.explain("red1").to_text().splitlines()[0],
        world.explain("red2").to_text().splitlines()[0],
        world.explain("red2", BIG).to_text().splitlines()[0],
        world.explain("absent").to_text().splitlines()[0],
    ]
    places = [heading.partition(", for a query by point:")[0].replace("s3://memory/", "") for heading in headings]
    assert places == [
        "why red1.png is where it is",
        "why red2.png is not among the hits",
        "why that thing in red2.png is not among the hits",
        "why absent.png is not among the hits",
    ]


def test_an_image_is_named_by_address_path_or_key(tmp_path) -> None:  # type: ignore[no-untyped-def]
    world = World(**{"a": QUERY, "a.png.bak": QUERY})
    assert find_image(ImageRef("x", "y"), []) == ImageRef("x", "y")
    assert find_image(RegionRef(ImageRef("x", "y"), 3), []) == ImageRef("x", "y")
    assert find_image("s3://bucket/a/b.png", []) == ImageRef("bucket", "a/b.png")
    assert find_image("a.png", [world.index]) == ImageRef("memory", "a.png")
    assert find_image("memory/a.png", [world.index]) == ImageRef("memory", "a.png")
    assert find_image("memory/none.png", [world.index]).key == "none.png"
    folder = str(tmp_path.resolve())
    row = replace(next(iter(world.index.iterate_images())), image=ImageRef(folder, "sub/b.png"), id="0" * 32)
    world.index.insert_images([row])
    assert find_image(tmp_path / "sub" / "b.png", [world.index]) == ImageRef(folder, "sub/b.png")
    assert find_image(tmp_path / "sub" / "c.png", [world.index]) == ImageRef(f"{folder}/sub", "c.png")
    nearer = replace(row, image=ImageRef(f"{folder}/sub", "b.png"), id="2" * 32)
    world.index.insert_images([nearer])
    assert find_image(tmp_path / "sub" / "b.png", [world.index]) == nearer.image, "of the nearest folder"
    other = replace(row, image=ImageRef("elsewhere", "a.png"), id="1" * 32)
    world.index.insert_images([other])
    with pytest.raises(UsageError, match="2 buckets"):
        find_image("a.png", [world.index])
    for name in ("", "s3://bucket", "s3:///key"):
        with pytest.raises(UsageError, match="expected"):
            find_image(name, [world.index])


class TestRecollection:
    @staticmethod
    def hits(world: World) -> Sequence[Hit]:
        code = world.encoder.encode_query(QUERY, RED_POINT).code
        return search_regions(world.index, code, PageRequest(9), filter=None).hits

    def test_the_second_question_about_an_answer_computes_its_own_image_alone(self) -> None:
        world = World(**reds(5), zed=drawn(64, 64, blue=BIG))
        alone = [world.explain(name, BIG, first=5).to_dict() for name in ("red3", "zed")]
        context, question = world.context, SearchQuestion(QUERY, RED_POINT, PageRequest(limit=2))
        seen = []
        for name in ("red3", "zed", "zed"):
            world.encoder.segmenter.batch_sizes.clear()
            world.store.reads.clear()
            found = explain(context, question, Expected(ref(name), BIG), first=5)
            seen.append((sum(world.encoder.segmenter.batch_sizes), dict(world.store.reads), found.to_dict()))
        # The first: query, own image and the four other candidates. Then only what was expected, and red3 as a rival.
        assert [images for images, _, _ in seen] == [6, 3, 2]
        assert seen[1][1] == {"zed.png": 1, "red3.png": 1}
        assert seen[2][1] == {"zed.png": 1}
        assert [document for _, _, document in seen] == [*alone, alone[1]]

    def test_what_a_query_chose_is_encoded_once(self) -> None:
        context = World(**reds(1)).context
        first, second = (context.recollection.query(context, QUERY, RED_POINT) for _ in range(2))
        assert second.choice is first.choice
        assert second.code is first.code

    def test_features_of_another_fingerprint_are_not_mixed_in(self) -> None:
        worlds = [World(**reds(2)), World(regions=7, **reds(2))]
        recollection = Recollection()
        for world in worlds:
            context = replace(world.context, recollection=recollection)
            explain(context, SearchQuestion(QUERY, RED_POINT, PageRequest()), Expected(ref("red0"), BIG))
            assert sum(world.encoder.segmenter.batch_sizes[1:]) == 3  # after indexing: query, own image, one rival

    def test_only_so_many_hits_are_remembered_and_all_are_reported(self) -> None:
        world = World(**reds(4))
        context = replace(world.context, recollection=Recollection(most=2))
        hits = self.hits(world)
        for read in (4, 2, 2):  # the first two of four were forgotten for the last two
            world.store.reads.clear()
            features, left_out = context.recollection.features(context, hits)
            assert (features.mask_features.shape, left_out) == ((4, 4), 0)
            assert sum(world.store.reads.values()) == read
        world.store.reads.clear()
        context.recollection.features(context, hits[2:])
        assert not world.store.reads

    def test_what_could_not_be_read_is_tried_again(self) -> None:
        world = World(**reds(2))
        context = world.context
        hits = self.hits(world)
        world.store.failures |= {"red0.png": ImageError("red0.png", "is too large"), "red1.png": StoreError("away")}
        for found in (0, 1, 2):
            features, left_out = context.recollection.features(context, hits)
            assert (features.mask_features.shape, len(features.image_features), left_out) == (
                (found, 4),
                found,
                2 - found,
            )
            world.store.failures.pop(f"red{found}.png", None)
        assert world.store.reads == {"red0.png": 3, "red1.png": 4}  # indexing read each once


@pytest.mark.parametrize(("prompt", "box"), [(RED_POINT, BIG), (RED_POINT, None), (WholeImage(), None)])
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_an_image_that_is_replaced_meanwhile_is_not_explained_by_what_is_gone(
    prompt: Prompt, box: BoxXYXY | None, deleted: bool, grouped: bool
) -> None:
    def why(world: World, index: InterruptedIndex) -> Explanation:
        question = SearchQuestion(QUERY, prompt, PageRequest(limit=2, group_by_image=grouped), Filter(key_prefix="r"))
        return explain(replace(world.context, index=index), question, Expected(ref("red2"), box), first=3)

    world = World(**reds(4))
    counted = InterruptedIndex(world.index)
    known, seen = why(world, counted).verdict, set()
    assert known is Verdict.PAGING
    for number in range(counted.calls):
        world = World(**reds(4))
        job = IndexingJob(world.store, fake_encoder, world.index, IndexingOptions(force=True))
        gone = partial(world.index.delete_images, [ref("red2")])
        then = gone if deleted else partial(index_images, job, [world.store.stat(ref("red2").key)])
        found = why(world, InterruptedIndex(world.index, then, at=number))
        seen.add(found.verdict)
        allowed = {known, Verdict.CHANGED} | ({Verdict.NOT_INDEXED} if deleted else set())
        assert found.verdict in allowed, (number, found.to_text())
        assert found.verdict is not Verdict.CHANGED or "ask again" in found.sentence
    assert Verdict.CHANGED in seen


def test_a_page_far_down_has_as_few_images_encoded_again() -> None:
    world = World(**reds(10))
    world.store.reads.clear()
    found = world.explain("red9", BIG, request=PageRequest(limit=1, offset=10))
    assert (found.verdict, last(found)["rank"]) == (Verdict.PAGING, 10)
    assert (figures(found, "features")["candidates"], figures(found, "codes")["first"]) == (3, 11)
    assert set(world.store.reads) == {"red9.png", "red0.png", "red1.png", "red2.png"}


def test_what_lies_on_a_page_beyond_the_candidates_was_not_lost_by_hashing() -> None:
    world = World(**reds(6), zed=QUERY, flipped=("zed",))
    assert world.explain("zed", BIG).verdict is Verdict.HASHING
    on_page = world.explain("zed", BIG, request=PageRequest(limit=7))
    assert (on_page.verdict, last(on_page)["rank"]) == (Verdict.HIT, 7)
    assert figures(on_page, "features")["candidates"] == 3


def test_an_object_that_is_no_image_any_more_has_changed() -> None:
    world = World(**reds(4))
    for name in ("red1", "red2"):
        world.store.put(ref(name).key, b"no image at all")
    assert world.explain("red1").verdict is Verdict.CHANGED
    found = figures(world.explain("red3", BIG, first=4), "features")
    assert (found["encoded_again"], found["left_out"]) == (1, 2)
    hits = TestRecollection.hits(world)
    reasons = {hit.image.key: why for batch in reencode(world.context, hits) for hit, why in batch.left_out}
    assert reasons == dict.fromkeys(("red1.png", "red2.png"), "changed since it was indexed")


class Unreachable:
    """An index of another fingerprint whose server is away."""

    def newest(self, _: object) -> dict[ImageRef, object]:
        raise IndexUnavailableError("nobody answers")


def test_another_index_that_cannot_be_reached_explains_nothing() -> None:
    world, other = World(**reds(1)), World(regions=7, blue=drawn(64, 64, blue=BIG))
    question = SearchQuestion(QUERY, RED_POINT, PageRequest())
    for name, verdict in (("blue", Verdict.OTHER_FINGERPRINT), ("never", Verdict.NOT_INDEXED)):
        found = explain(world.context, question, Expected(ref(name)), others=[Unreachable(), other.index])
        assert found.verdict is verdict
