"""Names in docstrings, comments and pages are names in code: `garbage.collect_garbage` and `Client.query` exist.

A name in backticks counts where it is surely meant for code of ours: a module and what is in it, a class and what it
has, a file. What only looks so is left alone: settings, fields of JSON, other people's modules, local variables.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from fakes.sources import parsed

ROOT = Path(__file__).parents[3]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
QUOTED = re.compile(r"(?<![`\w/:.$-])`(?P<first>[A-Za-z_]\w*)\.(?P<second>[A-Za-z_]\w*)(?:[.(][^`]*)?`(?!`)")
FILE = re.compile(r"`(?P<path>(?:[\w-]+/)*[a-z_0-9]+\.py)`")
GROUPS = {"ingest", "milvus", "models", "search", "serve", "service", "storage"}  # of settings, which their page tests
FOREIGN = {*sys.stdlib_module_names, *packages_distributions(), *dir(builtins), "np", "pd"}
ENDINGS = (
    "py", "md", "json", "toml", "npy", "png", "jpg", "svg", "db", "parquet", "safetensors", "env", "pt", "txt", "lock",
    "yml", "yaml", "html", "log", "exe", "sha256",
)  # fmt: skip


@dataclass
class Code:
    """What there is: names at the top of modules, by the module's own name; names in classes; all identifiers."""

    modules: dict[str, set[str]] = field(default_factory=dict)
    classes: dict[str, set[str]] = field(default_factory=dict)
    bases: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def add(self, path: Path, tree: ast.Module) -> None:
        name = path.parent.name if path.name == "__init__.py" else path.stem
        known = self.modules.setdefault(name, set())
        known |= {one for node in tree.body for one in _defined(node)}
        if path.name == "__init__.py":
            known |= {one.stem for one in path.parent.iterdir()}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                has = self.classes.setdefault(node.name, set())
                has |= {one for inner in ast.walk(node) for one in _defined(inner)}
                self.bases.setdefault(node.name, []).extend(ast.unparse(base).partition("[")[0] for base in node.bases)

    def has(self, kind: str, name: str) -> bool:
        """Whether a class has a name, by itself or by a base; what is derived from foreign ones may have any."""
        if kind not in self.classes:
            return kind not in ("object", "Protocol", "Generic", "NamedTuple")
        return name in self.classes[kind] or any(self.has(base, name) for base in self.bases[kind])


def _defined(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (one.asname or one.name for one in names)
        case ast.AnnAssign(target=target):
            yield from _targets(target)
        case ast.Assign(targets=targets):
            for target in targets:
                yield from _targets(target)
        case ast.If(body=body, orelse=orelse) | ast.Try(body=body, orelse=orelse):
            yield from (name for inner in (*body, *orelse) for name in _defined(inner))


def _targets(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def sources() -> dict[Path, tuple[str, ast.Module]]:
    """Text and tree of each file."""
    folders = (ROOT / folder for folder in ("searchanything", "flows", "deploy", "benchmarks", "training"))
    return {path: parsed(path) for folder in folders for path in sorted(folder.rglob("*.py"))}


@pytest.fixture(scope="module")
def code() -> Code:
    found = Code()
    for path, (_, tree) in sources().items():
        found.add(path, tree)
    for folder in ("benchmarks", "training", "deploy"):
        found.modules.setdefault(folder, set()).update(path.stem for path in (ROOT / folder).glob("*.py"))
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".")]  # environments have many files
    files = [path for top in tops for path in ([top] if top.suffix == ".py" else top.rglob("*.py"))]
    found.files = [path.relative_to(ROOT).as_posix() for path in files]
    return found


def texts_of(source: str, nodes: Sequence[ast.AST]) -> str:
    """The docstrings and comments of a module."""
    expressions = [node.value for node in nodes if isinstance(node, ast.Expr)]
    strings = [str(value.value) for value in expressions if isinstance(value, ast.Constant)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join([*strings, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


def stale(text: str, code: Code, *, local: set[str]) -> list[str]:
    """The names of a text that no code has. `local` are identifiers that may be meant by a first part."""
    found = []
    for one in QUOTED.finditer(text):
        first, second = one["first"], one["second"]
        if one[0].strip("`").rpartition(".")[2] in ENDINGS or first in FOREIGN:
            continue
        if first in code.classes and first[0].isupper():
            known = code.has(first, second)
        elif first in code.modules:
            known = second in code.modules[first] or first in local or first in GROUPS
        else:  # a module that was moved: what was in it is elsewhere now
            known = first in local or not any(second in names for names in code.modules.values())
        if not known:
            found.append(one[0])
    paths = [one["path"] for one in FILE.finditer(text)]
    return found + [path for path in paths if not any(f"/{file}".endswith(f"/{path}") for file in code.files)]


def test_stale_names_are_found(code: Code) -> None:
    text = "`collecting.holdings`, `collecting.py`, `garbage.nothing`, `Client.nothing`"
    assert len(stale(text, code, local=set())) == 4
    sound = "`x.y`, `field.of_json`, `a.tar.json`"
    assert stale(sound, code, local={"x"}) == []
    sound = "`garbage.collect_garbage`, `garbage.py`, `Client.query(image)`, `Client.operations.tune`, `os.path`"
    assert stale(sound, code, local=set()) == []


def test_names_in_docstrings_and_comments_exist(code: Code) -> None:
    found = {}
    for path, (text, tree) in sources().items():
        nodes = list(ast.walk(tree))
        local = {node.id for node in nodes if isinstance(node, ast.Name)}
        local |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        local |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        if odd := stale(texts_of(text, nodes), code, local=local):
            found[path.relative_to(ROOT).as_posix()] = odd
    assert found == {}


def test_classes_in_pages_have_what_is_said_of_them(code: Code) -> None:
    found = {}
    for page in PAGES:
        named = [one for one in QUOTED.finditer(page.read_text("utf-8")) if one["first"] in code.classes]
        odd = [one[0] for one in named if one["first"][0].isupper() and not code.has(one["first"], one["second"])]
        if odd:
            found[page.name] = odd
    assert found == {}
