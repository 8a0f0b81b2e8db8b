"""The keeper that the pipeline hands features to: files of our own, written before the commit."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from searchanything.core.batching import batches, bounded_batches
from searchanything.core.counting import counted
from searchanything.core.errors import ObjectNotFoundError, StoreError
from searchanything.core.protocols import ImageFeatures, StoredFile
from searchanything.core.types import ImageRef
from searchanything.features.contents import batch_table, file_bytes
from searchanything.features.layout import FEATURES, TOMBSTONES, FeatureCache

logger = logging.getLogger(__name__)

FILE_ROWS: Final = 16_384  # a larger file is not begun: it is read whole, 44 MB with ViT-H-14
TOMBSTONES_PER_FILE: Final = 10_000


@dataclass(frozen=True, slots=True)
class ParquetKeeper:
    """A `FeatureKeeper` that writes a file per batch, and a small one per deletion."""

    cache: FeatureCache

    def keep(self, images: Sequence[ImageFeatures]) -> None:
        for part in bounded_batches(images, FILE_ROWS, size_of=_regions_of):
            table, listed = batch_table(part)
            self.cache.files.write(self.cache.new_name(FEATURES), file_bytes(self.cache, [table], listed))

    def add_tombstones(self, generations: Mapping[ImageRef, int]) -> None:
        for part in batches(generations.items(), TOMBSTONES_PER_FILE):
            tombstones = {image.key: generation for image, generation in part}
            self.cache.files.write(self.cache.new_name(TOMBSTONES), json.dumps(tombstones).encode())
            logger.info("tombstones written for the features of %s", counted(len(tombstones), "image"))


def read_tombstones(cache: FeatureCache, files: Sequence[StoredFile]) -> dict[str, int]:
    """By key, the generation below which its features are deleted. Raises: StoreError."""
    tombstones: dict[str, int] = {}
    for stored in files:
        try:
            with cache.files.open(stored) as file:
                found = json.loads(file.read())
            for key, generation in found.items():
                tombstones[str(key)] = max(tombstones.get(key, 0), int(generation))
        except ObjectNotFoundError:
            continue  # a compaction is through with it
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            raise StoreError(f"{cache.files.location}: {stored.name} is damaged: {error}; remove it") from error
    return tombstones


def _regions_of(image: ImageFeatures) -> int:
    return len(image.mask_features) - 1
