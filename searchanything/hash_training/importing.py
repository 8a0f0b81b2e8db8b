"""Hash layers that were trained elsewhere: one dense layer over [f_M / |f_M|, f_I / |f_I|], in safetensors or ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from searchanything.errors import ModelError, UsageError
from searchanything.models.hashing import HashLayer
from searchanything.types import FloatArray

ONNX_INSTALL: Final = "pip install 'searchanything[onnx]'"
SUFFIXES: Final = (".safetensors", ".onnx")
_DENSE: Final = ("Gemm", "MatMul")
_OTHER_WEIGHTS: Final = ("Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Einsum")


def import_layer(path: Path, *, mask_dimension: int, image_dimension: int, tensor: str | None = None) -> HashLayer:
    """The file's dense layer as ours. `tensor` names the weight where a safetensors file holds several.

    A safetensors weight is (bits, C + D), as torch keeps it, its bias beside it under the same name (none: zeros).

    Raises: UsageError for another kind of file; ModelError where no single dense layer from C + D to a multiple of 8
    is to be found.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: expected a .safetensors or .onnx file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    read = _from_onnx if path.suffix.lower() == ".onnx" else _from_safetensors
    try:
        weight, bias = read(data, tensor)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    _check(path, weight, bias, columns=(mask_dimension, image_dimension))
    facts = {
        "method": "imported",
        "trained": "true",
        "created_by": "searchanything hash import",
        "source": path.name,
        "source_sha256": hashlib.sha256(data).hexdigest(),
    }
    return HashLayer.create(weight, bias, mask_dimension=mask_dimension, provenance=facts)


def _check(path: Path, weight: FloatArray, bias: FloatArray, *, columns: tuple[int, int]) -> None:
    bits, got = weight.shape
    if got != sum(columns):
        raise ModelError(
            f"{path}: expected a dense layer of {columns[0]} mask + {columns[1]} image = {sum(columns)} features, "
            f"its last one takes {got} and gives {bits}"
        )
    if bits % 8 or not bits:
        raise ModelError(f"{path}: expected a layer that gives a multiple of 8 bits, it gives {bits}")
    if bias.shape != (bits,):
        raise ModelError(f"{path}: expected a bias of {bits} values, got {bias.shape}")


def _from_safetensors(data: bytes, tensor: str | None) -> tuple[FloatArray, FloatArray]:
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"no safetensors file of floats that numpy knows: {type(error).__name__}: {error}") from error
    matrices = sorted(name for name, array in tensors.items() if array.ndim == 2)
    chosen = [name for name in matrices if tensor in (None, name)]
    if len(chosen) != 1:
        raise ModelError(
            f"expected one matrix, got {', '.join(matrices) or 'none'}; say which with --tensor"
            if tensor is None
            else f"no matrix {tensor!r}, it has {', '.join(matrices) or 'none'}"
        )
    weight = np.asarray(tensors[chosen[0]], dtype=np.float32)
    bias = tensors.get(chosen[0].removesuffix("weight") + "bias", np.zeros(len(weight)))
    return weight, np.asarray(bias, dtype=np.float32)


def _from_onnx(data: bytes, tensor: str | None) -> tuple[FloatArray, FloatArray]:
    """The only Gemm, or MatMul and Add, of the graph: what came before it could not be folded into one layer."""
    if tensor is not None:
        raise ModelError("--tensor is for safetensors; of an ONNX file the last dense layer is taken")
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ImportError as error:
        raise UsageError(f"importing ONNX needs onnx: {ONNX_INSTALL}") from error
    try:
        graph = onnx.load_from_string(data).graph
        constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    except (DecodeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        raise ModelError(f"no ONNX file with its weights inside: {type(error).__name__}: {error}") from error
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    weighted = [node for node in graph.node if node.op_type in (*_DENSE, *_OTHER_WEIGHTS)]
    if len(weighted) != 1 or weighted[0].op_type not in _DENSE:
        kinds = ", ".join(node.op_type for node in weighted) or "none"
        raise ModelError(f"expected one dense layer (Gemm, or MatMul and Add) over the features, got: {kinds}")
    return _dense(weighted[0], graph, constants)


def _dense(node: Any, graph: Any, constants: Mapping[str, Any]) -> tuple[FloatArray, FloatArray]:  # noqa: ANN401
    """W (bits, columns) and b of a Gemm or MatMul node (the messages of onnx have no types)."""
    matrix = constants.get(node.input[1])
    if matrix is None or matrix.ndim != 2:
        raise ModelError(f"the weight of {node.op_type} {node.name!r} is no constant matrix")
    settings = {one.name: one.f if one.name in ("alpha", "beta") else one.i for one in node.attribute}
    if settings.get("transA"):
        raise ModelError(f"{node.op_type} {node.name!r} transposes its features; expected (N, C + D) features")
    weight = np.asarray(matrix if settings.get("transB") else matrix.T, dtype=np.float32)
    weight = weight * np.float32(settings.get("alpha", 1.0))
    if node.op_type == "Gemm":
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        scale = settings.get("beta", 1.0)
    else:
        added = [one for one in graph.node if one.op_type == "Add" and node.output[0] in one.input]
        names = [name for one in added for name in one.input if name != node.output[0]]
        bias, scale = (constants.get(names[0]) if names else None), 1.0
    return weight, np.zeros(len(weight), np.float32) if bias is None else np.ravel(bias).astype(np.float32) * scale
