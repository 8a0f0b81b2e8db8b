"""README, the first page, the tutorial and the guides run as pasted, each in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_every_block_of_the_pages_runs(tmp_path: Path) -> None:
    """In one process, so that models are loaded and see each example image once."""
    command = [sys.executable, str(ROOT / "docs" / "run_examples.py"), "--check"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEARCHANYTHING_")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**environment, "HOME": str(tmp_path)}, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
