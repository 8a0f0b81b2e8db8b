"""The network of FastSAM: YOLOv8 with a segmentation head, as arithmetic over the tensors of a file.

The architecture is that of the published models (n to x are one graph with other widths and depths): a backbone, a
feature pyramid whose levels have strides 8, 16 and 32, and a head that gives boxes, scores, mask coefficients and mask
prototypes. Names of tensors are those of ultralytics' files (`model.0.conv.weight`), so that FastSAM-s, FastSAM-x and
ours load; ultralytics itself is not needed. Batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from searchanything.models.exact import ExactConv2d, ExactUpsampling
from searchanything.models.yolo_file import ForeignFileError

Tensors = Mapping[str, Tensor]
STRIDES: Final = (8, 16, 32)
BOX_BINS: Final = 16  # a box side is the mean of a distribution over so many distances
_NORM_EPS: Final = 1e-3
_HEAD: Final = "model.22"
_POOL: Final = 5


class Output(NamedTuple):
    """One pass over B images of one input shape."""

    predictions: Tensor  # (B, 4 + classes + coefficients, anchors) float32, boxes as centre and size in input pixels
    prototypes: Tensor  # (B, coefficients, height / 4, width / 4) float32
    features: Tensor  # P3: (B, C, height / 8, width / 8) in the trunk's precision


class YoloSegmenter(nn.Module):
    """YOLOv8-seg with one path: pixels (B, 3, height, width) in [0, 1] -> `Output`. For inference alone.

    The head runs in fp32 whatever the trunk's precision is: it decodes box coordinates up to thousands of pixels, and
    in bf16 a box edge at 1000 px would be off by up to 2 px.
    """

    def __init__(self, tensors: Tensors) -> None:
        """Raises: KeyError, RuntimeError or ValueError for tensors of another network."""
        super().__init__()
        if f"{_HEAD}.proto.cv1.conv.weight" not in tensors:
            raise ForeignFileError("expected a YOLOv8-seg network, whose 22nd layer is its segmentation head")
        for branch in _BRANCHES:
            if f"{_HEAD}.{branch}.0.0.conv.weight" not in tensors:
                raise ForeignFileError(
                    f"expected the head of YOLOv8-seg, whose branches {', '.join(_BRANCHES)} are convolutions; here "
                    f"{branch} is none, as in YOLOE, which compares classes with texts: such a head is not supported"
                )
        self.trunk = _Trunk(tensors)
        self.head = _Head(tensors)

    @property
    def feature_dimension(self) -> int:
        """C, the channels of P3 (n: 64, s: 128, x: 320)."""
        return self.head.feature_dimension

    def to_device(self, device: torch.device, dtype: torch.dtype, *, tensor_cores: bool = False) -> YoloSegmenter:
        """Move the network; `dtype` is the trunk's. With `tensor_cores` what is fp32 is made of TF32's products."""
        self.to(device).to(memory_format=torch.channels_last)
        self.trunk.to(dtype)
        for layer in self.modules():
            if (
                isinstance(layer, ExactConv2d | ExactUpsampling)
                and tensor_cores
                and layer.weight.dtype == torch.float32
            ):
                layer.use_tensor_cores()
            if isinstance(layer, ExactConv2d):
                layer.unfolded = None
        return self

    def forward(self, pixels: Tensor) -> Output:
        levels = self.trunk(pixels)
        predictions, prototypes = self.head([level.float() for level in levels])
        return Output(predictions, prototypes, levels[0])


class _Trunk(nn.Module):
    """Backbone and pyramid: P3, P4 and P5."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(tensors, "model.0", stride=2), _conv(tensors, "model.1", stride=2))
        self.to_p2 = _Split(tensors, "model.2", shortcut=True)
        self.to_p3 = _down(tensors, 3, 4)
        self.to_p4 = _down(tensors, 5, 6)
        self.to_p5 = nn.Sequential(_down(tensors, 7, 8), _PoolPyramid(tensors, "model.9"))
        self.up_p4 = _Split(tensors, "model.12")
        self.up_p3 = _Split(tensors, "model.15")
        self.shrink_p3 = _conv(tensors, "model.16", stride=2)
        self.down_p4 = _Split(tensors, "model.18")
        self.shrink_p4 = _conv(tensors, "model.19", stride=2)
        self.down_p5 = _Split(tensors, "model.21")

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.to_p3(self.to_p2(self.stem(pixels)))
        c4 = self.to_p4(c3)
        c5 = self.to_p5(c4)
        u4 = self.up_p4(torch.cat((_doubled(c5), c4), dim=1))
        p3 = self.up_p3(torch.cat((_doubled(u4), c3), dim=1))
        p4 = self.down_p4(torch.cat((self.shrink_p3(p3), u4), dim=1))
        p5 = self.down_p5(torch.cat((self.shrink_p4(p4), c5), dim=1))
        return p3, p4, p5


