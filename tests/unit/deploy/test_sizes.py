"""How large files, classes and functions may become: what grows beyond that says why, or is split."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
REASON = "    # Over 200 lines: "


@functools.cache
def sources() -> list[tuple[str, str, list[ast.AST]]]:
    """Name, text and parsed nodes of each file."""
    files = [file for folder in ("searchanything", "flows") for file in sorted((REPOSITORY / folder).rglob("*.py"))]
    texts = [(str(file.relative_to(REPOSITORY)), file.read_text("utf-8")) for file in files]
    return [(name, text, list(ast.walk(ast.parse(text)))) for name, text in texts]


def unexplained(text: str, nodes: Iterable[ast.AST]) -> list[str]:
    """The classes of more than 200 lines without a reason before their first method."""
    lines, names = text.splitlines(), []
    for node in nodes:
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
        assert unexplained(text, ast.walk(ast.parse(text))) == seen


def test_large_classes_say_why() -> None:
    assert {name: found for name, text, nodes in sources() if (found := unexplained(text, nodes))} == {}


def test_no_file_has_more_than_400_lines() -> None:
    assert {name: count for name, text, _ in sources() if (count := len(text.splitlines())) > 400} == {}


def test_no_function_has_more_than_60_lines() -> None:
    lengths = {
        f"{name}: {node.name}": _length(node)
        for name, _, nodes in sources()
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert sum(length > 40 for length in lengths.values()) < len(lengths) / 100
