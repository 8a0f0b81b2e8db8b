"""Our network of FastSAM's files against ultralytics' own, and what a file may not do."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from ultralytics_peer import import_ultralytics

from searchanything.models.presets import PICO
from searchanything.models.weights import locate
from searchanything.models.yolo import YoloSegmenter
from searchanything.models.yolo_file import read_tensors


@pytest.mark.parametrize(
    ("scale", "classes"),
    [("n", 3), ("pico", 1), pytest.param("s", 1, marks=pytest.mark.slow), pytest.param("x", 1, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(("height", "width"), [(96, 160)])
def test_every_output_is_ultralytics_own(scale: str, classes: int, height: int, width: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if scale == "pico":
        path = locate(PICO.segmenter, tmp_path)
    else:
        tiny_models.save_segmenter(path, scale=scale, classes=classes)
    peer, _ = import_ultralytics().load_checkpoint(str(path), fuse=True)
    ours = YoloSegmenter(read_tensors(path)).eval()
    pixels = torch.from_numpy(np.stack([tiny_models.scene(height, width, seed=seed) for seed in range(2)]))
    with torch.inference_mode():
        scaled = pixels.permute(0, 3, 1, 2).float() / 255
        (predictions, prototypes), raw = peer(scaled)
        output = ours(scaled)
    torch.testing.assert_close(output.predictions, predictions, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(output.prototypes, prototypes, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(output.features, raw["feats"][0], atol=1e-3, rtol=1e-3)
    assert ours.head.classes == classes


def test_the_averaged_model_is_taken_where_a_file_has_one(tmp_path: Path) -> None:
    first, second = (tiny_models.save_segmenter(tmp_path / f"{seed}.pt", seed=seed) for seed in (0, 1))
    load = import_ultralytics().torch_safe_load
    both = {"model": load(str(first))[0]["model"], "ema": load(str(second))[0]["model"]}
    torch.save(both, tmp_path / "both.pt")
    got, wanted = read_tensors(tmp_path / "both.pt"), read_tensors(second)
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


class Caller:
    """Unpickles into a call of something that the file names."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.what  # type: ignore[return-value]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", ["eval", "exec", "open", "getattr", "__import__"])
def test_nothing_that_a_file_names_is_called(function: str, zipped: bool, tmp_path: Path) -> None:
    target = tmp_path / "called"
    arguments = {
        "eval": (f"open({str(target)!r}, 'w')",),
        "exec": (f"open({str(target)!r}, 'w')",),
        "open": (str(target), "w"),
        "getattr": (target, "touch"),
        "__import__": ("antigravity",),
    }
    call = Caller(getattr(__builtins__, function, None) or __builtins__[function], *arguments[function])
    torch.save({"model": call}, tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises((ValueError, KeyError, pickle.UnpicklingError, RuntimeError)):
        YoloSegmenter(read_tensors(tmp_path / "weights.pt"))
    assert not target.exists()
