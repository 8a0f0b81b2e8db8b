"""Sources into the index: all of one, or the keys that changed; and what that would take."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from searchanything import wiring
from searchanything.client.connection import Connection, OpenedSource, SourceName
from searchanything.client.hash_on_first_index import (
    LearningOptions,
    chosen_hash,
    learn_hash,
    learn_words,
    sample_of_source,
)
from searchanything.client.syncing import Syncing
from searchanything.core.arguments import check_flags, check_kind, check_progress, several, whole_number_of
from searchanything.core.batching import batches
from searchanything.core.counting import counted
from searchanything.core.digests import KnownImages
from searchanything.core.omissions import Omissions
from searchanything.core.patience import long_work
from searchanything.core.protocols import ImageStore, IndexStore, RegionIndex
from searchanything.core.rows import Outcome
from searchanything.core.types import FloatArray, StoredObject
from searchanything.encode.crop_memory import CropMemory
from searchanything.encode.encoder import Encoder, OpenEncoder
from searchanything.encode.fingerprint import manifest_of
from searchanything.features.kept_regions import kept_sample
from searchanything.hash_training.words_training import LEAST_ROWS, MOST_ROWS, WORDS_BITS
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest.beginning import from_first_image, nothing_to_repair
from searchanything.ingest.contact_sheet import SheetTile
from searchanything.ingest.estimate import estimate_images
from searchanything.ingest.forget import Covered, marking
from searchanything.ingest.listed_sidecars import ListedSidecars
from searchanything.ingest.listing import ListingAhead
from searchanything.ingest.missing_words import lacking_words, words_from_features
from searchanything.ingest.nested_folders import FirstOfFolders
from searchanything.ingest.pipeline import forgetting_images, index_images, nothing_listed, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.progress import in_notebooks, steps_of
from searchanything.ingest.reports import Estimate, IndexProgress, IndexReport, OnProgress, SyncReport, sum_reports
from searchanything.ingest.sync import WAVE_KEYS, account_for_gone
from searchanything.ingest.vanished import Said
from searchanything.wiring import HashChoice

logger = logging.getLogger(__name__)
OPENING: Final = "opening the index"
MAKING: Final = "making the index and loading the models"


@dataclass(frozen=True, slots=True, eq=False)
class Ingestion:
    """Brings an index up to date with its sources. `Client` says what each method promises. Thread-safe."""

    connection: Connection
    syncing: Syncing

    @long_work()
    def index(
        self,
        source: SourceName,
        *,
        hash_file: str | Path | None,
        force: bool,
        prune: bool,
        add_words: bool,
        patterns: Patterns | None,
        progress: OnProgress | None,
    ) -> IndexReport:
        """As `Client.index`."""
        check_flags(force=force, prune=prune, add_words=add_words)
        check_progress(progress)
        check_kind(hash_file, str | Path | None, "hash_file", "a file's path, or 'untrained'")
        connection = self.connection
        store, scope = connection.open_source(source, patterns)
        omissions = Omissions(wanted=scope.concerns)
        listing = ListingAhead(store.list(scope.prefix, omissions), lambda one: _counts(scope, one))
        objects, before = iter(listing), IndexReport()
        if connection.indexes.live() is None:  # a source that is not there, or holds no image, makes no index
            found, before = from_first_image((store, scope), connection.types, objects)
            if found is None:
                return sum_reports((before, nothing_listed(omissions)))
            objects = found
        choice = chosen_hash(hash_file)
        with in_notebooks(progress, "indexing") as shown:
            opened = self._open_or_make((store, scope), shown, choice, add_words=add_words)
            index = opened[0]
            job = connection.job((store, scope), opened, connection.options(force=force, retry_forever=True))
            known = Covered(index, store.bucket, scope).known()
            firsts = FirstOfFolders(store.bucket, scope)
            sidecars = ListedSidecars(scope, known)
            listed = marking(sidecars.noting(firsts.noting(objects)), known)
            report_progress = listing.progress(shown)
            if report_progress is not None:  # the first batch may take long: what there is is known before
                report_progress(IndexProgress(0, None, 0, 0, ""))
            report = index_images(job, listed, progress=report_progress, omissions=omissions, seen=known)
            if not force:
                states = sidecars.changed(index, store.bucket)  # failures were tried again with the listing
                changed = sorted({one.image.key for one in states if one.outcome is not Outcome.FAILED})
                report = _with_others(report, _in_waves(job, changed, progress))
        if report.indexed:
            _warn_of_others(store.bucket, firsts.other_sources(index))
        if add_words:
            report = _with_others(report, self._fill_words(job, known, progress))
        sure = replace(job, may_forget=connection.vanished((store, scope), "gone"))
        refresh = forgetting_images(sure) if prune else None
        ended = replace(self.syncing.comparison((store, scope), index), refresh=refresh)
        self.syncing.release_replaced()
        _warn_if_replaced(self.connection.indexes, index)
        return sum_reports((before, report, account_for_gone(ended, known, omissions, progress=progress)))

    @long_work()
    def estimate(
        self, source: SourceName, *, images: int, patterns: Patterns | None, progress: OnProgress | None
    ) -> Estimate:
        """As `Client.estimate`."""
        check_progress(progress)
        images = whole_number_of(images, "images", least=1)
        connection = self.connection
        store, scope = connection.open_source(source, patterns)
        encoder = connection.models.encoder()
        scratch = wiring.scratch_index(manifest_of(encoder, "estimate"))
        job = IndexingJob(store, lambda: encoder, scratch, connection.options(), scope)
        found = estimate_images(job, sample=images, words_bits=_words_bits(connection), progress=progress)
        return replace(found, disk_free_bytes=wiring.free_disk_bytes(connection.settings.milvus.uri))

    def refresh(
        self,
        source: SourceName,
        keys: Iterable[str],
        *,
        force: bool,
        patterns: Patterns | None = None,
        progress: OnProgress | None = None,
        tiles: int = 0,
        said: Said = "named",
    ) -> tuple[IndexReport, tuple[SheetTile, ...]]:
        """As `Operations.refresh_with_sheet`."""
        check_flags(force=force)
        check_progress(progress)
        keys = several(keys, str, "keys", "keys")
        connection, opened_source = self.connection, self.connection.open_source(source, patterns)
        if keys and connection.indexes.live() is None:
            _check_there(opened_source)
        while True:
            opened = self._open_or_make(opened_source, progress)
            job = connection.job(opened_source, opened, connection.options(force=force), tiles=tiles, said=said)
            report = refresh_images(job, keys, progress=progress)
            if keys and report.found_no_image:
                _check_there(opened_source)
            live = connection.indexes.live()
            if live is None or live.fingerprint == opened[0].manifest.fingerprint:
                return report, tuple(job.sheet.kept) if job.sheet is not None else ()
            logger.info("another index became live meanwhile: %s are looked at there, too", counted(len(keys), "key"))

    @long_work()
    def repair(
        self, source: SourceName, *, forget: bool, patterns: Patterns | None, progress: OnProgress | None
    ) -> SyncReport:
        """As `Client.sync` with `repair`; a source that is not there, or holds no image, makes no index."""
        check_flags(forget=forget)
        check_progress(progress)
        store, scope = self.connection.open_source(source, patterns)
        if self.connection.indexes.live() is None:
            omissions = Omissions(wanted=scope.concerns)
            found, before = from_first_image((store, scope), self.connection.types, store.list(scope.prefix, omissions))
            if found is None:
                return nothing_to_repair(before, omissions)
        index = self._open_or_make((store, scope), progress)[0]
        report = self.syncing.repair((store, scope), index, forget=forget, progress=progress)
        _warn_if_replaced(self.connection.indexes, index)
        return report

    def _open_or_make(
        self,
        source: OpenedSource,
        progress: OnProgress | None,
        choice: HashChoice = None,
        *,
        add_words: bool = False,
    ) -> tuple[RegionIndex, OpenEncoder]:
        """The live index, or a new one; where nobody chose a hash layer, one is trained on a sample of the source."""
        connection, (store, scope), memory = self.connection, source, CropMemory()
        if progress is not None:
            stage = MAKING if connection.indexes.live() is None else OPENING
            progress(IndexProgress(0, None, 0, 0, "", stage=stage))

        def learn(encoder: Encoder) -> bytes | None:
            scratch = wiring.scratch_index(manifest_of(encoder, "sample"))
            keeping = memory.keeping(encoder)
            job = IndexingJob(store, lambda: keeping, scratch, connection.options(), scope)
            options = LearningOptions.of(self.connection.settings)
            layer = learn_hash(sample_of_source(job, options), options, progress=progress)
            return None if layer is None else layer.to_bytes()

        index, open_encoder = connection.models.open_or_make(choice, learn)
        opened = index, lambda: memory.recalling(open_encoder())
        with_words = self._with_words(opened, source, add=add_words, progress=progress)
        return opened if with_words is opened else (with_words[0], lambda: memory.recalling(with_words[1]()))

    def _with_words(
        self, opened: tuple[RegionIndex, OpenEncoder], source: OpenedSource, *, add: bool, progress: OnProgress | None
    ) -> tuple[RegionIndex, OpenEncoder]:
        """The index with words codes where they are asked for: by this call, or by the settings for a new index."""
        (index, open_encoder), (store, scope), connection = opened, source, self.connection
        if index.words is not None or not (add or connection.settings.ingest.words):
            return opened
        if not add and index.count_regions():
            logger.warning("ingest.words is set, but the index has no words codes: searchanything index --add-words")
            return opened
        scratch = wiring.scratch_index(manifest_of(open_encoder(), "sample"))
        options = LearningOptions.of(connection.settings)
        job = IndexingJob(store, open_encoder, scratch, connection.options(), scope)
        layer = learn_words(
            partial(sample_of_source, job, options),
            open_encoder(),
            options,
            self._kept_sample(store, index),
            progress=progress,
        )
        return connection.models.add_words(layer.to_bytes(), bits=layer.bits)

    def _kept_sample(self, store: ImageStore, index: RegionIndex) -> FloatArray | None:
        """f_I of regions whose features are kept, if they are enough to learn from, or of all there are."""
        if not self.connection.settings.ingest.keep_features:
            return None
        kept = kept_sample(self.connection.feature_cache(store, index), most=MOST_ROWS)
        return None if kept is None or len(kept) < min(LEAST_ROWS, index.count_regions()) else kept

    def _fill_words(self, job: IndexingJob, known: KnownImages, progress: OnProgress | None) -> IndexReport:
        """Words codes for what lacks them: of kept features; what has none is indexed again, in one commit each.

        What the listing did not mark as seen among the `known` is accounted for at the end of the run, and what is not
        wanted this time stays as it is.
        """
        prefix = job.scope.prefix
        if job.keeper is not None and (words := wiring.words_hasher(job.index.words)) is not None:
            cache = self.connection.feature_cache(job.store, job.index)
            filled = words_from_features(job.index, cache, words, key_prefix=prefix, on_step=steps_of(progress))
            logger.info("words codes of %s are made of kept features", counted(filled, "region"))
        lacking = list(lacking_words(job.index, bucket=job.store.bucket, key_prefix=prefix))
        numbers = known.find(lacking)
        listed = numbers < 0  # new since
        listed[~listed] = known.rows["seen"][numbers[~listed]]
        keys = [
            one.key
            for one, is_listed in zip(lacking, listed.tolist(), strict=True)
            if is_listed and job.scope.wants(one.key)
        ]
        again = replace(job, options=self.connection.options(force=True))
        return _in_waves(again, keys, progress)


def _check_there(source: OpenedSource) -> None:
    """Keys of which none is there are no news, unless their source is not there: its name may be mistyped.

    Raises: ObjectNotFoundError; as `ImageStore.list`.
    """
    store, scope = source
    next(iter(store.list(scope.prefix, Omissions())), None)


def _in_waves(job: IndexingJob, keys: Sequence[str], progress: OnProgress | None) -> IndexReport:
    return sum_reports(refresh_images(job, wave, progress=progress) for wave in batches(keys, WAVE_KEYS))


def _with_others(report: IndexReport, others: IndexReport) -> IndexReport:
    """The report of a run that had counted these others as unchanged, and looked at them once more."""
    again = others.indexed + others.empty + others.failed
    return sum_reports((replace(report, unchanged=max(0, report.unchanged - again)), replace(others, unchanged=0)))


def _words_bits(connection: Connection) -> int:
    """Those of the words codes that indexing makes; 0 where it makes none."""
    live = connection.indexes.live()
    if live is not None and (part := connection.indexes.open(live.fingerprint).words) is not None:
        return part.bits
    return WORDS_BITS if live is None and connection.settings.ingest.words else 0


def _warn_if_replaced(indexes: IndexStore, index: RegionIndex) -> None:
    live = indexes.live()
    if live is not None and live.fingerprint != index.manifest.fingerprint:
        logger.warning("another index became live during this run, and lacks what this one did last: run it again")


def _warn_of_others(bucket: str, others: list[str]) -> None:
    """Say that images of a folder have other names as well."""
    for other in others:
        logger.warning(
            "images of %s are in the index as those of %s, too, and answers show them twice; to keep one: "
            "searchanything delete %s",
            bucket,
            other,
            shlex.quote(max(bucket, other, key=len)),
        )


def _counts(scope: Scope, listed: StoredObject) -> bool:
    """Whether a listed object will be counted among the images, as far as its name says."""
    key = listed.ref.key
    return not scope.is_own(key) and scope.may_be_image(key)
