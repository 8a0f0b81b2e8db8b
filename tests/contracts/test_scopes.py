"""A view of some places on every index: neither a name, a code nor a count of what lies elsewhere comes through."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from contracts.conftest import Bench
from contracts.index_rows import HASH_LAYER, fresh_generation, image_row, manifest_of, random_codes, region_row

from searchanything.answers.duplicates import find_duplicates
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import IndexStore
from searchanything.core.rows import RegionRow
from searchanything.core.types import Filter, ImageRef, Place, RegionRef, lies_in
from searchanything.search.by_words import search_words
from searchanything.search.calibration import draw_background
from searchanything.search.combination import Combination, Part, search_combined
from searchanything.search.probe import Probe
from searchanything.search.refine import region_rows, search_by_probe
from searchanything.search.rescoring import mean_of
from searchanything.search.scoped import ScopedIndex
from searchanything.search.search import PageRequest, search_regions
from searchanything.search.stored import stored_rows

BITS = 256
KEYS = ("a/1.jpg", "a/2.jpg", "ab/3.jpg", "b/4.jpg", "é/5 %_.jpg")
PREFIXES = (("a/",), ("a",), ("b/", "é/"), ("",), ("none/",))


@pytest.fixture(scope="module")
def made(store: IndexStore) -> Bench:
    fingerprint = uuid4().hex * 2
    store.create(manifest_of(fingerprint), HASH_LAYER)
    return Bench(store.add_words(fingerprint, b"layer", bits=BITS))


@pytest.fixture(scope="module")
def rows(made: Bench) -> list[RegionRow]:
    """Three equal regions of each of ten images, in two buckets with the same keys."""
    generation = fresh_generation()
    images = [ImageRef(bucket, key) for bucket in (made.bucket, f"{made.bucket}-other") for key in KEYS]
    codes = random_codes(3, seed=8)
    found = [
        replace(region_row(image, number, generation=generation), code=code.tobytes(), words_code=code.tobytes())
        for image in images
        for number, code in enumerate(codes)
    ]
    made.index.insert_regions(found)
    made.index.insert_images([image_row(image, generation=generation, regions=3) for image in images])
    return found


@pytest.fixture(params=PREFIXES, ids=str)
def places(request: pytest.FixtureRequest, made: Bench) -> tuple[Place, ...]:
    return tuple((made.bucket, prefix) for prefix in request.param)


def test_codes_are_those_of_the_places(made: Bench, rows: list[RegionRow], places: tuple[Place, ...]) -> None:
    view, ids = ScopedIndex(made.index, places), [row.id for row in rows]
    seen = {row.id: row.code for row in rows if lies_in(row.image, places)}
    assert view.codes_of(ids) == seen
    assert view.codes_of(ids, of="words") == seen
    whole = [image_row(row.image, generation=row.generation) for row in rows]
    assert view.codes_of([one.id for one in whole], of="images") == {
        one.id: one.code for one in whole if lies_in(one.image, places)
    }
    elsewhere = [(f"{made.bucket}-other", "")]
    assert view.codes_of(ids, within=elsewhere) == {}
    assert set(made.index.codes_of(ids, within=elsewhere)) == {
        row.id for row in rows if row.image.bucket != made.bucket
    }


def test_words_are_those_of_the_places(made: Bench, rows: list[RegionRow], places: tuple[Place, ...]) -> None:
    view, images = ScopedIndex(made.index, places), {row.image for row in rows}
    seen = {row.id for row in rows if lies_in(row.image, places)}
    code = np.frombuffer(rows[0].code, dtype=np.uint8)
    assert {one.id for one in view.search_words(code[None], limit=99)[0]} == seen
    assert {name for name, _ in view.words_of(images)} == seen
    assert view.count_words() == len(seen)
    page = search_words(view, mean_of(code[None]), PageRequest(limit=99, rescore=9), filter=None)
    assert {(hit.image, hit.region) for hit in page.hits} == {(r.image, r.region) for r in rows if r.id in seen}


def test_answers_are_of_the_places(made: Bench, rows: list[RegionRow], places: tuple[Place, ...]) -> None:
    view = ScopedIndex(made.index, places)
    seen = {row.image for row in rows if lies_in(row.image, places)}
    codes = np.stack([np.frombuffer(row.code, dtype=np.uint8) for row in rows[:3]])
    request = PageRequest(limit=99, rescore=9)
    page = search_regions(view, mean_of(codes[:1]), request, filter=None)
    assert {hit.image for hit in page.hits} == seen
    probe = Probe(codes[:1], codes[1:2], view.manifest.fingerprint)
    found = search_by_probe(view, probe, request, filter=Filter(key_prefix=""))
    assert {hit.image for hit in found.hits} == seen
    parts = tuple(Part(str(number), code, None) for number, code in enumerate(codes[:2]))
    combined = search_combined(view, Combination(all_of=parts), limit=99)
    assert {hit.image for hit in combined.hits} == seen
    assert combined.looked_at == len(seen)
    doubles = find_duplicates(
        view, whole_images=False, max_bits=0, bucket=None, key_prefix="", open_image=lambda _: codes
    )
    assert {one.ref.image for group in doubles.groups for one in group} == (seen if len(seen) > 1 else set())
    assert doubles.compared == 3 * len(seen)
    background = draw_background(view)
    assert (background.rows, len(background.codes)) == (3 * len(seen), 3 * len(seen))


def test_marks_elsewhere_are_not_there(made: Bench, rows: list[RegionRow], places: tuple[Place, ...]) -> None:
    view = ScopedIndex(made.index, places)
    for row in rows[::3]:
        refs = [RegionRef(row.image, row.region)]
        if lies_in(row.image, places):
            assert [one.code for one in region_rows(view, refs)] == [row.code]
            assert stored_rows(view, refs)[0] == replace(row, words_code=b"")
            continue
        with pytest.raises(ObjectNotFoundError):
            region_rows(view, refs)
        with pytest.raises(ObjectNotFoundError):
            stored_rows(view, [*refs, RegionRef(row.image)])
