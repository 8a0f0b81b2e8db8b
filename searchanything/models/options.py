"""How a segmenter is run; free of torch, so that a fingerprint can be told without loading a model."""

from __future__ import annotations

from dataclasses import dataclass

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
