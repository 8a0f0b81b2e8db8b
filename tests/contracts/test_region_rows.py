"""Region rows by their ids, with which a stored region is a question."""

from __future__ import annotations

from contracts.conftest import Bench
from contracts.index_rows import fresh_generation, image_row, region_row

from searchanything.core.rows import row_id


def test_rows_by_their_ids(bench: Bench) -> None:
    image, other, generation = bench.image("a.jpg"), bench.image("a.jpg.more"), fresh_generation()
    rows = [region_row(image, number, generation=generation) for number in range(300)]
    bench.index.insert_regions([*rows, region_row(other, 0, generation=generation)])
    bench.index.insert_images([image_row(image, generation=generation, regions=300)])
    assert bench.index.regions([row.id for row in rows]) == {row.id: row for row in rows}
    assert bench.index.regions([rows[7].id, rows[7].id, row_id(image, generation, 300)]) == {rows[7].id: rows[7]}
    assert bench.index.regions([]) == {}
