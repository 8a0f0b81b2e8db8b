"""Layers that know which regions show the same kind of thing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import parquet

from searchanything.cli.app import run
from searchanything.core.errors import UsageError
from searchanything.core.settings import Settings
from searchanything.features.parquet import NO_CLASS, FeatureBatch, class_numbers, feature_schema, record_batch
from searchanything.hash_training.neighbours import class_whitening
from searchanything.hash_training.sampling import draw_sample
from searchanything.hash_training.standardising import Standardisation
from searchanything.hash_training.training import METHODS, TrainingOptions, judge_layer, train_hash
from searchanything.models.hashing import HashLayer
from searchanything.wiring import open_features

WIDTH, KINDS = 12, 8


def blurred(rows: int = 400, *, seed: int = 0) -> FeatureBatch:
    """Kinds differ in the first four directions of f_I; all of one kind differ much more in the next four."""
    generator = np.random.default_rng(seed)
    kinds = generator.integers(KINDS, size=rows)
    image = generator.normal(size=(rows, WIDTH)) * 0.05
    image[:, :4] += np.random.default_rng(1).normal(size=(KINDS, 4))[kinds]
    image[:, 4:8] += generator.normal(size=(rows, 4)) * 2
    mask = generator.normal(size=(rows, 2)) * 0.01 + 1
    return FeatureBatch(mask.astype(np.float32), image.astype(np.float32), kinds.astype(np.int64))


def found_kinds(layer: HashLayer, features: FeatureBatch) -> float:
    """The share of regions whose nearest code is of one of their kind."""
    bits = np.unpackbits(layer.encode(features.mask, features.image), axis=1).astype(int)
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    np.fill_diagonal(distances, 10**6)
    kinds = features.classes
    assert kinds is not None
    return float((kinds[distances.argmin(axis=1)] == kinds).mean())


def write(path: Path, features: FeatureBatch, classes: list[str | None]) -> Path:
    schema = feature_schema(2, WIDTH, class_column="kind")
    with parquet.ParquetWriter(path, schema) as writer:
        writer.write_batch(record_batch(schema, [str(row) for row in range(len(classes))], features, classes))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_classes_make_codes_of_what_tells_them_apart(method: str) -> None:
    features, others = blurred(), blurred(300, seed=5)
    options = TrainingOptions(method=method, bits=64)  # type: ignore[arg-type]
    with_classes = train_hash([features], options=options).layer
    without = train_hash([FeatureBatch(features.mask, features.image)], options=options).layer
    assert found_kinds(with_classes, others) > found_kinds(without, others) + 0.1
    assert (with_classes.provenance["classes"], "classes" in without.provenance) == (str(KINDS), False)


def test_the_map_makes_what_varies_within_a_class_even() -> None:
    features = blurred()
    assert features.classes is not None
    rows, classes = features.image, features.classes.copy()
    classes[:40] = NO_CLASS
    classes[40] = 77  # alone in its class
    found = class_whitening(rows, classes, strength=1.0)
    assert found is not None
    scatter, count = np.zeros((WIDTH, WIDTH)), 0
    for kind in range(KINDS):
        same = rows[classes == kind].astype(np.float64)
        scatter += (same - same.mean(axis=0)).T @ (same - same.mean(axis=0))
        count += len(same)
    ridged = scatter / count + np.eye(WIDTH) * np.trace(scatter / count) / WIDTH
    even = found.astype(np.float64) @ ridged @ found
    np.testing.assert_allclose(even, np.eye(WIDTH) * even[0, 0], atol=even[0, 0] * 1e-4)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert ((rows @ found) ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("classes", [[NO_CLASS, NO_CLASS, NO_CLASS], [1, 2, 3], [4, 4, 4], [4, 4, 5, NO_CLASS], []])
def test_without_two_of_two_classes_there_is_no_map(classes: list[int]) -> None:
    rows = np.ones((len(classes), 3), np.float32)
    assert class_whitening(rows, np.array(classes, np.int64), strength=1.0) is None


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 20))
def test_each_sampled_row_keeps_its_class(rows: int, kept: int, part: int) -> None:
    numbers = np.arange(rows)
    image = np.stack([np.cos(numbers / 70), np.sin(numbers / 70)], axis=1).astype(np.float32)
    classes = np.where(numbers % 3, numbers, NO_CLASS)

    def batch(first: int) -> FeatureBatch:
        chosen = slice(first, first + part)
        known: NDArray[np.int64] | None = classes[chosen] if first % 2 == 0 else None  # a batch may have none
        return FeatureBatch(np.ones((len(image[chosen]), 1), np.float32), image[chosen], known)

    sample = draw_sample((batch(first) for first in range(0, rows, part)), rows=kept, seed=3)
    assert sample.classes is not None
    drawn = np.rint(np.arctan2(sample.rows[:, 2], sample.rows[:, 1]) * 70).astype(int)
    expected = np.where(drawn // part * part % 2 == 0, classes[drawn], NO_CLASS)
    np.testing.assert_array_equal(sample.classes, expected)


def test_the_map_is_folded_into_the_layer_and_kept_beside_it() -> None:
    features = blurred()
    layer = train_hash([features], options=TrainingOptions(method="pca-rotation", bits=64)).layer
    kept = Standardisation.of_layer(layer)
    assert kept.whitening is not None
    assert Standardisation.of_layer(layer.prefix(8)).whitening is not None
    sample = draw_sample([features], rows=1000, seed=0)
    generator = np.random.default_rng(3)
    projection, offset = (generator.normal(size=size).astype(np.float32) for size in ((16, 2 + WIDTH), 16))
    weight, bias = kept.fold(projection, offset)
    applied = kept.apply(sample.rows) @ projection.T + offset
    np.testing.assert_allclose(sample.rows @ weight.T + bias, applied, atol=1e-4)
    assert judge_layer(layer, [features]).recall_10_at_10 > 0.5, "neighbours are those of the mapped features"


def test_a_column_of_names_or_numbers_gives_the_classes(tmp_path: Path) -> None:
    features = blurred(6)
    path = write(tmp_path / "f.parquet", features, ["cup", None, "cup", "shoe", "", "naïve"])
    (batch,) = open_features(str(path), mask_dimension=None, settings=Settings(), class_column="kind").batches()
    classes = batch.classes
    assert classes is not None
    assert classes.dtype == np.int64
    assert classes.tolist() == class_numbers(["cup", None, "cup", "shoe", "", "naïve"]).tolist()
    assert (classes[0] == classes[2], classes[1], classes[4], len(set(classes.tolist()))) == (
        True,
        NO_CLASS,
        NO_CLASS,
        4,
    )
    (plain,) = open_features(str(path), mask_dimension=None, settings=Settings()).batches()
    assert plain.classes is None, "only where it is asked for"
    table = parquet.read_table(path)
    numbers = pa.array([5, None, 5, 7, 0, 8])
    signed = pa.array([5, -1, 5, 7, 0, -1])  # as clusterings number what is in none
    categories = pa.array(["a", None, "a", "b", "c", "d"]).dictionary_encode()  # as pandas writes them
    for column in (numbers.cast(pa.int16()), numbers.cast(pa.uint64()), signed, categories):
        numbered = table.set_column(3, "kind", column)
        parquet.write_table(numbered, tmp_path / "n.parquet")
        source = open_features(
            str(tmp_path / "n.parquet"), mask_dimension=None, settings=Settings(), class_column="kind"
        )
        (batch,) = source.batches()
        assert batch.classes is not None
        assert (batch.classes[0] == batch.classes[2] != batch.classes[3], batch.classes[1]) == (True, NO_CLASS)


def test_a_column_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", blurred(3), ["a", "a", None])
    for column, said in (("sort", "got none; its columns are region_id"), ("mask_features", "fixed_size_list")):
        with pytest.raises(UsageError, match=f"expected a column {column} of strings or integers.*{said}"):
            open_features(str(path), mask_dimension=None, settings=Settings(), class_column=column)
    np.save(tmp_path / "f.npy", np.ones((3, 4), np.float32))
    with pytest.raises(UsageError, match="--class-column is for Parquet"):
        open_features(str(tmp_path / "f.npy"), mask_dimension=1, settings=Settings(), class_column="kind")


def test_names_that_are_no_text_are_the_file_s_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", blurred(3), ["a", "a", None])
    damaged = pa.array([b"a", b"\xff\xfe", None], pa.binary()).view(pa.string())
    parquet.write_table(parquet.read_table(path).set_column(3, "kind", damaged), path)
    source = open_features(str(path), mask_dimension=None, settings=Settings(), class_column="kind")
    with pytest.raises(UsageError, match=r"f\.parquet is damaged: .*utf-8"):
        list(source.batches())


def test_the_command_trains_by_a_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = blurred(120)
    assert features.classes is not None
    path = write(tmp_path / "f.parquet", features, [f"kind {one}" for one in features.classes])
    out = tmp_path / "layer.safetensors"
    command = ["hash", "train", "--features", str(path), "--bits", "64", "--method", "pca-rotation", "--out", str(out)]
    assert run([*command, "--class-column", "kind", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "pca-rotation"
    assert HashLayer.from_file(out).provenance["classes"] == str(KINDS)
    write(path, features, [str(row) for row in range(120)])
    assert run([*command, "--class-column", "kind"]) == 2
    assert "no two regions have the same class" in capsys.readouterr().err
