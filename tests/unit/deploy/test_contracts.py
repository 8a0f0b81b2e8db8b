"""The import contracts check what they claim: each forbidden import, added to a copy of the package, is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "docs"))
from house import layers, libraries, picture, table  # noqa: E402

PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
CONTRACTS: list[dict[str, Any]] = tomllib.loads(PYPROJECT)["tool"]["importlinter"]["contracts"]
ROOMS = {room for layer in layers(PYPROJECT) for room in layer.rooms}
PACKAGES = {room for room in ROOMS if (ROOT / "searchanything" / room).is_dir()}
INTRUDER = "intruder"


def guarded() -> set[str]:
    """The libraries that a contract keeps out of most packages."""
    return {
        library
        for contract in CONTRACTS
        if contract["type"] == "forbidden"
        for library in contract["forbidden_modules"]
        if library not in ("flows", "searchanything_flows")
    }


def above(room: str) -> list[str]:
    """The packages of the layer above, and those beside it, none of which `room` may import."""
    floors = layers(PYPROJECT)
    here = next(number for number, floor in enumerate(floors) if room in floor.rooms)
    higher = floors[here - 1].rooms if here else ()
    return [*higher, *(other for other in floors[here].rooms if other != room)]


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
    allowed, expected = libraries(PYPROJECT), []
    for room in sorted(PACKAGES):
        imports = [library for library in sorted(guarded()) if library not in allowed.get(room, ())]
        rooms = [f"searchanything.{other}" for other in above(room)]
        if room != "stores":
            rooms.append("searchanything.stores")
        lines = [f"import {name}" for name in [*imports, *dict.fromkeys(rooms)]]
        (copy / "searchanything" / room / f"{INTRUDER}.py").write_text("\n".join(lines) + "\n")
        expected += [f"searchanything.{room}.{INTRUDER} -> {name}" for name in [*imports, *rooms]]
    (copy / "searchanything" / "stray.py").write_text("")
    result = lint(copy)
    assert result.returncode == 1
    printed = " ".join(result.stdout.split())
    assert [line for line in expected if line not in printed] == []
    assert [contract["name"] for contract in CONTRACTS if f"{' '.join(contract['name'].split())} KEPT" in printed] == []
    assert "searchanything.stray" in printed, "the layers are not exhaustive"


def test_the_house_is_as_its_picture_says() -> None:
    assert (ROOT / "docs" / "images" / "house.svg").read_text("utf-8") == picture()
    assert table() in (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert {path.name for path in (ROOT / "searchanything").iterdir() if (path / "__init__.py").exists()} == PACKAGES


def test_few_contracts_and_few_modules_at_the_top() -> None:
    assert len(CONTRACTS) <= 14
    modules = [path.name for path in (ROOT / "searchanything").glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 5
