"""The import contracts check what they claim: each forbidden import, added to a copy of the package, is found.

What is forbidden is written out here, apart from the contracts: one that is loosened, or loses a library, is noticed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "docs"))
from house import layers, libraries, picture, table  # noqa: E402

PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
CONTRACTS: list[dict[str, Any]] = tomllib.loads(PYPROJECT)["tool"]["importlinter"]["contracts"]
ROOMS = {room for layer in layers(PYPROJECT) for room in layer.rooms}
PACKAGES = {room for room in ROOMS if (ROOT / "searchanything" / room).is_dir()}
INTRUDER = "intruder"
# By library: where it may be imported, and nowhere else.
ONLY: Final[dict[str, frozenset[str]]] = {
    "torch": frozenset({"models", "hash_training"}),
    **dict.fromkeys(("torchvision", "ultralytics", "open_clip", "timm", "tokenizers"), frozenset({"models"})),
    **dict.fromkeys(("pymilvus", "milvus_lite", "minio", "grpc"), frozenset({"stores"})),
    **dict.fromkeys(("prefect", "flows", "searchanything_flows"), frozenset()),
    **dict.fromkeys(("dask", "distributed"), frozenset({"service.cluster"})),
    "fastapi": frozenset({"serve", "service.webhook"}),
    "uvicorn": frozenset({"serve", "service.http_thread", "bounded_http"}),
    "starlette": frozenset({"serve"}),
    "prometheus_client": frozenset({"serve", "service.figures"}),
    **dict.fromkeys(("typer", "rich"), frozenset({"cli"})),
    "click": frozenset(),
    **dict.fromkeys(("anywidget", "traitlets"), frozenset({"notebook"})),
    "ipywidgets": frozenset(),
}
# By module of ours: who may import it.
PROTECTED: Final[dict[str, frozenset[str]]] = {
    "stores": frozenset({"wiring", "stores"}),
    **{
        f"models.{name}": frozenset({"wiring", "models.presets", "models.fastsam", "models.openclip"})
        for name in ("fastsam", "openclip", "tiles", "lazy", "yolo", "yolo_file", "tokenizer_file")
    },
}


def lies_in(module: str, places: Iterable[str]) -> bool:
    """True for a module, named from the package on, that is one of the places or lies in one."""
    return any(f"{module}.".startswith(f"{place}.") for place in places)


def above(room: str) -> list[str]:
    """The packages of the layer above, and those beside it, none of which `room` may import."""
    floors = layers(PYPROJECT)
    here = next(number for number, floor in enumerate(floors) if room in floor.rooms)
    higher = floors[here - 1].rooms if here else ()
    return [*higher, *(other for other in floors[here].rooms if other != room)]


def forbidden(module: str) -> list[str]:
    """What a module may not import."""
    external = [library for library, places in ONLY.items() if not lies_in(module, places)]
    protected = [part for part, places in PROTECTED.items() if not lies_in(module, places)]
    rooms = [f"searchanything.{other}" for other in dict.fromkeys([*above(module.partition(".")[0]), *protected])]
    return external + rooms


def intruders() -> dict[str, Path]:
    """By module: a file of its own in each package, beside all that may import more; single modules are appended to."""
    folders = [folder.parent.relative_to(ROOT) for folder in sorted((ROOT / "searchanything").rglob("__init__.py"))]
    beside = {".".join([*folder.parts[1:], INTRUDER]): folder / f"{INTRUDER}.py" for folder in folders[1:]}
    return beside | {room: Path("searchanything", f"{room}.py") for room in sorted(ROOMS - PACKAGES)}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """`lint-imports` over the copy in `folder`."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )


def reported(printed: str) -> set[tuple[str, str]]:
    """The imports that `lint-imports` complains of, by whole names."""
    return set(re.findall(r"(?<![\w.])(searchanything[\w.]*) -> ([\w.]+)", " ".join(printed.split())))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(
        ROOT / "searchanything",
        folder / "searchanything",
        ignore=lambda _, names: [name for name in names if name in ("weights", "assets", "__pycache__")],
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_forbidden_import_breaks_a_contract(copy: Path) -> None:
    expected = set()
    for module, file in intruders().items():
        lines = [f"import {name}" for name in forbidden(module)]
        with (copy / file).open("a", encoding="utf-8") as source:
            source.write("\n".join(["", *lines, ""]))
        expected |= {(f"searchanything.{module}", name) for name in forbidden(module)}
    (copy / "searchanything" / "stray.py").write_text("")
    result = lint(copy)
    assert result.returncode == 1
    printed = " ".join(result.stdout.split())
    assert sorted(expected - reported(printed)) == []
    assert [contract["name"] for contract in CONTRACTS if f"{' '.join(contract['name'].split())} KEPT" in printed] == []
    assert "searchanything.stray" in printed, "the layers are not exhaustive"


def test_every_place_is_tried() -> None:
    tried = intruders().keys()
    assert {"wiring", "processes", "bounded_http", "service.intruder", "core.protocols.intruder"} <= tried
    assert {"dask", "distributed", "fastapi", "uvicorn"} <= set(forbidden("service.intruder"))
    assert "uvicorn" not in forbidden("bounded_http")
    assert {"searchanything.models.fastsam", "searchanything.models.yolo"} <= set(forbidden("models.intruder"))
    assert "searchanything.stores" in forbidden("processes")


def test_a_library_whose_name_another_begins_with_is_not_taken_for_it() -> None:
    printed = (
        "- searchanything.core.intruder -> torchvision (l.3)\n- searchanything.core.intruder -> prefect_dask (l.4)"
    )
    assert reported(printed) == {
        ("searchanything.core.intruder", "torchvision"),
        ("searchanything.core.intruder", "prefect_dask"),
    }


def test_the_contracts_guard_these_libraries_and_allow_no_more() -> None:
    guarded = [name for one in CONTRACTS if one["type"] == "forbidden" for name in one["forbidden_modules"]]
    assert sorted(guarded) == sorted(ONLY)
    allowed: dict[str, set[str]] = {}
    for module, names in libraries(PYPROJECT).items():
        for name in names:
            allowed.setdefault(name, set()).add(module)
    assert allowed == {library: places for library, places in ONLY.items() if places}


def test_the_house_is_as_its_picture_says() -> None:
    assert (ROOT / "docs" / "images" / "house.svg").read_text("utf-8") == picture()
    assert table() in (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert {path.name for path in (ROOT / "searchanything").iterdir() if (path / "__init__.py").exists()} == PACKAGES


def test_few_contracts_and_few_modules_at_the_top() -> None:
    assert len(CONTRACTS) <= 14
    modules = [path.name for path in (ROOT / "searchanything").glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 5
