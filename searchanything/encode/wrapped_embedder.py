"""What an embedder over another one passes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from searchanything.core.protocols import RegionEncoder
from searchanything.core.types import FloatArray, RGBImage
from searchanything.encode.cut_batch import host_crops


class WrappedEmbedder:
    """The properties of a `RegionEncoder` that asks another one: those of that one, and its answers."""

    def __init__(self, embedder: RegionEncoder) -> None:
        self.embedder = embedder

    @property
    def dimension(self) -> int:
        return self.embedder.dimension

    @property
    def crop_size_px(self) -> int:
        return self.embedder.crop_size_px

    @property
    def description(self) -> Mapping[str, str | int | float]:
        return self.embedder.description

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        return self.embedder.embed_crops(crops)

    def embed_many(self, crops: RGBImage) -> FloatArray:
        return self.embed_crops(host_crops(crops))  # so that what is laid over one is laid over both

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        return self.embedder.embed_texts(texts)
