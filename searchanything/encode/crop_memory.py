"""The embeddings of a sample's crops, so that the images that a hash layer was trained on are not embedded twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from searchanything.core.protocols import RegionEncoder
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode.cut_batch import host_crops
from searchanything.encode.encoder import Encoder
from searchanything.encode.wrapped_embedder import WrappedEmbedder

_GLANCE_PX: Final = 16  # a pixel in each 16 x 16 tells nearly all other crops from the known ones, for a thousandth


@dataclass(frozen=True, slots=True)
class CropMemory:
    """Keeps what one encoder's embedder says of crops (4 D bytes each), for another encoder of the same embedder.

    `known` has embeddings by the digest of a crop's pixels; `glances` has a few pixels of each of these crops;
    `made_by` describes the embedder: another one's encoder recalls nothing.
    """

    known: dict[bytes, FloatArray] = field(default_factory=dict)
    glances: set[bytes] = field(default_factory=set)
    made_by: list[Mapping[str, str | int | float]] = field(default_factory=list)

    def keeping(self, encoder: Encoder) -> Encoder:
        """The encoder; what it embeds from now on is kept."""
        self.made_by[:] = [encoder.embedder.description]
        return replace(encoder, embedder=_RememberingEmbedder(encoder.embedder, self, keeps=True))

    def recalling(self, encoder: Encoder) -> Encoder:
        """The encoder; crops that are known are not embedded again, and no others are kept."""
        if not self.known or self.made_by[0] != encoder.embedder.description:
            return encoder
        return replace(encoder, embedder=_RememberingEmbedder(encoder.embedder, self, keeps=False))


class _RememberingEmbedder(WrappedEmbedder):
    """A `RegionEncoder` that asks a memory first. Thread-safe.

    A single crop passes through: it is a question's.
    """

    def __init__(self, embedder: RegionEncoder, memory: CropMemory, *, keeps: bool) -> None:
        super().__init__(embedder)
        self._memory = memory
        self._keeps = keeps

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        return self._with_memory(crops, self.embedder.embed_crops)

    def embed_many(self, crops: RGBImage) -> FloatArray:
        return self._with_memory(crops, self.embedder.embed_many)

    def _with_memory(self, crops: RGBImage, embed: Callable[[RGBImage], FloatArray]) -> FloatArray:
        if len(crops) < 2:
            return embed(crops)
        seen = self._seen(crops)
        found = {row: known for row, crop in seen.items() if (known := self._recalled(crop)) is not None}
        new = [row for row in range(len(crops)) if row not in found]
        embedded = np.empty((len(crops), self.dimension), dtype=np.float32)
        embedded[new] = embed(crops[new] if found else crops)  # the more are on a device, the more to copy
        for row, known in found.items():
            embedded[row] = known
        if self._keeps:
            for row in new:
                self._memory.known[_digest_of(seen[row])] = embedded[row].copy()
                self._memory.glances.add(_glance_at(seen[row]))
        return embedded

    def _seen(self, crops: RGBImage) -> dict[int, RGBImage]:
        """By row, in the host's memory: those that may be known; all, where all are kept. No others leave a device."""
        if self._keeps:
            return dict(enumerate(host_crops(crops)))
        glances = host_crops(crops[:, ::_GLANCE_PX, ::_GLANCE_PX])
        rows = [row for row, glance in enumerate(glances) if glance.tobytes() in self._memory.glances]
        return dict(zip(rows, host_crops(crops[rows]), strict=True)) if rows else {}

    def _recalled(self, crop: RGBImage) -> FloatArray | None:
        return self._memory.known.get(_digest_of(crop)) if _glance_at(crop) in self._memory.glances else None


def _glance_at(crop: RGBImage) -> bytes:
    return crop[::_GLANCE_PX, ::_GLANCE_PX].tobytes()


def _digest_of(crop: RGBImage) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(crop).data, digest_size=16).digest()
