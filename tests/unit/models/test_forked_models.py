"""Models in a fork: an error, where they would wait forever for threads that are the parent's."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from searchanything.core.errors import ModelLoadError
from searchanything.core.settings import ModelSettings
from searchanything.models.device_lane import DeviceLane
from searchanything.models.presets import load_region_encoder, load_segmenter


def test_a_lane_is_its_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = DeviceLane(torch.device("cpu"))
    with lane.open():
        made_in = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: made_in + 1)
    with pytest.raises(ModelLoadError, match=f"process {made_in} has loaded models, and this is a fork.*'spawn'"):
        lane.open()


@pytest.mark.parametrize("part", ["segmenter", "encoder"])
def test_each_model_says_so(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, image = ModelSettings(), np.zeros((96, 96, 3), np.uint8)
    ask: Callable[[], object]
    if part == "segmenter":
        segmenter = load_segmenter("pico", settings)
        found = segmenter.segment([image])[0]
        ask = lambda: segmenter.segment([image])  # noqa: E731
    else:
        encoder = load_region_encoder("pico", settings)
        encoder.embed_crops(image[None])
        ask = lambda: encoder.embed_crops(image[None])  # noqa: E731
    made_in = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: made_in + 1)
    with pytest.raises(ModelLoadError, match="this is a fork"):
        ask()
    if part == "segmenter":
        with pytest.raises(ModelLoadError, match="this is a fork"):
            found.features.pool(np.ones((1, *found.letterbox.grid_size), dtype=np.bool_))


def test_neither_words_nor_other_models_are_loaded_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """To load them is to compute as well, and would wait as the models do."""
    settings = ModelSettings()
    encoder = load_region_encoder("pico", settings)
    made_in = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: made_in + 1)
    loads: list[Callable[[], object]] = [
        lambda: encoder.embed_texts(["red"]),
        lambda: load_segmenter("pico", settings),
        lambda: load_region_encoder("pico", settings),
    ]
    for load in loads:
        with pytest.raises(ModelLoadError, match="this is a fork"):
            load()
    assert encoder._loaded is None
