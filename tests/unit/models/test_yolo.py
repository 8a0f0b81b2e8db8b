"""Our network of FastSAM's files against ultralytics' own, and what a file may not do."""

from __future__ import annotations

import io
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

from searchanything.core.errors import ModelError
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.options import SegmenterOptions
from searchanything.models.presets import PICO
from searchanything.models.weights import locate
from searchanything.models.yolo import YoloSegmenter
from searchanything.models.yolo_file import ForeignFileError, _Unpickler, read_tensors


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


def scripted(target: Path) -> bytes:
    """A TorchScript archive whose program writes a file as soon as it is loaded."""

    class Writer(torch.nn.Module):
        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.target, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.target = state[0]
            self.training = state[1]
            self.mapped = torch.from_file(self.target, shared=True, size=4)

        def __init__(self, target: str) -> None:
            super().__init__()
            self.target = target
            self.mapped = torch.zeros(4)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Writer(str(target))), file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_the_program_of_a_torchscript_archive_is_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "written", tmp_path / "weights.pt"
    path.write_bytes(scripted(target))
    torch.jit.load(path)
    assert target.exists()  # it would
    target.unlink()
    with pytest.raises(ModelError, match=r"weights\.pt is no FastSAM model: the file is a TorchScript archive"):
        FastSAMSegmenter(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["constants.pkl", "deeper/constants.pkl", "a/b/constants.pkl"])
def test_an_archive_with_the_mark_of_torchscript_is_refused_in_any_folder(name: str, tmp_path: Path) -> None:
    path = tiny_models.save_segmenter(tmp_path / "weights.pt")
    with zipfile.ZipFile(path, "a") as file:
        (root,) = {one.partition("/")[0] for one in file.namelist()}
        file.writestr(f"{root}/{name}", b"")
    with pytest.raises(ForeignFileError, match="TorchScript"):
        read_tensors(path)


def text_of(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def marking(module: str, name: str) -> bytes:
    """A pickle that sets an attribute of what a global is given as, by the state that an object with slots has."""
    state = b"N}" + text_of("mark") + text_of("hand") + b"s\x86"  # (None, {"mark": "hand"})
    return b"\x80\x04" + text_of(module) + text_of(name) + b"\x93" + state + b"b0}."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "OrderedDict"),
        ("builtins", "set"),
        ("torch", "Size"),
        ("ultralytics.nn.tasks", "SegmentationModel"),
    ],
)
def test_a_file_leaves_no_mark_on_the_process(module: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", marking(module, name))
        file.writestr("archive/version", "3\n")
    with pytest.raises((ForeignFileError, TypeError)):
        read_tensors(path)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "mark")
    assert not hasattr(_Unpickler(io.BytesIO()).find_class(module, name), "mark")


def test_yoloe_is_refused_in_a_sentence(tmp_path: Path) -> None:
    tasks = import_ultralytics()
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    config = YAML.load(check_yaml("yoloe-v8-seg.yaml"))
    network = tasks.YOLOESegModel({**config, "scale": "n"}, ch=3, nc=2, verbose=False)
    path = tmp_path / "yoloe.pt"
    torch.save({"model": network.half(), "ema": None, "train_args": {}}, path)
    assert "model.22.proto.cv1.conv.weight" in read_tensors(path)  # what alone was looked for
    with pytest.raises(ModelError, match="as in YOLOE, which compares classes with texts") as caught:
        FastSAMSegmenter(path)
    assert "fetch it again" not in str(caught.value)


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
