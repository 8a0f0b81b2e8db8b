"""A preset's networks with random weights: for figures of speed where the published files are not at hand."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.batches import coarse_noise
from searchanything.models import presets
from searchanything.models.quiet import import_open_clip

_SCALES: Final = {64: "n", 128: "s", 320: "x"}  # of YOLOv8, by the channels of P3
_SCORE_BIAS: Final = -1.0
_SCORE_SPREAD: Final = 0.3


def make_weights(name: str, folder: Path) -> None:
    """Write the files of a preset into a folder of weights, if they are not there; its checksums no longer count.

    The segmenter's scores are spread so that it finds many regions, and its batch normalisation has seen some pixels.
    """
    preset = presets.find_preset(name)
    segmenter, encoder = (replace(one, sha256=None) for one in (preset.segmenter, preset.encoder))
    every: Any = presets.PRESETS
    every[name] = replace(preset, segmenter=segmenter, encoder=encoder)
    folder.mkdir(parents=True, exist_ok=True)
    if not segmenter.path_in(folder).exists():
        torch.save({"model": _segmenter(_SCALES[preset.feature_dimension]), "ema": None}, segmenter.path_in(folder))
    if not encoder.path_in(folder).exists():
        torch.manual_seed(0)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = import_open_clip().create_model(preset.architecture, device=device)
        torch.save({key: value.cpu() for key, value in model.state_dict().items()}, encoder.path_in(folder))


def _segmenter(scale: str) -> torch.nn.Module:
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(YOLO_CONFIG_DIR=home, YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0")
        from ultralytics.nn.tasks import SegmentationModel
        from ultralytics.utils import YAML
        from ultralytics.utils.checks import check_yaml
    torch.manual_seed(0)
    shape = YAML.load(check_yaml("yolov8-seg.yaml"))
    network: torch.nn.Module = SegmentationModel({**shape, "scale": scale}, ch=3, nc=1, verbose=False)
    layers: Any = network
    for branch in layers.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=_SCORE_SPREAD)
        torch.nn.init.constant_(branch[-1].bias, _SCORE_BIAS)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(coarse_noise(4, 256)).permute(0, 3, 1, 2).float() / 255)
    return network.eval().half()
