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
from searchanything.core.errors import UsageError
from searchanything.features import parquet as parquet_module
from searchanything.features.parquet import MOST_COLUMNS, FeatureFile, class_numbers

ROWS = 512
NAME = "x" * 2**19


def fixed(width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ones(ROWS * width, np.float16)), width)


def lists(width: int) -> pa.Array:
    ends = np.arange(ROWS + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.ones(ROWS * width, np.float16)))


def packed(
    mask: pa.Array, image: pa.Array, names: list[str], *, is_dictionary: bool = True, column: str = "kind"
) -> bytes:
    table = pa.table({"mask_features": mask, "image_features": image, column: pa.array(names)})
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


def test_a_column_of_long_names_may_have_a_dot_in_its_own() -> None:
    data = packed(fixed(2), fixed(2), [NAME] * ROWS, is_dictionary=False, column="kind.of")
    with pytest.raises(UsageError, match=r"column kind.of: .* bytes of names a row"):
        FeatureFile("f", BytesIO(data), class_column="kind.of")


@pytest.mark.parametrize(("rows", "together"), [(50, 50), (8195, 8192), (50, 1)])
def test_each_row_group_may_have_the_whole_dictionary_of_a_category(rows: int, together: int) -> None:
    """pandas keeps categories that no row has any more, and pyarrow writes them with each row group."""
    kinds = [f"n{number:08d} a kind of thing" for number in range(20_000)]
    used = [number * 2 for number in range(rows)]
    names = pa.DictionaryArray.from_arrays(pa.array(used, pa.int32()), pa.array(kinds))
    features = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(rows * 2, np.float16)), 2)
    file = BytesIO()
    table = pa.table({"mask_features": features, "image_features": features, "kind": names})
    parquet.write_table(table, file, row_group_size=together)
    batches = FeatureFile("f", file, class_column="kind").batches(ROWS)
    got = np.concatenate([np.asarray(one.classes) for one in batches])
    assert got.tolist() == class_numbers([kinds[number] for number in used]).tolist()


def test_dictionaries_that_take_much_memory_together_are_refused() -> None:
    """The rows of a batch may lie in as many row groups, each with a dictionary of its own."""
    names = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0, 0], pa.int32()), pa.array([NAME * 2**8]))
    features = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float16)), 2)
    table = pa.table({"mask_features": features, "image_features": features, "kind": names})
    for groups in (1, 4):
        file = BytesIO()
        parquet.write_table(table, file, row_group_size=4 // groups, compression="zstd")
        if groups == 1:
            FeatureFile("f", file, class_column="kind")
        else:
            with pytest.raises(UsageError, match=r"column kind: .* bytes of names a row, got [\d,]+ in 2 rows"):
                FeatureFile("f", file, class_column="kind")


def test_many_short_names_do_not_make_room_for_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_module, "_SPARE_NAME_BYTES", len(NAME))
    rows = 8193
    features = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(rows * 2, np.float16)), 2)
    names = pa.array(["a"] * (rows - 1) + [NAME * 2])
    file = BytesIO()
    table = pa.table({"mask_features": features, "image_features": features, "kind": names})
    parquet.write_table(table, file, row_group_size=rows - 1)
    with pytest.raises(UsageError, match=r"bytes of names a row, got .* in 1 rows"):
        FeatureFile("f", file, class_column="kind")
