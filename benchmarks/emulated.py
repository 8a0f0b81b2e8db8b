"""A GPU's arithmetic on a CPU, where none is at hand: the package's path for CUDA, on tensor cores written out.

A tensor core multiplies what TF32 keeps of two factors without loss, adds up eight products and the sum so far, and
rounds that toward zero to a float32. `emulated_gpu` puts such sums in the place of cuDNN's convolutions; how weights
and inputs are split is the package's (`models.exact`), as the crops are (`models.device_cut`, on the CPU).
fp16 needs nothing: PyTorch's half precision adds in float32 and rounds each operation's result on a CPU as well.

It is a model, checked where a GPU has measured the same: see docs/adr/0080. Some hundred times as slow as a
convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from searchanything.models import compute, exact, presets
from searchanything.models.device_cut import DeviceCutter
from searchanything.models.exact import kept_by_tf32
from searchanything.models.fastsam import FastSAMSegmenter

_AT_ONCE: Final = 8  # products that a tensor core adds in one step
_COLUMNS: Final = 512  # of a sum that stay in a core's cache
_KEPT_BITS: Final = -(1 << 29)  # of a float64: what a float32 has


@contextmanager
def emulated_gpu() -> Iterator[None]:
    """Encoders that are loaded meanwhile compute on the CPU as on a GPU; not for several threads at once."""
    made = FastSAMSegmenter.__init__

    def on_device(segmenter: FastSAMSegmenter, *given: Any, **options: Any) -> None:  # noqa: ANN401
        made(segmenter, *given, **options)
        segmenter._stays_on_device = True  # noqa: SLF001

    with ExitStack() as patches:
        for owner, name, new in (
            (torch, "cudnn_convolution", _convolution),
            (torch, "cudnn_convolution_transpose", _upsampling),
            (exact, "_is_exact", lambda values: values.dtype == torch.float32),
            (compute, "_has_tensor_cores", lambda _: True),
            (FastSAMSegmenter, "__init__", on_device),
            (presets, "open_cutter", lambda _: DeviceCutter(torch.device("cpu"))),
        ):
            patches.enter_context(mock.patch.object(owner, name, new))
        yield


def summed_by_tensor_cores(left: Tensor, right: Tensor) -> Tensor:
    """A product (M, N) float32 of matrices (M, K) and (K, N), K in the order of the sum."""
    left, right = kept_by_tf32(left).double(), kept_by_tf32(right)
    made = torch.empty(len(left), right.shape[1])
    for first in range(0, right.shape[1], _COLUMNS):
        part = right[:, first : first + _COLUMNS].double()
        total = torch.zeros(len(left), part.shape[1], dtype=torch.float64)
        for step in range(0, len(part), _AT_ONCE):
            total.addmm_(left[:, step : step + _AT_ONCE], part[step : step + _AT_ONCE])
            total.view(torch.int64).bitwise_and_(_KEPT_BITS)
        made[:, first : first + _COLUMNS] = total
    return made


def _convolution(
    values: Tensor,
    weight: Tensor,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    allow_tf32: bool,
    **_: bool,
) -> Tensor:
    if not allow_tf32:
        return functional.conv2d(values, weight, None, tuple(stride), tuple(padding), tuple(dilation), groups)
    outputs, channels, height, width = weight.shape
    matrix = weight.permute(0, 2, 3, 1).reshape(outputs, -1)  # all channels of a place of the kernel, then the next
    made = []
    for one in values.split(1):  # type: ignore[no-untyped-call]
        windows = functional.unfold(one, (height, width), tuple(dilation), tuple(padding), tuple(stride))[0]
        windows = windows.view(channels, height * width, -1).transpose(0, 1).reshape(channels * height * width, -1)
        rows = (one.shape[2] + 2 * padding[0] - dilation[0] * (height - 1) - 1) // stride[0] + 1
        made.append(summed_by_tensor_cores(matrix, windows).view(1, outputs, rows, -1))
    return torch.cat(made)


def _upsampling(
    values: Tensor,
    weight: Tensor,
    padding: Sequence[int],
    _output_padding: Sequence[int],
    stride: Sequence[int],
    *_given: object,
    allow_tf32: bool,
    **_: bool,
) -> Tensor:
    """Each input makes a square of outputs of its own: the kernel is as large as the stride."""
    if not allow_tf32:
        return functional.conv_transpose2d(values, weight, None, tuple(stride), tuple(padding))
    channels, outputs, height, width = weight.shape
    matrix = weight.permute(1, 2, 3, 0).reshape(-1, channels)
    made = []
    for one in values:
        squares = summed_by_tensor_cores(matrix, one.flatten(1)).view(outputs, height, width, *one.shape[1:])
        made.append(squares.permute(0, 3, 1, 4, 2).reshape(1, outputs, height * one.shape[1], width * one.shape[2]))
    return torch.cat(made)
