"""What is new of what matches, on every index: compared with a look at all rows, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest
from contracts.index_rows import fresh_generation, image_row, manifest_of, random_codes, region_row

from searchanything.core.codes import hamming
from searchanything.core.errors import FilterError
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.types import CodeKind, Codes, Filter, ImageRef
from searchanything.search import few_matches as search_of_few
from searchanything.search import new_matches as search_of_new
from searchanything.search.few_matches import few_matches
from searchanything.search.new_matches import Sought, new_matches

BUCKET = "standing"
NOW = 1_800_000_000_000
LAYER = random_codes(1).tobytes()
MOST_BITS = 20


@pytest.fixture(scope="module")
def index(store: IndexStore) -> RegionIndex:
    """Made once, because a server takes seconds to make an index."""
    name = uuid4().hex * 2
    store.create(manifest_of(name), LAYER)
    return store.add_words(name, LAYER, bits=256)


@pytest.fixture(autouse=True)
def _emptied(index: RegionIndex) -> Iterator[None]:
    yield
    index.delete_images({one for one, _ in index.iterate_attempts()} | {one.image for one in index.iterate_states()})


def since(code: Codes, kind: CodeKind, most_bits: int, filter: Filter | None, moment: int) -> Sought:
    """What is new since a moment."""
    return Sought(code, kind, most_bits, filter, moment, moment)


def near(code: Codes, bits: int, *, seed: int) -> bytes:
    """A code so many bits away."""
    flipped = np.unpackbits(code)
    flipped[np.random.default_rng(seed).choice(len(flipped), bits, replace=False)] ^= 1
    return np.packbits(flipped).tobytes()


def put(
    index: RegionIndex, key: str, codes: list[bytes], *, at: int, first: int | None = None, whole: bool = True
) -> None:
    """An image whose regions have these codes, words codes and whole image alike; committed or not."""
    image, age = ImageRef(BUCKET, key), fresh_generation()
    rows = [
        region_row(image, number, generation=age, code=code, words_code=code, indexed_at_ms=at, etag=key)
        for number, code in enumerate(codes)
    ]
    index.insert_regions(rows)
    if whole:
        first = at if first is None else first
        values = {"code": codes[0], "regions": len(codes), "first_at_ms": first, "last_at_ms": at, "etag": key}
        index.insert_images([image_row(image, generation=age, **values)])


def found(index: RegionIndex, sought: Sought) -> tuple[set[str], list[int]]:
    """Keys, each of them once, and the ends of the stretches."""
    stretches = list(new_matches(index, sought, now_ms=NOW))
    keys = [one.hit.image.key for matches, _ in stretches for one in matches]
    assert len(keys) == len(set(keys))
    return set(keys), [until for _, until in stretches]


@pytest.mark.parametrize("kind", ["regions", "images", "words"])
@pytest.mark.parametrize("at_once", [1000, 3])
def test_matches_are_those_of_a_look_at_all_rows(
    index: RegionIndex, kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_of_new, "MATCHES_OF_A_SEARCH", at_once)
    rng, code = np.random.default_rng(5), random_codes(1, seed=8)[0]
    expected = set()
    for number in range(40):
        bits = [int(one) for one in rng.integers(0, 2 * MOST_BITS, 3)]
        codes = [near(code, one, seed=100 * number + place) for place, one in enumerate(bits)]
        at = NOW - int(rng.integers(0, 2000))
        first = at if number % 4 else NOW - 5000  # every fourth was only indexed again
        committed = number % 5 != 0
        put(index, f"{number}.jpg", codes, at=at, first=first, whole=committed)
        compared = codes[:1] if kind == "images" else codes
        is_near = hamming(code[None], np.stack([np.frombuffer(one, np.uint8) for one in compared])).min() <= MOST_BITS
        if is_near and committed and at >= NOW - 1000 and first >= NOW - 1000:
            expected.add(f"{number}.jpg")
    assert 5 < len(expected) < 30
    sought = since(code, kind, MOST_BITS, None, NOW - 1000)  # type: ignore[arg-type]
    keys, ends = found(index, sought)
    assert keys == expected
    assert ends == sorted(ends)
    assert ends[-1] == NOW


def test_a_clock_that_is_ahead_hides_nothing(index: RegionIndex) -> None:
    code = random_codes(1, seed=8)[0]
    put(index, "ahead.jpg", [code.tobytes()], at=NOW + 100_000)
    assert found(index, since(code, "regions", 0, None, NOW))[0] == {"ahead.jpg"}


def keys_of_few(index: RegionIndex, sought: list[Sought]) -> list[list[str] | None]:
    """The keys of the new matches of each, None where a closer look is needed."""
    return [
        None if matches is None else sorted(one.hit.image.key for one in matches)
        for matches in few_matches(index, sought)
    ]


def test_few_matches_are_found_for_all_queries_at_once(index: RegionIndex) -> None:
    codes = random_codes(70, seed=9)
    for number in (3, 68):
        put(index, f"{number}.jpg", [near(codes[number], MOST_BITS, seed=1)], at=NOW)
    put(index, "old.jpg", [codes[5].tobytes()], at=NOW - 10)
    sought = [since(code, "regions", MOST_BITS, None, NOW) for code in codes]
    expected: list[list[str] | None] = [[] for _ in codes]
    expected[3], expected[68] = ["3.jpg"], ["68.jpg"]
    assert keys_of_few(index, sought) == expected
    elsewhere = Filter(bucket="elsewhere")
    others = [since(codes[3], "regions", MOST_BITS, elsewhere, NOW), since(codes[3], "words", MOST_BITS, None, NOW)]
    others += [since(codes[3], "images", MOST_BITS - 1, None, NOW), since(codes[5], "regions", 0, None, NOW - 10)]
    assert keys_of_few(index, others) == [[], ["3.jpg"], [], ["old.jpg"]]


@pytest.mark.parametrize("kind", ["regions", "images", "words"])
def test_few_matches_are_those_of_a_closer_look(index: RegionIndex, kind: CodeKind) -> None:
    """Images of several near regions, uncommitted ones, and ones that were only indexed again."""
    codes = random_codes(3, seed=11)
    for number in range(30):
        code, at = codes[number % 3], NOW - 100 * (number % 4)
        regions = [near(code, number % 7 * 4, seed=number), near(code, 12, seed=number + 50)]
        first = NOW - 5000 if number % 6 == 1 else at
        put(index, f"{number:02d}.jpg", regions, at=at, first=first, whole=number % 5 != 0)
    sought = [since(code, kind, bits, None, NOW - 300) for code in codes for bits in (-1, 6, MOST_BITS)]
    compared = 0
    for one, few in zip(sought, few_matches(index, sought), strict=True):
        assert few is not None
        closer = [match for matches, _ in new_matches(index, one, now_ms=NOW) for match in matches]
        assert {(match.hit, match.first_at_ms) for match in few} == {(match.hit, match.first_at_ms) for match in closer}
        compared += len(few)
    assert compared > 15


def test_more_than_few_are_left_to_the_closer_look(index: RegionIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_of_few, "ROWS", (1, 4))
    codes = random_codes(3, seed=12)
    for code, many in zip(codes, (3, 4, 5), strict=True):
        for number in range(many):
            put(index, f"{many}-{number}.jpg", [near(code, number, seed=number)], at=NOW)
    found = keys_of_few(index, [since(code, "regions", MOST_BITS, None, NOW) for code in codes])
    assert found == [[f"3-{number}.jpg" for number in range(3)], None, None]


def test_an_image_that_is_being_replaced_is_left_to_the_closer_look(index: RegionIndex) -> None:
    """Its new rows may have been written after the search."""
    old, new = random_codes(2, seed=13)
    put(index, "a.jpg", [old.tobytes()], at=NOW)
    put(index, "a.jpg", [new.tobytes()], at=NOW)
    sought = [since(code, "regions", 5, None, NOW) for code in (old, new)]
    assert keys_of_few(index, sought) == [None, ["a.jpg"]]


def test_a_filter_that_is_not_understood_is_left_to_the_closer_look(index: RegionIndex) -> None:
    code = random_codes(1, seed=8)[0]
    put(index, "a.jpg", [code.tobytes()], at=NOW)
    bad = since(code, "regions", 5, Filter(expression="nothing ="), NOW)
    good = since(code, "regions", 5, None, NOW)
    assert keys_of_few(index, [bad, good]) == [None, ["a.jpg"]]
    with pytest.raises(FilterError):
        found(index, bad)


def test_what_the_filter_says_of_size_and_metadata_holds(index: RegionIndex) -> None:
    code = random_codes(1, seed=8)[0]
    put(index, "a.jpg", [code.tobytes()], at=NOW)
    kept = Filter(where="area_px >= 900", bucket=BUCKET)
    assert found(index, since(code, "regions", 5, kept, NOW))[0] == {"a.jpg"}
    assert found(index, since(code, "regions", 5, Filter(where="area_px > 900"), NOW))[0] == set()
