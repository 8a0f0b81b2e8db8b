"""`make test` runs each module of tests once, whatever its runs share out among them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[3]
ELSEWHERE = ["tests/slow", "tests/ui"]  # `pytest -m slow` and `make test-ui`


def modules(folder: Path = ROOT) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted((folder / "tests").rglob("test_*.py"))]


def runs() -> list[list[str]]:
    """What the runs of `make test` give to pytest, as make itself says."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = sorted(set(re.findall(r"test-[a-z]+", makefile.partition("\ntest: ")[2].partition("\n\n")[0])))
    ready = [f"--old-file={folder}/.ready" for folder in (".venv", ".venv-milvus")]
    asked = ["make", "--always-make", "--dry-run", "--no-print-directory", *ready, *targets]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in said.splitlines() if "/pytest " in line]
    assert len(lines) == len(targets) > 1
    return lines


def is_in(module: str, run: list[str]) -> bool:
    def lies_in(paths: list[str]) -> bool:
        return any(PurePosixPath(module).is_relative_to(path) for path in paths)

    left_out = [word.removeprefix("--ignore=") for word in run if word.startswith("--ignore=")]
    return lies_in([word for word in run if word.startswith("tests/")]) and not lies_in(left_out)


@pytest.fixture(scope="module")
def shared_out() -> list[list[str]]:
    return runs()


def test_each_module_of_tests_is_in_one_run(shared_out: list[list[str]]) -> None:
    found = Counter({module: sum(is_in(module, run) for run in shared_out) for module in modules()})
    wrong = {module: count for module, count in found.items() if count != (not is_in(module, ELSEWHERE))}
    assert found
    assert wrong == {}


def test_what_a_run_names_is_there(shared_out: list[list[str]]) -> None:
    named = {word.removeprefix("--ignore=") for run in shared_out for word in run if "tests/" in word}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_runs_that_go_side_by_side_remember_failures_apart(shared_out: list[list[str]]) -> None:
    kept = ["".join(word for word in run if word.startswith("cache_dir=")) for run in shared_out]
    assert len(set(kept)) == len(kept)
