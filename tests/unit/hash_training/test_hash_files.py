"""Features in files, codes into files, judging against brute force, layers from elsewhere, and the verbs."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import safetensors.numpy
from fakes.interrupted_training import train_interrupted
from onnx import TensorProto, helper
from pyarrow import parquet

from searchanything.cli.app import run
from searchanything.core.errors import ModelError, UsageError
from searchanything.core.settings import Settings
from searchanything.features.parquet import FINGERPRINT_KEY, MOST_COLUMNS, FeatureBatch, feature_schema, record_batch
from searchanything.hash_training import features as features_module
from searchanything.hash_training.encoding_files import encode_features
from searchanything.hash_training.importing import import_layer
from searchanything.hash_training.judging import judge_codes
from searchanything.hash_training.report import render_report
from searchanything.hash_training.training import MASK_SHARE, judge_layer
from searchanything.models.hashing import HashLayer
from searchanything.wiring import open_features

SETTINGS = Settings()
LAYER = HashLayer.random_rotation(2, 3, bits=16, seed=1)


def features(rows: int, seed: int = 0) -> FeatureBatch:
    drawn = np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float16).astype(np.float32)
    return FeatureBatch(drawn[:, :2], drawn[:, 2:])


def write(path: Path, batch: FeatureBatch, *, fingerprint: str | None = "f1") -> Path:
    schema = feature_schema(2, 3)
    if fingerprint is not None:
        schema = schema.with_metadata({FINGERPRINT_KEY: fingerprint.encode()})
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, len(batch.mask), 7):  # several row groups
            part = FeatureBatch(batch.mask[first : first + 7], batch.image[first : first + 7])
            writer.write_batch(record_batch(schema, [str(first + i) for i in range(len(part.mask))], part))
    return path


def read(location: Path, mask_dimension: int | None = None) -> FeatureBatch:
    found = list(open_features(str(location), mask_dimension=mask_dimension, settings=SETTINGS).batches())
    return FeatureBatch(np.concatenate([one.mask for one in found]), np.concatenate([one.image for one in found]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npy_and_parquet_give_the_same_rows(tmp_path: Path, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "BATCH_ROWS", 6)
    batch = features(20)
    np.save(tmp_path / "f.npy", np.concatenate([batch.mask, batch.image], axis=1).astype(dtype))
    for found in (read(tmp_path / "f.npy", 2), read(write(tmp_path / "f.parquet", batch))):
        np.testing.assert_array_equal(found.mask, batch.mask)
        np.testing.assert_array_equal(found.image, batch.image)


def test_the_parquet_contract(tmp_path: Path) -> None:
    schema = parquet.read_schema(write(tmp_path / "f.parquet", features(3), fingerprint="abc"))
    assert schema.names == ["region_id", "mask_features", "image_features"]
    lists = [pa.list_(pa.float16(), width) for width in (2, 3)]
    assert all(kind.equals(wanted) for kind, wanted in zip(schema.types, [pa.string(), *lists], strict=True))
    assert schema.metadata[b"feature_fingerprint"] == b"abc"


def test_rows_without_features_and_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", features(3))
    table, whole = parquet.read_table(path), path.read_bytes()
    hollow = pa.array([None, *np.array([[1, 2], [3, 4]], np.float16)], pa.list_(pa.float16(), 2))
    parquet.write_table(table.set_column(1, "mask_features", hollow), path)
    with pytest.raises(
        UsageError, match=r"f\.parquet: column mask_features, row 0 \(from 0\): expected features, got null"
    ):
        read(path)
    parquet.write_table(table.replace_schema_metadata({b"feature_fingerprint": b"f\xff"}), path)
    with pytest.raises(UsageError, match=r"f\.parquet is no Parquet file, or is damaged: 'utf-8' codec"):
        read(path)
    path.write_bytes(whole.replace(b"region_id", b"region_i\xff"))
    with pytest.raises(UsageError, match=r"f\.parquet is"):
        read(path)


def test_a_folder_is_all_its_parquet_files_of_one_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", features(4, 1))
    write(tmp_path / "a.parquet", features(9, 2))
    source = open_features(str(tmp_path), mask_dimension=None, settings=SETTINGS)
    assert (source.rows, source.fingerprint) == (13, "f1")
    np.testing.assert_array_equal(read(tmp_path).image, np.concatenate([features(9, 2).image, features(4, 1).image]))
    write(tmp_path / "c.parquet", features(1), fingerprint="f2")
    with pytest.raises(UsageError, match=r"c\.parquet holds features of fingerprint f2.*f1"):
        read(tmp_path)


def lists_of(width: int, kind: pa.DataType) -> pa.Table:
    column = pa.array([[0] * width], pa.list_(kind, width))
    return pa.table({"region_id": ["1"], "mask_features": column, "image_features": column})


def test_files_that_are_no_features(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.parquet").write_text("hello")
    np.save(tmp_path / "whole.npy", np.ones((4, 5), np.int64))
    np.save(tmp_path / "turned.npy", np.asfortranarray(np.ones((4, 5))))
    np.save(tmp_path / "fine.npy", np.ones((4, 5), np.float32))
    data = (tmp_path / "fine.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[:-7])
    parquet.write_table(lists_of(2, pa.int8()), tmp_path / "integers.parquet")
    parquet.write_table(pa.table({"mask_features": [1.0]}), tmp_path / "columns.parquet")
    (tmp_path / "empty").mkdir()
    wrong = (
        ("text.npy", 1, "no .npy file"),
        ("text.parquet", None, "no Parquet file"),
        ("whole.npy", 1, "int64"),
        ("turned.npy", 1, "Fortran"),
        ("fine.npy", None, "--mask-dimension"),
        ("fine.npy", 5, "expected 0 to 4"),
        ("cut.npy", 1, "ends within row 3"),
        ("integers.parquet", None, "mask_features of lists of floats"),
        ("columns.parquet", None, "mask_features of lists of floats, got double"),
        ("integers.parquet", 3, "for .npy files"),
        ("empty", None, "holds no .parquet file"),
        ("missing.npy", 1, "no such file"),
    )
    for name, dimension, message in wrong:
        with pytest.raises(UsageError, match=message):
            read(tmp_path / name, dimension)


def npy_of(header: bytes) -> bytes:
    """A `.npy` file of this header, with hardly any rows."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


