"""What may be forgotten of the indexed images that are gone when they are looked at or read (docs/adr/0040).

A listing, an event or a caller named them before, and a disk that went meanwhile looks like so many deletions. Whoever
named them may have deleted them; what a listing named waits for the next one, which sees how many are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageStore
from searchanything.images.content_types import ContentTypes
from searchanything.images.scopes import Scope
from searchanything.ingest.forget import check_disks
from searchanything.ingest.plan import why_skipped

Said: TypeAlias = Literal["listed", "named", "gone"]
"""What was said of keys: that a listing named them, that somebody who may have deleted them did, such as an event, or
that a listing lacks them and they may be forgotten."""

MOST_LOOKED_AT: Final = 1000  # objects that are no images, a page of a bucket's listing


@dataclass(frozen=True, slots=True, eq=False)
class VanishedCheck:
    """Whether images that are gone may be forgotten, by what was `said` of their keys. Thread-safe.

    A source without any image is taken for one that is away; but not a bucket of whose keys somebody said that they
    changed, and that can be listed.
    `devices` gives those of the source's `SourceMemory`.
    """

    store: ImageStore
    scope: Scope
    types: ContentTypes
    said: Said
    devices: Callable[[], Mapping[str, tuple[int, ...]]]

    def __call__(self, gone: Collection[str]) -> bool:
        """True if the rows of these keys may be deleted, False if they are to stay until a listing decides.

        Raises: StoreUnavailableError where the source or a disk of it is away, or the source cannot be listed.
        """
        try:
            check_disks(self.store, self.devices(), gone)
            if self.said != "gone":
                self._check_there()
        except StoreUnavailableError:
            raise
        except StoreError as error:
            reason = f"images are gone, and whether they were deleted is unknown: {error}"
            raise StoreUnavailableError(reason) from error
        return self.said != "listed"

    def _check_there(self) -> None:
        """Whether the source is what it was: it has an image, or says for itself that it has none.

        Where nothing is forgotten in any case no more is looked at than costs little, for each batch asks again.
        """
        seen = Omissions()
        for number, one in enumerate(self.store.list(self.scope.prefix, seen)):
            if self.said == "listed" and number == MOST_LOOKED_AT:
                return
            if self._is_believed(seen) or why_skipped(self.scope, self.types, self.store, one, {}) is None:
                return
        if not self._is_believed(seen):
            raise StoreUnavailableError(
                f"{self.store.bucket}: no image is left of those that were there before, which is not taken for a "
                f"deletion: a {'disk that is away' if seen.devices else 'bucket that was exchanged'} looks the same; "
                "when it is back, repeat; if they were deleted: `searchanything sync repair SOURCE`, which tells what "
                "it holds back"
            )

    def _is_believed(self, seen: Omissions) -> bool:
        """A bucket is, whatever it lists; not a folder, which is empty where its disk is away."""
        return self.said == "named" and not seen.devices
