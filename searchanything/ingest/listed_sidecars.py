"""Which images got another sidecar, told by a listing alone: to ask for each would be two requests an image and run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.batching import batches
from searchanything.core.digests import SIDECAR, KnownImages
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageState
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.scopes import Scope

_PASS_ROWS: Final = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class ListedSidecars:
    """The sidecars of a listing, 16 bytes each, beside those that the known images had."""

    scope: Scope
    known: KnownImages
    _digests: list[NDArray[np.void]] = field(default_factory=list)

    def noting(self, objects: Iterable[StoredObject]) -> Iterator[StoredObject]:
        """The objects of a listing as they come; sidecars of wanted images are noted."""
        waiting: list[tuple[ImageRef, str]] = []
        for one in objects:
            key = self.scope.image_key(one.ref.key)
            if key != one.ref.key and self.scope.wants(key):
                waiting.append((ImageRef(one.ref.bucket, key), self.scope.sidecar_etag(one.etag)))
            yield one
            if len(waiting) >= _PASS_ROWS:
                self._keep(waiting)
        self._keep(waiting)

    def changed(self, index: RegionIndex, bucket: str) -> Iterator[ImageState]:
        """The rows of listed images that are wanted and whose sidecar came, went or changed; older generations, too.

        A second pass over the rows where there are such: digests are not keys. Raises: RegionIndexError.
        """
        if not self.scope.sidecar_suffix:
            return
        listed = np.concatenate([np.empty(0, dtype=SIDECAR), *self._digests])
        differing = self.known.differing_sidecars(listed) & self.known.rows["seen"]
        if not differing.any():
            return
        for states in batches(index.iterate_states(bucket=bucket, key_prefix=self.scope.prefix), _PASS_ROWS):
            numbers = self.known.find([one.image for one in states])
            for state, number in zip(states, numbers.tolist(), strict=True):
                if number >= 0 and differing[number] and self.scope.wants(state.image.key):
                    yield state

    def _keep(self, found: list[tuple[ImageRef, str]]) -> None:
        self._digests.append(self.known.sidecar_digests(found))
        found.clear()
