"""Which images an index cannot find by words, and their codes where the features are kept.

Images lack words codes that were committed before the index had any, or by who did not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from searchanything.core.batching import batches
from searchanything.core.on_step import OnStep, unseen
from searchanything.core.protocols import RegionIndex, WordsHasher
from searchanything.core.rows import row_id
from searchanything.core.types import ImageRef
from searchanything.features.kept_regions import kept_regions
from searchanything.features.layout import FeatureCache

_STAGE: Final = "words codes of kept features"
_IMAGES_AT_ONCE = 4096  # per question to the index, with an id and a code for each region


def lacking_words(index: RegionIndex, *, bucket: str, key_prefix: str = "") -> Iterator[ImageRef]:
    """The images of a source that have regions without a words code, in no particular order."""
    for states in batches(index.iterate_states(bucket=bucket, key_prefix=key_prefix), _IMAGES_AT_ONCE):
        newest = {state.image: state for state in sorted(states, key=lambda one: one.generation) if state.regions}
        found = {name for name, _ in index.words_of(newest.keys())}
        for image, state in newest.items():
            if any(row_id(image, state.generation, number) not in found for number in range(state.regions)):
                yield image


def words_from_features(
    index: RegionIndex, cache: FeatureCache, words: WordsHasher, *, key_prefix: str = "", on_step: OnStep = unseen
) -> int:
    """Give regions that lack one the words code of their kept f_I; returns how many got one.

    f_I is kept as float16, so a bit near zero may differ from that of the image itself. The steps are regions.

    Raises: StoreError, RegionIndexError.
    """
    on_step(_STAGE, 0, None)
    lacking = {image.key for image in lacking_words(index, bucket=cache.bucket, key_prefix=key_prefix)}
    filled = 0
    for ids, features in kept_regions(cache, lambda one: one.key in lacking) if lacking else ():
        codes = dict(zip(ids, words.encode(features), strict=True))
        rows = index.regions(ids)  # those of older attempts are gone
        index.insert_words([replace(row, words_code=codes[name].tobytes()) for name, row in rows.items()])
        filled += len(rows)
        on_step(_STAGE, filled, None)
    return filled
