"""What a model must do: segmenter, encoder of crops and texts, hash layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from searchanything.core.geometry import Letterbox
from searchanything.core.types import BoolMasks, Codes, FloatArray, RGBImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FeatureMap(Protocol):
    """The segmenter's highest-resolution pyramid level (P3) of one image, wherever it lives (CPU, GPU)."""

    def pool(self, masks: BoolMasks) -> FloatArray:
        """Average the map over each mask: (N, gh, gw) bool on the mask grid -> (N, C) float32.

        Letterbox padding never counts. A mask too small for any cell takes the cell that holds its centre;
        an empty mask gives zeros. One matrix product for all masks.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Everything one forward pass of a segmenter says about one image, N candidate regions.

    `boxes_xyxy` (N, 4) float32 in image pixels; `scores` (N,) float32 in [0, 1], falling;
    `masks` (N, gh, gw) bool on the mask grid of `letterbox` (False on padding).
    """

    letterbox: Letterbox
    boxes_xyxy: FloatArray
    scores: FloatArray
    masks: BoolMasks
    features: FeatureMap

    def __post_init__(self) -> None:
        grid = self.letterbox.grid_size
        count = len(self.scores)
        if self.masks.shape != (count, *grid) or self.boxes_xyxy.shape != (count, 4):
            raise ValueError(
                f"expected {count} masks on a grid {grid} and {count} boxes, "
                f"got masks {self.masks.shape}, boxes {self.boxes_xyxy.shape}"
            )

    @property
    def areas_px(self) -> FloatArray:
        """(N,) float32: the masks' areas in image pixels."""
        return self.letterbox.areas_px(self.masks)

    def masks_at(self, rows: NDArray[np.intp]) -> BoolMasks:
        """The masks of some rows: (R, gh, gw) bool."""
        return self.masks[rows]

    def areas_at(self, rows: NDArray[np.intp], masks: BoolMasks) -> FloatArray:  # noqa: ARG002 - of what is not masks'
        """(R,) float32: the areas of some rows in image pixels, whose masks are at hand: the others are many."""
        return self.letterbox.areas_px(masks)


class Segmenter(Protocol):
    """Finds all regions of images, and their feature map, in one forward pass."""

    @property
    def feature_dimension(self) -> int:
        """C, the channels of P3 (n: 64, s: 128, x: 320)."""
        ...

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """What the features depend on (weights' sha256, input size, thresholds): a part of the fingerprint."""
        ...

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        """Segment a batch; the result for an image does not depend on its companions. Thread-safe."""
        ...


class RegionEncoder(Protocol):
    """Embeds crops and texts into one space (CLIP)."""

    @property
    def dimension(self) -> int:
        """D, the length of an embedding."""
        ...

    @property
    def crop_size_px(self) -> int:
        """S, the side of the square crops that `embed_crops` takes."""
        ...

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """What the embeddings depend on: a part of the fingerprint."""
        ...

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        """(N, S, S, 3) uint8 RGB -> (N, D) float32 of unit length. N may be 0. Thread-safe."""
        ...

    def embed_many(self, crops: RGBImage) -> FloatArray:
        """As `embed_crops`, for a run over many images: it may be timed, to find how many crops at once are fastest.

        It takes a `CutBatch`'s crops on its own device as well.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """N texts -> (N, D) float32 of unit length. Thread-safe."""
        ...


class Hasher(Protocol):
    """Compresses features to codes: bit = tanh(W (f_M ⊕ f_I) + b) > 0 (supplement, equation 1)."""

    @property
    def bits(self) -> int:
        """L, a multiple of 8."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of the layer's file: a part of the fingerprint."""
        ...

    @property
    def trained(self) -> bool:
        """False for a seeded random rotation."""
        ...

    def encode(self, mask_features: FloatArray, image_features: FloatArray) -> Codes:
        """f_M (N, C) and f_I (N, D) float32 -> (N, bits // 8) uint8, packed as numpy.packbits does."""
        ...

    def project(self, mask_features: FloatArray, image_features: FloatArray) -> FloatArray:
        """What the bits are the signs of, W (f_M ⊕ f_I) + b: (N, bits) float32."""
        ...

    def to_bytes(self) -> bytes:
        """The layer as a safetensors file, which the index keeps so that it can be queried anywhere."""
        ...


class WordsHasher(Protocol):
    """Codes of f_I alone, and what texts are compared with them by."""

    def encode(self, image_features: FloatArray) -> Codes:
        """f_I (N, D) float32 -> (N, bits // 8) uint8."""
        ...

    def project_texts(self, text_features: FloatArray) -> FloatArray:
        """Embeddings of texts (N, D) -> (N, bits) float32, whose signs are their codes."""
        ...
