"""How large files, classes and functions may become: what grows beyond that says why, or is split."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from fakes.sources import parsed

REPOSITORY = Path(__file__).parents[3]
REASON = "    # Over 200 lines: "


def sources() -> Iterator[tuple[str, str, ast.Module]]:
    """Name, text and tree of each file."""
    for folder in ("searchanything", "flows"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            yield str(file.relative_to(REPOSITORY)), *parsed(file)


def unexplained(text: str, tree: ast.Module) -> list[str]:
    """The classes of more than 200 lines without a reason before their first method."""
    lines, names = text.splitlines(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _length(node) > 200:
            first = next(one for one in node.body if isinstance(one, ast.FunctionDef))
            if not any(line.startswith(REASON) for line in lines[node.lineno - 1 : first.lineno]):
                names.append(node.name)
    return names


def _length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_large_class_without_a_reason_is_seen() -> None:
    body = "    x = 1\n" * 200
    for reason, seen in (("", ["A"]), (f"{REASON}b.\n", [])):
        text = f"class A:\n{reason}{body}    def f(self): ...\n"
        assert unexplained(text, ast.parse(text)) == seen


def test_large_classes_say_why() -> None:
    assert {name: found for name, text, tree in sources() if (found := unexplained(text, tree))} == {}


def test_no_file_has_more_than_400_lines() -> None:
    assert {name: count for name, text, _ in sources() if (count := len(text.splitlines())) > 400} == {}


def test_no_function_has_more_than_60_lines() -> None:
    lengths = {
        f"{name}: {node.name}": _length(node)
        for name, _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert sum(length > 40 for length in lengths.values()) < len(lengths) / 100
