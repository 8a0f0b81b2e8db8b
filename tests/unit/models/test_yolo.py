"""Our network of FastSAM's files against ultralytics' own, and what a file may not do."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from ultralytics_peer import import_ultralytics

from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.options import SegmenterOptions
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


HEAD_OF_2023 = {"nc", "nl", "reg_max", "no", "nm", "npr", "stride", "shape", "training", "i", "f", "type", "np"}


def saved_as_in_2023(model: object, path: Path) -> None:
    """As ultralytics 8.0 wrote it: arguments of a module that is gone, a head that knows less, `detect` a function."""
    names = ("ultralytics.yolo", "ultralytics.yolo.utils")
    modules = {name: types.ModuleType(name) for name in names}
    gone = type("IterableSimpleNamespace", (types.SimpleNamespace,), {"__module__": names[1]})
    modules[names[1]].IterableSimpleNamespace = gone  # type: ignore[attr-defined]
    head = model.model[-1]  # type: ignore[attr-defined]
    for name in [name for name in vars(head) if not name.startswith("_") and name not in HEAD_OF_2023]:
        delattr(head, name)
    head.detect = type(head).__mro__[1].forward
    model.args = gone(task="segment", imgsz=1024)  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        torch.save({"model": model, "ema": None, "train_args": {"task": "segment"}, "version": "8.0.100"}, path)
    finally:
        for name in modules:
            del sys.modules[name]


def test_a_segmenter_as_it_was_written_in_2023_finds_the_same(tmp_path: Path) -> None:
    today = tiny_models.save_segmenter(tmp_path / "today.pt")
    model = import_ultralytics().torch_safe_load(str(today))[0]["model"]
    saved_as_in_2023(model, tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "old.pt") as file:
        (pickled,) = (file.read(name) for name in file.namelist() if name.endswith("data.pkl"))
    assert b"ultralytics.yolo.utils" in pickled
    assert b"getattr" in pickled  # how a function of a class is stored
    image = tiny_models.scene(96, 160, seed=1)
    options = SegmenterOptions(input_size_px=160)
    (old,), (new,) = (
        FastSAMSegmenter(tmp_path / name, options=options).segment([image]) for name in ("old.pt", "today.pt")
    )
    assert len(old.scores) > 0
    np.testing.assert_array_equal(old.boxes_xyxy, new.boxes_xyxy)
    np.testing.assert_array_equal(old.masks, new.masks)
    np.testing.assert_array_equal(old.features.pool(old.masks), new.features.pool(new.masks))