@pytest.mark.parametrize(
    "header",
    [
        *(
            b"{'descr':'<f4','fortran_order':False,'shape':(%s)}" % one
            for one in (b"-5,4", b"1,10**12", b"1,9" + 11 * b"0")
        ),
        *(b"(" * 3000, b"1/", b"\x00", b"-" * 9000, b"[" * 60_000),
    ],
)
def test_headers_that_no_matrix_has(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "f.npy").write_bytes(npy_of(header))
    with pytest.raises(UsageError, match=r"no \.npy file|expected a matrix"):
        read(tmp_path / "f.npy", 2)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_a_row_without_a_length_is_named(tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "BATCH_ROWS", 6)
    rows = np.ones((20, 5))
    rows[15, 3] = value
    np.save(tmp_path / "f.npy", rows)
    batch = FeatureBatch(np.ones((20, 2), np.float32), np.ones((20, 3), np.float32))
    batch.mask[15, 1] = np.nan
    for name, dimension in ((write(tmp_path / "f.parquet", batch).name, None), ("f.npy", 2)):
        with pytest.raises(UsageError, match=rf"{name}: row 15 \(from 0\) holds features that are not finite"):
            read(tmp_path / name, dimension)


def test_codes_in_a_file_are_those_of_the_layer(tmp_path: Path) -> None:
    batch = features(25)
    source = open_features(str(write(tmp_path / "f.parquet", batch)), mask_dimension=None, settings=SETTINGS)
    seen: list[int] = []
    assert encode_features(source, LAYER, tmp_path / "codes.npy", encoded=seen.append) == 25
    codes = np.load(tmp_path / "codes.npy")
    np.testing.assert_array_equal(codes, LAYER.encode(batch.mask, batch.image))
    assert (codes.dtype, codes.shape, seen[-1]) == (np.uint8, (25, 2), 25)


def test_features_of_another_fingerprint_are_not_encoded(tmp_path: Path) -> None:
    provenance = {"method": "x", "trained": "true", "feature_fingerprint": "other"}
    layer = HashLayer.create(LAYER.weight, LAYER.bias, mask_dimension=2, provenance=provenance)
    source = open_features(str(write(tmp_path / "f.parquet", features(3))), mask_dimension=None, settings=SETTINGS)
    with pytest.raises(UsageError, match="trained for features other, these are f1"):
        encode_features(source, layer, tmp_path / "codes.npy")
    assert not (tmp_path / "codes.npy").exists()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    with (tmp_path / "f.npy").open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (2_000_000, 64)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2_000_000 * 64 * 2)  # 256 MB of zeros that take no space
    source = open_features(str(tmp_path / "f.npy"), mask_dimension=0, settings=SETTINGS)
    next(source.batches())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(len(batch.image) for batch in source.batches()) == 2_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB


