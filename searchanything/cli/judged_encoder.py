"""The models and the hash layer that `searchanything eval` judges on annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from searchanything.cli.index import hash_choice

if TYPE_CHECKING:
    from searchanything.core.settings import Settings
    from searchanything.encode.encoder import Encoder


def judged_encoder(preset: str | None, hash_file: str | None, settings: Settings, crops: str | None = None) -> Encoder:
    """An encoder of a preset with what `--hash` names; warns of a layer that was trained on other features.

    Raises: UsageError, PresetError, ModelError.
    """
    from searchanything import wiring
    from searchanything.encode.fingerprint import manifest_of
    from searchanything.images.crop_policy import CropPolicy
    from searchanything.models.hashing import HashLayer

    choice = hash_choice(hash_file)
    layer = wiring.hash_layer_of(preset, choice, settings)
    encoder = wiring.load_encoder(preset, layer, settings, crops=CropPolicy(crops) if crops else None)
    if isinstance(choice, Path):
        features = manifest_of(encoder, preset or str(settings.models.preset)).feature_fingerprint
        HashLayer.from_bytes(layer).warn_of_other_features(features)
    return encoder
