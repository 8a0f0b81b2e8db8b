"""New matches are those of looking at every row: of several queries at once, and of one in stretches of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, region_row
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.types import CodeKind, Filter, ImageRef
from searchanything.search import new_matches
from searchanything.search.few_matches import few_matches
from searchanything.search.new_matches import NewMatch, Sought
from searchanything.stores.memory import MemoryRegionIndex

CODES = [bytes([bits]) + bytes(31) for bits in range(8)]
LATE, EARLY = 2000, 1000
# Of an image: its regions' codes, whether it was written late, when its content was first indexed, garbage.
IMAGES = st.tuples(
    st.lists(st.sampled_from(CODES), min_size=1, max_size=12),
    st.booleans(),
    st.sampled_from([EARLY, LATE]),
    st.sampled_from(["", "", "waiting", "replaced"]),
)


def code_of(code: bytes) -> np.ndarray:
    return np.frombuffer(code, dtype=np.uint8)


def index_of(images: list[tuple[list[bytes], bool, int, str]]) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    index.add_words(b"layer", 256)
    for number, (codes, is_late, first_at_ms, garbage) in enumerate(images):
        image = ImageRef("bucket", f"{number % 2}/{number}")
        for place, code in enumerate(codes):
            at_ms, words = LATE if is_late else EARLY, bytes(reversed(code))
            row = region_row(image, place, generation=2, code=code, words_code=words, indexed_at_ms=at_ms)
            index.insert_regions([row])
        if garbage:
            age = 3 if garbage == "waiting" else 1
            words = bytes(reversed(codes[0]))
            row = region_row(image, 0, generation=age, code=codes[0], words_code=words, indexed_at_ms=LATE)
            index.insert_regions([row])
        index.insert_images(
            [image_row(image, generation=2, code=codes[0], etag="etag-2", first_at_ms=first_at_ms, last_at_ms=LATE)]
        )
    return index


def near_rows(index: MemoryRegionIndex, one: Sought) -> dict[ImageRef, list[tuple[int, int]]]:
    """Generation and distance of all rows that are near enough, garbage included."""
    near: dict[ImageRef, list[tuple[int, int]]] = {}
    wanted = one.code if one.kind == "regions" else one.code[::-1]
    for row in index.iterate_regions():
        distance = int(np.bitwise_count(wanted ^ code_of(row.code)).sum())
        allowed = one.filter is None or row.image.key.startswith(one.filter.key_prefix)
        if distance <= one.most_bits and allowed and row.indexed_at_ms >= one.since_ms:
            near.setdefault(row.image, []).append((row.generation, distance))
    return near


def is_left(near: dict[ImageRef, list[tuple[int, int]]]) -> bool:
    """Whether a longer look is needed: there are not few, or an image is being replaced."""
    rows = [one for some in near.values() for one in some]
    return len(rows) >= 32 or any(generation == 1 for generation, _ in rows)


def shown(found: list[NewMatch]) -> list[tuple[int, ImageRef, int]]:
    return [(one.hit.distance_bits, one.hit.image, one.first_at_ms) for one in found]


@settings(max_examples=100, deadline=None)
@given(
    images=st.lists(IMAGES, min_size=1, max_size=6),
    asked=st.lists(
        st.tuples(
            st.sampled_from(CODES),
            st.sampled_from(["regions", "words"]),
            st.integers(0, 3),
            st.sampled_from(["", "0/"]),
            st.sampled_from([0, LATE]),
        ),
        min_size=1,
        max_size=4,
    ),
    new_from_ms=st.sampled_from([0, LATE]),
)
def test_matches_are_those_of_looking_at_all(
    images: list[tuple[list[bytes], bool, int, str]],
    asked: list[tuple[bytes, CodeKind, int, str, int]],
    new_from_ms: int,
) -> None:
    index = index_of(images)
    wanted = [
        Sought(
            code_of(code) if kind == "regions" else code_of(code)[::-1].copy(),
            kind,
            most_bits,
            Filter(key_prefix=prefix) if prefix else None,
            since_ms,
            new_from_ms,
        )
        for code, kind, most_bits, prefix, since_ms in asked
    ]
    first_at = {row.image: row.first_at_ms for row in index.iterate_images()}
    for one, found in zip(wanted, few_matches(index, wanted), strict=True):
        together = [other.since_ms for other in wanted if (other.kind, other.filter) == (one.kind, one.filter)]
        own, most = (near_rows(index, replace(one, since_ms=since_ms)) for since_ms in (one.since_ms, min(together)))
        if found is None:
            assert is_left(most)
            continue
        assert not is_left(own)
        least, all_of_them = (
            {
                (min(bits), image, first_at[image])
                for image, rows in near.items()
                if (bits := [bits for age, bits in rows if age == 2]) and first_at[image] >= new_from_ms
            }
            for near in (own, most)
        )
        assert len(set(shown(found))) == len(found)
        assert {image for _, image, _ in least} <= {image for _, image, _ in shown(found)}
        assert set(shown(found)) <= least | all_of_them


@pytest.mark.parametrize(("exact", "known"), [(True, 1), (False, None)])
def test_an_approximate_index_is_left_to_a_longer_look(
    monkeypatch: pytest.MonkeyPatch, exact: bool, known: int | None
) -> None:
    """It may miss what is nearer than what it brings."""
    index = index_of([([CODES[0]], True, LATE, ""), ([CODES[7]], True, LATE, "")])
    monkeypatch.setattr(type(index), "exact", exact)
    near, far = (Sought(code_of(code), "regions", 0, None, 0, 0) for code in (CODES[0], bytes(31) + b"\1"))
    found = few_matches(index, [near, far])
    assert (None if found[0] is None else len(found[0])) == known
    assert found[1] == []


NOW_MS = 40


@settings(max_examples=100, deadline=None)
@given(
    images=st.lists(
        st.tuples(st.integers(0, NOW_MS + 1), st.sampled_from(CODES), st.booleans(), st.booleans()),
        unique_by=lambda one: one[0],
        max_size=12,
    ),
    since_ms=st.integers(0, NOW_MS),
    cut=st.sampled_from([("matches", 3, 4096), ("limit", 1000, 3), ("never", 1000, 4096), ("approximate", 1000, 4096)]),
    most_bits=st.integers(0, 3),
)
def test_stretches_of_time_add_up_to_all(
    images: list[tuple[int, bytes, bool, bool]], since_ms: int, cut: tuple[str, int, int], most_bits: int
) -> None:
    """Of each image: when it was written, whether its content is old, and whether it was replaced meanwhile."""
    index, expected, moments = MemoryRegionIndex(manifest_of("f" * 64)), [], {}
    for at_ms, code, is_old, is_replaced in images:
        image, first_at_ms = ImageRef("bucket", f"{at_ms}"), 0 if is_old else at_ms
        written = {"generation": 1, "code": code, "indexed_at_ms": at_ms, "etag": "seen"}
        index.insert_regions([region_row(image, place, **written) for place in (0, 1)])
        etag = "other" if is_replaced else "seen"
        index.insert_images([image_row(image, generation=1, first_at_ms=first_at_ms, etag=etag)])
        distance = int(np.bitwise_count(code_of(code) ^ code_of(CODES[1])).sum())
        if at_ms >= since_ms and distance <= most_bits and first_at_ms >= since_ms and not is_replaced:
            expected.append((distance, image, first_at_ms))
        moments[image] = at_ms
    wanted = Sought(code_of(CODES[1]), "regions", most_bits, None, since_ms, since_ms)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(new_matches, "MATCHES_OF_A_SEARCH", cut[1])
        monkeypatch.setattr(type(index), "exact", cut[0] != "approximate")
        index.max_limit = cut[2]
        found = list(new_matches.new_matches(index, wanted, now_ms=NOW_MS))
    assert sorted(one for some, _ in found for one in shown(some)) == sorted(expected)
    ends = [since_ms - 1, *(end for _, end in found)]
    assert ends == sorted(set(ends))
    assert ends[-1] == NOW_MS
    for low, (some, high) in zip(ends, found, strict=False):
        assert all(low < moments[one.hit.image] and (moments[one.hit.image] <= high or high == NOW_MS) for one in some)
        assert cut[0] != "matches" or len(some) < cut[1]
    assert cut[1:] != (1000, 4096) or len(found) == 1


def test_more_at_one_moment_than_a_search_brings_are_not_asked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_matches, "MATCHES_OF_A_SEARCH", 3)
    index = index_of([([CODES[0]], True, LATE, "")] * 5)
    wanted = Sought(code_of(CODES[0]), "regions", 0, None, LATE, 0)
    assert [(len(some), end) for some, end in new_matches.new_matches(index, wanted, now_ms=LATE)] == [(3, LATE)]