def test_judgement_agrees_with_brute_force() -> None:
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(40, 6)).astype(np.float32)
    bits = (rows @ generator.normal(size=(6, 16)) > 0.5).astype(np.uint8)
    bits[1] = bits[0]
    figures = judge_codes(np.packbits(bits, axis=1), rows)
    found_10, correlations = [], []
    for i in range(40):
        others = [j for j in range(40) if j != i]
        cosines = [float(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])) for j in others]
        distances = [int((bits[i] != bits[j]).sum()) for j in others]
        near = {others[k] for k in np.argsort(cosines)[-10:]}
        by_code = sorted(range(39), key=lambda k: (distances[k], others[k]))[:10]
        found_10.append(len(near & {others[k] for k in by_code}) / 10)
        ranks = [sum(d < one for d in distances) + (distances.count(one) - 1) / 2 for one in distances]
        correlations.append(np.corrcoef([-rank for rank in ranks], np.argsort(np.argsort(cosines)))[0, 1])
    assert figures.recall_10_at_10 == pytest.approx(np.mean(found_10))
    assert figures.recall_10_at_100 == 1.0
    assert figures.rank_correlation == pytest.approx(np.mean(correlations), abs=1e-6)
    ones = bits.mean(axis=0)
    assert figures.bit_entropy == pytest.approx(-np.mean(ones * np.log2(ones) + (1 - ones) * np.log2(1 - ones)))
    correlation = np.abs(np.corrcoef(bits.T))
    assert figures.bit_correlation == pytest.approx((correlation.sum() - 16) / (16 * 15), abs=1e-5)
    twins = sum(any((bits[i] == bits[j]).all() for j in range(40) if j != i) for i in range(40))
    assert figures.collision_rate == twins / 40


def test_too_few_rows_are_not_judged() -> None:
    three, two = features(3), features(2)
    codes = LAYER.encode(three.mask, three.image)
    assert judge_codes(codes, three.mask).rows == 3
    for some, rows, got in ((codes[:2], two.mask, "2 for 2"), (codes, two.mask, "3 for 2")):
        with pytest.raises(ValueError, match=f"at least 3 rows, got {got} rows"):
            judge_codes(some, rows)
    with pytest.raises(UsageError, match="at least 20 regions to judge by, got 19"):
        judge_layer(LAYER, [features(19)])


def test_the_page_is_one_file_without_outside_resources() -> None:
    batch = features(60)
    rows = np.concatenate([batch.mask, batch.image], axis=1)
    judgement = judge_codes(LAYER.encode(batch.mask, batch.image), rows)
    page = render_report({"file": "<h>", "judgement": {}}, {"deep": judgement, "lsh": judgement}, chosen="deep")
    assert "http" not in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "&lt;h&gt;" in page
    assert f"{judgement.recall_10_at_10:.4f}" in page
    assert page == render_report({"file": "<h>", "judgement": {}}, {"deep": judgement, "lsh": judgement}, chosen="deep")


def onnx_file(path: Path, nodes: list, **constants: np.ndarray) -> Path:
    tensors = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], tensors)), path)
    return path


def constant(name: str, value: np.ndarray | onnx.TensorProto) -> onnx.NodeProto:
    tensor = onnx.numpy_helper.from_array(value.astype(np.float32)) if isinstance(value, np.ndarray) else value
    return helper.make_node("Constant", [], [name], value=tensor)


def test_dense_layers_are_imported_whatever_their_form(tmp_path: Path) -> None:
    weight, bias = LAYER.weight, np.arange(16, dtype=np.float32)
    safetensors.numpy.save_file({"hash.weight": weight.copy(), "hash.bias": bias}, tmp_path / "a.safetensors")
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    scaled = helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=2.0, beta=0.5)
    product = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["z"])]
    product.append(helper.make_node("Tanh", ["z"], ["y"]))
    apart = [
        helper.make_node("Gemm", ["x", "w", "half"], ["h"], transB=1),
        helper.make_node("Add", ["half", "h"], ["y"]),
    ]
    paths = (
        tmp_path / "a.safetensors",
        onnx_file(tmp_path / "apart.onnx", apart, w=weight, half=bias / 2),
        onnx_file(tmp_path / "gemm.onnx", [gemm], w=weight, b=bias),
        onnx_file(tmp_path / "scaled.onnx", [scaled], w=weight.T / 2, b=bias * 2),
        onnx_file(tmp_path / "product.onnx", product, w=weight.T, b=bias),
        onnx_file(tmp_path / "inside.onnx", [constant("w", weight.T), *product], b=bias),
    )
    for path in paths:
        layer = import_layer(path, mask_dimension=2, image_dimension=3)
        np.testing.assert_allclose(layer.weight, weight, rtol=1e-6)
        np.testing.assert_allclose(layer.bias, bias)
        assert (layer.provenance["method"], layer.provenance["source"], layer.trained) == ("imported", path.name, True)


