"""Features of regions in Parquet files: the contract between what writes them and what trains or hashes by them.

A row per region:

| column | type | meaning |
|---|---|---|
| `region_id` | string, not null | names the region; training does not look at it |
| `mask_features` | fixed-size list of C float16, not null | f_M as the segmenter's map gave it, not normalised |
| `image_features` | fixed-size list of D float16, not null | f_I as the encoder gave it |

The file's metadata may hold `feature_fingerprint`: which models and preprocessing gave the features. Readers also take
float32 and float64, lists of a type without a length (as pandas and polars write them) that are as long in every row,
further columns, and any sizes of row groups, of which they hold a few megabytes at a time. A row has at most
`MOST_COLUMNS` numbers of each kind, however small they are packed. Where pages have checksums,
these are verified; what writes the files should write them (`write_page_checksum`). One further column can be read as
the regions' classes: strings or integers. Null, an empty name and a negative number say that a region's class is not
known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.errors import UsageError
from searchanything.core.extras import install_command
from searchanything.core.types import FloatArray

ID_COLUMN: Final = "region_id"
MASK_COLUMN: Final = "mask_features"
IMAGE_COLUMN: Final = "image_features"
FINGERPRINT_KEY: Final = b"feature_fingerprint"
READ_BYTES: Final = 1 << 22  # of a column at a time: a row group may be as large as the file
MOST_COLUMNS: Final = 2**13  # of either kind in a row: models give 2,000, and a batch of these takes 256 MB
_OPTIONS: Final = {"buffer_size": READ_BYTES, "pre_buffer": False, "page_checksum_verification": True}
_MOST_NAME_BYTES: Final = 2**12  # of a class, in the mean of the rows that are read together
_SPARE_NAME_BYTES: Final = 2**28  # of all these: each row group may have a dictionary of thousands of classes
_NAMED_TOGETHER: Final = 2**13  # rows
NO_CLASS: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """Features of n regions: `mask` (n, C) and `image` (n, D) float32, as the models gave them. C may be 0.

    `classes` (n,) int64 are equal where regions show the same kind of thing, `NO_CLASS` where that is not known; None
    where nothing is.
    """

    mask: FloatArray
    image: FloatArray
    classes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.image.ndim != 2 or len(self.mask) != len(self.image):
            raise ValueError(f"expected (n, C) and (n, D) features, got {self.mask.shape} and {self.image.shape}")

    def only(self, rows: NDArray[np.bool_]) -> FeatureBatch:
        """The rows that are True in an (n,) array."""
        return FeatureBatch(self.mask[rows], self.image[rows], None if self.classes is None else self.classes[rows])


def feature_schema(mask_dimension: int, image_dimension: int, *, class_column: str | None = None) -> Any:  # noqa: ANN401
    """The pyarrow schema of a file of features, with a column for classes if it is named.

    Raises: UsageError without pyarrow.
    """
    arrow, _ = parquet_libraries()
    columns = [
        arrow.field(ID_COLUMN, arrow.string(), nullable=False),
        arrow.field(MASK_COLUMN, arrow.list_(arrow.float16(), mask_dimension), nullable=False),
        arrow.field(IMAGE_COLUMN, arrow.list_(arrow.float16(), image_dimension), nullable=False),
        *([] if class_column is None else [arrow.field(class_column, arrow.string())]),
    ]
    return arrow.schema(columns)


def record_batch(
    schema: Any,  # noqa: ANN401
    ids: Sequence[str],
    features: FeatureBatch,
    classes: Sequence[str | None] | None = None,
) -> Any:  # noqa: ANN401
    """Rows for a `pyarrow.parquet.ParquetWriter` of `feature_schema`; `classes` are names, if the schema has them."""
    arrow, _ = parquet_libraries()
    lists = [
        arrow.FixedSizeListArray.from_arrays(arrow.array(np.asarray(block, np.float16).ravel()), block.shape[1])
        for block in (features.mask, features.image)
    ]
    names = [] if classes is None else [arrow.array(classes, arrow.string())]
    return arrow.record_batch([arrow.array(ids, arrow.string()), *lists, *names], schema=schema)


class FeatureFile:
    """One opened Parquet file of features.

    Raises: UsageError, at construction, for what does not keep the contract, or without pyarrow.
    """

    def __init__(self, name: str, file: BinaryIO, *, class_column: str | None = None) -> None:
        """`class_column` names the column with the regions' classes, where it is to be read."""
        arrow, parquet = parquet_libraries()
        self._name, self._class_column = name, class_column
        try:
            self._file = parquet.ParquetFile(file, **_OPTIONS)
            schema = self._file.schema_arrow
            stated = (schema.metadata or {}).get(FINGERPRINT_KEY)
            self.fingerprint: str | None = None if stated is None else stated.decode()
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name} is no Parquet file, or is damaged: {error}") from error
        for column in (MASK_COLUMN, IMAGE_COLUMN):
            at = schema.get_field_index(column)
            kind = schema.field(at).type if at >= 0 else None
            if kind is None or not _is_of_features(kind, arrow.types):
                raise UsageError(f"{name}: expected a column {column} of lists of floats, got {kind or 'none'}")
        if class_column is not None:
            at = schema.get_field_index(class_column)
            kind = schema.field(at).type if at >= 0 else None
            if kind is None or not _names_classes(kind, arrow.types):
                raise UsageError(
                    f"{name}: expected a column {class_column} of strings or integers, the regions' classes, "
                    f"got {kind or 'none'}; its columns are {', '.join(schema.names)}"
                )
            # A name that very many rows have is in memory once.
            options = {**_OPTIONS, "metadata": self._file.metadata, "read_dictionary": [class_column]}
            self._file = parquet.ParquetFile(file, **options)
        self._check_widths()
        self.metadata: Mapping[bytes, bytes] = schema.metadata or {}
        self.rows: int = self._file.metadata.num_rows
        self._widths: dict[str, int] = {}  # of the lists of each column, by the first row that was read

    def batches(self, rows: int) -> Iterator[FeatureBatch]:
        """Stream at most `rows` rows at a time. Raises: UsageError for rows without features or damaged pages."""
        arrow, _ = parquet_libraries()
        read = 0
        columns = [MASK_COLUMN, IMAGE_COLUMN, *([] if self._class_column is None else [self._class_column])]
        try:
            for batch in self._file.iter_batches(rows, columns=columns):
                classes = None if self._class_column is None else _numbers_of(batch[self._class_column])
                mask, image = (self._matrix(batch, column, first=read) for column in (MASK_COLUMN, IMAGE_COLUMN))
                yield FeatureBatch(mask, image, classes)
                read += len(batch)
            if read != self.rows:  # no checksum is of what says how long pages are
                raise UsageError(f"{self._name} is damaged: it lists {self.rows} rows, and {read} can be read")
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self._name} is damaged: {error}") from error

    def _check_widths(self) -> None:
        """Refuse rows that would take much memory; a small file may hold very many of them. Raises: UsageError."""
        rows = size = 0  # of row groups whose names are in memory together
        for group in map(self._file.metadata.row_group, range(self._file.metadata.num_row_groups)):
            rows, size = (0, 0) if rows >= _NAMED_TOGETHER else (rows, size)
            rows += group.num_rows
            for chunk in map(group.column, range(group.num_columns)):
                path, most = f"{chunk.path_in_schema}.", MOST_COLUMNS * max(group.num_rows, 1)
                if self._class_column is not None and path.startswith(f"{self._class_column}."):
                    size += chunk.total_uncompressed_size
                column = path.partition(".")[0]
                if column in (MASK_COLUMN, IMAGE_COLUMN) and chunk.num_values > most:
                    raise self._too_wide(column, f"{MOST_COLUMNS:,} numbers", chunk.num_values, group.num_rows)
            if size > max(_MOST_NAME_BYTES * rows, _SPARE_NAME_BYTES):
                raise self._too_wide(self._class_column, f"{_MOST_NAME_BYTES:,} bytes of names", size, rows)

    def _too_wide(self, column: str | None, most: str, got: int, rows: int) -> UsageError:
        return UsageError(f"{self._name}: column {column}: expected at most {most} a row, got {got:,} in {rows:,} rows")

    def _matrix(self, batch: Any, column: str, *, first: int) -> FloatArray:  # noqa: ANN401 - pyarrow has no types
        """A column's lists as rows (n, width), of which the batch's first one is row `first` of the file."""
        lists = batch.column(column)
        if lists.null_count:
            raise self._wrong_row(column, first + _first_null(lists), "expected features, got null")
        lengths = lists.value_lengths().to_numpy()
        width = self._widths.setdefault(column, int(lengths[0]) if len(lengths) else 0)
        others = np.flatnonzero(lengths != width)
        if len(others):
            said = f"expected {width} numbers, as in the file's first row, got {lengths[others[0]]}"
            raise self._wrong_row(column, first + int(others[0]), said)
        values = lists.flatten()
        if values.null_count:
            raise self._wrong_row(
                column, first + _first_null(values) // width, "expected features, got null among them"
            )
        with np.errstate(over="ignore"):  # what no float32 holds is found as not finite
            return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(lists), width)

    def _wrong_row(self, column: str, row: int, said: str) -> UsageError:
        return UsageError(f"{self._name}: column {column}, row {row} (from 0): {said}")


