"""Small real models with random weights, for tests of the code that loads and runs the large ones."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

import torch

from searchanything.models.quiet import import_open_clip, import_ultralytics

TINY_BPE = ["t h", "th e</w>", "r e", "re d</w>", "c a", "ca r</w>"]
TINY_VOCABULARY = 512 + len(TINY_BPE) + 2  # bytes, bytes that end a word, merges, start and end of text


def save_segmenter(path: Path, *, scale: str = "n", seed: int = 0, classes: int = 1) -> Path:
    """A YOLOv8-seg network of ultralytics' own description, in FastSAM's file format, that finds many regions.

    Random weights score every anchor alike near 0, so the class bias is raised and its weights spread.
    """
    tasks = import_ultralytics()
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    torch.manual_seed(seed)
    config = YAML.load(check_yaml("yolov8-seg.yaml"))
    network = tasks.SegmentationModel({**config, "scale": scale}, ch=3, nc=classes, verbose=False)
    for branch in network.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.5)
        torch.nn.init.constant_(branch[-1].bias, -1.5)
    for module in network.modules():  # untrained statistics: let activations vary from place to place
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.1)
    network.names = {number: "object" for number in range(classes)}
    torch.save({"model": copy.deepcopy(network).half(), "ema": None, "train_args": {}}, path)
    return path


def save_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A two-layer open_clip model (32-d, 32 px) with a tokenizer of a few merges, as open_clip's `local-dir:` reads it."""
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
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder
