"""What every region index must do. The expectations are computed here, not by an index."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contracts.conftest import Bench, StoreOpener
from contracts.index_rows import BITS, fresh_generation, image_row, random_codes, region_row

from searchanything.core.errors import FilterError, IndexMismatchError, RegionIndexError
from searchanything.core.manifest import IndexCounts
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import Filter, ImageRef, MaskRLE, SizeClass

HOSTILE_KEYS = [
    'quote".jpg', "single'.jpg", "back\\slash.jpg", 'both\\".jpg', "per%cent.jpg", "under_score.jpg", "a\\nb",
    "tab\t.jpg", "line\nbreak.jpg", "return\r.jpg", "nul\0.jpg", "日本語/写真.jpg", "🦊.jpg", "e\u0301.jpg", " ", "$x",
    "`", "//", 'x") or (id != "', "\U0010ffff.jpg", "\u2028.jpg", "k" * 4000,
]  # fmt: skip


def bits_apart(left: bytes, right: bytes) -> int:
    """Independent of the package: integers and a string of digits."""
    return bin(int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).count("1")


def commit(bench: Bench, key: str = "a.jpg", regions: int = 3) -> tuple[ImageRow, list[RegionRow]]:
    image, generation = bench.image(key), fresh_generation()
    rows = [region_row(image, number, generation=generation) for number in range(regions)]
    row = image_row(image, generation=generation, regions=regions)
    bench.index.insert_regions(rows)
    bench.index.insert_images([row])
    return row, rows


def query(row: RegionRow | ImageRow) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(row.code, dtype=np.uint8)[None]


def test_rows_come_back_as_they_went_in(bench: Bench) -> None:
    image, generation = bench.image("dir/é.jpg"), fresh_generation()
    metadata = {
        "n": 3,
        "x": 0.1,
        "whole": 2.0,
        "yes": True,
        "no": False,
        "text": 'ä"\\',
        "big": 2**53 + 1,
        "": "",
        "a b": -1,
    }
    region = region_row(
        image,
        7,
        generation=generation,
        box_xyxy=(0.5, 1.25, 300.75, 240.0),
        mask=MaskRLE((200, 333), "PPYo0`\\"),
        score=0.8125,
        metadata=metadata,
        area_px=2**40,
    )
    row = image_row(image, generation=generation, metadata=metadata, attempts=4, error="", regions=1)
    bench.index.insert_regions([region])
    bench.index.insert_images([row])

    [[match]] = bench.index.search(query(region), limit=5)
    assert match.distance_bits == 0
    assert type(match.distance_bits) is int
    for name in ("image", "etag", "generation", "region", "box_xyxy", "area_px", "mask", "score", "image_width"):
        assert getattr(match, name) == getattr(region, name), name
    assert {name: (type(value), value) for name, value in match.metadata.items()} == {
        name: (type(value), value) for name, value in metadata.items()
    }
    assert bench.index.newest([image]) == {image: row}
    assert list(bench.index.iterate_images(bucket=bench.bucket)) == [row]
    [[whole]] = bench.index.search_images(query(row), limit=5)
    assert (whole.image, whole.distance_bits, whole.etag) == (image, 0, row.etag)


def test_every_key_is_stored_and_found_again(bench: Bench) -> None:
    generation = fresh_generation()
    rows = [image_row(bench.image(key), generation=generation) for key in HOSTILE_KEYS]
    regions = [region_row(row.image, number, generation=generation) for number, row in enumerate(rows)]
    bench.index.insert_regions(regions)
    bench.index.insert_images(rows)
    assert bench.index.newest([row.image for row in rows]) == {row.image: row for row in rows}
    assert sorted(bench.index.iterate_images(bucket=bench.bucket), key=lambda row: row.id) == sorted(
        rows, key=lambda row: row.id
    )
    for region in regions:
        [[match]] = bench.index.search(query(region), limit=1)
        assert match.image == region.image


def test_search_finds_the_nearest_in_order(bench: Bench) -> None:
    image, generation = bench.image(), fresh_generation()
    codes = random_codes(400, seed=5)
    codes[200:] = codes[:200]  # ties
    codes[200:, 0] ^= 1
    rows = [region_row(image, i, generation=generation, code=code.tobytes()) for i, code in enumerate(codes)]
    bench.index.insert_regions(rows)
    queries = random_codes(3, seed=6)

    found = bench.index.search(queries, limit=400)
    for one, hits in zip(queries, found, strict=True):
        expected = sorted((bits_apart(one.tobytes(), row.code), row.id, row.region) for row in rows)
        assert [(hit.distance_bits, hit.region) for hit in hits] == [(d, region) for d, _, region in expected]
    for one, hits in zip(queries, bench.index.search(queries, limit=7), strict=True):
        assert [hit.distance_bits for hit in hits] == sorted(bits_apart(one.tobytes(), row.code) for row in rows)[:7]
    assert bench.index.search(queries[:0], limit=7) == []


def test_a_limit_above_the_rows_returns_all_of_them(bench: Bench) -> None:
    _, rows = commit(bench, regions=5)
    [hits] = bench.index.search(query(rows[0]), limit=16384)
    assert sorted(hit.region for hit in hits) == [0, 1, 2, 3, 4]


def test_searching_an_empty_index_finds_nothing(bench: Bench) -> None:
    assert bench.index.search(random_codes(2), limit=3) == [[], []]
    assert bench.index.search_images(random_codes(1), limit=3) == [[]]
    assert bench.index.counts() == IndexCounts(images=0, empty=0, failed=0, regions=0)


@pytest.mark.parametrize("limit", [0, -1, 16385])
def test_a_limit_out_of_range_is_an_error(bench: Bench, limit: int) -> None:
    with pytest.raises(RegionIndexError, match="16384"):
        bench.index.search(random_codes(1), limit=limit)


def test_codes_of_another_length_are_refused_in_and_out(bench: Bench) -> None:
    image, generation = bench.image(), fresh_generation()
    for bits in (BITS - 8, BITS + 8, 0):
        with pytest.raises(IndexMismatchError, match=str(bits // 8)):
            bench.index.search(random_codes(1, bits=bits), limit=3)
        with pytest.raises(IndexMismatchError, match=str(bits)):
            bench.index.insert_regions([region_row(image, generation=generation, code=bytes(bits // 8))])
        with pytest.raises(IndexMismatchError, match=str(bits)):
            bench.index.insert_images([image_row(image, generation=generation, code=bytes(bits // 8))])
    with pytest.raises(IndexMismatchError):
        bench.index.search(random_codes(1).astype(np.int64), limit=3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"etag": "e" * 1025}, "etag"),
        ({"mask": MaskRLE((10, 10), "x" * 4097)}, "mask"),
        ({"metadata": {"a": float("nan")}}, "finite"),
        ({"metadata": {"a": 2**63}}, "64 bits"),
        ({"metadata": {"a": "x" * 60_000}}, "metadata"),
        ({"metadata": {"a": [1]}}, "metadata"),
        ({"box_xyxy": (0.0, 0.0, float("inf"), 1.0)}, "box_xyxy"),
        ({"area_px": -1}, "area_px"),
        ({"image_width": 2**31}, "image_width"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_any_is_written(
    bench: Bench, changes: dict[str, object], named: str
) -> None:
    good, bad = bench.image("good"), bench.image("bad")
    generation = fresh_generation()
    with pytest.raises(RegionIndexError, match=named):
        bench.index.insert_regions(
            [region_row(good, generation=generation), region_row(bad, generation=generation, **changes)]
        )
    assert bench.index.counts().regions == 0


@pytest.mark.parametrize("key", ["é" * 2049, "k" * 4097, "\ud800"])
def test_a_key_that_cannot_be_stored_is_named(bench: Bench, key: str) -> None:
    image = ImageRef(bench.bucket, key)
    row = replace(region_row(bench.image(), generation=1), image=image)
    with pytest.raises(RegionIndexError, match="key") as caught:
        bench.index.insert_regions([row])
    assert ascii(key[:1]).strip("'") in ascii(str(caught.value))


def test_a_repeated_row_is_stored_once_and_a_contradicting_one_refused(bench: Bench) -> None:
    row = region_row(bench.image(), generation=fresh_generation())
    bench.index.insert_regions([row, row])
    assert bench.index.counts().regions == 1
    with pytest.raises(RegionIndexError, match=row.id):
        bench.index.insert_regions([row, replace(row, area_px=1)])


def test_a_long_message_is_cut_between_letters(bench: Bench) -> None:
    image = bench.image()
    failed = {"outcome": Outcome.FAILED, "error": "ImageError", "code": bytes(BITS // 8)}
    row = image_row(image, generation=fresh_generation(), message="x" + "é" * 5000, **failed)
    bench.index.insert_images([row])
    assert bench.index.newest([image])[image] == replace(row, message="x" + "é" * 1023)


def test_the_newest_generation_counts_whatever_the_order(bench: Bench) -> None:
    image, other, missing = bench.image("a"), bench.image("b"), bench.image("c")
    old, new, newest = sorted(fresh_generation() for _ in range(3))
    rows = [image_row(image, generation=generation) for generation in (new, newest, old)]
    bench.index.insert_images([*rows, image_row(other, generation=old)])
    found = bench.index.newest([image, other, missing, image])
    assert {ref: row.generation for ref, row in found.items()} == {image: newest, other: old}
    by_image = {one: row.generation for one, row in found.items()}
    assert bench.index.generations([image, other, missing, image]) == by_image
    assert bench.index.generations([]) == {}
    assert bench.index.newest([]) == {}
    assert len(list(bench.index.iterate_images(bucket=bench.bucket))) == 4


def test_newest_takes_many_images_at_once(bench: Bench) -> None:
    images = [bench.image(f"{number}.jpg") for number in range(700)]
    generation = fresh_generation()
    bench.index.insert_images([image_row(image, generation=generation) for image in images])
    assert bench.index.newest(images).keys() == set(images)
    assert len(list(bench.index.iterate_images())) == 700


def test_deleting_before_a_generation_spares_it_and_the_other_images(bench: Bench) -> None:
    image, other = bench.image("a"), bench.image("b")
    old, new = fresh_generation(), fresh_generation()
    for one, generation in ((image, old), (image, new), (other, old)):
        bench.index.insert_regions([region_row(one, number, generation=generation) for number in range(2)])
        bench.index.insert_images([image_row(one, generation=generation)])
    bench.index.delete_before({image: new, other: old})
    left = {(row.image, row.generation) for row in bench.index.iterate_images(bucket=bench.bucket)}
    assert left == {(image, new), (other, old)}
    [hits] = bench.index.search(random_codes(1), limit=50)
    assert sorted((hit.image.key, hit.generation, hit.region) for hit in hits) == sorted(
        (one.key, generation, number) for one, generation in left for number in range(2)
    )


def test_regions_are_deleted_by_their_ids_and_nothing_else_is(bench: Bench) -> None:
    image, other = bench.image("a"), bench.image("b")
    old, new = fresh_generation(), fresh_generation()
    kept = [region_row(one, number, generation=old) for one in (image, other) for number in range(2)]
    refused = [region_row(image, number, generation=new) for number in range(3)]
    bench.index.insert_regions([*kept, *refused])
    bench.index.insert_images([image_row(one, generation=old) for one in (image, other)])
    for _ in range(2):  # an id that has no row does no harm
        bench.index.delete_regions([row.id for row in refused])
        assert sorted(row.id for row in bench.index.iterate_regions(bucket=bench.bucket)) == sorted(
            row.id for row in kept
        )
    bench.index.delete_regions([])
    assert bench.index.newest([image, other]).keys() == {image, other}
    assert bench.index.counts() == IndexCounts(images=2, empty=0, failed=0, regions=4)
    bench.index.insert_regions(refused)
    assert bench.index.regions([row.id for row in refused]).keys() == {row.id for row in refused}
    assert bench.index.codes_of([row.id for row in refused]).keys() == {row.id for row in refused}
    bench.index.delete_regions([row.id for row in refused])
    assert bench.index.codes_of([row.id for row in refused]) == {}


def test_deleting_images_removes_all_their_rows_and_may_be_repeated(bench: Bench) -> None:
    commit(bench, "gone.jpg")
    kept, _ = commit(bench, "kept.jpg", regions=2)
    bench.index.insert_regions([region_row(bench.image("gone.jpg"), 9, generation=fresh_generation())])  # garbage
    for _ in range(2):
        bench.index.delete_images([bench.image("gone.jpg"), bench.image("never.jpg")])
        assert [row.image for row in bench.index.iterate_images(bucket=bench.bucket)] == [kept.image]
        assert bench.index.counts() == IndexCounts(images=1, empty=0, failed=0, regions=2)
    bench.index.delete_images([])
    bench.index.delete_before({})
    assert bench.index.counts().images == 1


def test_counts_by_outcome(bench: Bench) -> None:
    generation, zeros = fresh_generation(), bytes(BITS // 8)
    outcomes = [Outcome.INDEXED] * 3 + [Outcome.EMPTY] * 2 + [Outcome.FAILED]
    bench.index.insert_images(
        [
            image_row(bench.image(str(number)), generation=generation, outcome=outcome, code=zeros)
            for number, outcome in enumerate(outcomes)
        ]
    )
    assert bench.index.counts() == IndexCounts(images=3, empty=2, failed=1, regions=0)


def test_searching_images_finds_empty_ones_and_no_failed_ones(bench: Bench) -> None:
    generation, zeros = fresh_generation(), bytes(BITS // 8)
    near = image_row(bench.image("near"), generation=generation, code=b"\x01" + zeros[1:])
    far = image_row(bench.image("far"), generation=generation, code=b"\xff" * (BITS // 8))
    empty = image_row(bench.image("empty"), generation=generation, code=b"\x03" + zeros[1:], outcome=Outcome.EMPTY)
    failed = image_row(bench.image("failed"), generation=generation, code=zeros, outcome=Outcome.FAILED)
    bench.index.insert_images([far, empty, failed, near])
    [hits] = bench.index.search_images(np.zeros((1, BITS // 8), dtype=np.uint8), limit=10)
    assert [(hit.image.key, hit.distance_bits) for hit in hits] == [("near", 1), ("empty", 2), ("far", BITS)]
    states = {one.image.key: one.is_findable for one in bench.index.iterate_states(bucket=bench.bucket)}
    assert states == {"far": True, "empty": True, "failed": False, "near": True}
    [hits] = bench.index.search_images(
        np.zeros((1, BITS // 8), dtype=np.uint8), limit=10, filter=Filter(key_prefix="f", bucket=bench.bucket)
    )
    assert [hit.image.key for hit in hits] == ["far"]


def test_each_part_of_a_filter_restricts(bench: Bench) -> None:
    generation = fresh_generation()
    rows = [
        region_row(bench.image("cats/1.jpg"), 0, generation=generation, metadata={"n": 1, "s": "x", "b": True}),
        region_row(bench.image("cats/2.jpg"), 1, generation=generation, metadata={"n": 2.5, "b": False}),
        region_row(bench.image("dogs/1.jpg"), 2, generation=generation, box_xyxy=(0.0, 0.0, 32.0, 32.0)),
        region_row(bench.image("dogs/2.jpg", bucket="elsewhere"), 3, generation=generation, box_xyxy=(0, 0, 96.5, 96)),
    ]
    bench.index.insert_regions(rows)

    def found(filter: Filter) -> list[int]:
        [hits] = bench.index.search(random_codes(1), limit=10, filter=filter)
        return sorted(hit.region for hit in hits)

    assert found(Filter()) == [0, 1, 2, 3]
    assert found(Filter(bucket=bench.bucket)) == [0, 1, 2]
    assert found(Filter(bucket="elsewhere", key_prefix="dogs/")) == [3]
    assert found(Filter(key_prefix="cats/")) == [0, 1]
    assert found(Filter(exclude=(rows[0].image, rows[3].image))) == [1, 2]
    assert found(Filter(area_px=(901, 902))) == [1, 2]
    assert found(Filter(area_px=(None, 901))) == [0, 1]
    assert found(Filter(indexed_at_ms=(1_760_000_000_003, None))) == [3]
    assert found(Filter(size_class=SizeClass.SMALL)) == [2]
    assert found(Filter(size_class=SizeClass.MEDIUM)) == [0, 1]
    assert found(Filter(size_class=SizeClass.LARGE)) == [3]
    assert found(Filter(metadata={"n": 1})) == [0]
    assert found(Filter(metadata={"n": 1.0, "s": "x", "b": True})) == [0]
    assert found(Filter(metadata={"n": True})) == []
    assert found(Filter(metadata={"b": False})) == [1]
    assert found(Filter(metadata={"n": 2.5})) == [1]
    assert found(Filter(metadata={"missing": 1})) == []


@pytest.mark.parametrize("key", ["a.jpg", "line\nbreak", "nul\0", 'quote"\\', "%", "é\u0308"])
def test_the_rows_of_exactly_these_images(bench: Bench, key: str) -> None:
    """More rows than a search returns share all of the key but its last letters, and all are nearer to the query."""
    row, [region] = commit(bench, key=key, regions=1)
    other = ImageRef(bench.bucket, f"{key}-longer")
    bench.used.add(other)
    far = np.frombuffer(bytes(255 - byte for byte in region.code), dtype=np.uint8)[None]
    generation = fresh_generation()
    bench.index.insert_regions([region_row(other, n, generation=generation, code=far.tobytes()) for n in range(9)])
    prefix = Filter(bucket=bench.bucket, key_prefix=key[:1].strip("\n\0"))
    assert {hit.image for hit in bench.index.search(far, limit=9, filter=prefix)[0]} == {other}, "proves nothing"
    wanted = Filter(images=(row.image,))
    assert [hit.image for hit in bench.index.search(far, limit=9, filter=wanted)[0]] == [row.image]
    assert [hit.image for hit in bench.index.search_images(far, limit=9, filter=wanted)[0]] == [row.image]
    both = Filter(images=(row.image, other, ImageRef(bench.bucket, "never")))
    assert [hit.image for hit in bench.index.search(far, limit=99, filter=both)[0]] == [other] * 9 + [row.image]
    assert bench.index.search(far, limit=9, filter=Filter(images=(row.image,), exclude=(row.image,))) == [[]]


def test_a_long_list_of_exclusions(bench: Bench) -> None:
    row, [region] = commit(bench, regions=1)
    others = tuple(ImageRef(bench.bucket, f"other-{number}") for number in range(20_000))
    [[match]] = bench.index.search(query(region), limit=3, filter=Filter(exclude=others))
    assert match.image == row.image
    assert bench.index.search(query(region), limit=3, filter=Filter(exclude=(*others, row.image))) == [[]]


@pytest.mark.parametrize(
    "filter",
    [
        Filter(key_prefix="line\nbreak"),
        Filter(bucket="nul\0"),
        Filter(metadata={"": 1}),
        Filter(metadata={"a\nb": 1}),
        Filter(metadata={"a": float("nan")}),
        Filter(metadata={"a": 2**63}),
        Filter(metadata={"a": "line\nbreak"}),
        Filter(bucket="\ud800"),
        Filter(key_prefix="\udfff"),
        Filter(within=(("b", "line\nbreak"),)),
        Filter(within=(("nul\0", ""),)),
        Filter(area_px=(5, 4)),
        Filter(indexed_at_ms=(0, 2**63)),
        Filter(area_px=(-1, None)),
    ],
)
def test_filters_that_no_index_could_answer(bench: Bench, filter: Filter) -> None:
    with pytest.raises(FilterError):
        bench.index.search(random_codes(1), limit=3, filter=filter)


@pytest.mark.parametrize(
    "filter",
    [
        Filter(exclude=("a name",)),  # type: ignore[arg-type]
        Filter(exclude=None),  # type: ignore[arg-type]
        Filter(images=("a name",)),  # type: ignore[arg-type]
        Filter(metadata=None),  # type: ignore[arg-type]
        Filter(area_px=(1,)),  # type: ignore[arg-type]
        Filter(indexed_at_ms=5),  # type: ignore[arg-type]
        Filter(indexed_at_ms=(1.5, None)),  # type: ignore[arg-type]
        Filter(area_px=(None, True)),
        Filter(bucket=5),  # type: ignore[arg-type]
        Filter(within=("ab",)),  # type: ignore[arg-type]
        Filter(within=(("b", 5),)),  # type: ignore[arg-type]
        Filter(metadata={"a": None}),  # type: ignore[dict-item]
        Filter(expression=5),  # type: ignore[arg-type]
        {"bucket": "b"},
    ],
)
def test_values_that_are_no_filters(bench: Bench, filter: Any) -> None:
    with pytest.raises(FilterError):
        bench.index.search(random_codes(1), limit=3, filter=filter)


def test_a_size_class_may_be_named() -> None:
    assert Filter(size_class="small") == Filter(size_class=SizeClass.SMALL)  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="small, medium, large, got 'tiny'"):
        Filter(size_class="tiny")  # type: ignore[arg-type]


@pytest.mark.parametrize("filter", [Filter(area_px=(1, None)), Filter(size_class=SizeClass.SMALL)])
def test_filters_for_regions_are_refused_for_images(bench: Bench, filter: Filter) -> None:
    with pytest.raises(FilterError, match="regions"):
        bench.index.search_images(random_codes(1), limit=3, filter=filter)


def test_iterating_by_bucket_and_prefix(bench: Bench) -> None:
    generation = fresh_generation()
    keys = ["a/1", "a/2", "a%", "ab", "b", "a\n1", "a\n2", "a\t"]
    bench.index.insert_images([image_row(bench.image(key), generation=generation) for key in keys])
    bench.index.insert_images([image_row(bench.image("a/1", bucket="elsewhere"), generation=generation)])
    for prefix in ["", "a/", "a%", "a\n1"]:
        found = sorted(row.image.key for row in bench.index.iterate_images(bucket=bench.bucket, key_prefix=prefix))
        assert found == sorted(key for key in keys if key.startswith(prefix)), prefix
    assert len(list(bench.index.iterate_images(key_prefix="a/1"))) == 2
    assert list(bench.index.iterate_images(bucket="line\nbreak")) == []


def test_regions_are_streamed_whole_with_their_garbage(bench: Bench) -> None:
    committed, rows = commit(bench, "a/1.jpg")
    stale = region_row(bench.image("a/1.jpg"), 9, generation=committed.generation - 1, metadata={"n": 2.5, "s": "ä"})
    others = [region_row(bench.image(key), generation=committed.generation) for key in ("a%", "b", "a\n1")]
    elsewhere = region_row(bench.image("a/1.jpg", bucket="elsewhere"), generation=committed.generation)
    bench.index.insert_regions([stale, *others, elsewhere])
    mine = [*rows, stale, *others]
    for prefix in ["", "a/", "a%", "a\n1"]:
        found = bench.index.iterate_regions(bucket=bench.bucket, key_prefix=prefix)
        expected = [row for row in mine if row.image.key.startswith(prefix)]
        assert sorted(found, key=lambda row: row.id) == sorted(expected, key=lambda row: row.id), prefix
    assert len(list(bench.index.iterate_regions(key_prefix="a/1"))) == 5
    assert list(bench.index.iterate_regions(bucket="line\nbreak")) == []


def test_an_iteration_that_is_left_early_does_no_harm(bench: Bench) -> None:
    for number in range(3):
        commit(bench, f"{number}.jpg", regions=1)
    assert next(iter(bench.index.iterate_images())).image in bench.used
    assert bench.index.counts().images == 3


def test_many_threads_at_once(bench: Bench) -> None:
    def work(number: int) -> int:
        row, [region] = commit(bench, f"{number}.jpg", regions=1)
        assert bench.index.newest([row.image]) == {row.image: row}
        [[match]] = bench.index.search(query(region), limit=1)
        return match.distance_bits

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [0] * 24
    assert bench.index.counts() == IndexCounts(images=24, empty=0, failed=0, regions=24)


def test_another_store_sees_at_once_what_was_committed(bench: Bench, open_store: StoreOpener) -> None:
    with open_store() as other:
        index = other.open(bench.index.manifest.fingerprint)
        for key in "abc":
            row, _ = commit(bench, key)
            assert index.newest([row.image]) == {row.image: row}
            index.delete_images([row.image])
            assert not bench.index.newest([row.image])


def test_an_index_knows_itself(bench: Bench) -> None:
    regions, images = bench.index.collections
    assert regions != images
    assert bench.index.exact
    assert bench.index.manifest.bits == BITS
    assert pickle.loads(pickle.dumps(bench.index.manifest)) == bench.index.manifest  # noqa: S301 - our own bytes
