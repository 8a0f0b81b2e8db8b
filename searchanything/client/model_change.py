"""Other models for an index in use: its images are segmented and embedded beside the live index, which answers on."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from searchanything import wiring
from searchanything.client.change import Change, ChangeCounts, index_beside
from searchanything.client.change_lease import check_free, warn_of_ended
from searchanything.client.connection import Connection
from searchanything.client.hash_on_first_index import (
    LearningOptions,
    Sample,
    chosen_hash,
    learn_hash,
    learn_words,
    sample_of_index,
)
from searchanything.client.lost_images import SOUGHT_OF_SOURCE, images_of, looked_for, none_there
from searchanything.client.standing_features import StandingFeatures
from searchanything.core.arguments import check_kind, check_progress
from searchanything.core.errors import IndexDamagedError, IndexNotFoundError, UsageError
from searchanything.core.manifest import IndexManifest
from searchanything.core.models_before import live_before
from searchanything.core.patience import long_work
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import source_of
from searchanything.encode.asked_regions import regions_beside
from searchanything.encode.crop_memory import CropMemory
from searchanything.encode.encoder import Encoder
from searchanything.encode.fingerprint import manifest_of
from searchanything.features.parquet import parquet_libraries
from searchanything.ingest.missing_words import words_from_features
from searchanything.ingest.other_models import OtherModels
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexProgress, OnProgress
from searchanything.models.words_layer import WordsLayer
from searchanything.search.committed import holds_rows

LOADING_MODELS: Final = "loading the models"
CARRYING: Final = "looking at failures"


@dataclass(frozen=True, slots=True)
class ModelChange(ChangeCounts):
    """What `apply` did. `preset` and `layer` (the sha256 of its file) are live; `replaced` is the preset of before, or
    None where nothing was replaced. Of `carried` images it was known that they fail.
    """

    preset: str
    layer: str
    replaced: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """What `Client.models` gives. Thread-safe."""

    connection: Connection

    @long_work()
    def apply(
        self, preset: str, *, hash_file: str | Path | None = None, progress: OnProgress | None = None
    ) -> ModelChange:
        """Give the index other models: those of a preset, or other regions by the settings (`ingest.regions`,
        `…region_policy`, `…tiles`). What the settings do not name stays as it is in the index.

        All its images are segmented and embedded again, into an index beside the live one, which can be asked and
        written meanwhile; then all switch at once. The replaced index stays: to go back is to apply its preset.
        `hash_file`: as for `index`; else the layer that the index had last with these models is taken again, while
        there are codes of it, or the preset's own, or one is trained on a sample of the images. Words codes are made
        where the index has them. If so many images are gone or fail that it may be a mistake (`ingest.forget_images`,
        `…forget_share`), or all of one source, nothing changes.

        Raises: IndexNotFoundError; PresetError for an unknown preset, or where `models.preset` contradicts the index;
        UsageError where there is no image, or nothing but the layer would change; WeightsMissingError, ModelError;
        RegionIndexError where another process changes models or layer; and what `refresh` raises. After any of them the
        index is as it was, and the same call goes on, but for a RegionIndexError which says that the models are live: a
        sync brings what others wrote meanwhile.
        """
        check_kind(preset, str, "preset", "the name of a preset")
        check_kind(hash_file, str | Path | None, "hash_file", "a file's path, or 'untrained'")
        check_progress(progress)
        start = time.monotonic()
        self.connection.whole()
        live, settings = self.connection.models.manifest(), self.connection.settings
        if settings.models.preset != preset:
            self.connection.models.preset_of(live)
        if settings.ingest.keep_features:
            parquet_libraries()  # said before anything is begun
        if progress is not None:
            progress(IndexProgress(0, None, 0, 0, "", stage=LOADING_MODELS))
        choice = chosen_hash(hash_file)
        encoder = self._encoder(preset, wiring.hash_layer_of(preset, choice, settings), live)
        features = manifest_of(encoder, preset).feature_fingerprint
        if features == live.feature_fingerprint:
            if hash_file is None:
                warn_of_ended(self.connection.indexes, live.fingerprint)
                return ModelChange(live.preset, live.hash_digest, None, seconds=time.monotonic() - start)
            raise UsageError("the index has these models already; another hash layer: searchanything hash apply")
        check_free(self.connection.indexes)
        if not holds_rows(self.connection.models.index()):
            raise UsageError(f"no image is indexed: searchanything index SOURCE --preset {preset} makes it anew")
        memory = CropMemory()  # of the sample's crops
        before = live_before(self.connection.indexes, preset, features) if choice is None else None
        if before is not None:
            encoder = self._encoder(preset, self.connection.indexes.hash_layer(before.fingerprint), live)
        elif choice is None and not encoder.hasher.trained:
            encoder = self._encoder(preset, self._learnt(memory.keeping(encoder), preset, progress), live)
        named = "" if hash_file is None else f" --hash {shlex.quote(str(hash_file))}"
        change = self._replace(live, encoder, memory, preset=preset, named=named, progress=progress)
        taken = time.monotonic() - start
        return ModelChange(preset, encoder.hasher.digest, live.preset, **change.counts, seconds=taken)

    def _replace(
        self,
        live: IndexManifest,
        encoder: Encoder,
        memory: CropMemory,
        *,
        preset: str,
        named: str,
        progress: OnProgress | None,
    ) -> Change[OtherModels]:
        """Fill an index of these models beside the live one, and switch to it; `named` is the layer in the command."""
        wanted = manifest_of(encoder, preset)
        words = self._words(wanted, memory.recalling(encoder), progress)
        layer = None if words is None else (words.to_bytes(), words.bits)
        beside = partial(index_beside, self.connection, wanted, encoder.hasher.to_bytes(), layer)
        change = Change(
            connection=self.connection,
            live=live,
            beside=lambda index, done: self._run(index, beside(), done),
            encode=True,
            recall=memory.recalling,
            name=f"the index of {preset}",
            command=f"searchanything models apply {preset}{named}",
            stage=CARRYING,
            progress=progress,
        )
        StandingFeatures.of(self.connection).make_all(wanted.feature_fingerprint, encoder, progress)
        change.apply(wanted.fingerprint)
        return change

    def _run(self, live: RegionIndex, other: RegionIndex, progress: Callable[[int], None]) -> OtherModels:
        """The comparison of two indexes; words codes are made of kept features where these are kept."""
        settings, words = self.connection.settings, wiring.words_hasher(other.words)

        def kept_words(bucket: str) -> None:
            if settings.ingest.keep_features and words is not None:
                words_from_features(other, wiring.open_feature_cache(bucket, other.manifest, settings), words)

        return OtherModels(live=live, other=other, progress=progress, kept_words=kept_words)

    def _encoder(self, preset: str, layer: bytes, live: IndexManifest) -> Encoder:
        """The preset's models as an index beside the live one would get them."""
        settings = self.connection.settings
        policy, tile_px = regions_beside(settings, live)
        encoder = wiring.load_encoder(preset, layer, settings, policy=policy, tile_px=tile_px)
        return wiring.settle_encoder(encoder, settings)

    def _learnt(self, encoder: Encoder, preset: str, progress: OnProgress | None) -> bytes:
        """The newest trained layer that there are codes of these features by, else one of a sample of the images."""
        features = manifest_of(encoder, preset).feature_fingerprint
        made = [one for one in self.connection.indexes.manifests() if one.feature_fingerprint == features]
        if trained := [one for one in made if one.hash_trained]:
            return self.connection.indexes.hash_layer(max(trained, key=lambda one: one.created_at_ms).fingerprint)
        options = LearningOptions.of(self.connection.settings, drawn_from="index")
        learnt = learn_hash(self._sample(self.connection.models.index(), encoder, options), options, progress=progress)
        return encoder.hasher.to_bytes() if learnt is None else learnt.to_bytes()

    def _sample(self, live: RegionIndex, encoder: Encoder, options: LearningOptions) -> Sample:
        """Images of the live index, and how their features are made.

        Raises: UsageError where it has none, or those of a source are not there: nothing is learnt of the others alone.
        """
        self._check_sources(live)
        scratch = wiring.scratch_index(manifest_of(encoder, "sample"))

        def job(bucket: str) -> IndexingJob:
            store, scope = self.connection.open_source(source_of(bucket))
            return IndexingJob(store, lambda: encoder, scratch, self.connection.options(), scope)

        sample = sample_of_index(live, job, options)
        if not sample and options.images:
            raise UsageError("no image of the index has a region or a code to learn from: searchanything failed list")
        return sample

    def _check_sources(self, live: RegionIndex) -> None:
        """Raises: UsageError where none of a source's images is there."""
        buckets = sorted({state.image.bucket for state in live.iterate_states()})
        findable = {
            bucket: (one.image for one in live.iterate_states(bucket=bucket) if one.is_findable) for bucket in buckets
        }
        for bucket, why in looked_for(self.connection, findable):
            if why is not None:
                raise none_there(bucket, min(SOUGHT_OF_SOURCE, images_of(live, bucket=bucket)), why)

    def _words(self, wanted: IndexManifest, encoder: Encoder, progress: OnProgress | None) -> WordsLayer | None:
        """A words layer for the wanted index, where the live one has words codes and that one has none yet."""
        live, indexes = self.connection.models.index(), self.connection.indexes
        if live.words is None:
            return None
        with contextlib.suppress(IndexNotFoundError, IndexDamagedError):  # what a killed `drop` left of one
            if indexes.open(wanted.fingerprint).words is not None:
                return None
        options = LearningOptions.of(self.connection.settings, drawn_from="index")
        return learn_words(partial(self._sample, live, encoder, options), encoder, options, progress=progress)
