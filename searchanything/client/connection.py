"""What all parts of a client share: the settings, the index store, the live index, and how a source is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from searchanything import wiring
from searchanything.client.live_index import ASKING_S, LiveIndex
from searchanything.core.arguments import check_kind, check_places
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.libraries import LazyModule
from searchanything.core.protocols import FeatureKeeper, ImageStore, IndexStore, RegionIndex
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef, Place, lies_in
from searchanything.images.content_types import ContentTypes
from searchanything.search.scoped import READ_ONLY, narrowed, seen_in

if TYPE_CHECKING:  # who only reads an index needs none of these
    from searchanything.encode import asked_regions
    from searchanything.encode.encoder import Encoder, OpenEncoder
    from searchanything.features.layout import FeatureCache
    from searchanything.images.scopes import Patterns, Scope
    from searchanything.ingest.forget import ForgetLimits
    from searchanything.ingest.plan import IndexingJob, IndexingOptions
    from searchanything.ingest.vanished import Said, VanishedCheck
else:
    asked_regions = LazyModule("searchanything.encode.asked_regions")

SourceName: TypeAlias = str | Path
TILED_BATCH: Final = 8  # images in tiles fill a batch and memory by fewer of them
OpenedSource: TypeAlias = "tuple[ImageStore, Scope]"


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One index store, and the settings that everything done with it follows. Thread-safe."""

    settings: Settings
    indexes: IndexStore
    models: LiveIndex
    types: ContentTypes = field(default_factory=ContentTypes)
    places: tuple[Place, ...] = ()  # all that questions see, if any: see `Client.within`

    def read_index(self) -> RegionIndex:
        """The live index as questions see it, without its models. Raises: as `live_index`."""
        return self.scoped(self.live_index())

    def live_index(self, *, for_words: bool = False) -> RegionIndex:
        """The live index as a whole; `for_words`: with words codes if it has them by now.

        Raises: IndexNotFoundError, IndexMismatchError.
        """
        return self.models.index(within_s=ASKING_S, for_words=for_words)

    def open_to_ask(self) -> tuple[RegionIndex, Encoder]:
        """The live index and an encoder that remembers images. Raises: as `LiveIndex.open_to_ask`."""
        index, encoder = self.models.open_to_ask()
        return self.scoped(index), encoder

    def open_for_words(self) -> tuple[RegionIndex, Encoder]:
        """The same, with words codes if the index has them by now. Raises: as `LiveIndex.open_to_ask`."""
        index, encoder = self.models.open_for_words()
        return self.scoped(index), encoder

    def scoped(self, index: RegionIndex) -> RegionIndex:
        """The index as questions see it."""
        return seen_in(index, self.places)

    def within(self, places: Sequence[Place]) -> Self:
        """The same for questions about some places alone: of those seen before, what lies in both.

        Raises: UsageError for what are no places.
        """
        check_places(places, "places")
        return replace(self, places=narrowed(places, self.places))

    def check_seen(self, image: ImageRef) -> None:
        """Raises: ObjectNotFoundError for an object outside of what questions see."""
        if self.places and not lies_in(image, self.places):
            raise ObjectNotFoundError(f"{image} is not among the images that can be asked about here")

    def whole(self) -> IndexStore:
        """All that is there. Raises: UsageError in a view of some places, through which nothing but questions goes."""
        if self.places:
            raise UsageError(READ_ONLY)
        return self.indexes

    def open_source(self, source: SourceName, patterns: Patterns | None = None) -> OpenedSource:
        """A source's store, and which of its objects are wanted. Raises: UsageError, StoreError."""
        check_kind(source, str | Path, "source", "s3://bucket/prefix or a folder's path")
        self.whole()
        return wiring.open_scoped(source, self.settings, patterns)

    def feature_cache(self, store: ImageStore, index: RegionIndex) -> FeatureCache:
        """Where the features of a bucket's images lie, kept or not. Raises: SettingsError, StoreError."""
        return wiring.open_feature_cache(store.bucket, index.manifest, self.settings)

    def keeper(self, store: ImageStore, index: RegionIndex) -> FeatureKeeper | None:
        """What keeps features, where that is switched on."""
        if not self.settings.ingest.keep_features:
            return None
        from searchanything.features.keep import ParquetKeeper

        return ParquetKeeper(self.feature_cache(store, index))

    def options(self, *, force: bool = False, retry_forever: bool = False) -> IndexingOptions:
        """The settings' way to index."""
        from searchanything.ingest.plan import IndexingOptions

        ingest = self.settings.ingest
        return IndexingOptions(
            batch_images=ingest.batch_images,
            transfer_threads=ingest.transfer_threads,
            max_pixels=ingest.max_pixels,
            force=force,
            max_attempts=None if retry_forever else ingest.max_attempts,
            listing_is_enough=not self.settings.storage.object_tags,
        )

    def job(
        self,
        source: OpenedSource,
        opened: tuple[RegionIndex, OpenEncoder],
        options: IndexingOptions,
        *,
        tiles: int = 0,
        said: Said = "listed",
    ) -> IndexingJob:
        """The work on a source, with what keeps features and tiles where that is switched on; `said` of its keys."""
        from searchanything.ingest.contact_sheet import Sheet
        from searchanything.ingest.plan import IndexingJob

        (store, scope), (index, open_encoder) = source, opened
        sheet = None
        if self.settings.service.sheet_images:
            sheet = Sheet(wiring.open_tiles(store.bucket, index.manifest, self.settings), most=tiles)
        if asked_regions.tile_side_of(self.settings, index.manifest):
            options = replace(options, batch_images=max(1, options.batch_images // TILED_BATCH))
        keeper, may_forget = self.keeper(store, index), self.vanished(source, said)
        job = IndexingJob(store, open_encoder, index, options, scope, keeper, sheet, self.types, may_forget)
        return replace(job, keys_are_listed=said == "listed")

    def forget_limits(self) -> ForgetLimits:
        """How much is forgotten without being asked to."""
        from searchanything.ingest.forget import ForgetLimits

        ingest = self.settings.ingest
        return ForgetLimits(ingest.forget_images, ingest.forget_share, ingest.forget_after_s)

    def vanished(self, source: OpenedSource, said: Said) -> VanishedCheck:
        """Whether images of a run that are gone may be forgotten, of whose keys this was said."""
        from searchanything.ingest.forget import recalled
        from searchanything.ingest.vanished import VanishedCheck

        (store, scope), limits = source, self.forget_limits()
        name = ImageRef(store.bucket, scope.prefix)
        return VanishedCheck(
            store, scope, self.types, said, lambda: recalled(self.indexes, name, limits).memory.devices
        )
