"""Features in files to codes in a file, in batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from searchanything.core.errors import UsageError
from searchanything.core.files import check_save_path, write_whole
from searchanything.hash_training.features import FeatureSource
from searchanything.models.hashing import HashLayer


def encode_features(
    source: FeatureSource, layer: HashLayer, path: Path, *, encoded: Callable[[int], None] = lambda _: None
) -> int:
    """Write the codes (N, bits // 8) uint8 of all rows, in their order, as `.npy`; return N.

    `encoded` is told how many rows are done. The file appears whole or not at all.

    Raises: UsageError for another suffix, a place that cannot be written, or features of another fingerprint than the
    layer's; ModelError for features that the layer does not take.
    """
    target = check_save_path(path, (".npy",))
    check_made_for(layer, source)
    return write_whole(target, lambda file: _write_codes(file, source, layer, encoded))


def check_made_for(layer: HashLayer, source: FeatureSource) -> None:
    """Raises: UsageError where both state a feature fingerprint, and not the same."""
    trained_for = layer.provenance.get("feature_fingerprint")
    if trained_for and source.fingerprint and trained_for != source.fingerprint:
        raise UsageError(
            f"the hash layer was trained for features {trained_for}, these are {source.fingerprint}; "
            "train one on these, or take the features that it was made for"
        )


def _write_codes(file: BinaryIO, source: FeatureSource, layer: HashLayer, encoded: Callable[[int], None]) -> int:
    """The number of rows is known only at the end; numpy's header leaves room for it."""
    _write_header(file, 0, layer.bits // 8)
    rows = 0
    for batch in source.batches():
        file.write(layer.encode(batch.mask, batch.image).data)
        rows += len(batch.mask)
        encoded(rows)
    file.seek(0)
    _write_header(file, rows, layer.bits // 8)
    return rows


def _write_header(file: BinaryIO, rows: int, columns: int) -> None:
    facts = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
        "fortran_order": False,
        "shape": (rows, columns),
    }
    np.lib.format.write_array_header_1_0(file, facts)
