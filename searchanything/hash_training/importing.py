"""Hash layers that were trained elsewhere: one dense layer over [f_M / |f_M|, f_I / |f_I|], in safetensors or ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from searchanything.core.errors import ModelError, UsageError
from searchanything.core.extras import install_command
from searchanything.core.reading import read_file
from searchanything.core.types import FloatArray
from searchanything.models.hashing import HashLayer

SUFFIXES: Final = (".safetensors", ".onnx")
_DENSE: Final = ("Gemm", "MatMul")
# A bit is the sign of the dense layer, so what keeps signs may follow it, and what changes nothing may stand anywhere.
_HARMLESS: Final = frozenset({"Constant", "Identity", "Cast", "Dropout", "Flatten"})
_SIGN_KEEPING: Final = frozenset({"Tanh", "Sign", "Sigmoid", "HardSigmoid", "Softsign", "Erf"})


def import_layer(path: Path, *, mask_dimension: int, image_dimension: int, tensor: str | None = None) -> HashLayer:
    """The file's dense layer as ours. `tensor` names the weight where a safetensors file holds several.

    A safetensors weight is (bits, C + D), as torch keeps it, its bias beside it under the same name. Where there is
    none, zeros are taken, and the provenance's `bias` says so.

    Raises: UsageError for another kind of file; ModelError where no single dense layer from C + D to a multiple of 8
    is to be found.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: expected a .safetensors or .onnx file")
    try:
        data = read_file(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    read = _from_onnx if path.suffix.lower() == ".onnx" else _from_safetensors
    try:
        weight, bias = read(data, tensor)
        offset = np.zeros(len(weight), np.float32) if bias is None else bias
        _check(weight, offset, columns=(mask_dimension, image_dimension))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    facts = {
        "method": "imported",
        "trained": "true",
        "created_by": "searchanything hash import",
        "source": path.name,
        "source_sha256": hashlib.sha256(data).hexdigest(),
        **({"bias": "none in the source, zeros taken"} if bias is None else {}),
    }
    return HashLayer.create(weight, offset, mask_dimension=mask_dimension, provenance=facts)


def _check(weight: FloatArray, bias: FloatArray, *, columns: tuple[int, int]) -> None:
    bits, got = weight.shape
    if got != sum(columns):
        raise ModelError(
            f"expected a dense layer of {columns[0]} mask + {columns[1]} image = {sum(columns)} features, "
            f"its last one takes {got} and gives {bits}"
        )
    if bits % 8 or not bits:
        raise ModelError(f"expected a layer that gives a multiple of 8 bits, it gives {bits}")
    if bias.shape != (bits,):
        raise ModelError(f"expected a bias of {bits} values, got {bias.shape}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ModelError("expected finite weights, got some that are not")


def _from_safetensors(data: bytes, tensor: str | None) -> tuple[FloatArray, FloatArray | None]:
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"no safetensors file of floats that numpy knows: {type(error).__name__}: {error}") from error
    matrices = sorted(name for name, array in tensors.items() if array.ndim == 2 and array.dtype.kind == "f")
    chosen = [name for name in matrices if tensor in (None, name)]
    if len(chosen) != 1:
        raise ModelError(
            f"expected one matrix of floats, got {', '.join(matrices) or 'none'}"
            + ("; say which with --tensor" if matrices else "")
            if tensor is None
            else f"no matrix of floats {tensor!r}, it has {', '.join(matrices) or 'none'}"
        )
    weight = np.asarray(tensors[chosen[0]], dtype=np.float32)
    bias = tensors.get(chosen[0].removesuffix("weight") + "bias")
    return weight, None if bias is None else np.asarray(bias, dtype=np.float32)


def _from_onnx(data: bytes, tensor: str | None) -> tuple[FloatArray, FloatArray | None]:
    """The only Gemm or MatMul of the graph, with the Add behind it. Nothing else may compute anything."""
    if tensor is not None:
        raise ModelError("--tensor is for safetensors; of an ONNX file the last dense layer is taken")
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ImportError as error:
        raise UsageError(f"importing ONNX needs onnx: {install_command('onnx')}") from error
    try:
        graph = onnx.load_from_string(data).graph
        tensors = {one.name: one for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].name == "value":
                tensors[node.output[0]] = node.attribute[0].t
        constants = {name: numpy_helper.to_array(one) for name, one in tensors.items() if one.data_type != one.STRING}
    except (DecodeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        raise ModelError(f"no ONNX file with its weights inside: {type(error).__name__}: {error}") from error
    nodes = [node for node in graph.node if node.op_type not in _HARMLESS]
    kinds = [node.op_type for node in nodes]
    added = nodes[1] if kinds[1:2] == ["Add"] else None
    rest = kinds[1 if added is None else 2 :]
    if not kinds or kinds[0] not in _DENSE or not _SIGN_KEEPING.issuperset(rest):
        raise ModelError(
            f"expected one dense layer (Gemm or MatMul, Add) over the features, and nothing behind it but one of "
            f"{', '.join(sorted(_SIGN_KEEPING))}; got: {', '.join(kinds) or 'none'}"
        )
    return _dense(nodes[0], added, constants)


def _dense(node: Any, added: Any, constants: Mapping[str, Any]) -> tuple[FloatArray, FloatArray | None]:  # noqa: ANN401
    """W (bits, columns) and b of a Gemm or MatMul node and the Add behind it (the messages of onnx have no types)."""
    matrix = constants.get(node.input[1]) if len(node.input) > 1 else None
    if matrix is None or matrix.ndim != 2:
        raise ModelError(f"the weight of {node.op_type} {node.name!r} is no constant matrix of numbers")
    settings = {one.name: one.f if one.name in ("alpha", "beta") else one.i for one in node.attribute}
    if settings.get("transA"):
        raise ModelError(f"{node.op_type} {node.name!r} transposes its features; expected (N, C + D) features")
    weight = np.asarray(matrix if settings.get("transB") else matrix.T, dtype=np.float32)
    weight = weight * np.float32(settings.get("alpha", 1.0))
    biases = []
    if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
        biases.append(_bias(node.input[2], constants, bits=len(weight)) * np.float32(settings.get("beta", 1.0)))
    beside = [name for name in added.input if name not in node.output] if added is not None else []
    biases += [_bias(name, constants, bits=len(weight)) for name in beside]
    return weight, np.zeros(len(weight), np.float32) + sum(biases) if biases else None


def _bias(name: str, constants: Mapping[str, Any], *, bits: int) -> FloatArray:
    """A value for each bit, or one for all. Raises: ModelError for another shape, or where it is computed."""
    if name not in constants:
        raise ModelError(f"the bias {name!r} is no constant")
    values = np.ravel(constants[name]).astype(np.float32)
    if values.size not in (1, bits):
        raise ModelError(f"expected a bias of {bits} values, got {constants[name].shape}")
    return values
