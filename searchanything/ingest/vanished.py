"""What may be forgotten of the indexed images that are gone when they are looked at or read (docs/adr/0040).

A listing, an event or a caller named them before. A disk that went meanwhile looks like so many deletions, so they go
by the rule of a listing that lacks images, `forget.decide`: of `looked` indexed images, those are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Literal, TypeAlias

from searchanything.core.counting import counted
from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.omissions import Omissions
from searchanything.core.protocols import ImageStore
from searchanything.core.types import ImageRef
from searchanything.images.scopes import Scope
from searchanything.ingest.forget import ForgetLimits, Forgetting, check_disks, decide

Said: TypeAlias = Literal["listed", "named", "gone"]
"""What was said of keys: that a listing named them, that somebody who may have deleted them did, such as an event, or
that a listing lacks them and they may be forgotten."""


def limits_for(said: Said, limits: ForgetLimits) -> ForgetLimits:
    """What may be gone of keys of which this was said: any number of those that somebody names."""
    if said == "named":
        return replace(limits, share=1.0)
    return replace(limits, always=said == "gone")


@dataclass(slots=True, eq=False)
class VanishedCheck:
    """Holds back the images of one run that are gone, where they may be hidden. Thread-safe.

    A source without any image is taken for one that is away; but not a bucket of whose keys somebody `said` that they
    changed, and that can be listed.
    `devices` gives those of the source's `SourceMemory`. What earlier listings lacked does not count: it may have come
    back since.
    """

    store: ImageStore
    scope: Scope
    said: Said
    limits: ForgetLimits
    devices: Callable[[], Mapping[str, tuple[int, ...]]]
    _looked: int = 0
    _gone: set[ImageRef] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, gone: Collection[str], looked: int) -> None:
        """So many more indexed images are looked at, and these are gone; their rows are there still.

        Raises: StoreUnavailableError where they may not be forgotten, or the source cannot be listed.
        """
        with self._lock:
            self._looked += looked
            if not gone:
                return
            self._gone.update(ImageRef(self.store.bucket, key) for key in gone)
            try:
                check_disks(self.store, self.devices(), gone)
                there = self.said == "gone" or self._is_there()
            except StoreUnavailableError:
                raise
            except StoreError as error:
                reason = f"images are gone, and whether they were deleted is unknown: {error}"
                raise StoreUnavailableError(reason) from error
            self._decide(is_there=there)

    def _decide(self, *, is_there: bool) -> None:
        looked, limits = max(self._looked, len(self._gone)), limits_for(self.said, self.limits)
        decision = decide(self._gone, Forgetting(limits), covered=looked, listed=int(is_there))
        if decision.held:
            found = f"{len(self._gone):,} of {counted(looked, 'indexed image')}" if is_there else "all images"
            raise StoreUnavailableError(
                f"{self.store.bucket}: {found} that were there before are gone, which is not taken for a deletion: a "
                "disk that is away looks the same; when it is back, repeat; if they were deleted: `searchanything sync "
                "repair SOURCE`, which tells what it holds back"
            )

    def _is_there(self) -> bool:
        """Whether the source is what it was: it has an image, or says for itself that it has none."""
        seen = Omissions()
        for one in self.store.list(self.scope.prefix, seen):
            if self.scope.may_be_image(one.ref.key) or self._is_believed(seen):
                return True
        return self._is_believed(seen)

    def _is_believed(self, seen: Omissions) -> bool:
        """A bucket is, whatever it lists; not a folder, which is empty where its disk is away."""
        return self.said == "named" and not seen.devices