class _Head(nn.Module):
    """Boxes, scores and coefficients of each level, and the prototypes from P3."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.boxes, self.scores, self.coefficients = (_branches(tensors, f"{_HEAD}.{name}") for name in _BRANCHES)
        self.prototypes = nn.Sequential(
            _conv(tensors, f"{_HEAD}.proto.cv1"),
            _upsampling(tensors, f"{_HEAD}.proto.upsample"),
            _conv(tensors, f"{_HEAD}.proto.cv2"),
            _conv(tensors, f"{_HEAD}.proto.cv3"),
        )
        self.feature_dimension = int(tensors[f"{_HEAD}.cv2.0.0.conv.weight"].shape[1])
        self.classes = _outputs(tensors, "cv3")
        self.mask_coefficients = _outputs(tensors, "cv4")
        if _outputs(tensors, "cv2") != 4 * BOX_BINS:
            raise ForeignFileError(f"expected {4 * BOX_BINS} values per box, got {_outputs(tensors, 'cv2')}")

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        boxes = torch.cat([branch(level).flatten(2) for branch, level in zip(self.boxes, levels, strict=True)], dim=2)
        scores, coefficients = (
            torch.cat([branch(level).flatten(2) for branch, level in zip(branches, levels, strict=True)], dim=2)
            for branches in (self.scores, self.coefficients)
        )
        decoded = _decoded(boxes, levels)
        return torch.cat((decoded, scores.sigmoid(), coefficients), dim=1), self.prototypes(levels[0])


_BRANCHES: Final = ("cv2", "cv3", "cv4")  # boxes, scores, coefficients


class _Split(nn.Module):
    """C2f: half of the channels pass through a chain of bottlenecks, and all links of the chain are joined."""

    def __init__(self, tensors: Tensors, name: str, *, shortcut: bool = False) -> None:
        super().__init__()
        links = {int(found[1]) for key in tensors if (found := re.match(rf"{re.escape(name)}\.m\.(\d+)\.", key))}
        self.enter, self.leave = _conv(tensors, f"{name}.cv1"), _conv(tensors, f"{name}.cv2")
        self.links = nn.ModuleList(
            nn.Sequential(_conv(tensors, f"{name}.m.{link}.cv1"), _conv(tensors, f"{name}.m.{link}.cv2"))
            for link in sorted(links)
        )
        self.shortcut = shortcut

    def forward(self, values: Tensor) -> Tensor:
        chain = list(self.enter(values).chunk(2, dim=1))
        for link in self.links:
            found = link(chain[-1])
            chain.append(chain[-1] + found if self.shortcut else found)
        joined: Tensor = self.leave(torch.cat(chain, dim=1))
        return joined


class _PoolPyramid(nn.Module):
    """SPPF: the maximum over growing windows, joined."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self.enter, self.leave = _conv(tensors, f"{name}.cv1"), _conv(tensors, f"{name}.cv2")

    def forward(self, values: Tensor) -> Tensor:
        windows = [self.enter(values)]
        for _ in range(3):
            windows.append(functional.max_pool2d(windows[-1], _POOL, stride=1, padding=_POOL // 2))
        joined: Tensor = self.leave(torch.cat(windows, dim=1))
        return joined


def _decoded(distributions: Tensor, levels: list[Tensor]) -> Tensor:
    """Distances to a box's sides (B, 4 * BOX_BINS, anchors) -> its centre and size (B, 4, anchors) in input pixels."""
    batch, _, anchors = distributions.shape
    weights = distributions.view(batch, 4, BOX_BINS, anchors).softmax(dim=2)
    bins = torch.arange(BOX_BINS, dtype=weights.dtype, device=weights.device)
    near, far = torch.einsum("bsna,n->bsa", weights, bins).chunk(2, dim=1)
    centres, strides = _anchors(levels)
    low, high = centres - near, centres + far
    return torch.cat(((low + high) / 2, high - low), dim=1) * strides


def _anchors(levels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The centres (2, anchors) of all cells, in cells of their level, and the strides (1, anchors)."""
    centres, strides = [], []
    for level, stride in zip(levels, STRIDES, strict=True):
        height, width = level.shape[-2:]
        rows = torch.arange(height, dtype=level.dtype, device=level.device) + 0.5
        columns = torch.arange(width, dtype=level.dtype, device=level.device) + 0.5
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack((x, y)).flatten(1))
        strides.append(torch.full((1, height * width), stride, dtype=level.dtype, device=level.device))
    return torch.cat(centres, dim=1), torch.cat(strides, dim=1)


def _doubled(values: Tensor) -> Tensor:
    return functional.interpolate(values, scale_factor=2.0, mode="nearest")


def _down(tensors: Tensors, shrink: int, split: int) -> nn.Sequential:
    return nn.Sequential(_conv(tensors, f"model.{shrink}", stride=2), _Split(tensors, f"model.{split}", shortcut=True))


def _branches(tensors: Tensors, name: str) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(
            _conv(tensors, f"{name}.{level}.0"),
            _conv(tensors, f"{name}.{level}.1"),
            _plain(tensors, f"{name}.{level}.2"),
        )
        for level in range(len(STRIDES))
    )


def _outputs(tensors: Tensors, branch: str) -> int:
    return len(tensors[f"{_HEAD}.{branch}.0.2.bias"])


def _conv(tensors: Tensors, name: str, *, stride: int = 1) -> nn.Sequential:
    """A convolution with its batch normalisation folded in, and SiLU."""
    weight = tensors[f"{name}.conv.weight"].float()
    gain, shift, mean, variance = (
        tensors[f"{name}.bn.{part}"].float() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / torch.sqrt(variance + _NORM_EPS)
    layer = _convolution(weight * scale[:, None, None, None], shift - mean * scale, stride=stride)
    layer.unfolded = tensors[f"{name}.conv.weight"], scale
    return nn.Sequential(layer, nn.SiLU(inplace=True))


def _plain(tensors: Tensors, name: str) -> nn.Conv2d:
    return _convolution(tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float())


def _convolution(weight: Tensor, bias: Tensor, *, stride: int = 1) -> ExactConv2d:
    outputs, inputs, height, width = weight.shape
    layer = ExactConv2d(inputs, outputs, (height, width), stride=stride, padding=(height // 2, width // 2))
    _fill(layer, weight, bias)
    return layer


def _upsampling(tensors: Tensors, name: str) -> nn.ConvTranspose2d:
    weight, bias = tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()
    inputs, outputs, height, width = weight.shape
    layer = ExactUpsampling(inputs, outputs, (height, width), stride=2)
    _fill(layer, weight, bias)
    return layer


def _fill(layer: nn.Conv2d | nn.ConvTranspose2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
