"""An index that replaces the live one: filled beside it, switched to, and brought up to date once more.

    live index ─► one beside it, filled (`ingest.beside`) ─► switch ─► what came meanwhile

Questions go to the live index until the switch, and what is indexed meanwhile is carried over as well. Until the
switch nobody sees the new one; a run that was killed goes on where it was. The replaced index stays until it is
dropped, and to go back is to apply it: it is brought up to date in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np

from searchanything import wiring
from searchanything.client.change_lease import change_lease, note_begun, note_behind
from searchanything.client.connection import Connection
from searchanything.client.lease import CheckLease
from searchanything.client.lost_images import LostImages, images_of
from searchanything.core.batching import batches
from searchanything.core.codes import next_generation
from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.errors import RegionIndexError, SearchAnythingError, UsageError
from searchanything.core.manifest import IndexManifest
from searchanything.core.models_before import note_replaced
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import source_of
from searchanything.encode.encoder import Encoder
from searchanything.ingest.beside import Beside, Compared
from searchanything.ingest.contact_sheet import sweep
from searchanything.ingest.garbage import count_lost
from searchanything.ingest.pipeline import refresh_images
from searchanything.ingest.progress import so_far, within
from searchanything.ingest.reports import IndexProgress, IndexReport, OnProgress, sum_reports
from searchanything.ingest.sync import WAVE_KEYS

logger = logging.getLogger(__name__)

RunT = TypeVar("RunT", bound=Beside)
LOOKS: Final = 3  # looks at what was indexed meanwhile, before the switch


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCounts:
    """How many images a change of layer or models carried over or encoded, and what became of the others.

    `carried` images needed no model; `encoded` ones were segmented and embedded, of which `failed` could not be;
    `forgotten` ones are no more in the replaced index. `left` are lacking: the next sync of their source indexes them,
    if it has them.
    """

    carried: int = 0
    encoded: int = 0
    failed: int = 0
    forgotten: int = 0
    left: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """A JSON document: what is live by now and what it replaced, then the counts."""
        names = [one.name for one in sorted(fields(self), key=lambda one: bool(one.kw_only))]
        return {name: getattr(self, name) for name in names} | {"seconds": round(self.seconds, 3)}


def index_beside(
    connection: Connection, wanted: IndexManifest, hash_layer: bytes, words: tuple[bytes, int] | None
) -> RegionIndex:
    """The index that is to replace the live one: made, or what is there of it; `words` are a words layer and its bits.

    Raises: IndexMismatchError where that has another hash layer.
    """
    indexes, name = connection.indexes, wanted.fingerprint
    made = next((one for one in indexes.manifests() if one.fingerprint == name), wanted)
    indexes.create(made, hash_layer)  # also what a killed `drop` left of one
    if words is not None:
        indexes.add_words(name, words[0], bits=words[1])  # what was added first stays
    connection.models.forget(name)
    return indexes.open(name)


@dataclass(slots=True, eq=False, kw_only=True)
class Change(Generic[RunT]):
    """One run that replaces the live index, and what it did so far.

    `carry` brings over what needs no model, of one bucket. `encode`: the rest is segmented and embedded; else it is
    refused. `recall` spares an encoder the crops that it has seen. `name` is what the index is made for, in words, and
    `command` what goes on with it.
    """

    connection: Connection
    live: IndexManifest
    beside: Callable[[RegionIndex, Callable[[int], None]], RunT]
    carry: Callable[[RunT, str], object] = lambda _, __: None
    encode: bool
    recall: Callable[[Encoder], Encoder] = lambda encoder: encoder
    name: str
    command: str
    stage: str
    progress: OnProgress | None
    check_lease: CheckLease = field(init=False)
    run: RunT = field(init=False)
    images: int = field(init=False)  # of the live index, when the run began
    total: int = 0  # of them, what was lacking then
    seen: Compared = field(init=False)  # before the switch
    report: IndexReport = field(default_factory=IndexReport)
    lost: LostImages = field(init=False)
    done: int = 0
    forgotten: int = 0
    left: int = 0  # images that the other index lacks

    def apply(self, fingerprint: str) -> None:
        """Fill the index of that fingerprint, and switch to it. Raises: as `HashLayers.apply`."""
        indexes = self.connection.indexes
        concerned = self.live.fingerprint, fingerprint
        with change_lease(indexes, concerned, self.command) as self.check_lease:
            self._begin()
            self.check_lease(now=True)
            self._fill()
            self.check_lease(now=True)
            now = indexes.live()
            if now is None or now.fingerprint != self.live.fingerprint:
                raise RegionIndexError(
                    f"{indexes.uri}: another index became live while {self.name} was filled, so it stays live; "
                    f"`searchanything hash layers` says which, and `{self.command}` goes on"
                )
            if self.run.other.manifest.feature_fingerprint != self.live.feature_fingerprint:
                note_replaced(indexes, self.live)  # who names its preset follows from here on
            note_behind(indexes, fingerprint)  # until it has caught up, however this run ends
            indexes.switch(fingerprint)
            self._catch_up()

    @property
    def counts(self) -> dict[str, int]:
        """The fields of `ChangeCounts`, but for the time."""
        encoded = self.report.indexed + self.report.empty
        return {
            "carried": self.done,
            "encoded": encoded,
            "failed": self.report.failed,
            "forgotten": self.forgotten,
            "left": self.left,
        }

    def _begin(self) -> None:
        live = self.connection.models.index()
        self.run = self.beside(live, self._carried)
        if live.manifest.fingerprint != self.live.fingerprint:
            raise RegionIndexError(f"{self.connection.indexes.uri}: another index has just become live; try again")
        self.images, self.lost = images_of(live), LostImages(self.connection)

    def _fill(self) -> None:
        """Carry over all there is, and what came meanwhile. Raises: UsageError for what cannot be."""
        self.run.forget_failed_attempts()
        self.run.forget_damaged()
        self.run.ready_words()
        self.seen = self.run.compare()
        self.total = len(self.seen.lacking)
        self._show_so_far()
        for _ in range(LOOKS):
            if not len(self.seen.lacking):
                break
            self._round(self.run)
            before, self.seen = self.seen, self.run.compare()
            stuck = len(np.intersect1d(before.lacking, self.seen.lacking, assume_unique=True))
            if stuck and not self.encode:
                goes_on = f"{self.command} --encode"
                note_begun(self.connection.indexes, (self.run.other.manifest.fingerprint,), goes_on)
                raise UsageError(
                    f"{counted(stuck, 'image')} of {self.images:,} cannot get codes of {self.name}: no features of "
                    "them were kept, or they have no region. So the index stays as it is, and keeps the codes that the "
                    f"others have got; `{goes_on}` encodes these images alone"
                )
            if len(self.seen.lacking) == stuck:
                break
        if self.encode:
            self.lost.check(self.run, lacking=len(self.seen.lacking), images=self.images)
        self._check_live()  # what it may have lost for a moment is not to be encoded once more
        self.forgotten = self.run.forget_gone()
        self._check_live()
        self._check_whole()

    def _check_live(self) -> None:
        """Raises: RegionIndexError where the live index has far fewer images than it had."""
        there = images_of(self.run.live)
        if not self.connection.forget_limits().are_few(self.images - there, self.images):
            raise RegionIndexError(
                f"{self.connection.indexes.uri}: of {self.images:,} images {there:,} are left, after {self.name} was "
                f"filled. If they were deleted meanwhile, `{self.command}` goes on; if not, the server has lost them: "
                "`searchanything sync repair SOURCE` indexes them again. Until then the index stays as it is"
            )

    def _check_whole(self) -> None:
        """Raises: RegionIndexError where rows are gone that were acknowledged."""
        other = self.run.other
        known = KnownImages(other.iterate_states())
        lost = count_lost(other, known, other.count_regions())
        if lost:
            raise RegionIndexError(
                f"{self.connection.indexes.uri}: the index lost {counted(lost, 'region')} of {self.name} while it was "
                f"filled, so it stays as it is; `{self.command}` puts them in again"
            )

    def _catch_up(self) -> None:
        """Bring over what was written to the replaced index since the last look, and delete what was deleted there."""
        run = replace(self.run, before=self.seen)
        try:
            self._round(run)
            self.forgotten += run.forget_gone()
            self.left = len(run.compare().lacking)
            self._erase_tiles()
            if self.run.other.words is None and self.connection.indexes.open(self.live.fingerprint).words is not None:
                logger.warning("words codes were added meanwhile, and %s has none: index SOURCE --add-words", self.name)
            note_behind(self.connection.indexes, "")
        except SearchAnythingError as error:
            raise RegionIndexError(
                f"{self.name} is live by now, but what was written meanwhile may not be all there: "
                f"searchanything sync repair SOURCE; {error}"
            ) from error

    def _erase_tiles(self) -> None:
        """Erase the replaced index's tiles of images that were encoded again: they may show another picture."""
        settings = self.connection.settings
        if settings.service.sheet_images:
            for bucket in sorted({state.image.bucket for state in self.run.live.iterate_states()}):
                sweep(wiring.open_tiles(bucket, self.live, settings), self.run.other)

    def _round(self, run: RunT) -> None:
        """Carry over what the other index lacks, once."""
        buckets = sorted(run.carry_failed())
        for bucket in buckets:
            self.check_lease()
            self.carry(run, bucket)
        if self.encode and run.before is None:
            self.lost.check_sources(run, buckets, self.check_lease)
        for bucket in buckets if self.encode else ():
            self._encode(run, bucket)

    def _encode(self, run: RunT, bucket: str) -> None:
        """Index what is still lacking, as it is in its source now: of the same content, too, if codes are of before."""
        source = self.connection.open_source(source_of(bucket))
        options = self.connection.options(force=True)
        index, open_encoder = self.connection.models.open_beside(run.other)
        job = self.connection.job(source, (index, lambda: self.recall(open_encoder())), options, said="named")
        job = replace(job, sheet=None)  # tiles are the live one's
        for wave in batches(run.lacking(bucket=bucket), WAVE_KEYS):
            next_generation(after=max(state.generation for state in wave))  # what comes is newer, by whatever clock
            keys = [state.image.key for state in wave]
            known = replace(job, replaced=run.live.newest({state.image for state in wave}))
            report = refresh_images(known, keys, progress=self._encoding())
            self.lost.note(bucket, report)
            self.report = sum_reports((self.report, report))

    def _encoding(self) -> OnProgress:
        """Keeps the lease while a wave is encoded, and says how far the whole is."""
        before = so_far(IndexProgress(self.done, None, self.done, 0, ""), self.report)
        show = within(self._show, before)

        def encoded(step: IndexProgress) -> None:
            self.check_lease()
            show(step)

        return encoded

    def _carried(self, images: int) -> None:
        self.done += images
        self.check_lease()
        if images:
            self._show_so_far(stage=self.stage)

    def _show_so_far(self, *, stage: str = "") -> None:
        self._show(so_far(IndexProgress(self.done, None, self.done, 0, "", stage=stage), self.report))

    def _show(self, now: IndexProgress) -> None:
        if self.progress is not None:  # what was indexed meanwhile comes on top
            self.progress(replace(now, total=max(self.total, now.done)))