def _first_null(values: Any) -> int:  # noqa: ANN401 - pyarrow has no types
    return int(values.is_null().to_numpy(zero_copy_only=False).argmax())


def _is_of_features(kind: Any, types: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    """Whether a column's type is of lists of floats, of a fixed length or not."""
    listed = any(test(kind) for test in (types.is_fixed_size_list, types.is_list, types.is_large_list))
    return listed and types.is_floating(kind.value_type)


def _names_classes(kind: Any, types: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    """Whether a column's type is of strings or integers; pandas writes categories as a dictionary of these."""
    values = kind.value_type if types.is_dictionary(kind) else kind
    return any(test(values) for test in (types.is_string, types.is_large_string, types.is_integer))


def class_numbers(names: Sequence[str | int | None]) -> NDArray[np.int64]:
    """A number for each class, the same in every batch and file; `NO_CLASS` for None, empty names and those below 0."""
    return np.array([NO_CLASS if name is None else _class_number(str(name).strip()) for name in names], dtype=np.int64)


def _numbers_of(column: Any) -> NDArray[np.int64]:  # noqa: ANN401 - pyarrow has no types
    """`class_numbers` of a column's rows; each name is made a text once, however many rows have it."""
    arrow, _ = parquet_libraries()
    encoded = column if arrow.types.is_dictionary(column.type) else column.dictionary_encode()
    numbers = class_numbers([*encoded.dictionary.to_pylist(), None])
    rows: NDArray[np.int64] = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    return numbers[rows]


@lru_cache(maxsize=2**16)
def _class_number(name: str) -> int:
    if not name or re.fullmatch(r"-\d+", name):  # as tables and clusterings write that there is none
        return NO_CLASS
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def parquet_libraries() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises: UsageError where they are not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"Parquet files need pyarrow: {install_command('parquet')}") from error
    return pa, parquet
