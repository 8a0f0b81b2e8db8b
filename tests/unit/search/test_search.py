"""Pages of a ranking, against a model that looks at every row, over an index full of garbage."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import pytest
from contracts import index_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.errors import UsageError
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import Codes, Filter, Hit, ImageRef
from searchanything.search.search import _GROWTH, SLACK, PageRequest, search_images, search_regions
from searchanything.stores.memory import MemoryRegionIndex

BITS = 8  # few, so that ties are everywhere
MANIFEST = index_rows.manifest_of("f" * 32, BITS)
seed = st.integers(0, 2**32 - 1)


def region_row(image: ImageRef, generation: int, region: int, code: int) -> RegionRow:
    shelf = {"shelf": image.key[:1]}
    return index_rows.region_row(image, region, generation=generation, code=bytes([code]), metadata=shelf)


def image_row(image: ImageRef, generation: int, code: int, outcome: Outcome = Outcome.INDEXED) -> ImageRow:
    return index_rows.image_row(image, generation=generation, code=bytes([code]), outcome=outcome, regions=1)


class World:
    """An index of random rows: several generations of each image, committed or not, garbage without an image row."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.index = MemoryRegionIndex(MANIFEST)
        self.regions: list[RegionRow] = []
        self.images: list[ImageRow] = []
        spread = int(generator.choice([1, 4, 256]))
        for number in range(int(generator.integers(0, 9))):
            image = ImageRef(f"bucket{number % 2}", f"{number * 7 % 9}.png")
            for generation in generator.permutation(5)[: generator.integers(1, 4)].tolist():
                for region in range(int(generator.integers(0, 5))):
                    self.regions.append(region_row(image, generation, region, int(generator.integers(spread))))
                if generator.random() < 0.6:
                    outcome = Outcome.FAILED if generator.random() < 0.2 else Outcome.INDEXED
                    self.images.append(image_row(image, generation, int(generator.integers(spread)), outcome))
        self.index.insert_regions(self.regions)
        self.index.insert_images(self.images)
        self.query = int(generator.integers(256))

    @property
    def code(self) -> Codes:
        return np.array([self.query], dtype=np.uint8)

    def distance(self, row: RegionRow | ImageRow) -> int:
        return (row.code[0] ^ self.query).bit_count()

    def committed(self, row: RegionRow | ImageRow) -> bool:
        return row.generation == max((one.generation for one in self.images if one.image == row.image), default=-1)

    def ranking(self, *, group_by_image: bool) -> list[tuple[int, ImageRef, int]]:
        """All (distance, image, region) that a search may show, in order."""
        rows = [row for row in self.regions if self.committed(row)]
        ranked = sorted((self.distance(row), row.image, row.region) for row in rows)
        if not group_by_image:
            return ranked
        return [one for place, one in enumerate(ranked) if one[1] not in {earlier[1] for earlier in ranked[:place]}]

    def image_ranking(self) -> list[tuple[int, ImageRef]]:
        rows = [row for row in self.images if self.committed(row) and row.outcome is Outcome.INDEXED]
        return sorted((self.distance(row), row.image) for row in rows)


def ranks(hits: tuple[Hit, ...]) -> list[tuple[int, ImageRef, int | None]]:
    return [(hit.distance_bits, hit.image, hit.region) for hit in hits]


@given(seed, st.integers(1, 12), st.integers(0, 12), st.booleans())
@settings(max_examples=300)
def test_a_page_is_that_stretch_of_the_ranking(seed: int, limit: int, offset: int, group_by_image: bool) -> None:
    world = World(seed)
    request = PageRequest(limit, offset, group_by_image)
    page = search_regions(world.index, world.code, request, filter=None)
    assert ranks(page.hits) == world.ranking(group_by_image=group_by_image)[offset : offset + limit]
    assert page.exact


@given(seed, st.integers(1, 5), st.booleans())
@settings(max_examples=100)
def test_pages_tile_the_ranking(seed: int, limit: int, group_by_image: bool) -> None:
    world = World(seed)
    expected = world.ranking(group_by_image=group_by_image)
    found = []
    for offset in range(0, len(expected) + limit, limit):
        request = PageRequest(limit, offset, group_by_image)
        found += ranks(search_regions(world.index, world.code, request, filter=None).hits)
    assert found == expected


@given(seed, st.integers(1, 12), st.integers(0, 12))
@settings(max_examples=200)
def test_whole_images_are_ranked_alike(seed: int, limit: int, offset: int) -> None:
    world = World(seed)
    page = search_images(world.index, world.code, PageRequest(limit, offset), filter=None)
    assert [(hit.distance_bits, hit.image) for hit in page.hits] == world.image_ranking()[offset : offset + limit]
    assert page.exact
    whole = (None, None, (0, 0, 640, 480), 640 * 480)
    assert all((hit.region, hit.mask, hit.box_xyxy, hit.area_px) == whole for hit in page.hits)


