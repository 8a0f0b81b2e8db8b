"""Codes alone, of all rows or of a share of them, with which distances are calibrated and duplicates are found."""

from __future__ import annotations

import pytest
from contracts.conftest import Bench
from contracts.index_rows import fresh_generation, image_row, region_row

from searchanything.core.rows import Outcome, StoredCode, least_ids, row_id


def test_every_row_s_code(bench: Bench) -> None:
    generation = fresh_generation()
    images = [bench.image(key) for key in ("a.jpg", "b/c.jpg", "b/d.jpg")]
    regions = [region_row(image, number, generation=generation) for image in images for number in range(120)]
    failed = image_row(images[1], generation=generation, outcome=Outcome.FAILED, code=bytes(32))
    empty = image_row(images[2], generation=generation, outcome=Outcome.EMPTY)
    rows = [image_row(images[0], generation=generation), failed, empty]
    bench.index.insert_regions(regions)
    bench.index.insert_images(rows)
    wanted = {StoredCode(row.image, row.generation, row.region, row.code) for row in regions}
    assert set(bench.index.iterate_codes(bucket=bench.bucket)) == wanted
    under = {one for one in wanted if one.image.key.startswith("b/")}
    assert set(bench.index.iterate_codes(bucket=bench.bucket, key_prefix="b/")) == under
    of_images = {StoredCode(row.image, row.generation, None, row.code) for row in (rows[0], empty)}
    assert set(bench.index.iterate_codes(of="images", bucket=bench.bucket)) == of_images

    few = set(bench.index.iterate_codes(bucket=bench.bucket, share=0.25))
    bound = least_ids(0.25)
    assert few == {one for one in wanted if row_id(one.image, one.generation, one.region) < str(bound)}
    assert 50 < len(few) < 130


def test_a_share_is_above_nothing() -> None:
    assert least_ids(1.0) is None
    assert least_ids(0.5) == "8" + "0" * 11
    with pytest.raises(ValueError, match="above 0"):
        least_ids(0.0)
