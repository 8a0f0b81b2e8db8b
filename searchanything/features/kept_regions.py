"""Embeddings of regions as they were kept, so that other codes are made of them without any image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np

from searchanything.core.types import FloatArray
from searchanything.features.contents import WHOLE_IMAGE_COLUMN, WHOLE_MASK_COLUMN, CachedFile, KeptImage
from searchanything.features.layout import FEATURES, FeatureCache
from searchanything.features.liveness import open_files
from searchanything.features.parquet import ID_COLUMN, IMAGE_COLUMN, MASK_COLUMN, FeatureBatch, parquet_libraries

Embedded: TypeAlias = tuple[list[str], FloatArray]  # ids of regions (`row_id`), and their f_I (n, D) float32


@dataclass(frozen=True, slots=True, eq=False)
class KeptRows:
    """What a file keeps of m images with n regions: ids of regions (`row_id`), their features, the whole images'."""

    ids: list[str]
    regions: FeatureBatch
    images: FeatureBatch


def kept_rows(file: CachedFile, kept: Sequence[bool]) -> KeptRows:
    """The rows of those of the file's images that are wanted, in their order. Raises: StoreError."""
    table = file.table(kept)
    regions = FeatureBatch(_matrix(table, MASK_COLUMN), _matrix(table, IMAGE_COLUMN))
    images = FeatureBatch(
        _matrix(table, WHOLE_MASK_COLUMN, like=MASK_COLUMN), _matrix(table, WHOLE_IMAGE_COLUMN, like=IMAGE_COLUMN)
    )
    return KeptRows(table.column(ID_COLUMN).to_pylist(), regions, images)


def kept_regions(cache: FeatureCache, wanted: Callable[[KeptImage], bool]) -> Iterator[Embedded]:
    """The regions of wanted images, a file at a time: some may be of attempts that are current no more.

    Raises: StoreError.
    """
    own = [stored for stored in cache.files.list() if cache.is_own(stored.name)]
    for file in open_files(cache, own):
        yield from _regions(file, wanted)


def kept_sample(cache: FeatureCache, *, most: int) -> FloatArray | None:
    """f_I (n, D) of some regions of this index, of whole files by a digest of their names; None where none is kept.

    Raises: StoreError.
    """
    own = [one for one in cache.files.list() if cache.is_own(one.name) and one.name.endswith(FEATURES)]
    found: list[FloatArray] = []
    for stored in sorted(own, key=lambda one: blake2b(one.name.encode(), digest_size=8).digest()):
        for file in open_files(cache, [stored]):
            found += [features for _, features in _regions(file, lambda _: True)]
        if sum(map(len, found)) >= most:
            break
    return np.concatenate(found)[:most] if found else None


def _regions(file: CachedFile, wanted: Callable[[KeptImage], bool]) -> Iterator[Embedded]:
    kept = [wanted(image) for image in file.images]
    if any(kept):
        table = file.table(kept)
        yield table.column(ID_COLUMN).to_pylist(), _matrix(table, IMAGE_COLUMN)


def _matrix(table: Any, name: str, *, like: str = "") -> FloatArray:  # noqa: ANN401 - pyarrow has no types
    """A column's rows that are not null, as long as those of the column that it is `like`."""
    arrow, _ = parquet_libraries()
    lists = arrow.concat_arrays(table.column(name).chunks).drop_null()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(len(lists), table.schema.field(like or name).type.list_size)
