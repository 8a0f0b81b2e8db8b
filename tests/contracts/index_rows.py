"""Rows for the tests of region indexes: plausible, distinct, and easy to predict."""

from __future__ import annotations

from typing import Any

import numpy as np

from searchanything.core.codes import next_generation
from searchanything.core.manifest import IndexManifest
from searchanything.core.rows import ImageRow, Outcome, RegionRow, row_id
from searchanything.core.types import ImageRef, MaskRLE
from searchanything.encode.fingerprint import SCHEMA_VERSION

BITS = 256
HASH_LAYER = bytes(range(256)) * 800  # several pieces of a Milvus row


def manifest_of(fingerprint: str, bits: int = BITS) -> IndexManifest:
    return IndexManifest(
        fingerprint=fingerprint,
        feature_fingerprint="a" * 64,
        preset="pico",
        bits=bits,
        hash_digest="d" * 64,
        hash_trained=True,
        schema_version=SCHEMA_VERSION,
        created_at_ms=1_760_000_000_000,
        details={"segmenter": {"input": 640}, "names": ["ä", 'quoted "text"'], "none": None},
    )


def random_codes(count: int, *, seed: int = 0, bits: int = BITS) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, bits // 8), dtype=np.uint8)


def region_row(image: ImageRef, region: int = 0, *, generation: int, **changes: Any) -> RegionRow:
    """A region of an image; without a `code`, one that is drawn from image and number."""
    if "code" not in changes:
        changes["code"] = random_codes(1, seed=abs(hash((image, region))) % 2**32)[0].tobytes()
    values: dict[str, Any] = {
        "etag": f"etag-{generation}",
        "box_xyxy": (1.5, 2.0, 41.25 + region, 60.0),
        "area_px": 900 + region,
        "mask": MaskRLE((120, 160), "0?Y300]1cN000000000000000h^a0"),
        "score": 0.75,
        "image_width": 640,
        "image_height": 480,
        "indexed_at_ms": 1_760_000_000_000 + region,
        "metadata": {},
    }
    values |= changes
    return RegionRow(id=row_id(image, generation, region), image=image, generation=generation, region=region, **values)


def image_row(image: ImageRef, *, generation: int, **changes: Any) -> ImageRow:
    """The commit of an image; without a `code`, one that is drawn from the image."""
    if "code" not in changes:
        changes["code"] = random_codes(1, seed=abs(hash(image)) % 2**32)[0].tobytes()
    values: dict[str, Any] = {
        "etag": f"etag-{generation}",
        "outcome": Outcome.INDEXED,
        "error": "",
        "message": "",
        "attempts": 1,
        "first_at_ms": 1_760_000_000_000,
        "last_at_ms": 1_760_000_000_500,
        "image_width": 640,
        "image_height": 480,
        "regions": 3,
        "metadata": {},
    }
    values |= changes
    return ImageRow(id=row_id(image, generation), image=image, generation=generation, **values)


def fresh_generation() -> int:
    return next_generation()
