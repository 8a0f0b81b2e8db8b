"""Each program of `benchmarks` can be loaded: what it takes from the package is still there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize("program", sorted(file.stem for file in FOLDER.glob("*.py")))
def test_a_program_loads(program: str) -> None:
    assert importlib.import_module(f"benchmarks.{program}").__doc__
