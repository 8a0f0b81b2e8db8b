"""What makes codes of a GPU those of a CPU, as far as a CPU can tell: precisions, and the switches of each call."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from searchanything.core.settings import ModelSettings
from searchanything.models.compute import arithmetic, at_once, prepare_compute
from searchanything.models.device_regions import host_masks, packed_bits, unpacked_bits
from searchanything.models.exact import ExactConv2d, ExactUpsampling, exact_product


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one CUDA device, as far as torch is asked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


class OnCuda(Tensor):
    """A tensor that says it lies on a GPU."""

    is_cuda = True  # type: ignore[assignment]


def on_cuda(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(OnCuda)


@pytest.mark.usefixtures("cuda")
def test_on_cuda_the_segmenter_is_exact_and_the_encoder_fp16() -> None:
    settings = ModelSettings()
    assert prepare_compute(settings, "segmenter").dtype is torch.float32
    assert prepare_compute(settings, "encoder").dtype is torch.float16
    assert arithmetic(settings) == "cuda: segmenter fp32 without TF32, encoder fp16"
    assert (at_once(settings).models, at_once(settings).batches, at_once(settings).embedding) == (2, 1, 2)
    asked = ModelSettings(precision="bf16", segmenter_precision="fp16")
    assert arithmetic(asked) == "cuda: segmenter fp16, encoder bf16"


def test_on_a_cpu_both_are_fp32() -> None:
    settings = ModelSettings(device="cpu")
    assert arithmetic(settings) == "cpu: segmenter fp32, encoder fp32"
    assert at_once(settings).models == 1
    assert [at_once(ModelSettings(device="cpu", threads=threads)).batches for threads in (1, 2, 16)] == [1, 2, 4]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
def test_a_convolution_on_cuda_refuses_tf32_by_its_call(
    size: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def cudnn(x: Tensor, weight: Tensor, *sizes: Any, **flags: Any) -> Tensor:
        padding, strided, dilation, groups = sizes
        calls.append(flags)
        plain = x.as_subclass(Tensor)
        return nn.functional.conv2d(plain, weight, None, strided, padding, dilation, groups)

    monkeypatch.setattr(torch, "cudnn_convolution", cudnn)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    before = torch.backends.cudnn.allow_tf32
    layer = ExactConv2d(3, 4, size, stride=stride, padding=size // 2)
    pixels = torch.rand(2, 3, 9, 7)
    with torch.inference_mode():
        expected = layer(pixels)
        assert not calls, "on a CPU the call is PyTorch's own"
        found = layer(on_cuda(pixels))
    assert torch.allclose(found, expected, atol=1e-6)
    assert [one["allow_tf32"] for one in calls] == [False]
    assert torch.backends.cudnn.allow_tf32 is before, "the process's own switch is left alone"


def test_a_transposed_convolution_does_so_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def cudnn(
        x: Tensor, weight: Tensor, padding: Any, output: Any, stride: Any, dilation: Any, groups: int, **flags: Any
    ) -> Tensor:
        calls.append(flags)
        plain = x.as_subclass(Tensor)
        return nn.functional.conv_transpose2d(plain, weight, None, stride, padding, output, groups, dilation)

    monkeypatch.setattr(torch, "cudnn_convolution_transpose", cudnn)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    layer = ExactUpsampling(3, 3, 2, stride=2)
    pixels = torch.rand(1, 3, 4, 5)
    with torch.inference_mode():
        assert torch.allclose(layer(on_cuda(pixels)), layer(pixels), atol=1e-6)
    assert [one["allow_tf32"] for one in calls] == [False]


def mixed() -> str:
    raise RuntimeError("you have used mix of the legacy and new APIs to set the matmul precision")


OLD, NEW = {"torch": "2.6"}, {"torch": "2.9"}


@pytest.mark.parametrize(
    ("switches", "legacy", "exact"),
    [
        (OLD, lambda: "high", False),
        (OLD, lambda: "highest", True),
        (NEW | {"fp32_precision": "none"}, lambda: "highest", True),
        (NEW | {"fp32_precision": "tf32"}, lambda: "high", False),
        (NEW | {"fp32_precision": "tf32"}, mixed, False),  # where the process uses the newer switch, as is advised
        (NEW | {"fp32_precision": "ieee"}, mixed, True),
    ],
)
def test_a_product_on_cuda_is_exact_where_the_process_allows_tf32(
    switches: dict[str, str], legacy: Callable[[], str], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = torch.rand(5, 300), torch.rand(300, 6)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(**switches))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", legacy)
    doubles: list[torch.dtype] = []
    monkeypatch.setattr(
        OnCuda, "double", lambda self: (doubles.append(self.dtype), self.as_subclass(Tensor).to(torch.float64))[1]
    )
    found = exact_product(on_cuda(left), on_cuda(right))
    assert len(doubles) == (0 if exact else 2)
    assert torch.equal(found, left @ right if exact else (left.double() @ right.double()).float())


@pytest.mark.parametrize("shape", [(0, 4, 16), (3, 5, 1), (2, 7, 8), (4, 3, 21)])
def test_masks_are_packed_as_numpy_packs_them(shape: tuple[int, int, int]) -> None:
    masks = torch.rand(*shape) > 0.5
    expected = np.packbits(masks.numpy(), axis=-1)
    assert np.array_equal(packed_bits(masks).numpy(), expected)
    assert np.array_equal(np.unpackbits(expected, axis=-1, count=shape[-1]).view(np.bool_), masks.numpy())
    packed = packed_bits(masks)
    assert np.array_equal(host_masks(packed, shape[-1]), masks.numpy())
    assert torch.equal(unpacked_bits(packed, shape[-1]), masks)
