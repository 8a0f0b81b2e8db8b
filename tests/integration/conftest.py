"""Fixtures that the tests of the embedded index share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.lite_processes import wait_until_ended


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A file whose server must be gone at the end of the test."""
    path = tmp_path / "index.db"
    yield path
    wait_until_ended(path)
