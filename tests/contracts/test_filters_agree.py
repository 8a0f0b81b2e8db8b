"""A filter means the same to Milvus as it does in Python, whatever is in keys, buckets and metadata."""

from __future__ import annotations

import operator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from contracts.conftest import Bench
from contracts.expressions import expressions, soups
from contracts.index_rows import BITS, fresh_generation, image_row, manifest_of, region_row
from hypothesis import example, given, settings
from hypothesis import strategies as st

from searchanything.core.conditions import Value, Where
from searchanything.core.errors import FilterError
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import RegionRow
from searchanything.core.types import Filter, ImageRef, Metadata, SizeClass
from searchanything.stores.memory import MemoryRegionIndex

# Few letters, so that texts coincide and begin alike; each means something to some parser.
LETTERS = [*"aab%_\\\"'()[]{}$*?/~. ", "é", "\ud7ff", "\ue000", "\uffff", "\U0010ffff", "\x7f", "\x80"]
NAMES = ["a", "b", 'a"', "a\\", "a/b", "a~0", "a~1", "a.b", "é", "a b", "]", '"]', "0", "$"]
NUMBERS = [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, 1.0, 0.1, -2.5, 1e300, 5e-324, True, False]
BUCKETS = ["b", 'b"', "b\\", "é", "b)"]
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ZERO = np.zeros((1, BITS // 8), dtype=np.uint8)


def dataset(bench: Bench, count: int = 150) -> list[RegionRow]:
    """Rows that are the same in every run."""
    random, generation = Random(7), fresh_generation()  # noqa: S311 - not a secret

    def text() -> str:
        return "".join(random.choices(LETTERS, k=random.randrange(5)))

    rows = []
    for number in range(count):
        image = bench.image(text(), bucket=random.choice(BUCKETS))
        side = random.choice([10.0, 32.0, 32.5, 96.0, 97.0])
        names = random.sample(NAMES, random.randrange(4))
        row = region_row(
            image,
            number,
            generation=generation,
            box_xyxy=(0.0, 0.0, side, side),
            area_px=random.randrange(6),
            indexed_at_ms=random.randrange(6),
            metadata={name: random.choice([text(), *random.sample(NUMBERS, 2)]) for name in names},
        )
        rows.append(row)
    return rows


def ranges() -> st.SearchStrategy[tuple[int | None, int | None]]:
    end = st.none() | st.integers(0, 5)
    return st.tuples(end, end).filter(lambda pair: None in pair or pair[0] <= pair[1])


def filters(rows: list[RegionRow]) -> st.SearchStrategy[Filter]:
    """Filters that often hit: texts and values are taken from the rows as often as not."""
    texts = st.text(st.sampled_from(LETTERS), max_size=4)
    values = texts | st.sampled_from(NUMBERS)
    stored = [{name: value} for row in rows for name, value in row.metadata.items()]
    return st.builds(
        Filter,
        bucket=st.none() | st.sampled_from(BUCKETS) | texts,
        key_prefix=st.none() | st.sampled_from([row.image.key[:2] for row in rows]) | texts,
        exclude=st.lists(st.sampled_from([row.image for row in rows]), max_size=4).map(tuple),
        area_px=st.just((None, None)) | ranges(),
        size_class=st.none() | st.sampled_from(SizeClass),
        metadata=st.just({}) | st.sampled_from(stored) | st.dictionaries(st.sampled_from(NAMES), values, max_size=2),
        indexed_at_ms=st.just((None, None)) | ranges(),
    )


def conditions(rows: list[RegionRow]) -> st.SearchStrategy[Where]:
    """Conditions of every comparison, on values that the rows have as often as not."""
    held = [value for row in rows for value in row.metadata.values() if isinstance(value, str)]
    texts = st.sampled_from(held) | st.text(st.sampled_from(LETTERS), max_size=4)
    names, numbers = st.sampled_from(NAMES), st.sampled_from([one for one in NUMBERS if not isinstance(one, bool)])
    pairs = st.tuples(numbers, numbers) | st.tuples(texts, texts)
    values = st.sampled_from(NUMBERS) | texts
    return st.one_of(
        st.builds(Where, names, st.sampled_from(["==", "!="]), values),
        st.builds(Where, names, st.sampled_from(["<", "<=", ">", ">="]), numbers | texts),
        st.builds(Where, names, st.just("begins with"), texts),
        st.builds(Where, names, st.sampled_from(["in", "not in"]), st.lists(values, min_size=1, max_size=4)),
        st.builds(Where, names, st.just("between"), pairs.map(sorted)),
    )


def kind(value: Value) -> type:
    return type(value) if isinstance(value, bool | str) else float


def holds(condition: Where, metadata: Metadata) -> bool:
    """What docs/filters.md says of a condition, without the predicates that both indexes evaluate."""
    held = [metadata[condition.name]] if condition.name in metadata else []
    values = condition.values
    same = any(kind(one) is kind(value) and one == value for one in held for value in values)
    alike: list[Any] = [one for one in held if {kind(one)} == set(map(kind, values)) != {bool}]
    match condition.comparison:
        case "==" | "in":
            return same
        case "!=" | "not in":
            return not same
        case "between":
            return any(values[0] <= one <= values[1] for one in alike)
        case "begins with":
            return any(one.startswith(values[0]) for one in alike)
        case comparison:
            return any(ORDERS[comparison](one, values[0]) for one in alike)


Described = tuple[Bench, MemoryRegionIndex, list[RegionRow]]


@pytest.fixture
def described(bench: Bench) -> Described:
    """The same rows in the index under test and in the exact one."""
    rows = dataset(bench)
    truth = MemoryRegionIndex(manifest_of("f" * 64))
    for index in (truth, bench.index):
        index.insert_regions(rows)
    return bench, truth, rows


def regions_found(described: Described, wanted: Filter) -> set[int]:
    """The regions that both indexes find, which must be the same."""
    bench, truth, _ = described
    expected, actual = (index.search(ZERO, limit=200, filter=wanted)[0] for index in (truth, bench.index))
    assert {hit.region for hit in actual} == {hit.region for hit in expected}, wanted
    return {hit.region for hit in expected}


def test_milvus_and_python_agree_on_every_filter(described: Described) -> None:
    bench, truth, rows = described
    for index in (truth, bench.index):
        images = {row.image: image_row(row.image, generation=row.generation, metadata=row.metadata) for row in rows}
        index.insert_images(list(images.values()))
    found: list[int] = []

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(wanted=filters(rows))
    def agree(wanted: Filter) -> None:
        expected = regions_found(described, wanted)
        whole = replace(wanted, area_px=(None, None), size_class=None, indexed_at_ms=(None, None))
        images, actual_images = (
            index.search_images(ZERO, limit=200, filter=whole)[0] for index in (truth, bench.index)
        )
        assert {hit.image for hit in actual_images} == {hit.image for hit in images}
        found.append(len(expected))

    agree()
    # What is drawn differs from run to run: 24 of 100 were seen to.
    assert sum(1 for count in found if count) > 15, "the filters hit too seldom to prove anything"


def test_places_mean_the_same(described: Described) -> None:
    rows = described[2]
    texts = st.text(st.sampled_from(LETTERS), max_size=2)
    own = st.sampled_from([(row.image.bucket, row.image.key[:1]) for row in rows])
    places = st.lists(own | st.tuples(st.sampled_from(BUCKETS) | texts, texts), min_size=1, max_size=4).map(tuple)
    found: list[int] = []

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(within=places, bucket=st.none() | st.sampled_from(BUCKETS))
    def agree(within: tuple[tuple[str, str], ...], bucket: str | None) -> None:
        wanted = Filter(within=within, bucket=bucket)
        expected = regions_found(described, wanted)
        by_hand = {
            row.region
            for row in rows
            if bucket in (None, row.image.bucket)
            and any(row.image.bucket == one and row.image.key.startswith(prefix) for one, prefix in within)
        }
        assert expected == by_hand
        found.append(len(expected))

    agree()
    assert sum(1 for count in found if count) > 20, "the places hit too seldom to prove anything"


def test_every_condition_means_the_same(described: Described) -> None:
    rows = described[2]
    found: list[int] = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(wanted=st.lists(conditions(rows), min_size=1, max_size=2))
    def agree(wanted: list[Where]) -> None:
        expected = regions_found(described, Filter(where=tuple(wanted)))
        assert expected == {row.region for row in rows if all(holds(one, row.metadata) for one in wanted)}, wanted
        found.append(len(expected))

    agree()
    assert sum(1 for count in found if count) > 50, "the conditions hit too seldom to prove anything"


def test_numbers_of_metadata_mean_the_same(described: Described) -> None:
    for wanted in (Filter(metadata={name: value}) for name in ("a", "b", "a/b") for value in NUMBERS):
        regions_found(described, wanted)


@pytest.mark.parametrize("text", ['") or (region >= 0', "\\", '"', "%", "_", "') or true or ('", 'a\\" or 1'])
def test_texts_stay_texts(bench: Bench, text: str) -> None:
    bench.index.insert_regions([region_row(bench.image("plain"), generation=fresh_generation())])
    for wanted in (
        Filter(bucket=text),
        Filter(within=((text, ""), (bench.bucket, f"p{text}"))),
        Filter(key_prefix=text),
        Filter(metadata={"a": text}),
        Filter(metadata={text: 1}),
    ):
        assert bench.index.search(ZERO, limit=9, filter=wanted) == [[]]


def texts_of(rows: list[RegionRow]) -> list[str]:
    values = [value for row in rows for value in row.metadata.values() if isinstance(value, str)]
    return sorted({"medium", "b", "a", "", *values, *(row.image.key for row in rows)})


def test_an_expression_means_the_same_everywhere(
    described: Described,
) -> None:
    bench, truth, rows = described
    found: list[int] = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(expression=expressions(texts_of(rows), ["a", "b", "a/b"]))
    def agree(expression: str) -> None:
        wanted = Filter(expression=expression)
        try:
            expected = truth.search(ZERO, limit=200, filter=wanted)[0]
        except FilterError:
            return  # a server may know it; Milvus Lite's parser is this one
        actual = bench.index.search(ZERO, limit=200, filter=wanted)[0]
        assert {hit.region for hit in actual} == {hit.region for hit in expected}
        found.append(len(expected))

    agree()
    assert sum(1 for count in found if 0 < count < len(rows)) > 25, "the expressions prove too little"


def test_nothing_that_is_let_through_does_harm(described: Described, store: IndexStore) -> None:
    """The rows are there after every expression, of which most are refused; a server judges for itself."""
    bench, truth, rows = described
    if not store.uri.endswith(".db"):
        return  # a server is told what the user wrote; what ends it is refused by `check_expression`
    through: list[str] = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(expression=soups(texts_of(rows), ["a", "b"]))
    @example(expression="area_px % 0 == 1")
    @example(expression="1 in [1,2]")
    @example(expression='key like "a\\%"')
    def harmless(expression: str) -> None:
        expected, actual = (answer(index, expression) for index in (truth, bench.index))
        assert actual == expected
        if isinstance(expected, int):
            through.append(expression)

    server = server_of(store)
    harmless()
    assert len(through) > 25
    assert server_of(store) == server, "another server answers: the first one ended"


def answer(index: RegionIndex, expression: str) -> int | str:
    """How many rows there are, or the words of the refusal."""
    try:
        return len(index.search(ZERO, limit=200, filter=Filter(expression=expression))[0])
    except FilterError as refusal:
        return str(refusal)


def server_of(store: IndexStore) -> tuple[int, int] | None:
    """Which embedded server an index speaks to, by its socket; None in memory."""
    if store.uri.startswith("memory"):
        return None
    file = Path(store.uri)
    socket = Path((file.parent / f".{file.name}.host" / "address").read_text()).stat()
    return socket.st_ino, socket.st_ctime_ns


REFUSED = [
    "region ==", "no_such_field == 1", 'region == "text"', "region", '"', 'key == "', "region == 1)", "((region == 1)",
    "region == 1) or (region == 2", "key like 5", 'key like "a', "", " ", "region == 1\n", "region in [1", "]", "like",
]  # fmt: skip


def test_expressions(bench: Bench) -> None:
    generation = fresh_generation()
    rows = [region_row(bench.image(f"{number}"), number, generation=generation) for number in range(4)]
    bench.index.insert_regions(rows)
    for expression, expected in [("region == 1 or region == 2", [1, 2]), ('key like "3%" or key == "("', [3])]:
        [hits] = bench.index.search(ZERO, limit=9, filter=Filter(expression=expression))
        assert sorted(hit.region for hit in hits) == expected
        [hits] = bench.index.search(
            ZERO, limit=9, filter=Filter(expression=expression, exclude=(ImageRef("b", "k"),), area_px=(902, 903))
        )
        assert sorted(hit.region for hit in hits) == [number for number in expected if number >= 2]
    for expression in REFUSED:
        with pytest.raises(FilterError):
            bench.index.search(ZERO, limit=9, filter=Filter(expression=expression))
    assert len(bench.index.search(ZERO, limit=9)[0]) == 4, "a refused expression did harm"


@pytest.mark.parametrize("count", [20, 60, 512])
def test_long_chains_of_comparisons(bench: Bench, count: int) -> None:
    """A server's segments read about 45 in a row."""
    generation = fresh_generation()
    for number in (3, 5, 900):
        image = bench.image(f"{number}.jpg")
        metadata = {"n": number, "text": "this or that and || more"}
        bench.index.insert_regions([region_row(image, generation=generation, area_px=number, metadata=metadata)])
        bench.index.insert_images([image_row(image, generation=generation, metadata=metadata)])

    def found(expression: str, *, of_images: bool = False) -> list[str]:
        search = bench.index.search_images if of_images else bench.index.search
        [hits] = search(ZERO, limit=10, filter=Filter(bucket=bench.bucket, expression=expression))
        return sorted(hit.image.key for hit in hits)

    few = [f'metadata["n"] == {number}' for number in range(count)]
    assert found(" or ".join(few)) == ["3.jpg", "5.jpg"]
    assert found(" || ".join(few), of_images=True) == ["3.jpg", "5.jpg"]
    assert found(" and ".join(f"area_px != {number}" for number in range(4, count + 4))) == ["3.jpg", "900.jpg"]
    assert found(" or ".join(f'metadata["text"] == "{" or " * number}"' for number in range(min(count, 60)))) == []
