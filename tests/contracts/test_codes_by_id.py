"""Codes by row ids, with which a search's nearest are rescored; and a rescored search on every index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from contracts.conftest import Bench
from contracts.index_rows import fresh_generation, image_row, random_codes, region_row

from searchanything.core.codes import pack_signs
from searchanything.core.rows import row_id
from searchanything.core.types import Filter
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import PageRequest, search_regions


def test_codes_by_row_ids(bench: Bench) -> None:
    image, generation = bench.image(), fresh_generation()
    rows = [region_row(image, number, generation=generation) for number in range(40)]
    whole = image_row(image, generation=generation, regions=40)
    bench.index.insert_regions(rows)
    bench.index.insert_images([whole])
    absent = row_id(image, generation, 40)
    wanted = [rows[7].id, absent, rows[0].id, rows[7].id]
    assert bench.index.codes_of(wanted) == {rows[7].id: rows[7].code, rows[0].id: rows[0].code}
    assert bench.index.codes_of([whole.id, rows[0].id], of="images") == {whole.id: whole.code}
    assert bench.index.codes_of([]) == {}


def test_a_rescored_search_is_the_same_on_every_index(bench: Bench) -> None:
    projection = np.random.default_rng(5).normal(size=256).astype(np.float32)
    code = pack_signs(projection[None])[0]
    flips = random_codes(30, seed=9) & random_codes(30, seed=10) & random_codes(30, seed=11)
    image, other, generation = bench.image("a.jpg"), bench.image("b.jpg"), fresh_generation()
    rows = []
    for number, flip in enumerate(flips):
        row = region_row(image if number % 3 else other, number, generation=generation)
        rows.append(replace(row, code=(code ^ flip).tobytes()))
    bench.index.insert_regions(rows)
    bench.index.insert_images([image_row(one, generation=generation) for one in (image, other)])
    signs = np.unpackbits(np.array([list(row.code) for row in rows], dtype=np.uint8), axis=1) * 2.0 - 1.0
    distances = [int(np.unpackbits(flip).sum()) for flip in flips]
    near = sorted(range(30), key=lambda number: (distances[number], rows[number].image, number))
    window = sorted(near[:12], key=lambda number: -float(signs[number] @ projection))
    request = PageRequest(limit=20, rescore=12)
    only = Filter(bucket=bench.bucket)
    page = search_regions(bench.index, QueryValues(code, projection), request, filter=only)
    assert [hit.region for hit in page.hits] == [*window, *near[12:20]]
    assert [hit.distance_bits for hit in page.hits] == [distances[hit.region or 0] for hit in page.hits]
    assert window != near[:12]
