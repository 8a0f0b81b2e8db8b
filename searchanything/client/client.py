"""The client: what platform code holds."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from searchanything import wiring
from searchanything.client.client_parts import ClientParts
from searchanything.client.connection import Connection, SourceName
from searchanything.client.live_index import LiveIndex
from searchanything.client.status import index_status_of
from searchanything.core.arguments import check_flags, check_progress
from searchanything.core.closing import Closing
from searchanything.core.libraries import LazyModule, importing
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.settings import Settings
from searchanything.core.types import NONE_RATE, Filter, ImageRef, Place, RGBImage
from searchanything.ingest.reports import Estimate, FailedImage, IndexReport, IndexStatus, OnProgress, SyncReport
from searchanything.search.locate import IndexedImage, find_image
from searchanything.search.stored import list_images, stored_image, stored_regions

if TYPE_CHECKING:
    from searchanything.client import given, index_copies
else:  # what a method alone needs is imported when it is called, and the parts by `ClientParts`
    given = LazyModule("searchanything.client.given")
    index_copies = LazyModule("searchanything.client.index_copies")


class Client(Closing):
    """A connection to one index. Thread-safe; models are loaded once per process, at the first need."""

    # Over 200 lines: the whole API in one place. Each method is its promise and a line or two, the parts do the work.

    def __init__(self, settings: Settings, *, indexes: IndexStore | None = None) -> None:
        """`indexes`: an open index store to use instead of the one that the settings name."""
        self._indexes = wiring.open_index_store(settings.milvus) if indexes is None else indexes
        self._models = LiveIndex(self._indexes, settings)
        self._parts = ClientParts(Connection(settings, self._indexes, self._models))

    def __repr__(self) -> str:
        return f"<Client of {self.uri}>"

    @property
    def operations(self) -> given.Operations:
        """What services that index and answer do beside what people ask for."""
        return self._parts.operations

    @property
    def hash_layers(self) -> given.HashLayers:
        """The hash layers that the index has codes of, and another one in the place of the live one."""
        return self._parts.hash_layers

    @property
    def models(self) -> given.Models:
        """Other models in the place of the live index's."""
        return self._parts.models

    @property
    def features(self) -> given.KeptFeatures:
        """What indexing keeps of the features of images, where it does (`ingest.keep_features`)."""
        return self._parts.features

    @property
    def standing(self) -> given.StandingQueries:
        """Questions that are kept, and asked of all that is indexed from then on."""
        return self._parts.standing

    @property
    def uri(self) -> str:
        """The URI of the index."""
        return self._indexes.uri

    def query(
        self,
        image: given.ImageInput | given.StoredInput | None = None,
        prompt: object = None,
        *,
        text: str | None = None,
        limit: int = 10,
        offset: int = 0,
        filter: Filter | None = None,
        group_by_image: bool = False,
        max_false_match: float | None = None,
        rescore: int | None = None,
    ) -> given.SearchResults:
        """Find regions like the one that `prompt` selects in `image`; without a prompt, images like this one.

        `image`: path, bytes, PIL image, (H, W, 3) uint8 RGB array, or `ImageRef` into the bucket. `prompt`: one of
        `searchanything.prompts`, or what `as_prompt` takes for one; pixels are those of the EXIF-corrected image.
        A `Hit` or `RegionRef`, or a list of them (what they have in common), is a question by itself: its code is in
        the index, so no model is loaded and no image is read. `group_by_image` keeps the best region of each image.
        `max_false_match`, such as 1e-4, leaves out hits that more than such a share of unrelated regions are as near
        as; no hit left is the answer "no good match". The `rescore` nearest are ordered by the query's real values
        against their bits (default: the setting `search.rescore`; 0: none). `text` stands alone, without an image:
        regions of the whole index that it names, if the index has words codes (`index(…, add_words=True)`).

        Raises: PromptError, FilterError, UsageError, ImageError, IndexNotFoundError, IndexMismatchError,
        IndexUnavailableError, WeightsMissingError; WordsMissingError for words that the index has no codes for;
        ObjectNotFoundError for a region that is not (or no longer) indexed.
        """
        asking = self._parts.asking
        by_image, by_words = asking.pages(limit=limit, offset=offset, group_by_image=group_by_image, rescore=rescore)
        if image is None or text is not None:
            return asking.query_words(text, image, prompt, by_words, filter=filter, max_false_match=max_false_match)
        return asking.query(image, prompt, by_image, filter=filter, max_false_match=max_false_match)

    def query_many(
        self,
        questions: Iterable[given.ManyQuestion],
        *,
        limit: int = 10,
        filter: Filter | None = None,
        group_by_image: bool = False,
        max_false_match: float | None = None,
        rescore: int | None = None,
    ) -> Iterator[given.ManyAnswer[given.SearchResults]]:
        """The answers to many questions, in their order: each as `query` gives it, by batches.

        A question is (image, prompt), or (image, None) for a whole image; a `Hit`, a `RegionRef`, a list of them; or
        words. They may be a stream of any length, which is read up to 80 ahead. One that cannot be answered has its
        error, and the others go on; what concerns all is raised. Answers hold no pixels, so all can be kept: pictures,
        receipts and `explain` read the image again; of an array or PIL image they keep a copy. Raises: as `query`.
        """
        with importing():
            from searchanything.client.asking_many import query_many

        asking = self._parts.asking
        pages = asking.pages(limit=limit, group_by_image=group_by_image, rescore=rescore)
        return query_many(asking, questions, pages, filter=filter, max_false_match=max_false_match)

    def combine(
        self,
        *,
        all_of: Sequence[given.PartInput] = (),
        any_of: Sequence[given.PartInput] = (),
        none_of: Sequence[given.PartInput] = (),
        none_rate: float = NONE_RATE,
        max_false_match: float | None = None,
        limit: int = 10,
        filter: Filter | None = None,
    ) -> given.CombinedResults:
        """Images that hold all of some things, one of others, and none of further ones, each with its regions.

        A part is (image, prompt), `Hit`, `RegionRef` or words. A region of `none_of` is nearer than `none_rate` of
        unrelated ones; `max_false_match` asks so of each part. Raises: as `query`; UsageError for no or too many parts.
        """
        with importing():
            from searchanything.client.combining import PartsAsked, combine

        parts = PartsAsked(all_of, any_of, none_of, none_rate, max_false_match)
        return combine(self._parts.asking, parts, limit=limit, filter=filter)

    def duplicates(
        self,
        *,
        whole_images: bool = False,
        max_bits: int | None = None,
        bucket: str | None = None,
        key_prefix: str = "",
        progress: OnProgress | None = None,
    ) -> given.Duplicates:
        """Groups of nearly equal regions, or whole images, of different images; no model is loaded.

        `max_bits`: from a group's first; 4 for regions and 8 for images where it is None. Raises: UsageError for
        another distance than 0 to 31 bits; IndexNotFoundError, RegionIndexError.
        """
        with importing():
            from searchanything.answers.duplicates import find_duplicates
            from searchanything.ingest.progress import steps_of

        check_progress(progress)
        return find_duplicates(
            self._parts.connection.read_index(),
            whole_images=whole_images,
            max_bits=max_bits,
            bucket=bucket,
            key_prefix=key_prefix,
            open_image=self.open_image,
            on_step=steps_of(progress),
        )

    def compare(
        self, image: given.ImageInput, prompt: object, *, candidates: int = 50, filter: Filter | None = None
    ) -> given.Comparison:
        """The nearest regions by code, ranked by CLIP alone, by features with and without masking, and by code.

        Raises: what `query` raises; PromptError without a prompt.
        """
        return self._parts.asking.compare(image, prompt, candidates=candidates, filter=filter)

    def replay(
        self, receipt: Mapping[str, Any], image: given.ImageInput | None = None, *, folder: str | Path | None = None
    ) -> given.Replay:
        """Ask a receipt's question again (`SearchResults.receipt`) and say what differs.

        `image` is needed where the query image was given as bytes or an array, and where the receipt, which may be
        anybody's, names a file that is not in the index and lies neither below the working directory nor below
        `folder` (the receipt's own). Raises: UsageError for what is no receipt, or without an image; what `query`
        raises.
        """
        return self._parts.asking.replay(receipt, image, folder=folder)

    def segment(self, image: given.ImageInput) -> given.Segments:
        """All regions of an image, surest first; the index is not asked where a preset was chosen.

        Raises: ImageError, PresetError, WeightsMissingError, ModelError.
        """
        return self._parts.asking.segment(image)

    def within(self, places: Sequence[Place]) -> Self:
        """This client for questions about some places alone: nothing outside them is found, named or counted.

        It shares models and connection with this one, and is not closed by itself. It refuses to write, delete and
        back up. No place: everything; within a view, what lies in both.
        """
        (view := copy.copy(self))._parts = self._parts.within(places)  # noqa: SLF001 - of a copy of this one
        return view

    @property
    def manifest(self) -> IndexManifest:
        """What the live index was made with. Raises: IndexNotFoundError, IndexUnavailableError."""
        return self._models.manifest()

    def images(
        self, *, bucket: str | None = None, key_prefix: str = "", most: int = 100_000
    ) -> tuple[list[ImageRow], bool]:
        """The indexed images by bucket and key, and whether these are all. Raises: as `locate`."""
        return list_images(self._parts.connection.read_index(), bucket=bucket, key_prefix=key_prefix, most=most)

    def image(self, image: ImageRef) -> ImageRow:
        """What the index holds of an image. Raises: ObjectNotFoundError; as `locate`."""
        return stored_image(self._parts.connection.read_index(), image)

    def regions(self, image: ImageRef) -> list[RegionRow]:
        """The indexed regions of an image, by number; no model is loaded. Raises: as `image`."""
        return stored_regions(index := self._parts.connection.read_index(), stored_image(index, image))

    def locate(self, image: IndexedImage) -> ImageRef:
        """The image that is named by `s3://bucket/key`, a file's path, a key, or what has an `ImageRef`, as a hit.

        One that is not indexed gets the name that it would have: `image` raises for it. Raises: UsageError for what is
        no name, and a key of several buckets; IndexNotFoundError, RegionIndexError.
        """
        return find_image(image, [self._parts.connection.read_index()])

    def open_image(self, image: ImageRef) -> RGBImage:
        """Fetch and decode an image of the index, (H, W, 3) uint8 RGB. Raises: StoreError, ImageError."""
        return self._parts.asking.load(image)

    def index(
        self,
        source: SourceName,
        *,
        hash_file: str | Path | None = None,
        force: bool = False,
        prune: bool = False,
        add_words: bool = False,
        patterns: given.Patterns | None = None,
        progress: OnProgress | None = None,
    ) -> IndexReport:
        """Index the images of `s3://bucket/prefix` or a folder; only what is new or changed, unless `force`.

        The first call makes the index and fixes its preset and hash layer: that of `hash_file`, "untrained", or the
        preset's own; where the preset has none that is trained, one is trained on a sample of the source first, and the
        log says so. Known failures are tried again, however often they failed. `patterns` stand in for `ingest.include`
        and `…exclude`. The report says how many indexed images of the source are gone; `prune` forgets them, unless so
        many are gone that it may be a mistake (`sync` says when). `add_words` gives the source's regions words codes,
        by which `query(text=…)` finds them: images that lack them are indexed again. Raises: PresetError (none chosen,
        or it contradicts the index), UsageError, ObjectNotFoundError, StoreUnavailableError, RegionIndexError,
        WeightsMissingError.
        """
        return self._parts.ingestion.index(
            source,
            hash_file=hash_file,
            force=force,
            prune=prune,
            add_words=add_words,
            patterns=patterns,
            progress=progress,
        )

    def estimate(
        self,
        source: SourceName,
        *,
        images: int = 32,
        patterns: given.Patterns | None = None,
        progress: OnProgress | None = None,
    ) -> Estimate:
        """What indexing a source from nothing would take: time, size and memory, from `images` random ones of it.

        Nothing is written to the index, nor is one made. Raises: as `index`.
        """
        return self._parts.ingestion.estimate(source, images=images, patterns=patterns, progress=progress)

    def refresh(
        self,
        source: SourceName,
        keys: Iterable[str],
        *,
        force: bool = False,
        patterns: given.Patterns | None = None,
        progress: OnProgress | None = None,
    ) -> IndexReport:
        """Bring these keys of a source up to date with their objects as they are now. Nothing is listed.

        Present and wanted: indexed, unless the index has it as it is (`force`: all the same). Absent, excluded, outside
        the source or no image: its rows are deleted; if a folder has no image left at all, StoreUnavailableError is
        raised instead, and only a `sync` forgets them. Failing: recorded with reason, attempts and times; an image that
        failed `ingest.max_attempts` times with the same content is exhausted (`force` tries it). Doubled, late or
        reordered calls end the same. An empty index is made, as by `index`. Raises: as `index`; after
        StoreUnavailableError or RegionIndexError the same call can be repeated.
        """
        return self._parts.ingestion.refresh(source, keys, force=force, patterns=patterns, progress=progress)[0]

    def sync(
        self,
        source: SourceName,
        *,
        repair: bool = False,
        forget: bool = False,
        patterns: given.Patterns | None = None,
        progress: OnProgress | None = None,
    ) -> SyncReport:
        """Compare a source's listing with the index, and with `repair` make the index agree. See `SyncReport`.

        Of more than `ingest.forget_images` and `ingest.forget_share` of the images, or all, none is forgotten (`held`
        names them): a disk that is away looks the same. `forget` says that it is intended; so does time (`forgetting`).
        Raises: IndexNotFoundError (checking where nothing is indexed), and as `index`.
        """
        check_flags(repair=repair)
        if repair:
            return self._parts.ingestion.repair(source, forget=forget, patterns=patterns, progress=progress)
        return self._parts.syncing.check(source, forget=forget, keep=False, patterns=patterns, progress=progress)

    def delete(self, source: SourceName, *, progress: OnProgress | None = None) -> int:
        """Forget the images of a source; the source itself is not touched. Returns how many images were forgotten.

        Raises: UsageError for `bucket/key` that lacks its `s3://`, if such are indexed and no such folder exists.
        """
        return self._parts.syncing.delete(source, progress=progress)

    def failures(self, source: SourceName | None = None) -> list[FailedImage]:
        """The known failures, of one source if asked, by keys. Raises: RegionIndexError, UsageError, StoreError."""
        return self._parts.failures.known(source)

    def empty_images(self, source: SourceName | None = None) -> list[ImageRef]:
        """The images in which no region was found, which only whole images find. Order and errors as `failures`."""
        return self._parts.failures.empty(source)

    def retry_failed(self, source: SourceName | None = None, *, progress: OnProgress | None = None) -> IndexReport:
        """Try the known failures again, however often they failed. Raises: as `refresh`."""
        return self._parts.failures.retry(source, progress=progress)

    def drop_failed(self, source: SourceName | None = None, *, progress: OnProgress | None = None) -> int:
        """Forget the known failures (missing or stale to `sync` then); returns how many. Errors as `failures`."""
        return self._parts.failures.drop(source, progress=progress)

    def status(self) -> IndexStatus:
        """What the index holds and with what it was made."""
        return index_status_of(self._parts.connection)

    def export(
        self,
        destination: str | Path,
        *,
        bucket: str | None = None,
        key_prefix: str = "",
        progress: OnProgress | None = None,
    ) -> int:
        """Write regions, masks and codes as COCO JSON (`.json`) or Parquet (`.parquet`). Returns how many regions.

        Raises: UsageError (another name, a place that cannot be written, no pyarrow), RegionIndexError.
        """
        return index_copies.export_index(self._parts.connection, destination, bucket, key_prefix, progress=progress)

    def backup(self, target: str | Path, *, progress: OnProgress | None = None) -> given.BackupReport:
        """Write the live index, with its standing queries, to a tar file, or as objects below `s3://bucket/prefix`.

        Raises: UsageError where nothing is indexed or something lies there; StoreError, RegionIndexError.
        """
        return index_copies.back_up_index(self._parts.connection, target, progress=progress)

    def restore(self, source: str | Path, *, progress: OnProgress | None = None) -> given.BackupReport:
        """Make the index of a backup, here where nothing is indexed, whatever it was taken from.

        Raises: UsageError where something is indexed; BackupError; StoreError, RegionIndexError.
        """
        return index_copies.restore_index(self._parts.connection, source, progress=progress)

    def close(self) -> None:
        """Free the connection; other processes are not disturbed, and what is asked afterwards opens the index anew."""
        self._indexes.close()
