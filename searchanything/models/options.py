"""How models are run; free of torch, so that a fingerprint can be told without loading a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from searchanything.core.geometry import INPUT_MULTIPLE


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """What the regions depend on besides the weights. The defaults are the paper's [S, D].

    `input_size_px`: longest side of the network input. `confidence`: lowest score of a region. `iou`: boxes that
    overlap a better one by more are dropped. `max_detections`: most regions of one image.

    Raises: ValueError for values out of range.
    """

    input_size_px: int = 1024
    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 100

    def __post_init__(self) -> None:
        if self.input_size_px < INPUT_MULTIPLE or self.input_size_px % INPUT_MULTIPLE:
            raise ValueError(f"expected an input size that {INPUT_MULTIPLE} divides, got {self.input_size_px}")
        if not (0 <= self.confidence <= 1 and 0 <= self.iou <= 1 and self.max_detections >= 1):
            raise ValueError(
                "expected confidence and iou in [0, 1] and at least one detection, "
                f"got {self.confidence}, {self.iou} and {self.max_detections}"
            )

    def description(self, weights_sha256: str) -> dict[str, str | int | float]:
        """The segmenter's part of the feature fingerprint."""
        return {
            "segmenter": "fastsam",
            "weights_sha256": weights_sha256,
            "input_size_px": self.input_size_px,
            "confidence": self.confidence,
            "iou": self.iou,
            "max_detections": self.max_detections,
        }


def tiled_description(segmenter: Mapping[str, str | int | float], tile_px: int) -> dict[str, str | int | float]:
    """The part of a segmenter that looks at large images in tiles as well: codes of such images are others."""
    return {**segmenter, "tile_px": tile_px}


Channels: TypeAlias = tuple[float, float, float]  # red, green, blue


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What an encoder is given besides its weights: `mean` and `std` of pixels in [0, 1].

    None leaves it to the file, which a bare checkpoint says nothing of: then it is CLIP's, right for `small` and
    `paper` alone. Raises: ValueError for a deviation that is not positive, or one of the two alone.
    """

    mean: Channels | None = None
    std: Channels | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("expected mean and std together")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"expected a positive std, got {self.std}")

    def description(self, name: str, weights_sha256: str, tokenizer_sha256: str | None = None) -> Mapping[str, str]:
        """The encoder's part of the feature fingerprint; what is left to the file is in the file's checksum."""
        found = {"encoder": name, "weights_sha256": weights_sha256}
        if self.mean is not None and self.std is not None:
            found["image_mean"] = " ".join(f"{value:g}" for value in self.mean)
            found["image_std"] = " ".join(f"{value:g}" for value in self.std)
        if tokenizer_sha256 is not None:
            found["tokenizer_sha256"] = tokenizer_sha256
        return found


FROM_FILE: Final = EncoderOptions()
