"""What lies in a file of kept features: the columns of `searchanything.features.parquet`, and whose rows they are.

The file's metadata lists its images (`searchanything_images`: [key, etag, generation, regions], …), so that what is
live can be told from the footer alone. Region ids are those of the index. Two more columns hold the whole image's
features in the row of region 0, and null in the others: as lists of any length, since pyarrow before 26 neither writes
nor reads nulls among lists of a fixed size.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from searchanything.core.closing import Closing
from searchanything.core.errors import StoreError
from searchanything.core.protocols import ImageFeatures, StoredFile
from searchanything.core.rows import row_id
from searchanything.core.types import FloatArray
from searchanything.features.layout import FeatureCache
from searchanything.features.parquet import (
    FINGERPRINT_KEY,
    FeatureBatch,
    feature_schema,
    parquet_libraries,
    record_batch,
)

WHOLE_MASK_COLUMN: Final = "whole_mask_features"
WHOLE_IMAGE_COLUMN: Final = "whole_image_features"
IMAGES_KEY: Final = b"searchanything_images"
BUCKET_KEY: Final = b"searchanything_bucket"
GROUP_ROWS: Final = 8192  # of a row group, at most
_HIGHEST = float(np.finfo(np.float16).max)
_GENERATIONS: Final = 2**63


@dataclass(frozen=True, slots=True)
class KeptImage:
    """One attempt at an image in a file's list: its rows follow those of the images before it.

    Raises: ValueError, at construction, for what no index has.
    """

    key: str
    etag: str
    generation: int
    regions: int

    def __post_init__(self) -> None:
        texts, numbers = (self.key, self.etag), (self.generation, self.regions)
        if {*map(type, texts)} != {str} or {*map(type, numbers)} != {int}:
            raise ValueError("expected a text as key and etag, a whole number as generation and regions")
        if min(numbers) < 0 or max(numbers) >= _GENERATIONS:
            raise ValueError("expected a generation and a number of regions from 0 on, of 64 bits")
        self.key.encode()  # half of a surrogate pair is no text


class CachedFile(Closing):
    """One opened file of features.

    Raises: StoreError, at construction, for what this program did not write; ObjectNotFoundError if it has gone.
    """

    def __init__(self, cache: FeatureCache, stored: StoredFile) -> None:
        arrow, parquet = parquet_libraries()
        self.stored = stored
        self._place = cache.files.location
        self._file = cache.files.open(stored)
        try:
            self._parquet = parquet.ParquetFile(self._file, page_checksum_verification=True)
            self.images = listed_images(self._parquet.schema_arrow.metadata or {})
            rows = sum(image.regions for image in self.images)
            if rows != self._parquet.metadata.num_rows:
                raise ValueError(f"lists {rows} regions and holds {self._parquet.metadata.num_rows}")
        except (arrow.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            self._file.close()
            if not _is_damage(error):
                raise
            raise self._damaged(error) from error

    def table(self, kept: Sequence[bool]) -> Any:  # noqa: ANN401  pyarrow has no types
        """The rows of those of the file's images that are to be kept, as a `pyarrow.Table`. Raises: StoreError."""
        arrow, _ = parquet_libraries()
        rows = np.repeat(np.array(kept, dtype=np.bool_), [image.regions for image in self.images])
        try:
            return self._parquet.read().filter(arrow.array(rows))
        except (arrow.ArrowException, OSError) as error:
            if not _is_damage(error):
                raise
            raise self._damaged(error) from error

    def close(self) -> None:
        """Read no more of it."""
        self._file.close()

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self._place}: {self.stored.name} is no file of kept features ({type(error).__name__}: {error}); "
            "remove it, then index again with --force"
        )


def listed_images(metadata: Mapping[bytes, bytes]) -> list[KeptImage]:
    """The list of a file's images. Raises: KeyError where there is none; ValueError, TypeError where it is damaged."""
    try:
        return [KeptImage(**entry) for entry in json.loads(metadata[IMAGES_KEY])]
    except RecursionError as error:
        raise ValueError("its list is too deeply nested") from error


def batch_table(images: Sequence[ImageFeatures]) -> tuple[Any, list[KeptImage]]:
    """The rows of images that have regions, as a `pyarrow.Table`, and the list of them."""
    arrow, _ = parquet_libraries()
    listed = [KeptImage(one.image.key, one.etag, one.generation, regions=len(one.mask_features) - 1) for one in images]
    mask = _half(np.concatenate([one.mask_features[:-1] for one in images]))
    embedded = _half(np.concatenate([one.image_features[:-1] for one in images]))
    ids = [
        row_id(one.image, one.generation, number)
        for one, entry in zip(images, listed, strict=True)
        for number in range(entry.regions)
    ]
    schema = feature_schema(mask.shape[1], embedded.shape[1])
    table = arrow.Table.from_batches([record_batch(schema, ids, FeatureBatch(mask, embedded))])
    firsts = [number if row == 0 else None for number, entry in enumerate(listed) for row in range(entry.regions)]
    places = arrow.array(firsts, arrow.int64())
    for name, rows in (
        (WHOLE_MASK_COLUMN, [one.mask_features[-1] for one in images]),
        (WHOLE_IMAGE_COLUMN, [one.image_features[-1] for one in images]),
    ):
        whole = np.asarray(_half(np.stack(rows)), np.float16)
        ends = np.arange(len(whole) + 1, dtype=np.int32) * whole.shape[1]
        column = arrow.ListArray.from_arrays(arrow.array(ends), arrow.array(whole.ravel()))
        table = table.append_column(name, column.take(places))
    return table, listed


def file_bytes(cache: FeatureCache, tables: Sequence[Any], images: Sequence[KeptImage]) -> bytes:
    """The Parquet file of all rows of the tables, which are those of these images, in their order.

    Neither compressed nor encoded: half floats hardly shrink, and a file's size is known beforehand.
    """
    arrow, parquet = parquet_libraries()
    table = arrow.concat_tables([one.replace_schema_metadata() for one in tables]).replace_schema_metadata(
        {
            FINGERPRINT_KEY: cache.manifest.feature_fingerprint.encode(),
            BUCKET_KEY: json.dumps(cache.bucket).encode(),
            IMAGES_KEY: json.dumps([asdict(image) for image in images], separators=(",", ":")).encode(),
        }
    )
    buffer = io.BytesIO()
    parquet.write_table(
        table,
        buffer,
        row_group_size=GROUP_ROWS,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def _is_damage(error: Exception) -> bool:
    """Whether an error is about a file's bytes: the disk's own have a number, where Parquet's have none."""
    return getattr(error, "errno", None) is None


def _half(rows: FloatArray) -> FloatArray:
    """Within the range of float16."""
    return np.clip(rows, -_HIGHEST, _HIGHEST)
