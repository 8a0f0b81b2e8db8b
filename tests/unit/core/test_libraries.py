"""A library that cannot be loaded costs what needs it, with a cure; never a traceback, and never the doctor."""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from searchanything.core.errors import LibraryError
from searchanything.core.libraries import LazyModule, library_cure, library_error

ROOT = Path(__file__).parents[3]
NO_LIBGL = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
WEIRD = {
    "ImportError": "raise ImportError('undefined symbol: _ZN3c10')",
    "OSError": "raise OSError('libtorch_cpu.so: cannot open shared object file')",
    "RuntimeError": "raise RuntimeError('module was compiled against another ABI')",
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "fakes"),
        "HOME": str(folder),
        "SEARCHANYTHING_MODELS__PRESET": "pico",
        "SEARCHANYTHING_MILVUS__URI": "memory://",
    }
    environment.pop("SEARCHANYTHING_DEBUG", None)
    command = [sys.executable, "-m", "searchanything", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=200
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("fakes", "images"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "images" / "a.jpg")
    return tmp_path


def break_library(folder: Path, name: str, code: str) -> None:
    package = folder / "fakes" / name
    package.mkdir()
    (package / "__init__.py").write_text(code, encoding="utf-8")


@pytest.mark.parametrize(
    ("library", "kind", "arguments"),
    [
        ("cv2", "ImportError", ["index", "images"]),
        ("torch", "OSError", ["segment", "images/a.jpg"]),
        ("torchvision", "RuntimeError", ["segment", "images/a.jpg"]),
        ("pymilvus", "ImportError", ["status", "--uri", "i.db"]),
        ("grpc", "OSError", ["query", "images/a.jpg", "--uri", "i.db"]),
        ("PIL", "ImportError", ["query", "images/a.jpg"]),
        ("pi_heif", "OSError", ["query", "images/a.jpg"]),
        ("minio", "RuntimeError", ["sync", "check", "s3://bucket"]),
        ("pydantic", "ImportError", ["models", "list"]),
    ],
)
def test_a_broken_library_is_one_error_with_its_cure(
    library: str, kind: str, arguments: list[str], folder: Path
) -> None:
    break_library(folder, library, WEIRD[kind])
    answer = run(folder, *arguments, "--format", "json")
    assert "Traceback" not in answer.stdout + answer.stderr
    assert answer.returncode == 1
    error = json.loads(answer.stdout)["error"]
    assert error["type"] == "LibraryError"
    assert error["message"].startswith(f"{library} cannot be loaded: ")
    assert "pip install" in error["cure"]


def test_the_doctor_survives_when_nearly_everything_is_broken(folder: Path) -> None:
    for name in ("cv2", "torch", "pymilvus", "pi_heif", "PIL", "numpy", "minio", "packaging"):
        break_library(folder, name, NO_LIBGL)
    answer = run(folder, "doctor", "--uri", "i.db", "--preset", "pico", "--format", "json")
    assert answer.returncode == 1, answer.stderr
    broken = [one for one in json.loads(answer.stdout)["checks"] if one["state"] == "broken"]
    assert {"cv2", "torch", "pymilvus"} <= {one["message"].partition(" ")[0] for one in broken}
    assert all(one["cure"] for one in broken)
    assert "Traceback" not in answer.stderr


def test_without_libgl_the_headless_build_is_the_cure() -> None:
    cure = library_cure("cv2", "libGL.so.1: cannot open shared object file: No such file or directory")
    assert "pip uninstall -y opencv-python" in cure
    assert '"opencv-python-headless"' in cure


@pytest.mark.parametrize("name", ["torchvision", "open_clip"])
def test_builds_that_do_not_fit_are_installed_together(name: str) -> None:
    """Reinstalling one of them, or who loads it, brings the same two again."""
    cure = library_cure(name, "operator torchvision::nms does not exist")
    assert "from one index" in cure
    assert cure.endswith('pip install --force-reinstall "torch" "torchvision"')


def test_the_library_is_the_one_that_our_code_imports() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("nowhere_to_be_found.deep")
    assert library_error(caught.value).library == "nowhere_to_be_found"


def test_the_error_can_cross_processes() -> None:
    error = copy.deepcopy(LibraryError("cv2", "why", "how"))  # by the same protocol as pickle
    assert (error.library, error.reason, error.cure) == ("cv2", "why", "how")
    assert str(error) == "cv2 cannot be loaded: why; how"


def test_a_lazy_module_is_the_module() -> None:
    lazy = LazyModule("json")
    assert lazy.loads("[1]") == [1]
    assert lazy.dumps is json.dumps
    with pytest.raises(LibraryError, match="no_such_thing"):
        _ = LazyModule("no_such_thing").anything


MASKS = """
import sys
import numpy as np
import searchanything.core.geometry as geometry
from searchanything.core.errors import LibraryError
print(*sorted({"pycocotools", "cv2"} & set(sys.modules)))
try:
    geometry.encode_rle(np.ones((4, 4), dtype=bool))
except LibraryError as error:
    print(error.library, error.cure)
"""


def test_geometry_loads_neither_opencv_nor_pycocotools(folder: Path) -> None:
    """The second of these, broken, costs what needs a mask's text, and says how to get it right."""
    break_library(folder, "pycocotools", WEIRD["RuntimeError"])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "fakes"), str(ROOT)])}
    command = [sys.executable, "-c", MASKS]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    loaded, error = answer.stdout.splitlines()
    assert loaded == ""
    assert error == 'pycocotools pip install --force-reinstall "pycocotools"'


COMMANDS = """
import contextlib, io, sys
from searchanything.cli.app import run
unwanted = set(sys.argv[1].split())
for line in sys.argv[2:]:
    with contextlib.redirect_stdout(io.StringIO()):
        code = run(line.split())
    print(line, code, *sorted(unwanted & set(sys.modules)))
"""
HEAVY = (
    "torch torchvision open_clip timm transformers cv2 pycocotools matplotlib scipy minio pandas requests prefect faiss"
)
# of typer's and rich's, what our help never shows; and the verbs that were not asked for
OF_HELP = "numpy pydantic_settings pymilvus grpc markdown_it rich.markdown pygments rich.syntax rich.traceback"
VERBS = (
    "searchanything.cli.query searchanything.cli.status searchanything.cli.evaluate searchanything.cli.warm pydantic"
)


def after_lines(unwanted: str, *lines: str, folder: Path) -> list[str]:
    command = [sys.executable, "-c", COMMANDS, unwanted, *lines]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.splitlines()


def test_light_verbs_load_no_heavy_library(tmp_path: Path) -> None:
    lines = ["--help", "status --uri i.db", "models list", "index --help"]
    assert after_lines(HEAVY, *lines, folder=tmp_path) == [f"{line} 0" for line in lines]


def test_help_loads_only_what_it_shows(tmp_path: Path) -> None:
    assert after_lines(f"{HEAVY} {OF_HELP} {VERBS} pydantic", "--help", folder=tmp_path) == ["--help 0"]
    lines = ["status --help", "sync --help", "hash train -h"]
    assert after_lines(f"{HEAVY} {OF_HELP}", *lines, folder=tmp_path) == [f"{line} 0" for line in lines]
