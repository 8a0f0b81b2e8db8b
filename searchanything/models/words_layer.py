"""Words codes: the signs of centred f_I under a rotation, and the projection that texts meet them with.

Embeddings of texts and of images lie in two cones with a gap between them (Liang et al., Mind the gap, NeurIPS 2022).
So both are centred on their own mean: that of regions learnt on a sample of the index, that of texts on everyday words,
neither with labels. The file is a hash layer of f_I alone with one more tensor, the texts' bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import safetensors.numpy

from searchanything.core.errors import ModelError
from searchanything.core.types import Codes, FloatArray
from searchanything.models.hashing import HashLayer

TEXT_BIAS = "text_bias"


@dataclass(frozen=True, slots=True, eq=False)
class WordsLayer:
    """A `WordsHasher`: W f_I + b for regions, W t + c for texts."""

    layer: HashLayer
    text_bias: FloatArray

    @classmethod
    def create(cls, rotation: FloatArray, region_mean: FloatArray, text_mean: FloatArray, *, method: str) -> Self:
        """From a rotation (bits, D) and the means (D,) of unit embeddings."""
        text_bias = np.asarray(-(rotation @ text_mean), dtype=np.float32)
        layer = HashLayer.create(
            rotation,
            np.asarray(-(rotation @ region_mean), dtype=np.float32),
            mask_dimension=0,
            provenance={"method": method, "trained": "true", "purpose": "words"},
            notes={TEXT_BIAS: text_bias},
        )
        return cls(layer, text_bias)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises: ModelError."""
        layer = HashLayer.from_bytes(data)
        bias = safetensors.numpy.load(data).get(TEXT_BIAS)
        if bias is None or bias.shape != (layer.bits,) or layer.mask_dimension:
            raise ModelError("expected a words layer, got another hash layer; restore the index from a backup")
        return cls(layer, bias.astype(np.float32))

    @property
    def bits(self) -> int:
        """The length of a words code."""
        return self.layer.bits

    def to_bytes(self) -> bytes:
        """The layer as a safetensors file."""
        return self.layer.to_bytes()

    def encode(self, image_features: FloatArray) -> Codes:
        """f_I (N, D) float32 -> (N, bits // 8) uint8. Raises: ModelError."""
        return self.layer.encode(np.zeros((len(image_features), 0), dtype=np.float32), image_features)

    def project_texts(self, text_features: FloatArray) -> FloatArray:
        """Embeddings of texts (N, D) -> (N, bits) float32. Raises: ModelError."""
        nothing = np.zeros((len(text_features), 0), dtype=np.float32)
        return np.asarray(self.layer.project(nothing, text_features) - self.layer.bias + self.text_bias, np.float32)