@given(seed, st.integers(1, 6), st.integers(0, 6), st.booleans(), st.integers(1, 40))
@settings(max_examples=400)
def test_a_small_limit_of_the_index_is_owned_up_to(
    seed: int, limit: int, offset: int, group_by_image: bool, max_limit: int
) -> None:
    world = World(seed)
    world.index.max_limit = max_limit
    request = PageRequest(limit, offset, group_by_image)
    if offset + limit > max_limit:
        with pytest.raises(UsageError, match=f"{max_limit} at most, got {offset + limit}"):
            search_regions(world.index, world.code, request, filter=None)
        return
    page = search_regions(world.index, world.code, request, filter=None)
    ranking = world.ranking(group_by_image=group_by_image)
    if page.exact:
        assert ranks(page.hits) == ranking[offset : offset + limit]
    assert page.exact or len(world.regions) >= max_limit
    assert len(page.hits) <= limit
    everything = world.ranking(group_by_image=False)
    assert all(rank in everything for rank in ranks(page.hits))
    assert ranks(page.hits) == sorted(ranks(page.hits))


def test_an_approximate_index_is_never_exact() -> None:
    class Approximate(MemoryRegionIndex):
        @property
        def exact(self) -> bool:
            return False

    index = Approximate(MANIFEST)
    assert not search_regions(index, np.zeros(1, np.uint8), PageRequest(), filter=None).exact
    assert not search_images(index, np.zeros(1, np.uint8), PageRequest(), filter=None).exact


def test_filters_are_passed_on() -> None:
    index = MemoryRegionIndex(MANIFEST)
    one, other = ImageRef("b", "one"), ImageRef("b", "two")
    index.insert_regions([region_row(one, 1, 0, 0), region_row(other, 1, 0, 0)])
    index.insert_images([image_row(one, 1, 0), image_row(other, 1, 0)])
    code = np.zeros(1, dtype=np.uint8)
    only = Filter(exclude=(one,))
    for search in (search_regions, search_images):
        page = search(index, code, PageRequest(), filter=only)
        assert [hit.image for hit in page.hits] == [other]


def test_a_hit_tells_what_the_row_holds() -> None:
    index = MemoryRegionIndex(MANIFEST)
    row = replace(region_row(ImageRef("b", "k"), 7, 3, 0b101), box_xyxy=(1.0, 2.0, 3.0, 5.0), area_px=5, score=0.25)
    index.insert_regions([row])
    index.insert_images([image_row(row.image, 7, 0)])
    page = search_regions(index, np.zeros(1, np.uint8), PageRequest(), filter=None)
    [hit] = page.hits
    assert (hit.image, hit.etag, hit.generation, hit.region, hit.distance_bits) == (row.image, "etag-7", 7, 3, 2)
    assert (hit.box_xyxy, hit.area_px, hit.score, hit.mask) == ((1.0, 2.0, 3.0, 5.0), 5, 0.25, row.mask)
    assert (hit.image_width, hit.image_height, hit.metadata) == (640, 480, {"shelf": "k"})


