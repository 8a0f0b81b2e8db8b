"""What `benchmarks/hashing.py` says of few rows."""

from __future__ import annotations

import pytest

from benchmarks import hashing
from searchanything.hash_training.training import BITS, METHODS, TrainingOptions


def test_a_recall_that_could_only_be_1_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_JUDGED_ROWS", 60)  # the recall among the first 100 looks at all of them
    run = hashing.synthetic(16, 300, TrainingOptions(bits=min(BITS)))
    found = hashing.summary([run], ["recall_10_at_10", "recall_10_at_100"])
    assert set(found["means"]) == set(METHODS)
    for figures in (*found["means"].values(), *found["deep_less"].values()):
        assert set(figures) == {"recall_10_at_10"}
