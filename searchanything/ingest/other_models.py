"""Other models for what is indexed: the live index's images in one beside it, segmented and embedded anew.

    live rows ─► those whose content the other index lacks ─► `pipeline.refresh_images` into it

No row can be carried over but those of images that failed. So generations are of each index's own, and what they have
in common is the content of the objects: etag, sidecar and metadata. What the other index read later than the live one
counts as it is: the object may have changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.rows import ImageRow, ImageState
from searchanything.core.types import ImageRef
from searchanything.ingest.beside import Beside, newest_at_least
from searchanything.ingest.missing_words import lacking_words

ROWS_AT_ONCE: Final = 2048  # held, with all their metadata, of each index


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OtherModels(Beside):
    """Compares an index of other models with the live one. See the module.

    `kept_words` makes words codes of a bucket's kept features.
    """

    kept_words: Callable[[str], object] = lambda _: None

    def ready_words(self) -> None:
        """Words codes of kept features; what has none is forgotten, so that it is encoded again."""
        if not self.lacks_words():
            return
        for bucket in sorted({state.image.bucket for state in self.other.iterate_states()}):
            self.kept_words(bucket)
            self.progress(0)
            for images in batches(list(lacking_words(self.other, bucket=bucket)), ROWS_AT_ONCE):
                self.other.delete_images(images)
                self.progress(0)

    def standing(self, states: Sequence[ImageState]) -> list[int | None]:
        """What was begun later than in the live index, and what is older but of the same content."""
        there = self.other.generations({state.image for state in states})
        standing = [newest_at_least(one.generation, there.get(one.image)) for one in states]
        older = {
            one.image for one, newest in zip(states, standing, strict=True) if newest is None and one.image in there
        }
        same: dict[ImageRef, int] = {}
        for some in batches(older, ROWS_AT_ONCE):
            same |= self._of_same_content(some)
        return [same.get(one.image) if newest is None else newest for one, newest in zip(states, standing, strict=True)]

    def _of_same_content(self, images: Sequence[ImageRef]) -> dict[ImageRef, int]:
        ours, theirs = self.live.newest(images), self.other.newest(images)
        return {
            image: row.generation
            for image, row in theirs.items()
            if row.is_findable and image in ours and _content(row) == _content(ours[image])
        }


def _content(row: ImageRow) -> tuple[str, str, dict[str, object]]:
    return row.etag, row.sidecar_etag, dict(row.metadata)
