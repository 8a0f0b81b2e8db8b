"""The paper's models at their real size: random weights, saved and loaded as the `paper` preset's are.

Run by hand, it takes minutes, 12 GB of memory and 5 GB of disk:

    pytest -m slow tests/slow/test_paper_models.py --log-cli-level=INFO
"""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics_peer import import_ultralytics

from searchanything.core.settings import ModelSettings
from searchanything.images.crops import region_crops
from searchanything.models import presets
from searchanything.models.presets import PAPER
from searchanything.models.quiet import import_open_clip

logger = logging.getLogger(__name__)

PHOTOGRAPH = Path(presets.__file__).parents[1] / "demo" / "assets" / "backdrops" / "china.jpg"
REGIONS = 4  # ViT-H-14 takes seconds a crop on a CPU


def save_fastsam_x(path: Path) -> None:
    """YOLOv8x-seg with one class in FastSAM's file format; a raised class bias makes it find something."""
    tasks = import_ultralytics()
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    torch.manual_seed(0)
    config = {**YAML.load(check_yaml("yolov8-seg.yaml")), "scale": "x"}
    network = tasks.SegmentationModel(config, ch=3, nc=1, verbose=False)
    for branch in network.model[-1].cv3:
        torch.nn.init.constant_(branch[-1].bias, 1.0)
    torch.save({"model": network.half(), "ema": None, "train_args": {}}, path)


def save_vit_h_14(path: Path) -> None:
    """open_clip's ViT-H-14 with random weights, as `open_clip_pytorch_model.bin` is: a state dict."""
    torch.manual_seed(0)
    torch.save(import_open_clip().create_model("ViT-H-14").state_dict(), path)
    gc.collect()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_photograph_becomes_256_bits(tmp_path: Path) -> None:
    started = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal started
        now = time.perf_counter()
        logger.info("%s: %.1f s", what, now - started)
        started = now

    save_fastsam_x(PAPER.segmenter.path_in(tmp_path))
    lap("save FastSAM-x")
    save_vit_h_14(PAPER.encoder.path_in(tmp_path))
    lap("save ViT-H-14")
    settings = ModelSettings(weights_dir=tmp_path, device="cpu", precision="fp32")
    image = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    segmenter = presets.load_segmenter("paper", settings)
    lap("load FastSAM-x")
    found = segmenter.segment([image])[0]
    lap(f"segment {image.shape[1]} x {image.shape[0]} px into {len(found.scores)} regions")
    masks = found.masks[:REGIONS]
    pooled = found.features.pool(masks)
    lap("pool")
    encoder = presets.load_region_encoder("paper", settings)
    lap("load ViT-H-14")
    boxes = found.boxes_xyxy[: len(masks)]
    size_px, policy = encoder.crop_size_px, PAPER.crops
    crops = region_crops(image, found.letterbox, masks, boxes, size_px=size_px, policy=policy)
    embedded = encoder.embed_crops(crops)
    lap(f"embed {len(crops)} crops")
    text = encoder.embed_texts(["a photograph of a temple"])
    lap("embed a text")
    codes = presets.load_hash("paper").encode(pooled, embedded)
    assert len(masks) > 0
    assert pooled.shape == (len(masks), 320)
    assert embedded.shape == (len(masks), 1024)
    assert crops.shape[1:] == (224, 224, 3)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([embedded, text]), axis=1), 1, atol=1e-4)
    assert codes.shape == (len(masks), 32)
    assert codes.dtype == np.uint8
