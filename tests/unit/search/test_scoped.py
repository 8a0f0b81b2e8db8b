"""A scoped index shows what lies in its places, whichever way it is asked."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from contracts.index_rows import BITS, image_row, manifest_of, random_codes, region_row
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.errors import UsageError
from searchanything.core.manifest import IndexCounts
from searchanything.core.rows import Outcome, WordsMatch
from searchanything.core.types import Codes, Filter, Hit, ImageRef, Place, lies_in
from searchanything.search.scoped import ScopedIndex, contains, narrowed, seen_in
from searchanything.stores.memory import MemoryRegionIndex

KEYS = ["", "a", "aa", "ab", "b", "a/b", "a/bc"]
ALL = [ImageRef(bucket, key) for bucket, key in product(["one", "two"], KEYS)]
ZERO = np.zeros((1, BITS // 8), dtype=np.uint8)
PLACES = st.tuples(st.sampled_from(["one", "two", "three"]), st.sampled_from(KEYS))


def filled(made: MemoryRegionIndex) -> MemoryRegionIndex:
    made.add_words(b"layer", BITS)
    codes = random_codes(len(ALL), seed=4)
    made.insert_regions(
        [
            region_row(image, number, generation=1, words_code=code.tobytes())
            for number, (image, code) in enumerate(zip(ALL, codes, strict=True))
        ]
    )
    made.insert_images([image_row(image, generation=1) for image in ALL])
    return made


@pytest.fixture(scope="module")
def index() -> MemoryRegionIndex:
    return filled(MemoryRegionIndex(manifest_of("f" * 64)))


@settings(max_examples=200, deadline=None)
@given(
    places=st.lists(PLACES, min_size=1, max_size=3), within=st.lists(PLACES, max_size=2), prefix=st.sampled_from(KEYS)
)
def test_every_way_to_the_rows_shows_the_places_alone(
    index: MemoryRegionIndex, places: list[Place], within: list[Place], prefix: str
) -> None:
    scoped = ScopedIndex(index, tuple(places))
    seen = {image for image in ALL if lies_in(image, places)}
    asked = Filter(within=tuple(within), key_prefix=prefix)
    wanted = {image for image in seen if image.key.startswith(prefix) and (not within or lies_in(image, within))}
    for search in (scoped.search, scoped.search_images, scoped.search_words):
        assert {match.image for match in search(ZERO, limit=99, filter=asked)[0]} == wanted
        assert {match.image for match in search(ZERO, limit=99)[0]} == seen
        for given_filter, there in ((asked, wanted), (None, seen)):
            assert len(search(ZERO, limit=1, filter=given_filter)[0]) == min(1, len(there)), (
                "places are part of the search"
            )
    assert set(scoped.newest(ALL)) == set(scoped.generations(ALL)) == seen
    assert {row.image for row in scoped.regions([row.id for row in index.iterate_regions()]).values()} == seen
    for bucket in (None, "one", "two"):
        expected = sorted(image for image in seen if bucket in (None, image.bucket) and image.key.startswith(prefix))
        under = {"bucket": bucket, "key_prefix": prefix}
        assert sorted(row.image for row in scoped.iterate_images(**under)) == expected
        for outcome, having in ((Outcome.INDEXED, expected), (Outcome.FAILED, [])):
            assert sorted(row.image for row in scoped.iterate_images(**under, outcome=outcome)) == having
            assert sorted(state.image for state in scoped.iterate_states(**under, outcome=outcome)) == having
        assert sorted(row.image for row in scoped.iterate_regions(**under)) == expected
        assert sorted(state.image for state in scoped.iterate_states(**under)) == expected
        assert sorted(image for image, _ in scoped.iterate_attempts(**under)) == expected
        assert scoped.count_regions(**under) == scoped.count_words(**under) == len(expected)
        assert scoped.counts(**under) == IndexCounts(len(expected), 0, 0, len(expected))
    assert sorted(row.image for row in scoped.regions_of(ALL)) == sorted(seen)
    ids = {row.id: row.image for row in index.iterate_regions()}
    assert {ids[name] for name, _ in scoped.words_of(ALL)} == seen
    assert scoped.codes_of(list(ids), of="words") == dict(scoped.words_of(ALL))
    assert scoped.codes_of(list(ids)) == {row.id: row.code for row in scoped.iterate_regions()}
    assert {ids[name] for name in scoped.codes_of(list(ids))} == seen
    assert {ids[name] for name in scoped.codes_of(list(ids), within=within)} == {
        image for image in seen if not within or lies_in(image, within)
    }
    assert {one.image for one in scoped.iterate_codes()} == seen
    assert {one.image for one in scoped.iterate_codes(of="images", key_prefix=prefix) if one.region is None} == {
        image for image in seen if image.key.startswith(prefix)
    }
    assert {one.image for one in scoped.iterate_codes(share=0.5)} == {
        one.image for one in index.iterate_codes(share=0.5) if one.image in seen
    }
    assert {image for image in ALL if lies_in(image, narrowed(within, places))} == {
        image for image in seen if not within or lies_in(image, within)
    }
    assert scoped.counts().images == len(seen)


@settings(max_examples=200, deadline=None)
@given(places=st.lists(PLACES, max_size=3), others=st.lists(PLACES, max_size=3))
def test_no_places_are_all_there_are_and_what_lies_nowhere_is_not(places: list[Place], others: list[Place]) -> None:
    both = narrowed(others, places)
    assert bool(both) == bool(places or others), "places that have nothing in common are not all there are"
    for image in ALL:
        shown = [not some or lies_in(image, some) for some in (places, others, both)]
        assert (shown[0] and shown[1]) == shown[2]
    inside = [any(place[0] == one[0] and one[1].startswith(place[1]) for place in places) for one in others]
    assert contains(places, others) == (not places or (bool(others) and all(inside)))


def test_what_an_index_brings_from_elsewhere_is_not_seen() -> None:
    """Whatever it makes of a filter."""

    class Careless(MemoryRegionIndex):
        def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:  # noqa: ARG002
            return super().search(codes, limit=limit)

        def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:  # noqa: ARG002
            return super().search_images(codes, limit=limit)

        def search_words(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[WordsMatch]]:  # noqa: ARG002
            return super().search_words(codes, limit=limit)

    careless = filled(Careless(manifest_of("f" * 64)))
    scoped = ScopedIndex(careless, (("one", "a/"),))
    for search in (scoped.search, scoped.search_images, scoped.search_words):
        assert {hit.image.key for hit in search(ZERO, limit=99)[0]} == {"a/b", "a/bc"}


def test_a_view_is_asked_as_its_index_is(index: MemoryRegionIndex) -> None:
    assert seen_in(index, ()) is index
    scoped = seen_in(index, (("one", ""),))
    assert isinstance(scoped, ScopedIndex)
    for name in ("manifest", "collections", "exact", "max_limit", "words"):
        assert getattr(scoped, name) == getattr(index, name), name


def test_nothing_is_written_through_it(index: MemoryRegionIndex) -> None:
    scoped = ScopedIndex(index, (("one", ""),))
    for write in (
        lambda: scoped.insert_regions([]),
        lambda: scoped.insert_images([]),
        lambda: scoped.delete_before({}),
        lambda: scoped.delete_images([]),
        lambda: scoped.delete_regions([]),
        lambda: scoped.insert_words([]),
    ):
        with pytest.raises(UsageError, match="for questions"):
            write()
