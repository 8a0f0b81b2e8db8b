"""Features in files: `.npy`, Parquet, or either in a bucket; streamed in batches, never held as a whole.

Of an object in a bucket a few megabytes are fetched at a time, as they are read.

The Parquet contract is that of `searchanything.features.parquet`. Of an image that is in kept features more than once
the newest rows are read (`searchanything.features.newest_copies`). A `.npy` file holds one matrix (N, C + D) of
float16, float32 or float64: f_M, then f_I.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.errors import UsageError
from searchanything.core.protocols import Opener
from searchanything.features.newest_copies import ListedImages, newest_rows
from searchanything.features.parquet import MOST_COLUMNS, FeatureBatch, FeatureFile

BATCH_ROWS: Final = 8192
_LARGEST: Final = 1e15  # the square of a longer row would be no float32
_ACCEPTED = "expected a .npy file, a .parquet file, a folder of them, or s3:// and one of these"

NamedFile: TypeAlias = tuple[str, Opener]


class FeatureSource(Protocol):
    """Where features come from. `batches` may be called again, and then streams the same rows in the same order."""

    @property
    def rows(self) -> int | None:
        """How many there are, where that is known without reading them."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """The feature fingerprint, where the files state one."""
        ...

    def batches(self) -> Iterator[FeatureBatch]:
        """Stream all rows. Raises: UsageError, StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class NpyFeatures:
    """One matrix (N, C + D) in a `.npy` file, of which the first `mask_dimension` columns are f_M."""

    name: str
    open: Opener
    mask_dimension: int
    shape: tuple[int, int]
    dtype: str
    fingerprint: str | None = None

    @classmethod
    def of(cls, name: str, open_file: Opener, mask_dimension: int) -> NpyFeatures:
        """Read the header. Raises: UsageError for what is no such matrix."""
        with open_file() as file:
            shape, dtype = _npy_header(name, file)
        if not 0 <= mask_dimension < shape[1]:
            raise UsageError(
                f"{name}: --mask-dimension {mask_dimension} does not fit its {shape[1]} columns; "
                f"expected 0 to {shape[1] - 1}"
            )
        return cls(name, open_file, mask_dimension, shape, dtype.str)

    @property
    def rows(self) -> int:
        """N."""
        return self.shape[0]

    def batches(self) -> Iterator[FeatureBatch]:
        """Read `BATCH_ROWS` rows at a time: a mapped file would count as this process's memory."""
        dtype, columns = np.dtype(self.dtype), self.shape[1]
        with self.open() as file:
            _npy_header(self.name, file)
            for first in range(0, self.rows, BATCH_ROWS):
                count = min(BATCH_ROWS, self.rows - first)
                data = file.read(count * columns * dtype.itemsize)
                if len(data) != count * columns * dtype.itemsize:
                    raise UsageError(f"{self.name} ends within row {first + len(data) // (columns * dtype.itemsize)}")
                with np.errstate(over="ignore"):  # told by name below
                    rows = np.frombuffer(data, dtype).reshape(count, columns).astype(np.float32, copy=False)
                split = self.mask_dimension
                yield _checked(self.name, first, FeatureBatch(rows[:, :split], rows[:, split:]))


