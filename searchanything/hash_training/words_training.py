"""A words layer from a sample of regions' embeddings and of everyday words: no labels."""

from __future__ import annotations

from typing import Final

import numpy as np

from searchanything.core.codes import unit_rows
from searchanything.core.types import FloatArray
from searchanything.hash_training.rotations import itq, random_projection, rotation_generator
from searchanything.models.words_layer import WordsLayer

WORDS_BITS: Final = 256
LEAST_ROWS: Final = 512  # below it a fitted rotation would follow the sample's noise: a random one is taken
MOST_ROWS: Final = 20_000


def train_words(regions: FloatArray, texts: FloatArray, *, bits: int = WORDS_BITS, seed: int = 0) -> WordsLayer:
    """Centre both kinds of embeddings, regions (n, D) and texts (m, D), and fit a rotation to the regions.

    Without a sample nothing is centred and the rotation is random.
    """
    generator = rotation_generator(seed)
    rows = unit_rows(regions)
    if len(rows) > MOST_ROWS:
        rows = rows[generator.choice(len(rows), MOST_ROWS, replace=False)]
    mean = rows.mean(axis=0) if len(rows) else np.zeros(texts.shape[1], dtype=np.float32)
    text_mean = unit_rows(texts).mean(axis=0) if len(rows) else np.zeros(texts.shape[1], dtype=np.float32)
    if len(rows) >= LEAST_ROWS:
        rotation, method = itq(rows - mean, bits=bits, generator=generator), "words-itq"
    else:
        rotation, method = random_projection(texts.shape[1], bits=bits, generator=generator), "words-random-rotation"
    return WordsLayer.create(rotation, mean, text_mean, method=method)
