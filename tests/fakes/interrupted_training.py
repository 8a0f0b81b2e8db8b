"""A training that somebody ends with Ctrl-C, just after its first state was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from searchanything.cli.app import run
from searchanything.hash_training.checkpoints import Checkpoint


def train_interrupted(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> int:
    """Run the command line with these arguments until the first state is kept; its exit code."""
    save = Checkpoint.save

    def interrupted(state: Checkpoint, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", interrupted)
        return run(list(arguments))
