"""Everything that people read uses the field's words, names in code included; each private one has a plain one instead.

Names are read word by word: `owes_a_sync` owes a sync.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Final

import pytest
from fakes.sources import parsed

ROOT = Path(__file__).parents[3]
READ: Final = (
    "searchanything", "flows", "docs", "tests", "benchmarks", "training", "deploy", "examples",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "mkdocs.yml",
)  # fmt: skip
SUFFIXES: Final = {".py", ".md", ".yml", ".yaml", ".toml"}
INSTEAD: Final = {
    r"stations?": "watcher",
    r"(?:a|the|one|each) shift|end of a shift": "period, or run of the flow `watch`",
    r"debts?|owes?|owed|owing": "a sync is pending, or requested",
    r"telling": "publish, or say what is meant",
    r"bury|buried|buries": "write a tombstone",
    r"untiring": "retry forever",
    r"ordeal": "chaos run",
    r"given up(?! to)": "exhausted",
    r"plumbing": "say what is meant",
    r"mend(?:s|ed|ing)?": "fix, repair or correct",
    r"passed over|(?:to|must|may|def) pass over": "skip",
    r"holds? such": "shows one like it",
    r"go(?:es)? alone": "cannot be combined",
    r"one's own": "your own",
    r"ended well": "succeeded",
    r"shortens? the race": "say what is shorter",
    r"(?<!['\"])(?:index|process|alias)'(?=[ .,;:)])(?! (?:in|if|else|and|or|for|is|not)\b)": "an s after it",
}


def texts() -> Iterator[tuple[str, int, str]]:
    """Every line that people read, with its place."""
    places = [ROOT / name for name in READ]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    files = [file for file in files if file.suffix in SUFFIXES and file != Path(__file__)]
    assert len(files) > 100
    for file in files:
        name = str(file.relative_to(ROOT))
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
            yield name, number, line


def as_read(line: str) -> str:
    return line.replace("_", " ").lower()


LINES: Final = list(texts())
READ_LINES: Final = [as_read(line) for _, _, line in LINES]
WHOLE: Final = "\n".join(READ_LINES)  # searched at once: line by line it takes seconds for each word
STARTS: Final = list(accumulate((len(line) + 1 for line in READ_LINES), initial=0))
# Where these have a plainer word throughout, prose included: code and unit tests of these packages.
CLEAN: Final = r"(?:searchanything|tests/unit)/(?:client|evaluation|explain|serve)/"
INSTEAD_THERE: Final = {
    r"told(?! apart)": "reported, given, said or refused",
    r"tells?(?! (?:\w+ ){0,5}apart)": "report, say, name or publish",
    r"meant": "target, expected, selected, wanted or intended",
    r"tall(?:y|ies)": "counters",
}


def starts(word: str, text: str) -> Iterator[int]:
    """Where the word stands in a text, by itself. A look behind is left to us: with it no search is quick."""
    for match in re.finditer(rf"(?:{word})(?![\w'])", text):
        before = text[match.start() - 1 : match.start()]
        if not (before.isalnum() or before == "'"):
            yield match.start()


def found(word: str, line: str) -> bool:
    return any(True for _ in starts(word, as_read(line)))


def places(word: str, within: str = "") -> list[str]:
    """The lines with a word, of files whose names begin so."""
    lines = [LINES[bisect(STARTS, start) - 1] for start in starts(word, WHOLE)]
    return [f"{file}:{number}: {line.strip()}" for file, number, line in lines if re.match(within, file)]


@pytest.mark.parametrize(("word", "instead"), INSTEAD.items())
def test_no_private_words(word: str, instead: str) -> None:
    assert not places(word), f"say instead: {instead}\n" + "\n".join(places(word))


@pytest.mark.parametrize(("word", "instead"), INSTEAD_THERE.items())
def test_no_private_words_in_clean_packages(word: str, instead: str) -> None:
    assert sum(re.match(CLEAN, file) is not None for file, _, _ in LINES) > 10_000
    assert not places(word, CLEAN), f"say instead: {instead}\n" + "\n".join(places(word, CLEAN))


@pytest.mark.parametrize(
    "line",
    [
        "a sync is owed", "The Station of a source", "unchanged ones are passed over", "def pass_over(self)",
        "images that hold such a thing", "the index' regions", "this process' memory.", "a hash of one's own",
        "how to mend it", "an image that was given up", "until the shift is over",
        "def test_it_owes_a_sync() -> None:", "owed_to_a_sync = 1", "def is_mended_by_the_next()", "Tests of OWED_WORK",
    ],
)  # fmt: skip
def test_private_words_are_found(line: str) -> None:
    assert any(found(word, line) for word in INSTEAD)


@pytest.mark.parametrize(
    ("line", "is_private"),
    [
        ("told: list[int] = []", True), ("def test_it_is_told_once()", True), ("the image that is meant", True),
        ("def _tell(progress)", True), ("`started` is told the address", True), ("is_meant = True", True),
        ("if they can be told apart", False), ("what tells them apart", False),
        ("nothing tells those two apart", False), ("foretold, toll, means", False),
    ],
)  # fmt: skip
def test_private_words_of_clean_packages_are_found(line: str, is_private: bool) -> None:
    assert any(found(word, line) for word in INSTEAD_THERE) is is_private


@pytest.mark.parametrize(
    "line",
    [
        "gain, shift, mean = layer", "document['index']", "exhausted images",
        "a recommended way", "the masks' boxes", "one.exhausted", "x = 'index' if y else 'process'",
    ],
)  # fmt: skip
def test_plain_words_are_not(line: str) -> None:
    assert not [word for word in INSTEAD if found(word, line)]


# In names of code alone, where each has a plainer one.
INSTEAD_IN_NAMES: Final = {
    "meant": "target, or prompt",
    "tally": "counters",
    "told": "declared, or given",
    "tell": "report",
}
OF_FILES: Final = {"tell"}  # a method of Python's files


def names_of(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives to things."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def private(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in OF_FILES and INSTEAD_IN_NAMES.keys() & name.lower().split("_")]


def test_private_names_are_found() -> None:
    code = "class Tally: ...\ndef f(meant, told_of): x._tell = y = foretold = 1\ndef tell(self): ..."
    assert private(names_of(ast.parse(code))) == ["Tally", "meant", "told_of", "_tell"]


def test_no_private_names() -> None:
    found: dict[str, list[str]] = {}
    for folder in ("searchanything", "flows"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if names := private(names_of(parsed(file)[1])):
                found.setdefault(file.parent.name, []).append(f"{file.name}: {', '.join(names)}")
    assert found == {}
