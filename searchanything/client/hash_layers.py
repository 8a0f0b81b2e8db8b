"""The hash layers of an index: which there are, another one in the place of the live one, and what is dropped.

    live index ─► one beside it, filled with codes of kept features (`ingest.rehash`) ─► switch ─► what came meanwhile

Questions go to the live index until the switch, and what is indexed meanwhile is carried over as well. Until the
switch nobody sees the new one; a run that was killed goes on where it was. The replaced index stays until `drop`, and
to go back is to apply its layer: it is brought up to date in the same way.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from searchanything import wiring
from searchanything.client.connection import Connection
from searchanything.client.hash_lease import CheckLease, hash_lease, leased
from searchanything.core.arguments import check_flags, check_kind, check_progress
from searchanything.core.batching import batches
from searchanything.core.codes import next_generation
from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.errors import (
    IndexDamagedError,
    IndexMismatchError,
    IndexNotFoundError,
    ModelError,
    RegionIndexError,
    SearchAnythingError,
    UsageError,
)
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.types import source_of
from searchanything.encode.fingerprint import rehashed
from searchanything.features.layout import index_name
from searchanything.ingest.contact_sheet import sweep
from searchanything.ingest.garbage import count_lost
from searchanything.ingest.pipeline import refresh_images
from searchanything.ingest.progress import within
from searchanything.ingest.rehash import LayersCompared, Rehash
from searchanything.ingest.reports import IndexProgress, IndexReport, OnProgress, sum_reports
from searchanything.ingest.sync import WAVE_KEYS
from searchanything.models.hashing import HashLayer

LOOKS: Final = 3  # looks at what was indexed meanwhile, before the switch
HASHING: Final = "hashing kept features"
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """One hash layer for which the index has codes. `layer` is the sha256 of its file; `regions` is None where the
    codes are not in the server's memory, or not usable: of another schema, or half dropped. `same_features` is False
    for an index of other models.
    """

    layer: str
    method: str
    bits: int
    trained: bool
    live: bool
    same_features: bool
    created_at_ms: int
    regions: int | None

    def to_dict(self) -> dict[str, Any]:
        """One of `layers` in the JSON document of `searchanything hash layers --format json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class HashChange:
    """What `apply` did. `layer` and `replaced` are sha256 of layers' files; nothing was `replaced` where it was live.

    `carried` images got codes of kept features, or had failed; `encoded` ones were segmented and embedded again, of
    which `failed` could not be; `forgotten` ones are no more in the replaced index. `left` are lacking: the next sync
    of their source indexes them, if it has them.
    """

    layer: str
    replaced: str | None
    carried: int = 0
    encoded: int = 0
    failed: int = 0
    forgotten: int = 0
    left: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything hash apply --format json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True, eq=False)
class HashLayers:
    """`client.hash_layers`. Thread-safe."""

    connection: Connection

    def list(self) -> list[LayerStatus]:
        """The layers for which there are codes, the live one first. Raises: IndexNotFoundError, RegionIndexError."""
        indexes, live = self.connection.whole(), self.connection.models.manifest()
        others = [one for one in indexes.manifests() if one.fingerprint != live.fingerprint]
        return [_status(indexes, one, live) for one in (live, *others)]

    def apply(self, layer: str | Path, *, encode: bool = False, progress: OnProgress | None = None) -> HashChange:
        """Give the index another hash layer of the same features: a file, or the sha256 (8 digits or more) of one that
        `list` names. Models stay as they are, and the index can be asked and written meanwhile.

        Codes are made of kept features (`ingest.keep_features`). Images that have none are counted and nothing changes,
        unless `encode`: then they are read, segmented and embedded again. If so many of these are gone or fail that it
        may be a mistake (`ingest.forget_images`, `…forget_share`), nothing changes either.

        Raises: IndexNotFoundError; UsageError for a layer that is not there, or images without features; ModelError for
        one that does not take the index's features; RegionIndexError where another process applies one; StoreError,
        and with `encode` what `refresh` raises. After any of them the index is as it was, and the same call goes on,
        but for a RegionIndexError which says that the layer is live: a sync brings what others wrote meanwhile.
        """
        check_flags(encode=encode)
        check_progress(progress)
        check_kind(layer, str | Path, "layer", "a file, or the sha256 of a layer that the index has")
        start = time.monotonic()
        indexes, live = self.connection.whole(), self.connection.models.manifest()
        hasher = self._layer(layer, live)
        wanted = rehashed(live, hasher)
        if wanted.fingerprint == live.fingerprint:
            return HashChange(hasher.digest, None, seconds=time.monotonic() - start)
        with hash_lease(indexes, (live.fingerprint, wanted.fingerprint)) as check_lease:
            change = _Change(self.connection, live, self._beside(live, wanted, hasher), hasher, check_lease, progress)
            check_lease(now=True)
            change.fill(encode=encode)
            check_lease(now=True)
            now = indexes.live()
            if now is None or now.fingerprint != live.fingerprint:
                raise RegionIndexError(f"{indexes.uri}: another index became live meanwhile; nothing was switched")
            indexes.switch(wanted.fingerprint)
            change.catch_up()
        return HashChange(
            layer=hasher.digest,
            replaced=live.hash_digest,
            carried=change.done,
            encoded=change.report.indexed + change.report.empty,
            failed=change.report.failed,
            forgotten=change.forgotten,
            left=change.left,
            seconds=time.monotonic() - start,
        )

    def drop(self, layer: str) -> None:
        """Delete the codes of a layer that is not live, by its sha256 (8 digits or more), and the layer with them.

        Raises: UsageError for one that is not there, or live, or being filled; RegionIndexError.
        """
        check_kind(layer, str, "layer", "the sha256 of a layer that the index has")
        indexes, live = self.connection.whole(), self.connection.models.manifest()
        found = self._named(layer, live)
        if found.fingerprint == live.fingerprint:
            raise UsageError(f"the layer {layer} is live: questions go by it; apply another one first")
        if found.fingerprint in leased(indexes).get("of", ()):
            raise UsageError(f"the layer {layer} is being applied or replaced by another process, or was until lately")
        indexes.drop(found.fingerprint)
        self.connection.models.forget(found.fingerprint)

    def _layer(self, layer: str | Path, live: IndexManifest) -> HashLayer:
        """Raises: UsageError; ModelError for one that does not take the index's features."""
        indexes = self.connection.indexes
        if isinstance(layer, Path) or Path(layer).is_file():
            data = wiring.hash_layer_of(live.preset, Path(layer), self.connection.settings)
        else:
            data = indexes.hash_layer(self._named(layer, live).fingerprint)
        hasher = HashLayer.from_bytes(data)
        taken = HashLayer.from_bytes(indexes.hash_layer(live.fingerprint))
        expected, got = (f"{one.mask_dimension} + {one.image_dimension}" for one in (taken, hasher))
        if expected != got:
            raise ModelError(f"the index has features of {expected} numbers, the layer {layer} takes {got}")
        hasher.warn_of_other_features(live.feature_fingerprint)
        return hasher

    def _named(self, layer: str, live: IndexManifest) -> IndexManifest:
        """The index of a layer that is named by the beginning of its digest. Raises: UsageError."""
        found = [
            one
            for one in self.connection.indexes.manifests()
            if one.hash_digest.startswith(layer) and one.feature_fingerprint == live.feature_fingerprint
        ]
        if len(found) != 1 or not _DIGEST.fullmatch(layer):
            raise UsageError(
                f"expected a hash layer's file, or 8 or more digits of a layer that the index has, got {layer!r}; "
                "`searchanything hash layers` lists them"
            )
        return found[0]

    def _beside(self, live: IndexManifest, wanted: IndexManifest, hasher: HashLayer) -> RegionIndex:
        """The index of another layer: made, or what is there of it, if its kept features are the live one's."""
        indexes, name = self.connection.indexes, wanted.fingerprint
        made = {one.fingerprint: one for one in indexes.manifests()}.get(name)
        if made is not None and index_name(made) != index_name(live):
            indexes.drop(name)
            made = None
        indexes.create(made or wanted, hasher.to_bytes())  # also what a killed `drop` left of one
        words = self.connection.models.index().words
        if words is not None:
            indexes.add_words(name, words.layer, bits=words.bits)
        self.connection.models.forget(name)
        return indexes.open(name)


@dataclass(slots=True, eq=False)
class _Change:
    """One run of `apply`: what was done so far."""

    connection: Connection
    live: IndexManifest
    other: RegionIndex
    hasher: HashLayer
    check_lease: CheckLease
    progress: OnProgress | None
    run: Rehash = field(init=False)
    images: int = field(init=False)  # of the live index, when the run began
    seen: LayersCompared = field(init=False)  # before the switch
    report: IndexReport = field(default_factory=IndexReport)
    done: int = 0
    forgotten: int = 0
    left: int = 0  # images that the other index lacks

    def __post_init__(self) -> None:
        self.run = Rehash(self.connection.models.index(), self.other, self.hasher, self._carried)
        if self.run.live.manifest.fingerprint != self.live.fingerprint:
            raise RegionIndexError(f"{self.connection.indexes.uri}: another index has just become live; try again")
        counts = self.run.live.counts()
        self.images = counts.images + counts.empty + counts.failed

    def fill(self, *, encode: bool) -> None:
        """Carry over all there is, and what came meanwhile. Raises: UsageError for what cannot be."""
        self.run.forget_failed_attempts()
        self.seen = self.run.compare()
        for _ in range(LOOKS):
            if not len(self.seen.lacking):
                break
            self._round(self.run, encode=encode)
            before, self.seen = self.seen, self.run.compare()
            stuck = len(np.intersect1d(before.lacking, self.seen.lacking, assume_unique=True))
            if stuck and not encode:
                raise UsageError(
                    f"{counted(stuck, 'image')} of {self.images:,} cannot get codes of kept features: none were kept, "
                    "or there is no region; with --encode they are segmented and embedded again. Nothing was changed"
                )
            if len(self.seen.lacking) == stuck:
                break
        lost, limits = len(self.seen.lacking) + self.report.failed, self.connection.forget_limits()
        if encode and lost > limits.images and lost > limits.share * self.images:
            raise UsageError(
                f"{lost:,} of {self.images:,} images are gone from their source, unwanted there or cannot be read, "
                "which may be a mistake: nothing was changed; `searchanything sync check SOURCE` says which"
            )
        self.forgotten = self.run.forget_gone()
        self._check_whole()

    def _check_whole(self) -> None:
        """Raises: RegionIndexError where rows are gone that were written once, such as of a layer of long ago."""
        known = KnownImages(self.other.iterate_states())
        lost = count_lost(self.other, known, self.other.count_regions())
        if lost:
            raise RegionIndexError(
                f"{self.connection.indexes.uri}: the index lost {counted(lost, 'region')} of the layer "
                f"{self.hasher.digest}; nothing was switched: `searchanything hash drop` it, then apply its file again"
            )

    def catch_up(self) -> None:
        """Bring over what was written to the replaced index since the last look, and delete what was deleted there."""
        run = replace(self.run, held=self.seen.held)
        try:
            self._round(run, encode=False)
            self.forgotten += run.forget_gone()
            self.left = len(run.compare().lacking)
            self._erase_tiles()
        except SearchAnythingError as error:
            raise RegionIndexError(
                f"the layer {self.hasher.digest} is live by now, but what was written meanwhile may not be all there: "
                f"searchanything sync repair SOURCE; {error}"
            ) from error

    def _erase_tiles(self) -> None:
        """Erase the replaced index's tiles of images that were encoded again: they may show another picture."""
        settings = self.connection.settings
        if settings.service.sheet_images:
            for bucket in sorted({state.image.bucket for state in self.run.live.iterate_states()}):
                sweep(wiring.open_tiles(bucket, self.live, settings), self.other)

    def _round(self, run: Rehash, *, encode: bool) -> None:
        """Carry over what the other index lacks, once."""
        for bucket in sorted(run.carry_failed()):
            self.check_lease()
            run.carry_kept(wiring.open_feature_cache(bucket, self.live, self.connection.settings))
            if encode:
                self._encode(bucket)

    def _encode(self, bucket: str) -> None:
        """Index what has no kept features, as it is in its source now."""
        source, options = self.connection.open_source(source_of(bucket)), self.connection.options(retry_forever=True)
        opened = self.connection.models.open_beside(self.other)
        job = replace(
            self.connection.job(source, opened, options, said="named"), sheet=None
        )  # tiles are the live one's
        before = IndexProgress(self.done, self.images, self.done, 0, "")
        show = None if self.progress is None else within(self.progress, before)

        def encoded(step: IndexProgress) -> None:
            self.check_lease()
            if show is not None:
                show(step)

        for wave in batches(self.run.lacking(bucket=bucket), WAVE_KEYS):
            next_generation(after=max(state.generation for state in wave))  # what comes is newer, by whatever clock
            keys = [state.image.key for state in wave]
            self.report = sum_reports((self.report, refresh_images(job, keys, progress=encoded)))

    def _carried(self, images: int) -> None:
        self.done += images
        self.check_lease()
        if images and self.progress is not None:
            self.progress(IndexProgress(self.done, self.images, self.done, 0, "", stage=HASHING))


def _status(indexes: IndexStore, one: IndexManifest, live: IndexManifest) -> LayerStatus:
    method, regions = "", None
    with contextlib.suppress(IndexDamagedError, IndexMismatchError, IndexNotFoundError):  # a killed `drop` leaves such
        method = HashLayer.from_bytes(indexes.hash_layer(one.fingerprint)).provenance.get("method", "layer")
        if one.fingerprint == live.fingerprint or not indexes.is_released(one.fingerprint):
            regions = indexes.open(one.fingerprint).count_regions()
    return LayerStatus(
        layer=one.hash_digest,
        method=method,
        bits=one.bits,
        trained=one.hash_trained,
        live=one.fingerprint == live.fingerprint,
        same_features=one.feature_fingerprint == live.feature_fingerprint,
        created_at_ms=one.created_at_ms,
        regions=regions,
    )
