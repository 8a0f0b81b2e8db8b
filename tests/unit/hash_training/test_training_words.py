"""Words layers: centring without labels, and the gap between texts and regions."""

from __future__ import annotations

import numpy as np
import pytest

from searchanything.core.codes import hamming, pack_signs, unit_rows
from searchanything.core.errors import ModelError
from searchanything.hash_training.words_training import LEAST_ROWS, train_words
from searchanything.models.hashing import HashLayer
from searchanything.models.words_layer import WordsLayer

D = 48


def cones(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regions and texts of the same things in two narrow cones, (count, D) each, and texts at large."""
    generator = np.random.default_rng(seed)
    regions_at, texts_at = 4 * unit_rows(generator.normal(size=(2, D)).astype(np.float32))
    things = generator.normal(size=(count, D)).astype(np.float32) * 0.12
    noise = generator.normal(size=(3, count, D)).astype(np.float32) * 0.03
    elsewhere = generator.normal(size=(200, D)).astype(np.float32) * 0.12
    regions, texts = regions_at + things + noise[0], texts_at + things + noise[1]
    return unit_rows(regions), unit_rows(texts), unit_rows(texts_at + elsewhere)


def found(layer: WordsLayer, regions: np.ndarray, texts: np.ndarray) -> float:
    codes, asked = layer.encode(regions), pack_signs(layer.project_texts(texts))
    return float((hamming(asked, codes).argmin(axis=1) == np.arange(len(texts))).mean())


@pytest.mark.parametrize("count", [LEAST_ROWS - 1, LEAST_ROWS])
def test_centring_closes_the_gap(count: int) -> None:
    regions, texts, everyday = cones(count)
    layer = train_words(regions, everyday, bits=128)
    uncentred = train_words(regions[:0], everyday, bits=128)
    assert found(layer, regions, texts[:100]) > 0.9
    assert found(uncentred, regions, texts[:100]) < 0.5
    method = "words-itq" if count >= LEAST_ROWS else "words-random-rotation"
    assert layer.layer.provenance["method"] == method


def test_the_bits_are_those_of_the_formula() -> None:
    regions, texts, everyday = cones(600)
    layer = train_words(regions, everyday, bits=64)
    weight = layer.layer.weight.astype(np.float64)
    expected = (unit_rows(regions * 3) - regions.mean(axis=0)) @ weight.T
    clear = np.abs(expected) > 1e-5
    bits = np.unpackbits(layer.encode(regions * 3), axis=1).astype(bool)
    assert (bits == (expected > 0))[clear].all()
    wanted = (texts - everyday.mean(axis=0)) @ weight.T
    np.testing.assert_allclose(layer.project_texts(texts), wanted, atol=1e-5)


def test_a_layer_comes_back_from_its_bytes_and_is_made_alike_each_time() -> None:
    regions, texts, everyday = cones(600)
    layer = train_words(regions, everyday, bits=64)
    again = WordsLayer.from_bytes(layer.to_bytes())
    np.testing.assert_array_equal(again.project_texts(texts), layer.project_texts(texts))
    np.testing.assert_array_equal(again.encode(regions), layer.encode(regions))
    assert train_words(regions, everyday, bits=64).to_bytes() == layer.to_bytes()


def test_another_hash_layer_is_no_words_layer() -> None:
    other = HashLayer.random_rotation(0, 16, bits=16, seed=1)
    with pytest.raises(ModelError, match="words layer"):
        WordsLayer.from_bytes(other.to_bytes())
