"""Pico's image tower without open_clip: its embeddings, and in fp32, where it is folded, the same codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from searchanything.core.errors import ModelError, ModelLoadError
from searchanything.models.compute import Compute
from searchanything.models.lite_tower import is_lite_tower
from searchanything.models.openclip import OpenClipEncoder
from searchanything.models.presets import PICO, load_hash
from searchanything.models.quiet import hub_offline, import_open_clip
from searchanything.models.weights import CONFIG_FILE, PACKAGED_WEIGHTS, WEIGHTS_FILE

FOLDER = PACKAGED_WEIGHTS / "pico" / "encoder"
VISION = json.loads((FOLDER / CONFIG_FILE).read_text())["model_cfg"]["vision_cfg"]
CPU = torch.device("cpu")
BY_IMAGE = f"""
import sys
from pathlib import Path
import numpy as np
from searchanything.models.openclip import OpenClipEncoder
encoder = OpenClipEncoder.from_directory(Path({str(FOLDER)!r}))
encoder.embed_crops(np.zeros((1, 96, 96, 3), np.uint8))
others = ("open_clip", "timm", "torchvision", "huggingface_hub", "transformers")
print(*(name for name in others if name in sys.modules))
encoder.embed_texts(["a red square"])
print("open_clip" in sys.modules)
"""


@pytest.mark.parametrize(
    ("dtype", "count"),
    [(torch.float32, 1), (torch.float32, 5), (torch.float32, 33), (torch.bfloat16, 1), (torch.bfloat16, 5)],
)
def test_embeddings_are_open_clips(dtype: torch.dtype, count: int) -> None:
    crops = np.random.default_rng(count).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
    encoder = OpenClipEncoder.from_directory(FOLDER, compute=Compute(CPU, dtype))
    open_clip, precision = import_open_clip(), "fp32" if dtype == torch.float32 else "bf16"
    with hub_offline():
        model = open_clip.create_model(f"local-dir:{FOLDER}", precision=precision, require_pretrained=True)
    model.eval().visual.to(memory_format=torch.channels_last)
    found = encoder.embed_crops(crops)
    encoder._embed = model.encode_image
    expected = encoder.embed_crops(crops)
    if dtype == torch.float32:
        hasher, of_masks = load_hash("pico"), np.zeros((count, PICO.feature_dimension), np.float32)
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert not np.array_equal(found, expected)  # folded
        assert np.array_equal(hasher.encode(of_masks, found), hasher.encode(of_masks, expected))
    else:
        assert np.array_equal(found, expected)
    assert np.array_equal(encoder._mean.flatten().numpy(), np.float32(model.visual.image_mean) * np.float32(255))
    assert np.array_equal(encoder._std.flatten().numpy(), np.float32(model.visual.image_std) * np.float32(255))


def test_codes_are_the_same_however_many_crops_pass_at_once() -> None:
    """So a run may try numbers on crops that end in an index. Embeddings as well, on the CPUs that were seen."""
    crops = np.random.default_rng(7).integers(0, 256, (40, 96, 96, 3), dtype=np.uint8)
    hasher, of_masks = load_hash("pico"), np.zeros((40, PICO.feature_dimension), np.float32)
    expected = OpenClipEncoder.from_directory(FOLDER, batch=40).embed_crops(crops)
    for size in (1, 3, 8, 32):
        found = OpenClipEncoder.from_directory(FOLDER, batch=size).embed_crops(crops)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.array_equal(hasher.encode(of_masks, found), hasher.encode(of_masks, expected)), size
    tried = OpenClipEncoder.from_directory(FOLDER)
    for _ in range(4):
        found = tried.embed_many(crops)
        assert np.array_equal(hasher.encode(of_masks, found), hasher.encode(of_masks, expected))


def test_a_query_by_an_image_imports_none_of_open_clip_which_a_text_does() -> None:
    done = subprocess.run([sys.executable, "-c", BY_IMAGE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "True"]


@pytest.mark.parametrize(
    "change",
    [
        {"timm_model_name": "efficientnet_lite1"},
        {"timm_pool": "max"},
        {"timm_proj": "mlp"},
        {"timm_proj_bias": False},
        {"timm_drop": 0.1},
        {"image_size": [96, 64]},
    ],
)
def test_any_other_tower_is_open_clips(change: dict[str, Any]) -> None:
    assert is_lite_tower(VISION)
    assert not is_lite_tower({**VISION, **change})
    assert not is_lite_tower({})


@pytest.mark.parametrize("content", [b"damaged", b"\x02\0\0\0\0\0\0\0{}"])
def test_damaged_weights_are_refused_at_once(tmp_path: Path, content: bytes) -> None:
    damaged = shutil.copytree(FOLDER, tmp_path / "damaged")
    (damaged / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="weights of damaged cannot be loaded"):
        OpenClipEncoder.from_directory(damaged)


def test_what_embeds_texts_is_looked_at_when_a_text_comes(tmp_path: Path) -> None:
    damaged = shutil.copytree(FOLDER, tmp_path / "damaged")
    (damaged / "bpe_merges.txt.gz").write_bytes(b"no gzip")
    encoder = OpenClipEncoder.from_directory(damaged)
    assert encoder.embed_texts([]).shape == (0, 256)
    with pytest.raises(ModelLoadError, match="damaged: the weights of damaged cannot be loaded"):
        encoder.embed_texts(["a red square"])
