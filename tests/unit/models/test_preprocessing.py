"""What each preset shows its encoder, against open_clip's own transform for its weights: no model is made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from fakes.models import fake_encoder
from PIL import Image

from searchanything.core.types import RGBImage
from searchanything.encode.encoder import RegionJob
from searchanything.encode.fingerprint import manifest_of
from searchanything.images.crops import image_crop
from searchanything.images.resizing import Interpolation, ResizeMode, Resizing
from searchanything.models.options import EncoderOptions
from searchanything.models.presets import PRESETS, Preset
from searchanything.models.quiet import import_open_clip

TAGS = {"base": "meta", "large": "meta", "multilingual": "webli"}  # open_clip's names of the published weights
SHAPES = ((300, 200), (91, 400), (37, 41))


def open_clips_own(preset: Preset, image: RGBImage, size_px: int) -> np.ndarray:
    open_clip = import_open_clip()
    from open_clip.transform import PreprocessCfg, image_transform_v2

    stated = open_clip.get_pretrained_cfg(preset.architecture, TAGS[preset.name])
    names = ("mean", "std", "interpolation", "resize_mode")
    transform = image_transform_v2(
        PreprocessCfg(size=size_px, **{name: stated[name] for name in names}), is_train=False
    )
    return transform(Image.fromarray(image)).numpy()


def size_of(preset: Preset) -> int:
    config = import_open_clip().get_model_config(preset.architecture)
    return int(config["vision_cfg"]["image_size"])


@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_image_is_prepared_as_open_clip_prepares_it(name: str, shape: tuple[int, int]) -> None:
    preset = PRESETS[name]
    image, size_px = tiny_models.scene(*shape, seed=3), size_of(preset)
    crop = image_crop(image, size_px=size_px, resizing=preset.resizing)
    options = preset.encoder_options
    assert options.mean is not None
    assert options.std is not None
    ours = (crop.astype(np.float32) / 255 - np.array(options.mean)) / np.array(options.std)
    np.testing.assert_allclose(ours.transpose(2, 0, 1), open_clips_own(preset, image, size_px), atol=2e-6)


@pytest.mark.parametrize("name", TAGS)
def test_the_dimensions_are_open_clip_s(name: str) -> None:
    config = import_open_clip().get_model_config(PRESETS[name].architecture)
    assert PRESETS[name].embedding_dimension == config["embed_dim"]
    assert ("hf_tokenizer_name" in config["text_cfg"]) == (PRESETS[name].tokenizer is not None)


def test_fingerprints_of_the_presets_from_before_stay() -> None:
    """What the old presets say is what it was, word by word; the new ones say what is different."""
    digest, file = "0" * 64, "1" * 64
    for name, architecture in {"pico": "encoder", "small": "ViT-B-32-256", "paper": "ViT-H-14"}.items():
        preset = PRESETS[name]
        described = preset.encoder_options.description(architecture, digest)
        assert described == {"encoder": architecture, "weights_sha256": digest}
        assert preset.resizing == Resizing()
    assert PRESETS["multilingual"].encoder_options.description("x", digest, file) == {
        "encoder": "x",
        "weights_sha256": digest,
        "image_mean": "0.5 0.5 0.5",
        "image_std": "0.5 0.5 0.5",
        "tokenizer_sha256": file,
    }


def test_resizing_is_in_the_fingerprint_unless_it_is_what_it_always_was() -> None:
    encoder = fake_encoder()
    plain = manifest_of(encoder, "pico")
    assert "resizing" not in plain.details
    squashed = replace(encoder, resizing=Resizing(ResizeMode.SQUASH, Interpolation.BICUBIC))
    other = replace(encoder, resizing=Resizing(ResizeMode.SQUASH, Interpolation.BILINEAR))
    prints = {manifest_of(one, "pico").feature_fingerprint for one in (encoder, squashed, other)}
    assert len(prints) == 3
    assert manifest_of(squashed, "pico").details["resizing"] == "squash bicubic"


def test_the_encoder_s_own_resizing_reaches_the_embedder() -> None:
    """A wide region fills a squashed crop; lying on black it would not."""
    encoder = fake_encoder()
    image = np.full((10, 90, 3), 250, dtype=np.uint8)
    (segmentation,) = encoder.segmenter.segment([image])
    job = RegionJob.of_rows(image, segmentation, np.arange(1), whole_image=True)
    squashed = replace(encoder, resizing=Resizing(ResizeMode.SQUASH, Interpolation.BILINEAR))
    assert (job.crops(encoder.crops, encoder.resizing, encoder.embedder.crop_size_px) == 0).any(axis=(1, 2, 3)).all()
    assert (job.crops(encoder.crops, squashed.resizing, encoder.embedder.crop_size_px) == 250).all()
    assert squashed.embed_regions([job]).shape == (2, encoder.embedder.dimension)


@pytest.mark.parametrize("wrong", [{"mean": (0.5, 0.5, 0.5)}, {"mean": (0, 0, 0), "std": (1, 0, 1)}])
def test_half_a_normalisation_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        EncoderOptions(**wrong)


def test_the_short_side_of_a_thread_is_a_pixel() -> None:
    sides = np.array([[1, 1000], [1000, 1], [3, 3], [100, 51]])
    assert Resizing().sizes(sides, 32).tolist() == [[1, 32], [32, 1], [32, 32], [32, 16]]
    thread = np.full((1, 1000, 3), 9, dtype=np.uint8)
    np.testing.assert_array_equal(Resizing().apply(thread, 32), np.full((1, 32, 3), 9))
