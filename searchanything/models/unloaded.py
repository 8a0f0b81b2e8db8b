"""What a preset's encoder would be, as its files and the settings say: nothing is loaded, torch neither.

That spares half a gigabyte to a process that only looks whether others can work, such as the one that `watch` is.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, NoReturn

from searchanything.core.protocols import Hasher
from searchanything.core.settings import ModelSettings
from searchanything.encode.encoder import Encoder
from searchanything.encode.region_policy import RegionPolicy
from searchanything.models import quiet
from searchanything.models.lazy import LazyEncoder, LazySegmenter
from searchanything.models.options import tiled_description
from searchanything.models.presets import describe, find_preset

_ALWAYS_THERE: Final = ("auto", "cpu")  # of devices; torch knows the others


def unloaded_encoder(
    name: str, hasher: Hasher, settings: ModelSettings, *, policy: RegionPolicy, tile_px: int | None
) -> Encoder:
    """The encoder of a preset, to be described: it encodes nothing. Its weights are there, and the right ones.

    Raises: WeightsMissingError, ModelError, PresetError; SettingsError where the device is not there, LibraryError
    where torch is not.
    """
    if find_spec("torch") is None:
        quiet.import_torch()
    if settings.device not in _ALWAYS_THERE:
        quiet.import_torch()
        from searchanything.models.compute import prepare_compute

        prepare_compute(settings, "segmenter")
    preset = find_preset(name)
    of_segmenter, of_encoder = describe(name, settings)
    if tile_px is not None:
        of_segmenter = tiled_description(of_segmenter, tile_px)
    return Encoder(
        LazySegmenter(preset.segmenter.name, _never, dimension=preset.feature_dimension, description=of_segmenter),
        LazyEncoder(preset.encoder.name, _never, dimension=preset.embedding_dimension, description=of_encoder),
        hasher,
        policy=policy,
        crops=preset.crops,
        resizing=preset.resizing,
    )


def _never() -> NoReturn:
    raise TypeError("an encoder that is only described has no models")
