"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import searchanything

MODELS = ("torch", "torchvision", "ultralytics", "open_clip", "timm")
ALWAYS_THERE = {"__main__", "_distutils_hack", "sitecustomize", "zope"}  # of the environment, by its .pth files
HEAVY = (*MODELS, "pymilvus", "milvus_lite", "grpc", "minio", "prefect", "pandas", "scipy", "faiss")


def test_the_public_names_are_these() -> None:
    """Adding one is a decision, removing one breaks users."""
    assert searchanything.__all__ == [
        "AsyncRemoteClient",
        "Box",
        "Client",
        "CombinedResults",
        "Comparison",
        "Duplicates",
        "Explanation",
        "Filter",
        "Hit",
        "ImageRef",
        "IndexReport",
        "IndexStatus",
        "ManyAnswer",
        "Mask",
        "Patterns",
        "Points",
        "Probe",
        "Prompts",
        "RegionRef",
        "RemoteClient",
        "Replay",
        "SearchAnythingError",
        "SearchResults",
        "Segments",
        "Selection",
        "Settings",
        "SizeClass",
        "Text",
        "Where",
        "WholeImage",
        "connect",
        "query",
    ]


def test_every_public_name_is_there_and_listed() -> None:
    for name in searchanything.__all__:
        value = getattr(searchanything, name)
        assert value.__module__.startswith("searchanything."), name
        assert value.__name__ == name
        assert name in dir(searchanything)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'searchanything' has no attribute 'Searcher'"):
        _ = searchanything.Searcher


@pytest.mark.parametrize(
    "statement",
    [
        "import searchanything",
        "import searchanything.cli.app",
        "from searchanything import *",
        "import searchanything.wiring, searchanything.ingest.pipeline, searchanything.search.search",
        "import searchanything.answers.results",
        "import searchanything.client.opening",
        "import searchanything.stores.lite_host, searchanything.stores.milvus_opening",
    ],
)
def test_importing_loads_no_heavy_library(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_the_light_client_needs_nothing_that_is_large() -> None:
    code = (
        "import searchanything, sys\nsearchanything.RemoteClient, searchanything.connect, searchanything.Filter\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) - ALWAYS_THERE == {"searchanything"}


def test_importing_the_package_loads_not_even_numpy() -> None:
    code = "import searchanything, sys\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_type_checkers_see_the_public_names_alone() -> None:
    """To them a `__getattr__` of a module is every name: a mistyped import was found by none of them."""
    source = Path(searchanything.__file__).read_text()
    module = ast.parse(source)
    assert "__getattr__" not in {one.name for one in module.body if isinstance(one, ast.FunctionDef)}
    (typed,) = (one for one in module.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING")
    imported = [name.name for one in typed.body if isinstance(one, ast.ImportFrom) for name in one.names]
    assert sorted(imported) == searchanything.__all__
