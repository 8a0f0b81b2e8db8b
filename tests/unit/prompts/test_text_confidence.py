"""How well a text names what it chose, by the share of everyday words that name it better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fakes.models import FakeEmbedder

from searchanything.core.types import FloatArray, TextMatch
from searchanything.prompts.text_confidence import COMPARED_WORDS, TextConfidence, confidence_by_share


class Stairs(FakeEmbedder):
    """Word number n has cosine n / 100 with the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[Sequence[str]] = []

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        self.texts.append(texts)
        cosines = np.arange(len(texts), dtype=np.float32) / 100
        return np.stack([cosines, np.sqrt(np.maximum(1 - cosines**2, 0))], axis=1)


def test_the_words_are_a_hundred_different_ones() -> None:
    assert len(set(COMPARED_WORDS)) == len(COMPARED_WORDS)
    assert 95 <= len(COMPARED_WORDS) <= 105


@pytest.mark.parametrize(
    ("cosine", "better", "confidence"), [(0.995, -100, "clear"), (0.945, -95, "unsure"), (0.5, -51, "weak")]
)
def test_words_that_are_closer_count(cosine: float, better: int, confidence: str) -> None:
    embedder = Stairs()
    judge = TextConfidence(embedder)
    region = np.array([[1, 0]], dtype=np.float32)
    expected = TextMatch(pytest.approx(cosine), len(COMPARED_WORDS) + better, len(COMPARED_WORDS), confidence)  # type: ignore[arg-type]
    for _ in range(2):
        assert judge.judge(np.array([cosine], dtype=np.float32), region) == expected
    assert embedder.texts == [COMPARED_WORDS]  # once


def test_a_word_is_not_better_than_itself_where_it_is_rounded_otherwise() -> None:
    word = np.array([0.99], dtype=np.float32)  # two words are better than it
    region = np.array([[1, 0]], dtype=np.float32)
    matches = [TextConfidence(Stairs()).judge(word + noise, region).better for noise in (-2e-6, 0, 2e-6)]
    assert matches == [len(COMPARED_WORDS) - 100] * 3


def test_of_several_regions_the_least_plausible_is_told() -> None:
    regions = np.array([[1, 0], [0.5, 0], [1, 0]], dtype=np.float32)
    match = TextConfidence(Stairs()).judge(np.array([0.995, 0.3, 0.9], dtype=np.float32), regions)
    assert match.cosine == pytest.approx(0.3)
    assert match.better == len(COMPARED_WORDS) - 61


def test_the_bounds_are_inclusive() -> None:
    assert [confidence_by_share(share) for share in (0, 0.02, 0.0201, 0.09, 0.0901, 1)] == [
        *("clear", "clear"),
        *("unsure", "unsure"),
        *("weak", "weak"),
    ]
