"""Features that pandas and polars wrote: lists of any length in their types, which are as long in every row."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import polars as pl  # ultralytics brings it
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from searchanything.cli.app import run
from searchanything.core.errors import UsageError
from searchanything.features.parquet import FeatureFile

Rows: TypeAlias = NDArray[Any] | list[Any]

ROWS, MASK, IMAGE = 300, 4, 6
POLARS = {"float16": pl.Float16, "float32": pl.Float32, "float64": pl.Float64}


def written_by_pandas(path: Path, mask: Rows, image: Rows) -> Path:
    ids = [str(row) for row in range(len(mask))]
    frame = pd.DataFrame({"region_id": ids, "mask_features": list(mask), "image_features": list(image)})
    frame.to_parquet(path, row_group_size=70)
    return path


def written_by_polars(path: Path, mask: Rows, image: Rows) -> Path:
    columns = {"mask_features": mask, "image_features": image}
    kinds = {name: POLARS[np.asarray(rows[0]).dtype.name] for name, rows in columns.items()}
    lists = {
        name: pl.Series([None if row is None else list(row) for row in rows], dtype=pl.List(kinds[name]))
        for name, rows in columns.items()
    }
    pl.DataFrame({"region_id": [str(row) for row in range(len(mask))], **lists}).write_parquet(path, row_group_size=70)
    return path


WRITERS = {"pandas": written_by_pandas, "polars": written_by_polars}
Writer: TypeAlias = Callable[[Path, Rows, Rows], Path]


def drawn(dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.random.default_rng(1).normal(size=(ROWS, MASK + IMAGE)).astype(dtype)
    return rows[:, :MASK], rows[:, MASK:]


def read(path: Path, rows: int = 64) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    batches = list(FeatureFile(path.name, BytesIO(path.read_bytes())).batches(rows))
    assert all(len(one.mask) <= rows for one in batches)
    return np.concatenate([one.mask for one in batches]), np.concatenate([one.image for one in batches])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", WRITERS)
def test_lists_of_any_length_are_read(tmp_path: Path, name: str, dtype: str) -> None:
    mask, image = drawn(dtype)
    path = WRITERS[name](tmp_path / "f.parquet", mask, image)
    kind = parquet.read_schema(path).field("mask_features").type
    assert pa.types.is_list(kind) or pa.types.is_large_list(kind)  # else this proves nothing
    found = read(path)
    for got, wanted in zip(found, (mask, image), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, wanted.astype(np.float32))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], "expected 6 numbers, as in the file's first row, got 5"),
        ([], "expected 6 numbers, as in the file's first row, got 0"),
        (None, "expected features, got null"),
        ([1.0, 2.0, None, 4.0, 5.0, 6.0], "expected features, got null among them"),
    ],
)
def test_a_row_that_is_not_like_the_first_is_named(tmp_path: Path, name: str, row: Any, said: str) -> None:
    mask, image = drawn("float64")
    rows: list[Any] = image.tolist()
    rows[211] = row
    path = WRITERS[name](tmp_path / "f.parquet", mask, rows)
    with pytest.raises(UsageError) as caught:
        read(path)
    assert str(caught.value) == f"f.parquet: column image_features, row 211 (from 0): {said}"


def test_rows_of_another_length_in_a_batch_to_themselves_are_named(tmp_path: Path) -> None:
    """Each batch has rows of one length, and the file has two."""
    mask, image = drawn("float32")
    path = written_by_pandas(tmp_path / "f.parquet", [*mask[:64], *mask[64:, :3]], image)
    with pytest.raises(UsageError, match=r"column mask_features, row 64 \(from 0\): expected 4 numbers, .*, got 3$"):
        read(path, 64)


def test_a_number_that_no_float32_holds_is_named_and_warns_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask, image = drawn("float64")
    image[5, 2] = 1e300
    path = written_by_polars(tmp_path / "f.parquet", mask, image)
    out = str(tmp_path / "layer.safetensors")
    assert run(["hash", "train", "--features", str(path), "--bits", "64", "--out", out]) == 2
    assert "f.parquet: row 5 (from 0) holds features that are not finite" in capsys.readouterr().err


def test_a_layer_is_trained_of_such_a_file(tmp_path: Path) -> None:
    path = written_by_pandas(tmp_path / "f.parquet", *drawn("float32"))
    out, codes = tmp_path / "layer.safetensors", tmp_path / "codes.npy"
    assert run(["hash", "train", "--features", str(path), "--bits", "64", "--method", "itq", "--out", str(out)]) == 0
    assert run(["hash", "encode", "--features", str(path), "--hash", str(out), "--out", str(codes)]) == 0
    assert np.load(codes).shape == (ROWS, 8)
