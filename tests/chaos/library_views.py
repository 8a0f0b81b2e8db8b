"""Every way to look at an index says the same as a plain account of what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos.library_files import HEIGHT, NOISE_IMAGES, WIDTH, Entry

from searchanything.client.client import Client
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.geometry import decode_rle
from searchanything.core.rows import Outcome
from searchanything.core.types import Filter, Hit, ImageRef, RegionRef

if TYPE_CHECKING:
    from chaos.library import Library


def check_views(client: Client, library: Library) -> None:
    """Status, failures, regions, and questions with and without filters."""
    held, bucket = library.held, library.bucket
    of = {outcome: [key for key, one in held.items() if one.picture.outcome is outcome] for outcome in Outcome}
    regions = {(key, number) for key in of[Outcome.INDEXED] for number in range(len(held[key].picture.boxes))}
    assert [one.image.key for one in client.failures(library.files.folder)] == sorted(of[Outcome.FAILED])
    assert [one.key for one in client.empty_images(library.files.folder)] == sorted(of[Outcome.EMPTY])
    _check_status(client, library, {outcome: len(keys) for outcome, keys in of.items()}, len(regions))
    for key in held:
        _check_regions(client, ImageRef(bucket, key), held[key])
    whole = [key for key in held if held[key].picture.outcome is not Outcome.FAILED]
    if regions:
        asked = RegionRef(ImageRef(bucket, min(regions)[0]), 0)
        _check_hits(client, library, asked, {"": regions})
        _check_itself(client, asked)
        if library.is_clean and client.status().words is not None:
            said = client.query(text="red", limit=1000, filter=Filter(bucket=bucket)).hits
            assert {(hit.image.key, hit.region) for hit in said} == regions
    if whole:
        asked = RegionRef(ImageRef(bucket, min(whole)))
        _check_hits(client, library, asked, {"": {(key, None) for key in whole}})
        _check_itself(client, asked)
        key = sorted(whole)[library.steps % len(whole)]
        _check_codes(client, ImageRef(bucket, key), held[key])


def _check_status(client: Client, library: Library, images: dict[Outcome, int], regions: int) -> None:
    status, unlike = client.status(), len(client.images(bucket=str(library.unlike))[0])
    assert (status.images, status.regions) == (images[Outcome.INDEXED] + unlike, regions + 6 * unlike), status
    assert (status.empty, status.failed) == (images[Outcome.EMPTY], images[Outcome.FAILED]), status
    assert status.lost == 0, status
    assert unlike == NOISE_IMAGES or not library.is_whole
    assert status.garbage == 0 or not library.is_clean, status
    assert status.words is None or not library.is_clean or status.words_regions >= regions, status


def _check_regions(client: Client, image: ImageRef, entry: Entry) -> None:
    if entry.picture.outcome is Outcome.FAILED:
        with pytest.raises(ObjectNotFoundError):
            client.regions(image)
        return
    rows = client.regions(image)
    assert [row.region for row in rows] == list(range(len(entry.picture.boxes)))
    assert sorted(tuple(map(int, row.box_xyxy)) for row in rows) == entry.picture.boxes
    assert {row.etag for row in rows} <= {entry.picture.etag}
    assert all(dict(row.metadata) == entry.metadata for row in rows)
    assert {len(row.code) for row in rows} <= {client.manifest.bits // 8}


def _check_hits(
    client: Client, library: Library, asked: RegionRef, expected: dict[str, set[tuple[str, int | None]]]
) -> None:
    """All of it is found, once; and of each filter what it lets through."""
    [found] = expected.values()
    bucket, held = library.bucket, library.held
    filters = {
        "bucket": (Filter(bucket=bucket), lambda _: True),
        "prefix": (Filter(bucket=bucket, key_prefix="sub/"), lambda key: key.startswith("sub/")),
        "metadata": (Filter(bucket=bucket, metadata={"shelf": "a"}), lambda key: held[key].shelf == "a"),
        "where": (Filter(bucket=bucket, where="shelf != a"), lambda key: held[key].shelf != "a"),
        "images": (Filter(images=[asked.image]), lambda key: key == asked.image.key),
        "exclude": (Filter(bucket=bucket, exclude=[asked.image]), lambda key: key != asked.image.key),
    }
    for name in list(filters)[library.steps % 2 :: 2]:
        one, lets_through = filters[name]
        hits = client.query(asked, limit=1000, filter=one).hits
        got = [(hit.image.key, hit.region) for hit in hits]
        assert len(set(got)) == len(got), (name, got)
        assert set(got) == {(key, number) for key, number in found if lets_through(key)}, (name, got)
        for hit in hits:
            _check_hit(hit, held[hit.image.key])


def _check_hit(hit: Hit, entry: Entry) -> None:
    assert (hit.etag, dict(hit.metadata)) == (entry.picture.etag, entry.metadata)
    assert (hit.image_width, hit.image_height) == (WIDTH, HEIGHT)
    if hit.region is None:
        assert hit.mask is None
        return
    box = tuple(map(int, hit.box_xyxy))
    assert box in entry.picture.boxes
    assert hit.mask is not None
    mask = decode_rle(hit.mask)
    x1, y1, x2, y2 = box
    rows, columns = mask.nonzero()
    scale_y, scale_x = HEIGHT / mask.shape[0], WIDTH / mask.shape[1]
    assert len(rows)
    assert x1 - scale_x <= columns.min() * scale_x <= columns.max() * scale_x <= x2
    assert y1 - scale_y <= rows.min() * scale_y <= rows.max() * scale_y <= y2


def _check_itself(client: Client, asked: RegionRef) -> None:
    hits = client.query(asked, limit=20).hits
    assert hits[0].distance_bits == 0
    assert asked in [hit.ref for hit in hits if hit.distance_bits == 0]


def _check_codes(client: Client, image: ImageRef, entry: Entry) -> None:
    """They are those of the picture that the index says it has, by its models and hash layer."""
    only = Filter(images=[image])
    [hit] = client.query(entry.picture.data, filter=only).hits
    assert hit.distance_bits == 0
    for row in client.regions(image):
        left, top, right, bottom = row.box_xyxy
        inside = int(left + right) // 2, int(top + bottom) // 2
        found = client.query(entry.picture.data, inside, filter=only).hits
        assert (row.region, 0) in {(hit.region, hit.distance_bits) for hit in found}