def test_layers_that_do_not_fit_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    matrix = np.ones((16, 5), np.float32)
    for name, tensors in (
        ("narrow", {"weight": matrix[:, :4].copy()}),
        ("odd", {"weight": matrix[:12].copy()}),
        ("bias", {"weight": matrix, "bias": np.ones(5, np.float32)}),
        ("two", {"a.weight": matrix, "b.weight": matrix.copy()}),
        ("none", {"bias": np.ones(5, np.float32)}),
        ("whole", {"weight": matrix.astype(np.int8)}),
        ("infinite", {"weight": matrix * np.float32(np.inf)}),
    ):
        safetensors.numpy.save_file(tensors, tmp_path / f"{name}.safetensors")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    dense = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    onnx_file(tmp_path / "deep.onnx", dense, w=np.ones((5, 8)), v=np.ones((8, 16)))
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1)
    onnx_file(tmp_path / "bias.onnx", [gemm], w=matrix, b=np.ones(5))
    for name, nodes in (
        ("centred", [helper.make_node("Sub", ["i", "m"], ["x"]), gemm]),
        ("turned", [gemm, helper.make_node("Neg", ["h"], ["y"])]),
    ):
        onnx_file(tmp_path / f"{name}.onnx", nodes, w=matrix, b=np.ones(16), m=np.ones(5))
    expected = {
        "narrow.safetensors": r"2 mask \+ 3 image = 5 features, its last one takes 4 and gives 16",
        "odd.safetensors": "multiple of 8 bits, it gives 12",
        "bias.safetensors": "bias of 16 values",
        "two.safetensors": r"a\.weight, b\.weight; say which with --tensor",
        "none.safetensors": "one matrix of floats, got none",
        "whole.safetensors": "one matrix of floats, got none",
        "infinite.safetensors": r"infinite\.safetensors: expected finite weights",
        "text.onnx": "no ONNX file",
        "text.safetensors": "no safetensors file",
        "deep.onnx": "got: MatMul, MatMul",
        "centred.onnx": "got: Sub, Gemm",
        "turned.onnx": "got: Gemm, Neg",
        "bias.onnx": r"bias of 16 values, got \(5,\)",
    }
    for name, message in expected.items():
        with pytest.raises(ModelError, match=message):
            import_layer(tmp_path / name, mask_dimension=2, image_dimension=3)
    chosen = import_layer(tmp_path / "two.safetensors", mask_dimension=2, image_dimension=3, tensor="a.weight")
    assert chosen.bits == 16
    with pytest.raises(UsageError, match="safetensors or"):
        import_layer(tmp_path / "layer.pt", mask_dimension=2, image_dimension=3)


def cut_off() -> onnx.TensorProto:
    """A matrix whose bytes end too early."""
    tensor = onnx.numpy_helper.from_array(np.ones((5, 16), np.float32))
    tensor.raw_data = tensor.raw_data[:-1]
    return tensor


def elsewhere() -> onnx.TensorProto:
    """A matrix whose bytes are in another file."""
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=(5, 16), data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


