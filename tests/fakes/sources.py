"""The code of this repository as trees, for tests that look at how it is written."""

from __future__ import annotations

import ast
import functools
import gc
from pathlib import Path


@functools.cache
def parsed(file: Path) -> tuple[str, ast.Module]:
    """A file's text and tree, kept for all tests: millions of nodes, which the collector need not look through."""
    text = file.read_text("utf-8")
    gc.disable()
    try:
        return text, ast.parse(text)
    finally:
        gc.freeze()
        gc.enable()