@dataclass(frozen=True, slots=True)
class ParquetFeatures:
    """Parquet files of one fingerprint; `rows` is None where counting would take too many requests.

    `class_column` names the column of the regions' classes, where they are to be read. `newest` says of each file which
    of its rows are read (None: all), and is itself None while the files were not looked at.
    """

    names: Sequence[str]
    openers: Sequence[Opener]
    fingerprint: str | None
    rows: int | None
    class_column: str | None = None
    newest: Sequence[NDArray[np.bool_] | None] | None = None

    @classmethod
    def of(
        cls, names: Sequence[str], openers: Sequence[Opener], *, count: bool, class_column: str | None = None
    ) -> ParquetFeatures:
        """Look at the first file, or at all of them to `count` their rows. Raises: UsageError."""
        last = len(names) if count else 1
        looked_at = [FeatureFile(*pair, class_column=class_column) for pair in _opened(names[:last], openers[:last])]
        fingerprint = looked_at[0].fingerprint
        if not count:
            return cls(names, openers, fingerprint, None, class_column)
        newest = newest_rows([ListedImages.of(file.metadata, file.rows) for file in looked_at])
        rows = sum(file.rows if kept is None else int(kept.sum()) for file, kept in zip(looked_at, newest, strict=True))
        return cls(names, openers, fingerprint, rows, class_column, newest)

    def batches(self) -> Iterator[FeatureBatch]:
        """Stream row groups, file after file, without the older rows of an image that is there more than once."""
        newest = self._newest() if self.newest is None else self.newest
        for (name, opened), kept in zip(_opened(self.names, self.openers), newest, strict=True):
            file = self._checked_file(name, opened)
            first = 0
            for batch in file.batches(BATCH_ROWS):
                rows = len(batch.mask)
                checked = _checked(name, first, batch)
                yield checked if kept is None else checked.only(kept[first : first + rows])
                first += rows

    def _newest(self) -> list[NDArray[np.bool_] | None]:
        """Look at all footers, which costs requests, but few beside those that read the files."""
        files = (self._checked_file(*pair) for pair in _opened(self.names, self.openers))
        return newest_rows([ListedImages.of(file.metadata, file.rows) for file in files])

    def _checked_file(self, name: str, opened: BinaryIO) -> FeatureFile:
        file = FeatureFile(name, opened, class_column=self.class_column)
        if file.fingerprint != self.fingerprint:
            raise UsageError(
                f"{name} holds features of fingerprint {file.fingerprint}, {self.names[0]} of {self.fingerprint}; "
                "features of different models cannot be mixed: give a prefix that holds one kind"
            )
        return file


def feature_source(
    location: str,
    files: Sequence[NamedFile],
    *,
    mask_dimension: int | None,
    class_column: str | None = None,
    count_rows: bool = True,
) -> FeatureSource:
    """The features in the files found at `location`: one `.npy` file, or any number of `.parquet` files.

    `mask_dimension` is how many columns of a `.npy` matrix are f_M; Parquet says so itself. `class_column` names the
    column of Parquet files that holds the regions' classes. `count_rows` reads each Parquet file's footer first.
    Raises: UsageError, StoreError.
    """
    suffixes = {Path(name).suffix.lower() for name, _ in files}
    if suffixes == {".parquet"}:
        if mask_dimension is not None:
            raise UsageError("--mask-dimension is for .npy files; Parquet has a column for either kind of features")
        names, openers = zip(*sorted(files, key=lambda one: one[0]), strict=True)
        return ParquetFeatures.of(names, openers, count=count_rows, class_column=class_column)
    if suffixes != {".npy"} or len(files) != 1:
        raise UsageError(f"{location}: {_ACCEPTED}")
    if class_column is not None:
        raise UsageError(f"{location}: --class-column is for Parquet; a .npy file holds one matrix of features alone")
    if mask_dimension is None:
        raise UsageError(f"{location}: say with --mask-dimension how many of its columns are mask features (or 0)")
    return NpyFeatures.of(*files[0], mask_dimension)


def _checked(name: str, first: int, batch: FeatureBatch) -> FeatureBatch:
    """The batch, which begins with row `first`. Raises: UsageError for a row that has no length."""
    for block in (batch.mask, batch.image):
        if not (block.max(initial=0) < _LARGEST and block.min(initial=0) > -_LARGEST):  # NaN is neither
            row = first + int(np.argmin((np.abs(block) < _LARGEST).all(axis=1)))
            raise UsageError(
                f"{name}: row {row} (from 0) holds features that are not finite, or beyond {_LARGEST:.0e}; "
                "compute them again, or leave that row out"
            )
    return batch


def _opened(names: Sequence[str], openers: Sequence[Opener]) -> Iterator[tuple[str, BinaryIO]]:
    """One file after the other, each closed when the next is asked for."""
    for name, opener in zip(names, openers, strict=True):
        with opener() as file:
            yield name, file


def _npy_header(name: str, file: BinaryIO) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Read up to the first row."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except (ValueError, SyntaxError, TokenError, RecursionError, MemoryError) as error:  # it is read as Python
        raise UsageError(f"{name} is no .npy file: {error}") from error
    if len(shape) != 2 or is_fortran or dtype.kind != "f" or shape[0] < 0 or not 0 < shape[1] <= MOST_COLUMNS:
        order = "Fortran" if is_fortran else "C"
        raise UsageError(
            f"{name}: expected a matrix (N, C + D) of floats in C order, of 1 to {MOST_COLUMNS:,} columns, "
            f"got {shape} {dtype} in {order} order"
        )
    return (shape[0], shape[1]), dtype
