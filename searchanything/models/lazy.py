"""Models that are loaded at the first need: what is asked of them before comes from their records.

An index that is up to date, a status or a fingerprint needs no weights in memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeAlias, TypeVar

from searchanything.core.errors import ModelError, ModelLoadError
from searchanything.core.protocols import RegionEncoder, Segmentation, Segmenter
from searchanything.core.types import FloatArray, RGBImage

logger = logging.getLogger(__name__)

Model = TypeVar("Model")
Settle: TypeAlias = Callable[[Model], tuple[Model, str]]  # the loaded one -> the best, its precision


class LazyModel(Generic[Model]):
    """A model, or how to load it. Thread-safe.

    `dimension` and `description` are those that the loaded model will have. What is left open until the first run over
    many images is decided by `settle`.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], Model],
        *,
        dimension: int,
        description: Mapping[str, str | int | float],
        precision: str | None = None,
        settle: Settle[Model] | None = None,
    ) -> None:
        """`precision`, where it was measured. `settle` is given the loaded model, and gives the one that is to be used,
        and the name of its precision.
        """
        self._name = name
        self._load = load
        self._dimension = dimension
        self._description = description
        self._settle = settle
        self._lock = threading.Lock()
        self._model: Model | None = None
        self.precision = precision  # None where it was not measured

    @property
    def description(self) -> Mapping[str, str | int | float]:
        return self._description

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._model is not None

    def load(self) -> Model:
        """The model, loaded if it is not yet. Raises: ModelError."""
        with self._lock:
            if self._model is None:
                start = time.perf_counter()
                self._model = self._load()
                logger.info("%s loaded in %.1f s", self._name, time.perf_counter() - start)
            return self._model

    def settle(self) -> None:
        """Decide what is open, before a run's first code. Raises: ModelLoadError.

        Where the device cannot do the other one, the loaded one stays: if it is ill, the first image will tell.
        """
        if self._settle is None:
            return
        model = self._needed()
        with self._midst(), self._lock:
            if self._settle is not None:  # another thread may have been faster
                try:
                    self._model, self.precision = self._settle(model)
                except RuntimeError as error:
                    logger.warning("%s: its precision stays as it is, the other one fails: %s", self._name, error)
                self._settle = None

    def _needed(self) -> Model:
        """The model, in the midst of other work. Raises: ModelLoadError."""
        with self._midst():
            return self.load()

    @contextmanager
    def _midst(self) -> Iterator[None]:
        """Loading in the midst of other work. Raises: ModelLoadError, which nobody takes for the work's failure."""
        try:
            yield
        except ModelError as error:
            raise ModelLoadError(f"{self._name}: {error}") from error


class LazySegmenter(LazyModel[Segmenter]):
    """A `Segmenter`."""

    @property
    def feature_dimension(self) -> int:
        return self._dimension

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        return self._needed().segment(images)


class LazyEncoder(LazyModel[RegionEncoder]):
    """A `RegionEncoder`."""

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def crop_size_px(self) -> int:
        return self._needed().crop_size_px

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        return self._needed().embed_crops(crops)

    def embed_many(self, crops: RGBImage) -> FloatArray:
        return self._needed().embed_many(crops)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        return self._needed().embed_texts(texts)
