"""Which versions of Python are served is said in one voice, and `make setup` gets along with what Debian ships."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from searchanything.cli import checks

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TRIED = [f"3.{minor}" for minor in range(10, 20)]
SERVED = [one for one in TRIED if one in SpecifierSet(PROJECT["requires-python"])]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with our Makefile, and all that its environment depends on."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.lock").touch()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def interpreter(folder: Path, version: str = "3.13") -> Path:
    """A program that claims to be Python `version`, and notes what else it was asked for."""
    program = folder / "stub-python"
    claim = f"import sys; sys.version_info = {(*map(int, version.split('.')), 0)}"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -c ]; then exec {sys.executable} -S -c "{claim}; $2"; fi\n'
        f'echo "$@" >> {folder}/asked\nexit 1\n'
    )
    program.chmod(0o755)
    return program


def setup(checkout: Path, program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", ".venv/.ready", f"PYTHON={program}"], cwd=checkout, capture_output=True, text=True, check=False
    )


def asked(checkout: Path) -> list[str]:
    file = checkout / "asked"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("version", TRIED)
def test_setup_and_doctor_take_what_the_package_takes(
    version: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = interpreter(checkout, version)
    done = setup(checkout, program)
    assert (asked(checkout) == ["-m venv .venv"]) is (version in SERVED), done.stderr
    said = f"{program} is Python {version}; {SERVED[0]} to {SERVED[-1]} is needed: make setup PYTHON=python3.13"
    assert (said in done.stderr) is (version not in SERVED)
    with monkeypatch.context() as patch:
        patch.setattr("sys.version_info", (*map(int, version.split(".")), 0, "final", 0))
        finding = checks.python_version()
    assert (finding.state == "ok") is (version in SERVED)
    assert version in SERVED or f"expected {SERVED[0]} to {SERVED[-1]}" in finding.message


def test_readers_are_told_the_same() -> None:
    prefix = "Programming Language :: Python :: "
    assert [one.removeprefix(prefix) for one in PROJECT["classifiers"] if one.startswith(prefix)] == SERVED
    sentence = f"You need Python {', '.join(SERVED[:-1])} or {SERVED[-1]} on Linux or macOS."
    for page in ("README.md", "docs/install.md"):
        assert sentence in " ".join((ROOT / page).read_text("utf-8").split()), page


def test_an_environment_that_has_no_pip_is_completed(checkout: Path) -> None:
    """`python3 -m venv` without Debian's python3-venv fails and leaves its folder, with a Python in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    setup(checkout, interpreter(checkout))
    assert asked(checkout) == ["-m venv .venv"]


def test_an_environment_that_has_pip_is_kept(checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    (site,) = (checkout / ".venv").glob("lib/python3*/site-packages")
    (site / "pip.py").write_text("if __name__ == '__main__': raise SystemExit('pip was started')\n")
    assert "pip was started" in setup(checkout, interpreter(checkout)).stderr
    assert asked(checkout) == []
