"""Hits as a table of pandas, which is imported when one is made: the light client has no other library."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from searchanything.core.errors import UsageError
from searchanything.core.extras import install_command
from searchanything.core.types import Hit

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS: Final = (
    *("bucket", "key", "region", "distance_bits", "score", "similarity", "false_match"),
    *("area_px", "x1", "y1", "x2", "y2"),
    *("image_width", "image_height", "etag", "metadata"),
)


def hits_table(hits: Iterable[Hit]) -> DataFrame:
    """One row per hit, boxes in four columns, metadata as a JSON object, as its values are of any type.

    Raises: UsageError where pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError(f"to_pandas needs pandas: {install_command('pandas')}") from error
    found = pd.DataFrame([_row(hit) for hit in hits], columns=list(COLUMNS))
    return found.astype({"region": "Int64", "similarity": "float64", "false_match": "float64"})


def _row(hit: Hit) -> tuple[Any, ...]:
    return (
        *(hit.image.bucket, hit.image.key, hit.region, hit.distance_bits, hit.score),
        *(hit.similarity, hit.false_match, hit.area_px, *hit.box_xyxy),
        *(hit.image_width, hit.image_height, hit.etag, json.dumps(dict(hit.metadata), ensure_ascii=False)),
    )
