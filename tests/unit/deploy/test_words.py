"""Everything that people read uses the field's words, names in code included; each private one has a plain one instead.

Names are read word by word: `owes_a_sync` owes a sync.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[3]
READ: Final = (
    "searchanything", "flows", "docs", "tests", "benchmarks", "training", "deploy", "examples",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml",
)  # fmt: skip
SUFFIXES: Final = {".py", ".md", ".yml", ".yaml", ".toml"}
# Documented names that keep working: a field of JSON, and a setting's old name.
KEPT: Final = re.compile(r"\bgiven_up\b|SERVICE__SHIFT_S\b")
INSTEAD: Final = {
    r"stations?": "watcher",
    r"(?:a|the|one|each) shift|end of a shift": "period, or run of the flow `watch`",
    r"debts?|owes?|owed|owing": "a sync is pending, or requested",
    r"telling": "publish, or say what is meant",
    r"bury|buried|buries": "write a tombstone",
    r"untiring": "retry forever",
    r"ordeal": "chaos run",
    r"given up(?! to)": "exhausted (the JSON field `given_up` stays)",
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
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
            yield str(file.relative_to(ROOT)), number, line


LINES: Final = list(texts())


def found(word: str, line: str) -> bool:
    line = KEPT.sub("", line).replace("_", " ")
    return re.search(rf"(?<![\w'])(?:{word})(?![\w'])", line, re.IGNORECASE) is not None


@pytest.mark.parametrize(("word", "instead"), INSTEAD.items())
def test_no_private_words(word: str, instead: str) -> None:
    places = [f"{file}:{number}: {line.strip()}" for file, number, line in LINES if found(word, line)]
    assert not places, f"say instead: {instead}\n" + "\n".join(places)


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
    "line",
    [
        "gain, shift, mean = layer", "document['index']", "the field `given_up`", "SEARCHANYTHING_SERVICE__SHIFT_S",
        "a recommended way", "the masks' boxes", "one.given_up", "x = 'index' if y else 'process'",
    ],
)  # fmt: skip
def test_plain_words_are_not(line: str) -> None:
    assert not [word for word in INSTEAD if found(word, line)]
