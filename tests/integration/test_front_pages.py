"""README, the first page, the tutorial and the guides run as pasted, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "pages",
    [("README.md", "index.md"), ("tutorial.md",), ("jobs.md", "fiftyone.md", "failures.md")],
    ids=" ".join,
)
def test_every_block_of_these_pages_runs(pages: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "run_examples.py"), "--check", *pages]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEARCHANYTHING_")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**environment, "HOME": str(tmp_path)}, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
