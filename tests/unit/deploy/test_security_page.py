"""The page of promises names tests that there are, and every promise names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("file", "test"), NAMED.findall(PAGE))
def test_a_named_test_is_there(file: str, test: str) -> None:
    assert (ROOT / file).is_file(), file
    assert test in names_in(ROOT / file)


def test_every_promise_names_a_test() -> None:
    tables = re.findall(r"^\| promise \| test \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.M)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) >= 20
    assert [row for row in rows if not NAMED.search(row)] == []
