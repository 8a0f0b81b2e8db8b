"""The image tower of pico's encoder: EfficientNet-Lite0 and a linear projection, as arithmetic over a file's tensors.

open_clip builds the same tower out of timm. To import the two takes a second, a quarter of a first query: here a query
by an image needs neither. On a CPU in fp32 batch normalisation is folded into the convolutions, which takes 0.6 of the
time (docs/adr/0077); elsewhere each operation is theirs, in their order, as TF32 and fp16 would round folded weights.
Names of tensors are those of open_clip's files (`visual.trunk.conv_stem.weight`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_Tensors = Mapping[str, Tensor]
TOWER_PREFIX: Final = "visual."  # how names of an image tower's tensors begin
_NORM_EPS: Final = 1e-5
_NORM: Final = ("running_mean", "running_var", "weight", "bias")  # what `batch_norm` takes, in its order
_STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)  # of each stage's first block
_KNOWN: Final = {  # what of a configuration is built here; any other value or name is open_clip's to build
    "timm_model_name": "efficientnet_lite0",
    "timm_model_pretrained": False,
    "timm_pool": "avg",
    "timm_proj": "linear",
    "timm_proj_bias": True,
}


def is_lite_tower(vision: Mapping[str, Any]) -> bool:
    """Whether the vision part of open_clip's configuration describes this tower."""
    image_size = vision.get("image_size")
    return isinstance(image_size, int) and vision == {**_KNOWN, "image_size": image_size}


class LiteTower(nn.Module):
    """Normalised pixels (B, 3, S, S) -> embeddings (B, D). For inference alone."""

    def __init__(self, tensors: _Tensors, *, folded: bool) -> None:
        """Raises: KeyError, RuntimeError for tensors of another network."""
        super().__init__()
        trunk = _below(f"{TOWER_PREFIX}trunk.", tensors)
        self.stem = _Layer(trunk, "conv_stem", "bn1", folded=folded, stride=2)
        self.blocks = nn.Sequential(
            *(
                _Block(_below(f"blocks.{stage}.{block}.", trunk), folded=folded, stride=stride if block == 0 else 1)
                for stage, stride in enumerate(_STRIDES)
                for block in range(_count(trunk, f"blocks.{stage}."))
            )
        )
        self.head = _Layer(trunk, "conv_head", "bn2", folded=folded)
        self.weight = _fixed(tensors[f"{TOWER_PREFIX}head.proj.weight"])
        self.bias = _fixed(tensors[f"{TOWER_PREFIX}head.proj.bias"])

    def forward(self, pixels: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(self.head(self.blocks(self.stem(pixels))), 1).flatten(1)
        return functional.linear(pooled, self.weight, self.bias)


class _Block(nn.Module):
    """Widen, filter each channel, narrow; the first stage does not widen."""

    def __init__(self, tensors: _Tensors, *, folded: bool, stride: int) -> None:
        super().__init__()
        layer = partial(_Layer, tensors, folded=folded)
        if "conv_pwl.weight" in tensors:
            layers = [
                layer("conv_pw", "bn1"),
                layer("conv_dw", "bn2", stride=stride),
                layer("conv_pwl", "bn3", activated=False),
            ]
        else:
            layers = [layer("conv_dw", "bn1", stride=stride), layer("conv_pw", "bn2", activated=False)]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and layers[0].inputs == layers[-1].outputs

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.layers(values)
        return found + values if self.shortcut else found


class _Layer(nn.Module):
    """A convolution, batch normalisation by what training saw, and, if activated, ReLU6."""

    def __init__(
        self, tensors: _Tensors, name: str, norm: str, *, folded: bool, stride: int = 1, activated: bool = True
    ) -> None:
        super().__init__()
        kernel = tensors[f"{name}.weight"]
        mean, variance, gain, shift = (tensors[f"{norm}.{part}"] for part in _NORM)
        self.outputs, per_group, side, _ = kernel.shape
        self.groups = self.outputs if name == "conv_dw" else 1
        self.inputs = per_group * self.groups
        self.stride, self.padding, self.activated = stride, side // 2, activated
        if folded:
            scale = gain.double() / torch.sqrt(variance.double() + _NORM_EPS)
            kernel = kernel.double() * scale[:, None, None, None]
            self.bias: nn.Parameter | None = _fixed(shift.double() - mean.double() * scale)
            self.norm = nn.ParameterList()
        else:
            self.bias, self.norm = None, nn.ParameterList([_fixed(part) for part in (mean, variance, gain, shift)])
        self.kernel = _fixed(kernel)

    def forward(self, values: Tensor) -> Tensor:
        found = functional.conv2d(
            values, self.kernel, self.bias, stride=self.stride, padding=self.padding, groups=self.groups
        )
        if self.bias is None:
            mean, variance, gain, shift = self.norm
            found = functional.batch_norm(found, mean, variance, gain, shift, eps=_NORM_EPS)
        return functional.relu6(found, inplace=True) if self.activated else found


def _below(prefix: str, tensors: _Tensors) -> _Tensors:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _count(tensors: _Tensors, prefix: str) -> int:
    """How many blocks there are below a stage's name."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)})


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.to(torch.float32), requires_grad=False)
