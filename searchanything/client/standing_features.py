"""What standing queries are compared by: codes of kept features, made again where the index has other models."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from PIL import Image

from searchanything.answers.standing_answers import StandingQuery
from searchanything.client.asking_words import HOW_TO_ADD_WORDS
from searchanything.client.connection import Connection
from searchanything.client.standing_memory import Kept, StandingMemory, text_features
from searchanything.core.codes import pack_signs
from searchanything.core.errors import ModelError, SearchAnythingError, WordsMissingError
from searchanything.core.geometry import mask_of_size
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, RGBImage
from searchanything.encode.encode_queries import encode_one
from searchanything.encode.encoder import Encoder
from searchanything.features.parquet import FeatureBatch
from searchanything.ingest.reports import IndexProgress, OnProgress
from searchanything.models.hashing import HashLayer
from searchanything.models.words_layer import WordsLayer
from searchanything.prompts.prompt import Mask, WholeImage

logger = logging.getLogger(__name__)

LOOKING: Final = "looking at standing queries"
PICTURE_PX: Final = 1280  # longest side of a picture that is kept
_QUALITY: Final = 95
_MARGIN: Final = 0.1  # around a region that is shown, of its longer side


@dataclass(frozen=True, slots=True, eq=False)
class StandingFeatures:
    """Codes of standing queries, each made once. Thread-safe."""

    memory: StandingMemory
    max_pixels: int
    _codes: dict[tuple[str, str, bytes], Codes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, connection: Connection) -> StandingFeatures:
        """Those of an index store as a whole, in a view of some places, too."""
        return cls(StandingMemory(connection.indexes), connection.settings.ingest.max_pixels)

    def code(
        self, query: StandingQuery, index: RegionIndex, open_encoder: Callable[[], Encoder], kept: Kept | None = None
    ) -> Codes:
        """The query's code (B,) by the index's layer. The encoder is opened where its models never saw the query.

        `kept` is what is still to be kept of a query that is being added. Raises: WordsMissingError; RegionIndexError,
        ModelError, ImageError, and what `open_encoder` raises.
        """
        layer = b""
        if query.kind == "words":
            if index.words is None:
                raise WordsMissingError(HOW_TO_ADD_WORDS)
            layer = index.words.layer
        name = query.id, index.manifest.fingerprint, layer
        with self._lock:
            known = self._codes.get(name)
        if known is None:
            models = index.manifest.feature_fingerprint
            features = self.make(query, models, open_encoder) if kept is None else kept.features[models]
            known = _code_of(features, layer or self.memory.indexes.hash_layer(index.manifest.fingerprint), query)
            with self._lock:
                self._codes[name] = known
        return known

    def make(self, query: StandingQuery, models: str, open_encoder: Callable[[], Encoder]) -> FeatureBatch:
        """The query's features by models of this feature fingerprint: as they are kept, else made and kept."""
        kept = self.memory.kept(query)
        if models in kept.features:
            return kept.features[models]
        features = _encoded(query, kept, open_encoder(), max_pixels=self.max_pixels)
        self.memory.keep_again(query, replace(kept, features={**kept.features, models: features}))
        return features

    def picture(self, query: StandingQuery) -> RGBImage:
        """The picture that a query was made of, (H, W, 3) uint8 RGB: of a region, the part that holds it.

        Raises: RegionIndexError, ImageError.
        """
        pixels = self.memory.kept(query).pixels(query.name, max_pixels=self.max_pixels)
        if query.mask is None:
            return pixels
        rows, columns = np.nonzero(mask_of_size(query.mask, *pixels.shape[:2]))
        margin = round(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 1
        top, left = max(0, rows.min() - margin), max(0, columns.min() - margin)
        return pixels[top : rows.max() + 1 + margin, left : columns.max() + 1 + margin]

    def make_all(self, models: str, encoder: Encoder, progress: OnProgress | None) -> None:
        """The same for all queries, before an index of these models becomes live; what fails is said in the log."""
        for query in self.memory.queries():
            if progress is not None:
                progress(IndexProgress(0, None, 0, 0, "", stage=LOOKING))
            try:
                self.make(query, models, lambda: encoder)
            except SearchAnythingError as error:
                logger.warning("standing query %r cannot be asked with the new models: %s", query.name, error)


def picture_of(pixels: RGBImage) -> bytes:
    """An image as it is kept: a JPEG file whose longest side is at most `PICTURE_PX`."""
    image = Image.fromarray(pixels)
    image.thumbnail((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _encoded(query: StandingQuery, kept: Kept, encoder: Encoder, *, max_pixels: int) -> FeatureBatch:
    if query.text is not None:
        return text_features(encoder.embedder.embed_texts([query.text]))
    pixels = kept.pixels(query.name, max_pixels=max_pixels)
    prompt = WholeImage() if query.mask is None else Mask(mask_of_size(query.mask, *pixels.shape[:2]))
    features = encode_one(encoder, pixels, prompt).features
    if features is None:
        raise ModelError(f"standing query {query.name!r}: these models find nothing where its thing is")
    return features


def _code_of(features: FeatureBatch, layer: bytes, query: StandingQuery) -> Codes:
    if query.kind == "words":
        codes = pack_signs(WordsLayer.from_bytes(layer).project_texts(features.image))
    else:
        codes = HashLayer.from_bytes(layer).encode(features.mask, features.image)
    return np.asarray(codes[0])
