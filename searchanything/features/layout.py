"""Where the cache lies, and the names of its files.

    INDEX-GENERATION-WORKER.parquet      a batch's features, or several batches' after a compaction
    INDEX-GENERATION-WORKER.tombstones   images that were deleted: {key: generation below which it is gone}
    INDEX-GENERATION-WORKER.lease        a compaction is running

INDEX tells the indexes apart that share a bucket and models (one that got another hash layer stays the same here),
GENERATION says when the file was made, WORKER is random.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from searchanything.core.codes import next_generation
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import FileStore
from searchanything.features.parquet import parquet_libraries

FEATURES: Final = ".parquet"
TOMBSTONES: Final = ".tombstones"
LEASE: Final = ".lease"
KEPT_BY: Final = "kept_features_of"  # in a manifest's details: the name of the index whose features are this one's, too
_NAME = re.compile(r"\.?(?P<index>[0-9a-f]{8})-(?P<generation>\d{19})-[0-9a-f]{8}\.[a-z]+(?:\..*)?")


def index_name(manifest: IndexManifest) -> str:
    """8 hex digits that tell an index from others, wherever it is opened; after a change of hash layers the same."""
    inherited = manifest.details.get(KEPT_BY)
    if isinstance(inherited, str):
        return inherited
    return blake2b(f"{manifest.fingerprint} {manifest.created_at_ms}".encode(), digest_size=4).hexdigest()


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """The features of one bucket's images in one index: where they lie and whose they are."""

    files: FileStore
    bucket: str
    manifest: IndexManifest
    index: str = field(init=False)
    worker: str = field(init=False, default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        parquet_libraries()  # says at once if they are missing
        object.__setattr__(self, "index", index_name(self.manifest))

    def new_name(self, suffix: str) -> str:
        """A name that no other writer uses."""
        return f"{self.index}-{next_generation():019d}-{self.worker}{suffix}"

    def is_own(self, name: str) -> bool:
        """True for a file of this index, be it whole or what a killed writer left."""
        found = _NAME.fullmatch(name)
        return found is not None and found["index"] == self.index


def generation_of(name: str) -> int:
    """When a file was begun. Raises: ValueError for a name of another kind."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"expected a name such as 0a1b2c3d-{'1' * 19}-0a1b2c3d{FEATURES}, got {name!r}")
    return int(found["generation"])
