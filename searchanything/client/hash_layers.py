"""The hash layers of an index: which there are, another one in the place of the live one, and what is dropped.

Codes of kept features fill an index beside the live one (`ingest.rehash`), which it then replaces (`client.change`).
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from searchanything import wiring
from searchanything.client.change import Change, ChangeCounts, index_beside
from searchanything.client.change_lease import begun_indexes, leased, warn_of_ended
from searchanything.client.connection import Connection
from searchanything.core.arguments import check_flags, check_kind, check_progress
from searchanything.core.errors import (
    IndexDamagedError,
    IndexMismatchError,
    IndexNotFoundError,
    ModelError,
    UsageError,
)
from searchanything.core.manifest import IndexManifest
from searchanything.core.patience import long_work
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.reading import kind_at
from searchanything.encode.fingerprint import rehashed
from searchanything.features.layout import index_name
from searchanything.features.parquet import parquet_libraries
from searchanything.ingest.rehash import Rehash
from searchanything.ingest.reports import OnProgress
from searchanything.models.hashing import HashLayer

HASHING: Final = "hashing kept features"
_DIGITS: Final = 12  # of a layer's digest, for people
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """One hash layer for which the index has codes, by the models of `preset`. `layer` is the sha256 of its file, and
    `index` the fingerprint of all. `regions` is None where the codes are not in the server's memory, or not usable: of
    another schema, or half dropped. `same_features` is False for other models than the live ones, or other regions.
    `filling`: a process fills it. Where one ended before it was through, `goes_on` is the command that does, else None.
    """

    index: str
    preset: str
    layer: str
    method: str
    bits: int
    trained: bool
    live: bool
    same_features: bool
    created_at_ms: int
    regions: int | None
    filling: bool
    goes_on: str | None

    def to_dict(self) -> dict[str, Any]:
        """One of `layers` in the JSON document of `searchanything hash layers --format json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HashChange(ChangeCounts):
    """What `apply` did. `layer` and `replaced` are sha256 of layers' files; nothing was `replaced` where it was live.

    `carried` images got codes of kept features or of before, or had failed; `encoded` ones had neither.
    """

    layer: str
    replaced: str | None


@dataclass(frozen=True, slots=True, eq=False)
class HashLayers:
    """`client.hash_layers`. Thread-safe."""

    connection: Connection

    def list(self) -> list[LayerStatus]:
        """The layers for which there are codes, the live one first. Raises: IndexNotFoundError, RegionIndexError."""
        indexes, live = self.connection.whole(), self.connection.models.manifest()
        others = [one for one in indexes.manifests() if one.fingerprint != live.fingerprint]
        begun, filling = begun_indexes(indexes), leased(indexes).get("of", (None,))[-1]
        begun.pop(live.fingerprint, None)
        return [
            replace(
                _status(indexes, one, live),
                filling=one.fingerprint in begun and one.fingerprint == filling,
                goes_on=None if one.fingerprint == filling else begun.get(one.fingerprint),
            )
            for one in (live, *others)
        ]

    @long_work()
    def apply(self, layer: str | Path, *, encode: bool = False, progress: OnProgress | None = None) -> HashChange:
        """Give the index another hash layer of the same features: a file, or the sha256 (8 digits or more) of one that
        `list` names. Models stay as they are, and the index can be asked and written meanwhile.

        Codes are made of kept features (`ingest.keep_features`), or are those that the layer had of the same content
        and regions. Images that have neither are counted and nothing becomes live, unless `encode`: then they are read,
        segmented and embedded again. If so many of these are gone or fail that it may be a mistake
        (`ingest.forget_images`, `…forget_share`), nothing changes either.

        Raises: IndexNotFoundError; UsageError for a layer that is not there, or images without features; ModelError for
        one that does not take the index's features; RegionIndexError where another process applies one; StoreError,
        and with `encode` what `refresh` raises. After any of them the index is as it was, and the same call goes on,
        but for a RegionIndexError which says that the layer is live: a sync brings what others wrote meanwhile.
        """
        check_flags(encode=encode)
        check_progress(progress)
        check_kind(layer, str | Path, "layer", "a file, or the sha256 of a layer that the index has")
        start = time.monotonic()
        self.connection.whole()
        live = self.connection.models.manifest()
        if encode:
            self.connection.models.preset_of(live)
        hasher = self._layer(layer, live)
        wanted = rehashed(live, hasher)
        if wanted.fingerprint == live.fingerprint:
            warn_of_ended(self.connection.indexes, live.fingerprint)
            return HashChange(hasher.digest, None, seconds=time.monotonic() - start)
        parquet_libraries()  # which read kept features; said before anything is begun
        change = Change(
            connection=self.connection,
            live=live,
            beside=lambda index, done: Rehash(
                live=index, other=self._beside(live, wanted, hasher), hasher=hasher, progress=done
            ),
            carry=lambda run, bucket: self._carry(run, bucket, live),
            encode=encode,
            name=f"the layer {hasher.digest[:_DIGITS]}",
            command=f"searchanything hash apply {hasher.digest[:_DIGITS]}{' --encode' if encode else ''}",
            stage=HASHING,
            progress=progress,
        )
        change.apply(wanted.fingerprint)
        return HashChange(hasher.digest, live.hash_digest, **change.counts, seconds=time.monotonic() - start)

    def drop(self, layer: str) -> None:
        """Delete the codes of a layer that is not live, by the sha256 of the layer or by their `index` (8 digits or
        more), and the layer with them.

        Raises: UsageError for one that is not there, or live, or being filled; RegionIndexError.
        """
        check_kind(layer, str, "layer", "the sha256 of a layer that the index has")
        indexes, live = self.connection.whole(), self.connection.models.manifest()
        found = self._named(layer)
        if found.fingerprint == live.fingerprint:
            raise UsageError(f"the layer {layer} is live: questions go by it; apply another one first")
        if found.fingerprint in leased(indexes).get("of", ()):
            raise UsageError(
                f"the layer {layer} is being applied or replaced by another process, or was until that was killed on "
                "another machine less than ten minutes ago; try again later"
            )
        indexes.drop(found.fingerprint)
        self.connection.models.forget(found.fingerprint)

    def _carry(self, run: Rehash, bucket: str, live: IndexManifest) -> None:
        """The images of a bucket that need no model: by kept features, else by codes of before."""
        run.carry_kept(wiring.open_feature_cache(bucket, live, self.connection.settings))
        run.carry_same(bucket)

    def _layer(self, layer: str | Path, live: IndexManifest) -> HashLayer:
        """Raises: UsageError; ModelError for one that does not take the index's features."""
        indexes = self.connection.indexes
        if isinstance(layer, Path) or kind_at(Path(layer), "a hash layer") == "file":
            data = wiring.hash_layer_of(live.preset, Path(layer), self.connection.settings)
        else:
            data = indexes.hash_layer(self._named(layer, of=live).fingerprint)
        hasher = HashLayer.from_bytes(data)
        taken = HashLayer.from_bytes(indexes.hash_layer(live.fingerprint))
        expected, got = (f"{one.mask_dimension} + {one.image_dimension}" for one in (taken, hasher))
        if expected != got:
            raise ModelError(
                f"the index has features of {expected} numbers, the layer {layer} takes {got}: it is of other models; "
                "train one on the index's own kept features (searchanything hash train)"
            )
        hasher.warn_of_other_features(live.feature_fingerprint)
        return hasher

    def _named(self, name: str, *, of: IndexManifest | None = None) -> IndexManifest:
        """The index that is named by the beginning of its layer's digest, or of its own; `of`: of the same features.

        Raises: UsageError.
        """
        made = self.connection.indexes.manifests()
        found = [one for one in made if one.hash_digest.startswith(name) or one.fingerprint.startswith(name)]
        if of is not None and _DIGEST.fullmatch(name):
            others = found
            found = [one for one in found if one.feature_fingerprint == of.feature_fingerprint]
            if others and not found:
                raise UsageError(
                    f"the layer {name} is of other models, or other regions, than the live index: searchanything "
                    f"models apply {others[0].preset} goes back to these, and to the layer they had"
                )
        if len(found) != 1 or not _DIGEST.fullmatch(name):
            raise UsageError(
                f"expected a hash layer's file, or 8 or more digits of a layer that the index has, got {name!r}; "
                "`searchanything hash layers` lists them"
                + (", and tells those of one layer apart by their index" if len(found) > 1 else "")
            )
        return found[0]

    def _beside(self, live: IndexManifest, wanted: IndexManifest, hasher: HashLayer) -> RegionIndex:
        """The index of another layer: made, or what is there of it, if its kept features are the live one's."""
        for made in self.connection.indexes.manifests():
            if made.fingerprint == wanted.fingerprint and index_name(made) != index_name(live):
                self.connection.indexes.drop(made.fingerprint)
        words = self.connection.models.index().words
        return index_beside(
            self.connection, wanted, hasher.to_bytes(), None if words is None else (words.layer, words.bits)
        )


def _status(indexes: IndexStore, one: IndexManifest, live: IndexManifest) -> LayerStatus:
    method, regions = "", None
    with contextlib.suppress(IndexDamagedError, IndexMismatchError, IndexNotFoundError):  # a killed `drop` leaves such
        method = HashLayer.from_bytes(indexes.hash_layer(one.fingerprint)).provenance.get("method", "layer")
        if one.fingerprint == live.fingerprint or not indexes.is_released(one.fingerprint):
            regions = indexes.open(one.fingerprint).count_regions()
    return LayerStatus(
        index=one.fingerprint,
        preset=one.preset,
        layer=one.hash_digest,
        method=method,
        bits=one.bits,
        trained=one.hash_trained,
        live=one.fingerprint == live.fingerprint,
        same_features=one.feature_fingerprint == live.feature_fingerprint,
        created_at_ms=one.created_at_ms,
        regions=regions,
        filling=False,
        goes_on=None,
    )
