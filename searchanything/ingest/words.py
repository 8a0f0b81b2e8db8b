"""Which images an index cannot find by words: those committed before it had words codes, or by who did not know."""

from __future__ import annotations

from collections.abc import Iterator

from searchanything.core.batching import batches
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import ImageRef, row_id

IMAGES_AT_ONCE = 256


def lacking_words(index: RegionIndex, *, bucket: str, key_prefix: str = "") -> Iterator[ImageRef]:
    """The images of a source that have regions without a words code, in no particular order."""
    for states in batches(index.iterate_states(bucket=bucket, key_prefix=key_prefix), IMAGES_AT_ONCE):
        newest = {state.image: state for state in sorted(states, key=lambda one: one.generation) if state.regions}
        found = {name for name, _ in index.words_of(newest.keys())}
        for image, state in newest.items():
            if any(row_id(image, state.generation, number) not in found for number in range(state.regions)):
                yield image
