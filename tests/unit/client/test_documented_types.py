"""The package is typed: what its documentation shows passes a user's strict mypy."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from searchanything import Filter, Points, Prompts

ROOT = Path(__file__).parents[3]
SCRIPT = """
import numpy as np
import searchanything
from searchanything import Box, Filter, ImageRef, Patterns, Points, Prompts, RegionRef, SizeClass, Where

a = ImageRef("b", "a.jpg")
filters = [
    Filter(where="year >= 2020"),
    Filter(where=["stars = 3..5", Where.parse("year > 1")]),
    Filter(where=Where.parse("year > 1"), size_class="small"),
    Filter(images=[a], exclude=(a,), size_class=SizeClass.LARGE, metadata={"album": "sea"}),
]
points = [Points((1, 2)), Points([(1, 2), (3, 4)], background=[(5, 6)]), Points(np.ones((2, 2)), granularity="part")]
prompts = [
    Prompts(boxes=[(1, 2, 3, 4)], foreground=[(1, 2)]),
    Prompts(boxes=[Box(1, 2, 3, 4)], background=(3, 4)),
    Prompts(boxes=Box(1, 2, 3, 4), text="x"),
]


def ask(client: searchanything.Client) -> None:
    results = client.query("a.jpg", points[0], filter=filters[0])
    results.explain(results[0])
    results.explain(RegionRef(a, 0), (1.0, 2.0, 3.0, 4.0))
    client.index("photos", patterns=Patterns(include=("*.png",)))
    read: tuple[Where, ...] = filters[0].where
"""
WRONG = "from searchanything import Filter, Points\nFilter(size_class='huge')\nPoints('1,2')\nFilter(where=3)\n"


def test_documented_calls_pass_and_wrong_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)
    # With our settings, which are strict: then `make types` has left what it knows of all that is imported.
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *settings]
    done = subprocess.run([*command, "right.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    found = [line.partition(": error: ")[0] for line in done.stdout.splitlines() if ": error: " in line]
    assert found == ["wrong.py:2", "wrong.py:3", "wrong.py:4"], done.stdout + done.stderr


@pytest.mark.parametrize("record", [Filter, Points, Prompts], ids=lambda record: record.__name__)
def test_what_type_checkers_read_names_the_fields_that_there_are(record: type) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(record)))
    [written] = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    there = inspect.signature(record).parameters.values()
    assert [one.arg for one in written.args.args[1:]] == [one.name for one in there]
    given = [one.default for one in there if one.default is not one.empty]
    for default, said in zip(given, written.args.defaults, strict=True):
        assert ast.unparse(said) in (repr(default), "...")
