"""One name for one thing: no two modules call different things by the same name that others may import.

Functions, classes (private ones too: they are read in tracebacks), names of types, and constants count. What people ask
for by name does not: verbs and options of the command line, flows, routes. Nor do type variables, which say nothing.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from fakes.sources import parsed

REPOSITORY = Path(__file__).parents[3]
ENTRANCES = ("flow", "task", "get", "post", "overload", "expanded", "command", "callback")
SAME_THING = {
    "main": "the entry point of a process",
    "connect": "the light client's, which hands on to the whole one",
    "candidate_of": "a region on the wire, written and read",
}


def shared_names(module: ast.Module) -> Iterator[str]:
    """Names at the top of a module that must stand for one thing in the whole package."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not any(_last_name(decorator) in ENTRANCES for decorator in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and not _is_exempt(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            yield from (name for name in names if name[0].isupper())


def _is_exempt(value: ast.expr) -> bool:
    """True for a type variable, and for an option or argument of the command line."""
    text = ast.unparse(value)
    return text.startswith("TypeVar(") or (text.startswith("Annotated[") and ("typer." in text or "option('--" in text))


def _last_name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def twice() -> dict[str, list[str]]:
    found = defaultdict(list)
    for folder in ("searchanything", "flows"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            for name in dict.fromkeys(shared_names(parsed(file)[1])):
                found[name].append(str(file.relative_to(REPOSITORY)))
    return {name: files for name, files in found.items() if len(files) > 1}


CODE = """
logger = 1
_PRIVATE, PUBLIC = 1, 2
LIMIT: Final = 3
Opener: TypeAlias = Callable[[], int]
Shape = tuple[int, int]
Item = TypeVar("Item")
Limit = Annotated[int, typer.Option("--limit")]
Save = Annotated[str | None, option("--save", "FILE", "Where to.")]
@flow(name="x")
def index(): ...
@expanded
def query(): ...
@app.command("status")
def status(): ...
@routes.post("/x")
async def ask(): ...
class A: ...
class _B: ...
def _c(): ...
def d(): ...
"""


def test_names_are_seen_but_for_entrances() -> None:
    assert list(shared_names(ast.parse(CODE))) == ["PUBLIC", "LIMIT", "Opener", "Shape", "A", "_B", "d"]


def test_no_shared_name_stands_for_two_things() -> None:
    assert {name: files for name, files in twice().items() if name not in SAME_THING} == {}
    assert SAME_THING.keys() <= twice().keys()


# Modules of one name are parts of one thing, or each the obvious one of its package. Those of `cli` are the verbs'.
SEVERAL = {
    "asking", "duplicates", "figures", "files", "judging", "questions", "reading", "report", "reports", "run",
    "sidecars", "status",
}  # fmt: skip


def test_modules_have_names_of_their_own() -> None:
    files = [file for file in (REPOSITORY / "searchanything").rglob("*.py") if file.parent.name != "cli"]
    counts = Counter(file.stem for file in files if not file.stem.startswith("__"))
    assert {name for name, count in counts.items() if count > 1} == SEVERAL
