"""Whose rows of kept features count where an image was kept more than once: those of its newest generation.

Several indexes of a source may keep the features of the same images, as do runs that index again, until a compaction.
With one feature fingerprint these are copies, or of older objects; training and hashing should meet each image once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import numpy as np
from numpy.typing import NDArray

from searchanything.features.contents import BUCKET_KEY, listed_images


@dataclass(frozen=True, slots=True, eq=False)
class ListedImages:
    """A file's n images in the order of its rows: (n,) digests of bucket and key, generations, numbers of regions."""

    digests: NDArray[np.uint64]
    generations: NDArray[np.int64]
    regions: NDArray[np.int64]

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes], rows: int) -> Self | None:
        """Read a footer; None for a file that does not say whose its rows are, or is a part of one that did."""
        try:
            bucket = json.loads(metadata[BUCKET_KEY])
            images = listed_images(metadata)
            names = [f"{bucket}\0{image.key}".encode() for image in images]
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        if sum(image.regions for image in images) != rows:
            return None
        named = b"".join(blake2b(name, digest_size=8).digest() for name in names)
        return cls(
            np.frombuffer(named, np.uint64),
            np.array([image.generation for image in images], dtype=np.int64),
            np.array([image.regions for image in images], dtype=np.int64),
        )


def newest_rows(files: Sequence[ListedImages | None]) -> list[NDArray[np.bool_] | None]:
    """Of each file, which of its rows (n,) are of the newest copy of their image; None where all are.

    Rows that were copied with their generation, as by a compaction that was killed, count in the last of the files.
    """
    known = [file for file in files if file is not None]
    if not known:
        return [None] * len(files)
    digests = np.concatenate([file.digests for file in known])
    generations = np.concatenate([file.generations for file in known])
    order = np.lexsort((generations, digests))  # stable: files keep their order
    ranked = digests[order]
    newest = np.zeros(len(digests), dtype=np.bool_)
    newest[order[np.append(ranked[1:] != ranked[:-1], True)[: len(order)]]] = True
    parts = iter(np.split(newest, np.cumsum([len(file.digests) for file in known])[:-1]))
    return [None if file is None else _rows(next(parts), file) for file in files]


def _rows(newest: NDArray[np.bool_], file: ListedImages) -> NDArray[np.bool_] | None:
    return None if newest.all() else np.repeat(newest, file.regions)
