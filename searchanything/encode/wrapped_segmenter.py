"""What a segmenter over another one passes on."""

from __future__ import annotations

from collections.abc import Mapping

from searchanything.core.protocols import Segmenter


class WrappedSegmenter:
    """The properties of a `Segmenter` that asks another one: those of that one."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    @property
    def feature_dimension(self) -> int:
        return self.segmenter.feature_dimension

    @property
    def description(self) -> Mapping[str, str | int | float]:
        return self.segmenter.description