TEXTS = helper.make_tensor("w", TensorProto.STRING, (5, 16), [b"1"] * 80)
MATRIX = np.ones((5, 16))
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["h"])


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        ([PRODUCT], {}, "the weight of MatMul '' is no constant matrix"),
        ([PRODUCT], {"w": np.ones(16)}, "is no constant matrix"),
        ([constant("w", TEXTS), PRODUCT], {}, "is no constant matrix of numbers"),
        ([helper.make_node("Gemm", ["x"], ["y"], name="last")], {}, "the weight of Gemm 'last' is no constant matrix"),
        ([helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)], {"w": MATRIX}, "transposes its features"),
        ([helper.make_node("Gemm", ["x", "w", "x"], ["y"])], {"w": MATRIX}, "the bias 'x' is no constant"),
        ([PRODUCT, helper.make_node("Add", ["x", "h"], ["y"])], {"w": MATRIX}, "the bias 'x' is no constant"),
        ([constant("w", cut_off()), PRODUCT], {}, "no ONNX file with its weights inside: ValueError"),
        ([constant("w", elsewhere()), PRODUCT], {}, "no ONNX file with its weights inside: ValidationError"),
        ([helper.make_node("Constant", [], [], value=cut_off()), PRODUCT], {"w": MATRIX[:4]}, "its last one takes 4"),
    ],
)
def test_onnx_files_without_a_constant_dense_layer_are_refused(
    tmp_path: Path, nodes: list, constants: dict[str, np.ndarray], message: str
) -> None:
    path = onnx_file(tmp_path / "layer.onnx", nodes, **constants)
    with pytest.raises(ModelError, match=rf"^{re.escape(str(path))}: .*{re.escape(message)}"):
        import_layer(path, mask_dimension=2, image_dimension=3)


def test_a_tensor_is_named_among_those_of_a_safetensors_file_alone(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "layer.onnx", [PRODUCT], w=MATRIX)
    assert import_layer(path, mask_dimension=2, image_dimension=3).bits == 16
    with pytest.raises(ModelError, match="--tensor is for safetensors"):
        import_layer(path, mask_dimension=2, image_dimension=3, tensor="w")
    safetensors.numpy.save_file({"a.weight": np.ones((16, 5), np.float32)}, tmp_path / "one.safetensors")
    with pytest.raises(ModelError, match=r"no matrix of floats 'b\.weight', it has a\.weight$"):
        import_layer(tmp_path / "one.safetensors", mask_dimension=2, image_dimension=3, tensor="b.weight")


def test_the_verbs_train_judge_encode_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = str(write(tmp_path / "f.parquet", features(120))), str(tmp_path / "h.safetensors")

    def document(*arguments: str) -> dict:
        assert run(["hash", *arguments, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    trained = document("train", "--features", file, "--out", out, "--bits", "64", "--report", str(tmp_path / "r.html"))
    layer = HashLayer.from_file(Path(out))
    assert (trained["bits"], trained["rows"], trained["sha256"]) == (64, 120, layer.digest)
    assert list(trained["judgement"]) == ["deep", "itq", "pca-rotation", "lsh"]
    assert (layer.provenance["feature_fingerprint"], layer.provenance["mask_share"]) == ("f1", str(MASK_SHARE))
    assert (tmp_path / "r.html").exists()
    assert not (tmp_path / "h.state").exists()
    judged = document("judge", "--features", file, "--hash", out)
    assert judged["judgement"]["deep"]["rows"] == 120
    encoded = document("encode", "--features", file, "--hash", out, "--out", str(tmp_path / "codes.npy"))
    assert (encoded["rows"], np.load(tmp_path / "codes.npy").shape) == (120, (120, 8))
    again = str(tmp_path / "again.safetensors")
    dimensions = ("--mask-dimension", "2", "--image-dimension", "3", "--tensor", "weight", "--out", again)
    assert document("import", out, *dimensions)["provenance"]["source_sha256"] == layer.digest


def test_an_interrupted_training_leaves_the_old_layer_and_is_resumed_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = str(write(tmp_path / "f.parquet", features(120))), tmp_path / "h.safetensors"
    train = ["hash", "train", "--features", file, "--out", str(out), "--bits", "64", "--format", "json"]
    assert run(train) == 0
    whole = out.read_bytes()
    out.write_bytes(b"the old layer")
    assert train_interrupted(monkeypatch, train) == 130
    assert (out.read_bytes(), out.with_suffix(".state").exists()) == (b"the old layer", True)
    assert run([*train, "--resume"]) == 0
    assert (out.read_bytes(), out.with_suffix(".state").exists()) == (whole, False)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits", "100"), "got 100"),
        (("--method", "magic"), "magic"),
        (("--out", "layer.pt"), "ends in .safetensors"),
        (("--report", "page.txt"), "ends in .html"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(arguments, message, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hash", "train", "--features", "missing.npy", "--out", "h.safetensors", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_matrix_of_too_many_columns_is_refused_by_that_name(tmp_path: Path) -> None:
    path = tmp_path / "wide.npy"
    np.save(path, np.zeros((2, MOST_COLUMNS + 1), np.float16))
    with pytest.raises(UsageError, match=r"of 1 to 8,192 columns, got \(2, 8193\)"):
        open_features(str(path), mask_dimension=2, settings=SETTINGS)
