"""A folder in another one that is indexed, too: its images have two names, and answers show them twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from searchanything.core.addresses import names_of
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import StoredObject
from searchanything.images.scopes import Scope

_MOST_FOLDERS: Final = 200  # of a listing are looked at: each costs a name for each folder above it


@dataclass(frozen=True, slots=True)
class FirstOfFolders:
    """An image of each of the first folders of a listing, which notes them while it is gone through."""

    bucket: str
    scope: Scope
    keys: dict[str, str] = field(default_factory=dict)

    def noting(self, objects: Iterable[StoredObject]) -> Iterator[StoredObject]:
        """The same objects."""
        for one in objects:
            folder = one.ref.key.rpartition("/")[0]
            if folder not in self.keys and len(self.keys) < _MOST_FOLDERS and self.scope.may_be_image(one.ref.key):
                self.keys[folder] = one.ref.key
            yield one

    def other_sources(self, index: RegionIndex) -> list[str]:
        """The other indexed folders that have these images as well; none for a bucket."""
        if not Path(self.bucket).is_absolute():
            return []
        names = {name for key in self.keys.values() for name in names_of(Path(self.bucket, key))}
        known = index.newest([name for name in names if name.bucket != self.bucket])
        return sorted({name.bucket for name, row in known.items() if row.is_findable})
