"""One name for one thing: no two modules call different things by the same public name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
ENTRANCES = ("flow", "task", "get", "post", "overload")  # flows and routes are named by what people ask for
SAME_THING = {
    "main": "the entry point of a process",
    "connect": "the light client's, which hands on to the whole one",
    "candidate_of": "a region on the wire, written and read",
}


def public_names(module: ast.Module) -> list[str]:
    """Classes and functions at the top of a module that others may import, without entrances."""
    return [
        node.name
        for node in module.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not any(_last_name(decorator) in ENTRANCES for decorator in node.decorator_list)
    ]


def _last_name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def twice() -> dict[str, list[str]]:
    found = defaultdict(list)
    for folder in ("searchanything", "flows"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            if file.parent.name == "cli":  # so are verbs
                continue
            for name in public_names(ast.parse(file.read_text("utf-8"))):
                found[name].append(str(file.relative_to(REPOSITORY)))
    return {name: files for name, files in found.items() if len(files) > 1}


def test_names_are_seen_but_for_entrances() -> None:
    code = "@flow(name='x')\ndef index(): ...\nclass A: ...\ndef _b(): ...\ndef c(): ...\n@task\ndef d(): ..."
    assert public_names(ast.parse(code)) == ["A", "c"]


def test_no_public_name_stands_for_two_things() -> None:
    assert {name: files for name, files in twice().items() if name not in SAME_THING} == {}
    assert SAME_THING.keys() <= twice().keys()
