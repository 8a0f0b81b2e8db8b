"""Small real models with random weights, for tests of the code that loads and runs the large ones."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics_peer import import_ultralytics

from searchanything.core.types import RGBImage
from searchanything.models import presets
from searchanything.models.quiet import import_open_clip

TINY_BPE = ["t h", "th e</w>", "r e", "re d</w>", "c a", "ca r</w>"]
TINY_VOCABULARY = 512 + len(TINY_BPE) + 2  # bytes, bytes that end a word, merges, start and end of text


def scene(height: int, width: int, *, seed: int = 0) -> RGBImage:
    """Coloured rectangles on a gradient: something with edges at every scale."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(40, 200, width, dtype=np.float32)[None, :, None]
    image = np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8).copy()
    for _ in range(15):
        x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
        far = x + int(generator.integers(1, width // 3 + 2)), y + int(generator.integers(1, height // 3 + 2))
        cv2.rectangle(image, (x, y), far, tuple(int(value) for value in generator.integers(0, 256, 3)), -1)
    return image


def save_segmenter(path: Path, *, scale: str = "n", seed: int = 0, classes: int = 1) -> Path:
    """A YOLOv8-seg network of ultralytics' own description, in FastSAM's file format, that finds many regions.

    One pass in training mode gives its batch normalisation real statistics, so that activations, scores and masks vary
    from place to place as those of a trained network do.
    """
    tasks = import_ultralytics()
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    torch.manual_seed(seed)
    config = YAML.load(check_yaml("yolov8-seg.yaml"))
    network = tasks.SegmentationModel({**config, "scale": scale}, ch=3, nc=classes, verbose=False)
    for branch in network.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.3)
        torch.nn.init.constant_(branch[-1].bias, -1.0)
    _adapt_statistics(network)
    network.task = "segment"
    network.names = dict.fromkeys(range(classes), "object")
    torch.save({"model": copy.deepcopy(network).half(), "ema": None, "train_args": {}}, path)
    return path


def save_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A two-layer open_clip model (32-d, 32 px) with a tokenizer of a few merges, as `local-dir:` reads it."""
    open_clip = import_open_clip()
    from safetensors.torch import save_file

    model_cfg = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": TINY_VOCABULARY, "width": 64, "heads": 2, "layers": 2},
    }
    preprocess_cfg = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "size": [32, 32]}
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}), encoding="utf-8"
    )
    with gzip.open(folder / "bpe_merges.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version: tiny", *TINY_BPE]))
    torch.manual_seed(seed)
    model = open_clip.CLIP(**copy.deepcopy(model_cfg))
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def save_small_preset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a preset `small` that is made of the two above, and until the end the only preset."""
    folder.mkdir()
    save_segmenter(folder / "FastSAM-s.pt")
    save_encoder(folder / "encoder")
    small = presets.PRESETS["small"]
    tiny = dataclasses.replace(
        small,
        options=dataclasses.replace(small.options, input_size_px=128, max_detections=20),
        encoder=dataclasses.replace(small.encoder, file_name="encoder"),
        architecture=None,
        feature_dimension=64,
        embedding_dimension=32,
    )
    monkeypatch.setattr(presets, "PRESETS", {"small": tiny})
    return folder


def _adapt_statistics(network: torch.nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    batch = np.stack([scene(256, 256, seed=seed) for seed in range(4)])
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255)
    network.eval()
