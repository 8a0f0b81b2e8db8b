"""Convolutions and products of the segmenter, whose fp32 on CUDA is fp32 whatever the process allows.

TF32, which PyTorch allows convolutions by default, keeps 10 bits of a factor's fraction: codes of a GPU then differ
from a CPU's in up to 59 of 256 bits (docs/adr/0074). To refuse it by the call costs the tensor cores, 8 times the time.
So there is a third way, known as 3xTF32: a float32 is nearly the sum of two numbers that TF32 keeps, and a product of
two such sums is made of three products (the fourth is below float32's last bit). Where weights are float16 numbers, as
in published files, TF32 keeps them whole, and two products are enough. All are added up by one convolution over twice
or three times the channels (docs/adr/0080).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

_KEPT_BITS: Final = -(1 << 13)  # of a float32, by TF32: all but the last 13
_MOST_TERMS: Final = 3


class ExactConv2d(nn.Conv2d):
    """A convolution whose fp32 on CUDA is without TF32, or from several of its products after `use_tensor_cores`."""

    unfolded: tuple[Tensor, Tensor] | None = None  # weights as the file has them, and what each output is scaled by
    _split: _SplitWeights | None = None

    def use_tensor_cores(self) -> None:
        """From now on fp32 on CUDA is a sum of TF32's products. To be called where the layer is on its device."""
        weight, scale = self.unfolded or (self.weight, None)
        self._split = _SplitWeights(weight.to(self.weight.device), scale, channels=1)

    def forward(self, input: Tensor) -> Tensor:
        if not _is_exact(input):
            return super().forward(input)
        split, flags = self._split, torch.backends.cudnn
        made: Tensor = torch.cudnn_convolution(
            input if split is None else split_channels(input, split.terms),
            self.weight if split is None else split.weight,
            [int(one) for one in self.padding],
            list(self.stride),
            list(self.dilation),
            self.groups,
            benchmark=flags.benchmark,
            deterministic=flags.deterministic,
            allow_tf32=split is not None,
        )
        return _shifted(made, self.bias, None if split is None else split.scale)


class ExactUpsampling(nn.ConvTranspose2d):
    """The same for a transposed convolution."""

    _split: _SplitWeights | None = None

    def use_tensor_cores(self) -> None:
        """As the above."""
        self._split = _SplitWeights(self.weight, None, channels=0)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not _is_exact(input):
            return super().forward(input, output_size)
        split, flags = self._split, torch.backends.cudnn
        made: Tensor = torch.cudnn_convolution_transpose(
            input if split is None else split_channels(input, split.terms),
            self.weight if split is None else split.weight,
            [0, 0],
            [0, 0],
            list(self.stride),
            [1, 1],
            self.groups,
            benchmark=flags.benchmark,
            deterministic=flags.deterministic,
            allow_tf32=split is not None,
        )
        return _shifted(made, self.bias, None)


class _SplitWeights:
    """Weights over the channels that `split_channels` makes: `terms` times as many."""

    __slots__ = ("scale", "terms", "weight")

    def __init__(self, weight: Tensor, scale: Tensor | None, *, channels: int) -> None:
        """`channels` is the dimension of the weights that inputs' channels are in."""
        weight = weight.detach().float()
        kept = kept_by_tf32(weight)
        rest = weight - kept
        parts = [kept, kept, rest] if rest.any() else [kept, kept]
        self.terms = len(parts)
        self.weight = torch.cat(parts, dim=channels).contiguous(memory_format=torch.channels_last)
        self.scale = None if scale is None else scale.to(weight.device)


def split_channels(values: Tensor, terms: int) -> Tensor:
    """(B, C, h, w) float32 -> (B, terms * C, h, w): what TF32 keeps of the values, what it leaves, the first again.

    `terms` is 2 or 3. Their sum over the first two is the input to the last bit.
    """
    count, channels, height, width = values.shape
    shape = (count, terms * channels, height, width)
    made = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=torch.channels_last)
    kept = made[:, :channels]
    torch.bitwise_and(values.view(torch.int32), _KEPT_BITS, out=made.view(torch.int32)[:, :channels])
    torch.sub(values, kept, out=made[:, channels : 2 * channels])
    if terms == _MOST_TERMS:
        made[:, 2 * channels :] = kept
    return made


def kept_by_tf32(values: Tensor) -> Tensor:
    """Float32 values as TF32 keeps them: with the first 10 bits of their fraction."""
    return (values.contiguous().view(torch.int32) & _KEPT_BITS).view(torch.float32)


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """A product of fp32 matrices in at least fp32, also where the process allows TF32 for its own."""
    if left.is_cuda and not _is_plain_fp32():
        return (left.double() @ right.double()).float()
    return left @ right


def _is_plain_fp32() -> bool:
    """Whether products of fp32 matrices on CUDA are that: by PyTorch's newer switch, which the older cannot read."""
    switch = getattr(torch.backends.cuda.matmul, "fp32_precision", None)  # since PyTorch 2.9
    return torch.get_float32_matmul_precision() == "highest" if switch is None else switch in ("none", "ieee")


def _is_exact(values: Tensor) -> bool:
    """Whether a convolution of these values is to be made by cuDNN, in fp32."""
    is_fp32 = values.is_cuda and values.dtype == torch.float32
    return is_fp32 and bool(torch.backends.cudnn.is_available())  # type: ignore[no-untyped-call]


def _shifted(made: Tensor, bias: Tensor | None, scale: Tensor | None) -> Tensor:
    """Outputs (B, C, h, w), scaled and shifted by channel."""
    if bias is None:
        return made if scale is None else made * scale[:, None, None]
    if scale is None:
        return made + bias[:, None, None]
    return torch.addcmul(bias[:, None, None], made, scale[:, None, None])
