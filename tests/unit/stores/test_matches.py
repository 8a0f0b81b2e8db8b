"""What a hit and a state take over from rows: every field that they have in common, written out in the code."""

from __future__ import annotations

from dataclasses import fields

from contracts.index_rows import image_row, region_row

from searchanything.core.rows import ImageState, Outcome
from searchanything.core.types import Hit, ImageRef, IndexedRegion
from searchanything.stores.matches import image_hit, image_state

REF = ImageRef("bucket", "key")


def test_a_hit_is_its_row_and_a_distance() -> None:
    row = region_row(REF, 3, generation=7, code=bytes(32))
    hit = Hit.of(row, 12, similarity=0.5)
    assert {one.name: getattr(hit, one.name) for one in fields(IndexedRegion)} == {
        one.name: getattr(row, one.name) for one in fields(IndexedRegion)
    }
    assert (hit.distance_bits, hit.similarity, hit.false_match) == (12, 0.5, None)
    assert Hit.of(hit, 4) == Hit.of(row, 4)


def test_a_state_is_its_row_without_the_rest() -> None:
    row = image_row(REF, generation=7, outcome=Outcome.EMPTY, modified_at_ms=5, sidecar_etag="s", message="m")
    assert {one.name: getattr(image_state(row), one.name) for one in fields(ImageState)} == {
        one.name: getattr(row, one.name) for one in fields(ImageState)
    }


def test_a_whole_image_is_a_hit_without_region_and_mask() -> None:
    row = image_row(REF, generation=7)
    hit = image_hit(row, 5)
    assert (hit.image, hit.etag, hit.generation, hit.metadata) == (row.image, row.etag, 7, row.metadata)
    assert (hit.region, hit.mask, hit.distance_bits) == (None, None, 5)
    assert hit.box_xyxy == (0.0, 0.0, row.image_width, row.image_height)
    assert hit.area_px == row.image_width * row.image_height