@pytest.mark.parametrize(
    ("limit", "offset", "said"), [(0, 0, "limit: .* got 0"), (-1, 0, "limit: .* got -1"), (1, -1, "offset: .* got -1")]
)
def test_impossible_pages_are_refused(limit: int, offset: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PageRequest(limit, offset)


class Interrupted(MemoryRegionIndex):
    """Does something just before its `number`-th reading call (0 is the first), as another process would."""

    def __init__(self, number: int, event: Callable[[MemoryRegionIndex], None]) -> None:
        super().__init__(MANIFEST)
        self.number = number
        self.event = event
        self.calls = 0

    def _tick(self) -> None:
        if self.calls == self.number:
            self.event(self)
        self.calls += 1

    def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        self._tick()
        return super().search(codes, limit=limit, filter=filter)

    def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        self._tick()
        return super().search_images(codes, limit=limit, filter=filter)

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        self._tick()
        return super().newest(images)


PAINTING = ImageRef("b", "painting.png")
COMPANY = [ImageRef("b", f"{number:02}.png") for number in range(60)]


def fill(index: MemoryRegionIndex) -> None:
    """PAINTING nearest and 60 others at one distance: a page of five is settled when all have been seen."""
    for image in (PAINTING, *COMPANY):
        code = 0 if image == PAINTING else 1
        index.insert_regions([region_row(image, 1, 0, code)])
        index.insert_images([image_row(image, 1, code)])


def replace_painting(index: MemoryRegionIndex) -> None:
    """What a commit of a new generation does."""
    index.insert_regions([region_row(PAINTING, 2, 0, 0)])
    index.insert_images([image_row(PAINTING, 2, 0)])
    index.delete_before({PAINTING: 2})


@pytest.mark.parametrize("search", [search_regions, search_images])
@pytest.mark.parametrize("number", range(6))
def test_an_image_replaced_during_a_search_is_found(search: Callable[..., object], number: int) -> None:
    index = Interrupted(number, replace_painting)
    fill(index)
    page = search(index, np.zeros(1, np.uint8), PageRequest(limit=5), filter=None)
    assert index.calls >= 3  # it took more than one round
    assert [hit.image for hit in page.hits] == [PAINTING, *COMPANY[:4]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", range(6))
def test_an_image_deleted_during_a_search_is_found_or_not_and_harms_no_other(number: int) -> None:
    index = Interrupted(number, lambda inner: inner.delete_images([PAINTING]))
    fill(index)
    page = search_regions(index, np.zeros(1, np.uint8), PageRequest(limit=5), filter=None)
    assert [hit.image for hit in page.hits if hit.image != PAINTING][:4] == COMPANY[:4]


def test_garbage_costs_one_more_look_and_no_more() -> None:
    index = Interrupted(-1, lambda _: None)
    fill(index)
    index.insert_regions([region_row(PAINTING, 0, 0, 0)])  # left by a killed worker
    search_regions(index, np.zeros(1, np.uint8), PageRequest(limit=70), filter=None)
    assert index.calls == 4


def test_a_search_asks_for_more_rows_step_by_step() -> None:
    """A page out of a large index must not cost all that the index would give."""
    limits: list[int] = []

    class Noting(MemoryRegionIndex):
        def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
            limits.append(limit)
            return super().search(codes, limit=limit, filter=filter)

    index = Noting(MANIFEST)
    fill(index)
    search_regions(index, np.zeros(1, np.uint8), PageRequest(limit=1), filter=None)
    assert limits == [1 + SLACK]
    limits.clear()
    search_regions(index, np.zeros(1, np.uint8), PageRequest(limit=5), filter=None)
    assert limits == [6 + SLACK, _GROWTH * (6 + SLACK)]


class Asked(MemoryRegionIndex):
    """Notes of how many images it is asked for their generations."""

    def __init__(self) -> None:
        super().__init__(MANIFEST)
        self.images: list[int] = []

    def generations(self, images: Collection[ImageRef]) -> dict[ImageRef, int]:
        self.images.append(len(images))
        return super().generations(images)


def in_line(index: MemoryRegionIndex, *, uncommitted: Collection[int] = (), each: int = 1) -> None:
    """Images 0 to 99, each farther from the question than the one before, or as far."""
    for number in range(100):
        image = ImageRef("b", f"{number:03}.png")
        code = (1 << (number // 12)) - 1
        index.insert_regions([region_row(image, 1, region, code) for region in range(each)])
        if number not in uncommitted:
            index.insert_images([image_row(image, 1, code)])


@pytest.mark.parametrize(
    ("request_", "uncommitted", "asked"),
    [
        (PageRequest(10), (), [12]),
        (PageRequest(3, offset=7), (), [12]),
        (PageRequest(10), (0, 5), [12]),  # there are two to spare
        (PageRequest(10), (0, 5, 7), [12, 19]),  # the three again, in case they were committed meanwhile, and the rest
        (PageRequest(10, group_by_image=True), (), [12]),
        (PageRequest(40), (), [44]),
    ],
)
def test_as_few_images_are_asked_for_as_hold_the_page(
    request_: PageRequest, uncommitted: Collection[int], asked: list[int]
) -> None:
    index = Asked()
    in_line(index, uncommitted=uncommitted)
    page = search_regions(index, np.zeros(1, np.uint8), request_, filter=None)
    places = [number for number in range(100) if number not in uncommitted]
    wanted = places[request_.offset : request_.offset + request_.limit]
    assert [hit.image.key for hit in page.hits] == [f"{number:03}.png" for number in wanted]
    assert index.images == asked


def test_grouped_by_image_as_many_rows_are_looked_at_as_images_need() -> None:
    index = Asked()
    in_line(index, each=3)
    request = PageRequest(4, group_by_image=True)
    page = search_regions(index, np.zeros(1, np.uint8), request, filter=None)
    assert [hit.image.key for hit in page.hits] == [f"{number:03}.png" for number in range(4)]
    assert index.images == [6]


def test_what_cannot_settle_a_page_is_not_looked_up() -> None:
    index = Asked()
    fill(index)  # 60 of one distance: the first 22 rows decide nothing but the first place
    page = search_regions(index, np.zeros(1, np.uint8), PageRequest(limit=5), filter=None)
    assert [hit.image for hit in page.hits] == [PAINTING, *COMPANY[:4]]
    assert index.images == [7]
