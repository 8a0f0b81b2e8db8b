"""Small files of features whose rows would take much memory: anybody may have written them."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from searchanything.cli.app import run
from searchanything.features.parquet import MOST_COLUMNS, FeatureFile

ROWS = 512
NAME = "x" * 2**17


def fixed(width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ones(ROWS * width, np.float16)), width)


def lists(width: int) -> pa.Array:
    ends = np.arange(ROWS + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.ones(ROWS * width, np.float16)))


def packed(mask: pa.Array, image: pa.Array, names: list[str], *, is_dictionary: bool = True) -> bytes:
    table = pa.table({"mask_features": mask, "image_features": image, "kind": pa.array(names)})
    file = BytesIO()
    parquet.write_table(table, file, compression="zstd", use_dictionary=is_dictionary)
    assert len(file.getvalue()) < 100_000
    return file.getvalue()


def of_long_names() -> bytes:
    return packed(fixed(2), fixed(2), [NAME] * ROWS, is_dictionary=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: packed(fixed(2), fixed(MOST_COLUMNS + 1), ["a"] * ROWS), "image_features: .* numbers a row"),
        (lambda: packed(lists(MOST_COLUMNS + 1), lists(2), ["a"] * ROWS), "mask_features: .* numbers a row"),
        (of_long_names, "kind: .* bytes of names a row"),
    ],
)
def test_rows_that_would_take_much_memory_are_refused_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Any, said: str
) -> None:
    path, out = tmp_path / "f.parquet", str(tmp_path / "layer.safetensors")
    path.write_bytes(data())
    assert run(["hash", "train", "--features", str(path), "--class-column", "kind", "--bits", "64", "--out", out]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(rf"f.parquet: column {said}", error), error


def test_a_name_that_all_rows_have_is_in_memory_once() -> None:
    file = FeatureFile("f", BytesIO(packed(fixed(2), fixed(2), [NAME] * ROWS)), class_column="kind")
    before = pa.total_allocated_bytes()
    batches = file.batches(ROWS)
    [classes] = np.unique(next(batches).classes)
    assert classes >= 0
    assert pa.total_allocated_bytes() - before < 16 * len(NAME)
