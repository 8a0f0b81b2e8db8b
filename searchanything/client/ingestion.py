"""What a client can do to bring an index up to date and to keep it so."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, Literal

from searchanything import wiring
from searchanything.client.hash_on_first_index import LearningOptions, learn_hash, learn_words
from searchanything.client.live_index import Learn, LiveIndex
from searchanything.core.batching import batches
from searchanything.core.codes import next_generation
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, SettingsError, StoreError
from searchanything.core.protocols import FeatureKeeper, ImageStore, RegionIndex
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef, ImageRow, Omissions, StoredObject
from searchanything.encode.canary import check_models
from searchanything.encode.encoder import Encoder, Stopwatch
from searchanything.encode.fingerprint import manifest_of
from searchanything.features.compact import Compaction, compact
from searchanything.features.keep import ParquetKeeper
from searchanything.features.layout import FeatureCache
from searchanything.features.status import CacheStatus, cache_status
from searchanything.images.content_types import ContentTypes
from searchanything.images.scopes import Patterns, Scope
from searchanything.ingest.commit import Attempt, Failed, commit_batch
from searchanything.ingest.contact_sheet import Sheet, SheetTile, sweep
from searchanything.ingest.estimate import estimate_images
from searchanything.ingest.forget import Covered, ForgetLimits, marking, recalled
from searchanything.ingest.listing import ListingAhead
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions, failed_rows
from searchanything.ingest.progress import in_notebooks
from searchanything.ingest.reports import Estimate, FailedImage, IndexProgress, IndexReport, SyncReport, sum_reports
from searchanything.ingest.sync import WAVE_KEYS, SyncJob, account_for_gone, collect, sync_images
from searchanything.ingest.words import lacking_words
from searchanything.wiring import HashChoice

logger = logging.getLogger(__name__)

Progress = Callable[[IndexProgress], None]
SourceName = str | Path
UNTRAINED: Final[Literal["untrained"]] = "untrained"  # as `hash_file`


class Ingestion:
    """The half of a client that writes. Thread-safe; models are loaded once per process, at the first need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._indexes = wiring.open_index_store(settings.milvus)
        self._models = LiveIndex(self._indexes, settings)
        self._types = ContentTypes()

    @property
    def uri(self) -> str:
        """The URI of the index."""
        return self._indexes.uri

    def index(
        self,
        source: SourceName,
        *,
        hash_file: str | Path | None = None,
        force: bool = False,
        prune: bool = False,
        add_words: bool = False,
        patterns: Patterns | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Index the images of `s3://bucket/prefix` or a folder; only what is new or changed, unless `force`.

        The first call makes the index and fixes its preset and hash layer: that of `hash_file`, "untrained", or the
        preset's own; where the preset has none that is trained, one is trained on a sample of the source first, and the
        log says so. Known failures are tried again, however often they failed. `patterns` stand in for `ingest.include`
        and `…exclude`. The report tells how many indexed images of the source are gone; `prune` forgets them, unless so
        many are gone that it may be a mistake (`sync` says when). `add_words` gives the source's regions words codes,
        by which `query(text=…)` finds them: images that lack them are indexed again.

        Raises: PresetError (none chosen, or it contradicts the index), UsageError, ObjectNotFoundError,
        StoreUnavailableError, RegionIndexError, WeightsMissingError.
        """
        store, scope = self._open_source(source, patterns)
        omissions = Omissions(wanted=scope.concerns)
        listing = ListingAhead(store.list(scope.prefix, omissions), lambda one: _counts(scope, one))
        objects = iter(listing)
        first = list(islice(objects, 1))  # a source that is not there, or holds nothing, makes no index
        if not first and self._indexes.live() is None:
            return IndexReport()
        choice: HashChoice = UNTRAINED if hash_file == UNTRAINED else Path(hash_file) if hash_file else None
        opened = self._models.open_or_make(choice, self._learner(store, scope, progress))
        index, encoder = self._with_words(opened, (store, scope), add=add_words, progress=progress)
        job = self._job((store, scope), (index, encoder), self._options(force=force, untiring=True))
        known = Covered(index, store.bucket, scope).known()
        with in_notebooks(progress, "indexing") as tell:
            listed = marking(chain(first, objects), known)
            report = index_images(job, listed, progress=listing.progress(tell), omissions=omissions)
        if add_words:
            report = sum_reports((report, self._fill_words(job, progress)))
        refresh = partial(refresh_images, job) if prune else None
        ended = replace(self._comparison((store, scope), index), refresh=refresh)
        return sum_reports((report, account_for_gone(ended, known, omissions)))

    def estimate(
        self,
        source: SourceName,
        *,
        images: int = 32,
        patterns: Patterns | None = None,
        progress: Progress | None = None,
    ) -> Estimate:
        """What indexing a source from nothing would take: time, size and memory, from `images` random ones of it.

        Nothing is written to the index, nor is one made.

        Raises: as `index`.
        """
        store, scope = self._open_source(source, patterns)
        encoder = self._models.encoder()
        scratch = wiring.scratch_index(manifest_of(encoder, "estimate"))
        job = IndexingJob(store, encoder, scratch, self._options(), scope)
        found = estimate_images(job, sample=images, progress=progress)
        return replace(found, disk_free_bytes=wiring.free_disk_bytes(self._settings.milvus.uri))

    def refresh(
        self,
        source: SourceName,
        keys: Iterable[str],
        *,
        force: bool = False,
        patterns: Patterns | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring these keys of a source up to date with their objects as they are now. Nothing is listed.

        Present and wanted: indexed, unless the index has it as it is (`force`: all the same). Absent, excluded, outside
        the source or no image: its rows are deleted. Failing: recorded with reason, attempts and times; an image that
        failed `ingest.max_attempts` times with the same content is given up (`force` tries it). Doubled, late or
        reordered calls end the same. An empty index is made, as by `index`.

        Raises: as `index`; after StoreUnavailableError or RegionIndexError the same call can be repeated.
        """
        store, scope = self._open_source(source, patterns)
        opened = self._models.open_or_make(None, self._learner(store, scope, progress))
        opened = self._with_words(opened, (store, scope), progress=progress)
        job = self._job((store, scope), opened, self._options(force=force))
        return refresh_images(job, keys, progress=progress)

    def refresh_with_sheet(
        self, source: SourceName, keys: Iterable[str], *, tiles: int, force: bool = False
    ) -> tuple[IndexReport, tuple[SheetTile, ...]]:
        """`refresh`, and tiles of up to `tiles` of the images indexed, where `service.sheet_images` asks for them.

        A tile goes with its image, and after a week. Raises: as `refresh`; SettingsError where tiles would be indexed.
        """
        store, scope = self._open_source(source)
        opened = self._models.open_or_make(None, self._learner(store, scope, None))
        opened = self._with_words(opened, (store, scope))
        job = self._job((store, scope), opened, self._options(force=force), tiles=tiles)
        report = refresh_images(job, keys)
        return report, tuple(job.sheet.kept) if job.sheet is not None else ()

    def sweep_tiles(self, source: SourceName) -> int:
        """Erase the tiles of contact sheets that outlived their images or their week; returns how many.

        Raises: IndexNotFoundError, RegionIndexError, SettingsError, StoreError; the last two only where
        `service.sheet_images` asks for tiles.
        """
        index = self._read_index()
        try:
            return sweep(wiring.open_tiles(self._open_source(source)[0].bucket, index.manifest, self._settings), index)
        except (SettingsError, StoreError) as error:
            if self._settings.service.sheet_images:
                raise
            logger.debug("no tiles to look for: %s", error)
            return 0

    def check_usable(self, *, with_models: bool = True) -> None:
        """Whether `index` could begin with these settings: preset, policy and schema fit, and there are weights.

        `with_models=False` leaves out what only a machine with the models can tell. Nothing is loaded or made.

        Raises: PresetError, SettingsError, IndexMismatchError, WeightsMissingError, RegionIndexError.
        """
        self._models.check(with_models=with_models)

    def load_models(self) -> None:
        """Load the models of the index now, rather than at the first need.

        Raises: IndexNotFoundError, PresetError, WeightsMissingError, ModelError.
        """
        wiring.load_models(self._models.open()[1], Stopwatch())

    def check_models(self) -> None:
        """Encode a built-in image with the models of the index.

        Raises: DeviceError if that fails: then no image is to blame for what fails in this process; as `load_models`.
        """
        check_models(self._models.open()[1])

    def record_failure(self, source: SourceName, key: str, *, error: str, message: str) -> None:
        """Record that an image failed where no process lived to say so; it counts as one of its attempts.

        An object that is gone is left alone.

        Raises: IndexNotFoundError, RegionIndexError, StoreError.
        """
        store, _ = self._open_source(source)
        stored, index = store.stat(key), self._read_index()
        if stored is None:
            return
        previous = index.newest([stored.ref]).get(stored.ref)
        generation = next_generation(after=previous.generation if previous else 0)
        attempt = Attempt(stored=stored, generation=generation, previous=previous, failed=Failed(error, message))
        with ThreadPoolExecutor(1) as pool:
            commit_batch(index, store, [(attempt, None)], pool)

    def sync(
        self,
        source: SourceName,
        *,
        repair: bool = False,
        forget: bool = False,
        patterns: Patterns | None = None,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Compare a source's listing with the index, and with `repair` make the index agree. See `SyncReport`.

        Of more than `ingest.forget_images` and `ingest.forget_share` of the images, or all, none is forgotten (`held`
        names them): a disk that is away looks the same. `forget` says that it is meant; so does time (`forgetting`).

        Raises: IndexNotFoundError (checking where nothing is indexed), and as `index`.
        """
        store, scope = self._open_source(source, patterns)
        index = self._index_to_repair(store, scope, progress) if repair else self._read_index()
        job = self._comparison((store, scope), index, forget=forget, keep=repair)
        report = sync_images(self._repairing(job) if repair else job, progress=progress)
        if repair:
            self.sweep_tiles(source)
        return report

    def plan_sync(self, source: SourceName, *, forget: bool = False) -> SyncReport:
        """What `sync` finds before it repairs, for whoever repairs by other means: what it holds back is remembered.

        Raises: as `sync`.
        """
        return sync_images(self._comparison(self._open_source(source), self._read_index(), forget=forget))

    def collect_garbage(self, source: SourceName) -> SyncReport:
        """Delete a source's rows that belong to nobody, and index again what lost rows, as `sync` does at its end.

        Raises: as `sync`.
        """
        store, scope = self._open_source(source)
        return collect(self._repairing(SyncJob(store=store, scope=scope, index=self._read_index())))

    def failures(self, source: SourceName | None = None) -> list[FailedImage]:
        """The known failures, of one source if asked, in the order of their keys.

        Raises: IndexNotFoundError, RegionIndexError, UsageError.
        """
        limit = self._settings.ingest.max_attempts
        rows = self._failed_rows(self._read_index(), source)
        return [FailedImage.of(row, max_attempts=limit) for row in rows]

    def retry_failed(self, source: SourceName | None = None, *, progress: Progress | None = None) -> IndexReport:
        """Try the known failures again, however often they failed. Raises: as `refresh`."""
        opened = self._models.open()
        keys: dict[str, list[str]] = {}
        for row in self._failed_rows(opened[0], source):
            keys.setdefault(row.image.bucket, []).append(row.image.key)
        reports = []
        for bucket, failed in keys.items():
            job = self._job(self._open_bucket(bucket), opened, self._options(untiring=True))
            reports += [refresh_images(job, wave, progress=progress) for wave in batches(failed, WAVE_KEYS)]
        return sum_reports(reports)

    def drop_failed(self, source: SourceName | None = None) -> int:
        """Forget the known failures; objects that are still there are missing then. Returns how many were forgotten.

        Raises: IndexNotFoundError, RegionIndexError, UsageError.
        """
        index = self._read_index()
        rows = self._failed_rows(index, source)
        index.delete_before({row.image: row.generation + 1 for row in rows})
        return len(rows)

    def delete(self, source: SourceName) -> int:
        """Forget the images of a source; the source itself is not touched. Returns how many images were forgotten."""
        store, scope = self._open_source(source)
        if self._indexes.live() is None:
            return 0
        index = self._read_index()
        images = {row.image for row in index.iterate_states(bucket=store.bucket, key_prefix=scope.prefix)}
        keeper = self._keeper(store, index)
        if keeper is not None and images:
            keeper.bury(dict.fromkeys(images, next_generation()))
        index.delete_images(images)
        self.sweep_tiles(source)
        return len(images)

    def features_status(self, source: SourceName) -> CacheStatus:
        """What is kept of the features of a bucket's or folder's images; a prefix makes no difference.

        Raises: IndexNotFoundError, StoreError, RegionIndexError, UsageError (no pyarrow).
        """
        index = self._read_index()
        return cache_status(self._cache(self._open_source(source)[0], index), index, age_s=self._garbage_age_s)

    def compact_features(self, source: SourceName) -> Compaction:
        """Merge the files of kept features, without those of images that were deleted or indexed again.

        Others may index meanwhile. Raises: as `features_status`; StoreError if another compaction is running.
        """
        index = self._read_index()
        return compact(self._cache(self._open_source(source)[0], index), index, age_s=self._garbage_age_s)

    @property
    def _garbage_age_s(self) -> float:
        return self._settings.ingest.garbage_age_s

    def _cache(self, store: ImageStore, index: RegionIndex) -> FeatureCache:
        return wiring.open_feature_cache(store.bucket, index.manifest, self._settings)

    def _keeper(self, store: ImageStore, index: RegionIndex) -> FeatureKeeper | None:
        """What keeps features, where that is switched on."""
        return ParquetKeeper(self._cache(store, index)) if self._settings.ingest.keep_features else None

    def _job(
        self,
        source: tuple[ImageStore, Scope],
        opened: tuple[RegionIndex, Encoder],
        options: IndexingOptions,
        *,
        tiles: int = 0,
    ) -> IndexingJob:
        """The work on a source, with what keeps features and tiles where that is switched on."""
        (store, scope), (index, encoder) = source, opened
        sheet = None
        if self._settings.service.sheet_images:
            sheet = Sheet(wiring.open_tiles(store.bucket, index.manifest, self._settings), most=tiles)
        keeper = self._keeper(store, index)
        return IndexingJob(store, encoder, index, options, scope, keeper, sheet, self._types)

    def _comparison(
        self, source: tuple[ImageStore, Scope], index: RegionIndex, *, forget: bool = False, keep: bool = True
    ) -> SyncJob:
        """A source against an index. `keep` what is found to be missing, for the next; `forget` whatever is gone."""
        (store, scope), ingest = source, self._settings.ingest
        limits = ForgetLimits(ingest.forget_images, ingest.forget_share, ingest.forget_after_s, always=forget)
        forgetting = recalled(self._indexes, ImageRef(store.bucket, scope.prefix), limits)
        return SyncJob(
            store=store,
            scope=scope,
            index=index,
            options=self._options(),
            ask_each=self._settings.storage.object_tags,
            elsewhere=self._known_elsewhere,
            forgetting=forgetting if keep else replace(forgetting, remember=None),
            types=self._types,
        )

    def _read_index(self) -> RegionIndex:
        """The live index, without its models."""
        return self._indexes.open(self._models.manifest().fingerprint)

    def _index_to_repair(self, store: ImageStore, scope: Scope, progress: Progress | None) -> RegionIndex:
        """The live index, made if need be; a source that is not there makes none."""
        next(store.list(scope.prefix, Omissions()), None)
        opened = self._models.open_or_make(None, self._learner(store, scope, progress))
        return self._with_words(opened, (store, scope), progress=progress)[0]

    def _with_words(
        self,
        opened: tuple[RegionIndex, Encoder],
        source: tuple[ImageStore, Scope],
        *,
        add: bool = False,
        progress: Progress | None = None,
    ) -> tuple[RegionIndex, Encoder]:
        """The index with words codes where they are asked for: by this call, or by the settings for a new index."""
        (index, encoder), (store, scope) = opened, source
        if index.words is not None or not (add or self._settings.ingest.words):
            return opened
        if not add and index.counts().regions:
            logger.warning("ingest.words is set, but the index has no words codes: searchanything index --add-words")
            return opened
        scratch = wiring.scratch_index(manifest_of(encoder, "sample"))
        job = IndexingJob(store, encoder, scratch, self._options(), scope)
        layer = learn_words(job, self._learning_options(), progress=progress)
        return self._models.add_words(layer.to_bytes(), bits=layer.bits)

    def _fill_words(self, job: IndexingJob, progress: Progress | None) -> IndexReport:
        """Index again what lacks words codes: regions, words and image rows are one commit."""
        keys = [one.key for one in lacking_words(job.index, bucket=job.store.bucket, key_prefix=job.scope.prefix)]
        again = replace(job, options=self._options(force=True, untiring=True))
        return sum_reports(refresh_images(again, wave, progress=progress) for wave in batches(keys, WAVE_KEYS))

    def _learning_options(self) -> LearningOptions:
        ingest = self._settings.ingest
        return LearningOptions(
            images=ingest.hash_sample_images, least_regions=ingest.hash_least_regions, compute=self._settings.models
        )

    def _learner(self, store: ImageStore, scope: Scope, progress: Progress | None) -> Learn:
        """What trains a hash layer on a sample of a source."""
        options = self._learning_options()

        def learn(encoder: Encoder) -> bytes | None:
            scratch = wiring.scratch_index(manifest_of(encoder, "sample"))
            job = IndexingJob(store, encoder, scratch, self._options(), scope)
            layer = learn_hash(job, options, progress=progress)
            return None if layer is None else layer.to_bytes()

        return learn

    def _repairing(self, job: SyncJob) -> SyncJob:
        """The same, with the means to repair."""
        work = self._job((job.store, job.scope), (job.index, self._models.encoder()), job.options)
        return replace(
            job,
            refresh=partial(refresh_images, work),
            again=partial(refresh_images, replace(work, options=self._options(force=True))),
            garbage_age_s=self._garbage_age_s,
        )

    def _known_elsewhere(self, images: Collection[ImageRef]) -> set[ImageRef]:
        """Which of these images indexes of other models have."""
        live = self._models.manifest().fingerprint
        known: set[ImageRef] = set()
        for manifest in self._indexes.manifests():
            if manifest.fingerprint != live:
                with contextlib.suppress(IndexMismatchError, IndexNotFoundError):  # of an older schema, or half dropped
                    known.update(self._indexes.open(manifest.fingerprint).newest(images))
        return known

    def _open_source(self, source: SourceName, patterns: Patterns | None = None) -> tuple[ImageStore, Scope]:
        return wiring.open_scoped(source, self._settings, patterns)

    def _open_bucket(self, bucket: str) -> tuple[ImageStore, Scope]:
        return self._open_source(bucket if Path(bucket).is_absolute() else f"s3://{bucket}")

    def _failed_rows(self, index: RegionIndex, source: SourceName | None) -> list[ImageRow]:
        bucket, prefix = None, ""
        if source is not None:
            store, scope = self._open_source(source)
            bucket, prefix = store.bucket, scope.prefix
        return failed_rows(index, bucket=bucket, key_prefix=prefix)

    def _options(self, *, force: bool = False, untiring: bool = False) -> IndexingOptions:
        ingest = self._settings.ingest
        return IndexingOptions(
            batch_images=ingest.batch_images,
            transfer_threads=ingest.transfer_threads,
            max_pixels=ingest.max_pixels,
            force=force,
            max_attempts=None if untiring else ingest.max_attempts,
            listing_is_enough=ingest.sidecar_suffix is None and not self._settings.storage.object_tags,
        )


def _counts(scope: Scope, listed: StoredObject) -> bool:
    """Whether a listed object will be counted among the images, as far as its name tells."""
    key = listed.ref.key
    return not scope.is_own(key) and scope.may_be_image(key)
