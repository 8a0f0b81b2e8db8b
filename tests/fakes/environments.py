"""Environments without settings of whoever runs the tests."""

from __future__ import annotations

import os

import pytest

from searchanything.core.settings import ENV_PREFIX


def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this program's settings out of the environment, however they are written."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
