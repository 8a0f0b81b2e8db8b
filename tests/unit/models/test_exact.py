"""fp32 on CUDA out of TF32's products. cuDNN is a stand-in that keeps of its factors what TF32 keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from test_compute import on_cuda
from torch import Tensor, nn

from searchanything.models.exact import ExactConv2d, ExactUpsampling, kept_by_tf32, split_channels
from searchanything.models.presets import PICO
from searchanything.models.weights import locate
from searchanything.models.yolo import YoloSegmenter
from searchanything.models.yolo_file import read_tensors

CPU_DEVICE = torch.device("cpu")


def factors(*tensors: Tensor, allow_tf32: bool) -> list[Tensor]:
    """What a product is made of, in float64: sums are exact."""
    plain = [one.detach().as_subclass(Tensor) for one in tensors]
    return [(kept_by_tf32(one) if allow_tf32 else one).double() for one in plain]


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether TF32 was allowed, call by call."""
    seen: list[bool] = []

    def convolve(
        x: Tensor, weight: Tensor, padding: Any, strided: Any, dilation: Any, groups: int, *, allow_tf32: bool, **_: Any
    ) -> Tensor:
        seen.append(allow_tf32)
        values, weights = factors(x, weight, allow_tf32=allow_tf32)
        return on_cuda(nn.functional.conv2d(values, weights, None, strided, padding, dilation, groups).float())

    def transposed(
        x: Tensor, weight: Tensor, padding: Any, output: Any, strided: Any, dilation: Any, groups: int, **flags: Any
    ) -> Tensor:
        seen.append(flags["allow_tf32"])
        values, weights = factors(x, weight, allow_tf32=flags["allow_tf32"])
        found = nn.functional.conv_transpose2d(values, weights, None, strided, padding, output, groups, dilation)
        return on_cuda(found.float())

    monkeypatch.setattr(torch, "cudnn_convolution", convolve)
    monkeypatch.setattr(torch, "cudnn_convolution_transpose", transposed)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    return seen


def worst(found: Tensor, exact: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
@example([2.0**-149 * 0x2FFF] * 8)  # a subnormal number: what is left of it is a third
def test_the_first_two_parts_are_the_value(numbers: list[float]) -> None:
    values = torch.tensor(numbers, dtype=torch.float32).view(1, 2, 2, 2)
    parts = split_channels(values, 2)
    kept, left = parts[:, :2], parts[:, 2:]
    assert torch.equal(kept + left, values)
    assert not (kept.contiguous().view(torch.int32) & 0x1FFF).any()
    normal = kept.abs().double().clamp(min=2**-126)  # below that all numbers are as far apart
    assert (left.abs().double() < normal * 2**-10).all()


@pytest.mark.parametrize(("kind", "products"), [(torch.float16, 2), (torch.float32, 3)])
@pytest.mark.parametrize("layer", ["convolution", "strided", "upsampling"])
def test_products_of_tf32_come_to_fp32(kind: torch.dtype, products: int, layer: str, calls: list[bool]) -> None:
    torch.manual_seed(0)
    made: ExactConv2d | ExactUpsampling
    if layer == "upsampling":
        made = ExactUpsampling(24, 8, 2, stride=2)
    else:
        made = ExactConv2d(24, 8, 3, stride=2 if layer == "strided" else 1, padding=1)
    weight = made.weight.detach().to(kind).float()
    made.weight = nn.Parameter(weight, requires_grad=False)
    values = torch.randn(2, 24, 9, 7)
    with torch.inference_mode():
        exact = made.double()(values.double())
        made.float()
        alone = factors(values, made.weight, allow_tf32=True)
        made.use_tensor_cores()
        found = made(on_cuda(values))
        plain = made.double()
        plain.weight = nn.Parameter(alone[1], requires_grad=False)
        only_tf32 = worst(plain(alone[0]).float(), exact)
    assert worst(found, exact) < 1e-6 < 1e-4 < only_tf32
    assert calls == [True]
    assert made._split is not None
    assert made._split.terms == products


def outputs(network: YoloSegmenter, pixels: Tensor, wrap: Callable[[Tensor], Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        found = network(wrap(pixels))
    return [one.as_subclass(Tensor) for one in found]


@pytest.mark.parametrize("file", ["pico", "tiny"])
def test_a_network_on_tensor_cores_is_the_cpus(file: str, calls: list[bool], tmp_path: Path) -> None:
    path = locate(PICO.segmenter, tmp_path) if file == "pico" else tiny_models.save_segmenter(tmp_path / "tiny.pt")
    pixels = torch.from_numpy(np.stack([tiny_models.scene(96, 64)])).permute(0, 3, 1, 2).float() / 255
    network = YoloSegmenter(read_tensors(path)).eval()
    expected = outputs(network, pixels, lambda values: values)
    assert not calls
    network.to_device(CPU_DEVICE, torch.float32, tensor_cores=True)
    layers = [one for one in network.modules() if isinstance(one, ExactConv2d | ExactUpsampling)]
    assert {one._split.terms for one in layers if one._split is not None} == {2}, "the files hold float16 numbers"
    found = outputs(network, pixels, on_cuda)
    assert calls == [True] * len(layers)
    for one, exact in zip(found, expected, strict=True):
        assert worst(one, exact.double()) < 2e-5


def test_without_them_nothing_is_kept_for_them(tmp_path: Path) -> None:
    network = YoloSegmenter(read_tensors(locate(PICO.segmenter, tmp_path))).eval()
    network.to_device(CPU_DEVICE, torch.float32)
    layers = [one for one in network.modules() if isinstance(one, ExactConv2d)]
    assert layers
    assert all(one._split is None and one.unfolded is None for one in layers)


def test_beside_a_trunk_in_half_precision_the_head_has_them(tmp_path: Path) -> None:
    network = YoloSegmenter(read_tensors(locate(PICO.segmenter, tmp_path))).eval()
    network.to_device(CPU_DEVICE, torch.float16, tensor_cores=True)
    for part, split in ((network.trunk, False), (network.head, True)):
        layers = [one for one in part.modules() if isinstance(one, ExactConv2d | ExactUpsampling)]
        assert {one._split is not None for one in layers} == {split}
