"""Each preset of today at its real size: random weights in the published format, loaded and used as fetched ones are.

Run by hand; each takes minutes, up to 8 GB of memory and 3 GB of disk:

    pytest -m slow tests/unit/models/test_presets_at_size.py -k base
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, processors

from searchanything.core.settings import ModelSettings
from searchanything.images.crops import image_crop
from searchanything.models import presets
from searchanything.models.presets import PRESETS
from searchanything.models.quiet import hub_offline, import_open_clip

TAGS = {"base": "meta", "large": "meta", "multilingual": "webli"}
TEXTS = ["a red car", "a teapot on a table"]


def save_tokenizer(path: Path) -> None:
    """A `tokenizer.json` of single letters, with the tokens that SigLIP 2's has."""
    letters = {
        name: number for number, name in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *" abcdefghijklmnopqrstuvwxyz"])
    }
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<pad>", "<eos>", "<bos>", "<unk>")])
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(path))


def save_weights(name: str, folder: Path) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Random weights as the publisher's file has them; what open_clip makes of an image and, if it can, texts."""
    open_clip, preset = import_open_clip(), PRESETS[name]
    torch.manual_seed(0)
    with hub_offline():
        model = open_clip.create_model(preset.architecture).eval()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, preset.encoder.path_in(folder))
    from open_clip.transform import PreprocessCfg, image_transform_v2

    stated = open_clip.get_pretrained_cfg(preset.architecture, TAGS[name])
    kept = {key: stated[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    size_px = open_clip.get_model_config(preset.architecture)["vision_cfg"]["image_size"]
    transform = image_transform_v2(PreprocessCfg(size=size_px, **kept), is_train=False)
    image = tiny_models.scene(240, 400, seed=2)
    texts = None
    with torch.inference_mode():
        embedded = model.encode_image(transform(Image.fromarray(image))[None], normalize=True).numpy()
        if preset.tokenizer is None:
            texts = model.encode_text(open_clip.get_tokenizer(preset.architecture)(TEXTS), normalize=True).numpy()
    del model
    gc.collect()
    return image, embedded, texts


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", TAGS)
def test_a_preset_loads_its_files_and_says_what_open_clip_says(name: str, tmp_path: Path) -> None:
    preset = PRESETS[name]
    image, expected, texts = save_weights(name, tmp_path)
    if preset.tokenizer is not None:
        save_tokenizer(preset.tokenizer.path_in(tmp_path))
    scale = {128: "s", 320: "x"}[preset.feature_dimension]
    tiny_models.save_segmenter(preset.segmenter.path_in(tmp_path), scale=scale)
    settings = ModelSettings(weights_dir=tmp_path, device="cpu", precision="fp32")
    encoder = presets.load_region_encoder(name, settings)
    assert encoder.dimension == preset.embedding_dimension
    crop = image_crop(image, size_px=encoder.crop_size_px, resizing=preset.resizing)
    np.testing.assert_allclose(encoder.embed_crops(crop[None]), expected, atol=1e-4)
    found = encoder.embed_texts(TEXTS)
    assert found.shape == (len(TEXTS), preset.embedding_dimension)
    if texts is not None:
        np.testing.assert_allclose(found, texts, atol=1e-4)
    assert presets.describe(name, settings)[1] == dict(encoder.description)
    segmenter = presets.load_segmenter(name, settings)
    (segmentation,) = segmenter.segment([image])
    pooled = segmentation.features.pool(segmentation.masks[:2])
    assert pooled.shape[1] == preset.feature_dimension
    codes = presets.load_hash(name).encode(pooled, np.repeat(expected, len(pooled), axis=0))
    assert codes.shape == (len(pooled), 32)
