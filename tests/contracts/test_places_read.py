"""What lies in a place, read, counted and deleted: the same by every index, whatever letters its name has."""

from __future__ import annotations

from random import Random

import pytest
from contracts.conftest import Bench
from contracts.index_rows import fresh_generation, image_row, region_row
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.types import ImageRef

# Few, so that names begin alike; each means something to some parser, or is another form of its neighbour.
LETTERS = [
    *"aA%_\\\"'()[]*/. ",
    "\n",
    "\t",
    "\x01",
    "\x7f",
    "\x85",
    "é",
    "e",
    "\u0301",
    "\u212b",
    "å",
    "\u202e",
    "\uffff",
    "🖼",
]
NAMES = st.text(st.sampled_from(LETTERS), max_size=3)


@pytest.fixture
def images(bench: Bench) -> list[ImageRef]:
    """Images of two buckets, the same in every run but for the buckets' own beginning; one region each."""
    random, generation = Random(5), fresh_generation()  # noqa: S311 - not a secret
    names = {"".join(random.choices(LETTERS, k=random.randrange(1, 5))) for _ in range(80)}
    buckets = (bench.bucket, f'{bench.bucket}"\\%_\n')
    found = [bench.image(name, bucket=bucket) for bucket in buckets for name in sorted(names)]
    bench.index.insert_regions([region_row(image, generation=generation) for image in found])
    bench.index.insert_images([image_row(image, generation=generation, regions=1) for image in found])
    return found


def test_a_place_is_read_and_counted_as_its_names_say(bench: Bench, images: list[ImageRef]) -> None:
    index, sizes = bench.index, []
    starts = st.sampled_from(sorted({image.key[:length] for image in images for length in (1, 2, 3)}))
    buckets = sorted({image.bucket for image in images})

    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(bucket=st.sampled_from([*buckets, f"{buckets[0]}%"]), key_prefix=starts | starts | NAMES)
    def agree(bucket: str, key_prefix: str) -> None:
        expected = sorted(one for one in images if one.bucket == bucket and one.key.startswith(key_prefix))
        place = {"bucket": bucket, "key_prefix": key_prefix}
        assert sorted(row.image for row in index.iterate_images(**place)) == expected
        assert sorted(state.image for state in index.iterate_states(**place)) == expected
        assert sorted(image for image, _ in index.iterate_attempts(**place)) == expected
        assert sorted(row.image for row in index.iterate_regions(**place)) == expected
        assert len(list(index.iterate_codes(**place))) == len(expected)
        counts = index.counts(**place)
        assert (counts.images, counts.regions, index.count_regions(**place)) == (len(expected),) * 3
        sizes.append(len(expected))

    agree()
    assert sum(1 for size in sizes if 0 < size < len(images) / 2) > 4, "the places hit too seldom to prove anything"


def test_of_names_alike_the_named_ones_alone_are_deleted(bench: Bench, images: list[ImageRef]) -> None:
    gone = images[::3]
    bench.index.delete_images(gone)
    left = sorted(set(images) - set(gone))
    assert sorted(bench.index.newest(images)) == left
    assert sorted(row.image for row in bench.index.regions_of(images)) == left
