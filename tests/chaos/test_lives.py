"""Whatever is done to an index, killed at any write and met by other processes: one run later all is as it should be.

In memory and with hand-written models, so that a life takes a second: `SEARCHANYTHING_CHAOS_SEEDS=17,18 pytest
tests/chaos/test_lives.py` lives through others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.histories import seeds
from chaos.lives import Life

STEPS = 25


@pytest.mark.parametrize("seed", seeds((1, 2, 3)))
@pytest.mark.parametrize("standing", [False, True], ids=["models", "standing"])
def test_a_life(seed: int, standing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(seed, tmp_path, monkeypatch, standing=standing)
    try:
        for _ in range(STEPS):
            life.step()
        life.check()
    except BaseException:
        print("\n".join(life.said))  # noqa: T201  pytest shows it for a failed test
        raise
