"""Hits as a table of pandas, which is imported when one is made: the light client has no other library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from searchanything.core.errors import UsageError
from searchanything.core.extras import install_command
from searchanything.core.types import Hit

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS: Final = (
    *("bucket", "key", "region", "distance_bits", "score", "similarity", "area_px", "x1", "y1", "x2", "y2"),
    *("image_width", "image_height", "etag", "metadata"),
)


def hits_table(hits: Iterable[Hit]) -> DataFrame:
    """One row per hit, boxes in four columns. Raises: UsageError where pandas is not installed."""
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError(f"to_pandas needs pandas: {install_command('pandas')}") from error
    return pd.DataFrame([_row(hit) for hit in hits], columns=list(COLUMNS)).astype({"region": "Int64"})


def _row(hit: Hit) -> tuple[Any, ...]:
    return (
        *(hit.image.bucket, hit.image.key, hit.region, hit.distance_bits, hit.score),
        *(hit.similarity, hit.area_px, *hit.box_xyxy),
        *(hit.image_width, hit.image_height, hit.etag, dict(hit.metadata)),
    )
