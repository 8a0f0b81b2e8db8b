"""The client: what platform code holds.

with searchanything.connect("index.db", preset="pico") as client:
    client.index("s3://images")
    results = client.query("query.jpg", (320, 240))
"""

from __future__ import annotations

import atexit
import copy
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from searchanything import wiring
from searchanything.answers.comparison import Comparison
from searchanything.answers.explanation import Explanation
from searchanything.answers.receipts import (
    Receipt,
    Replay,
    compare_runs,
    question_document,
    stored_question_document,
)
from searchanything.answers.results import SearchResults, Segments
from searchanything.client.ingestion import Ingestion
from searchanything.core.errors import PromptError
from searchanything.core.geometry import mask_of_size
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.settings import Settings, load_settings
from searchanything.core.types import (
    BoxXYXY,
    Filter,
    Hit,
    ImageRef,
    ImageRow,
    IndexCounts,
    IndexManifest,
    Place,
    RegionRef,
    RegionRow,
    RGBImage,
    StoredObject,
)
from searchanything.encode.encoder import EncodedQuery, Encoder, Stopwatch
from searchanything.explain.compare import compare
from searchanything.explain.funnel import Expected, Question, explain
from searchanything.explain.reencode import Recollection, SearchContext
from searchanything.images.decoding import decode_image
from searchanything.images.inputs import ImageInput, load_image
from searchanything.ingest.garbage import holdings
from searchanything.ingest.reports import IndexStatus
from searchanything.prompts.choose import candidates, describe
from searchanything.prompts.prompt import Mask, WholeImage, as_prompt, describe_prompt
from searchanything.search.export import check_export_path, export_regions
from searchanything.search.locate import IndexedImage, locate
from searchanything.search.scoped import ScopedIndex
from searchanything.search.search import Page, PageRequest, search_images, search_regions
from searchanything.search.stored import list_images, stored_image, stored_region, stored_regions, stored_selection

logger = logging.getLogger(__name__)


class Client(Ingestion):
    """A connection to one index. Thread-safe; models are loaded once per process, at the first need."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._stores: dict[str, ImageStore] = {}
        self._places: tuple[Place, ...] = ()

    def query(
        self,
        image: ImageInput | Hit | RegionRef,
        prompt: object = None,
        *,
        limit: int = 10,
        offset: int = 0,
        filter: Filter | None = None,
        group_by_image: bool = False,
    ) -> SearchResults:
        """Find regions like the one that `prompt` selects in `image`; without a prompt, images like this one.

        `image`: path, bytes, PIL image, (H, W, 3) uint8 RGB array, or `ImageRef` into the bucket. `prompt`: one of
        `searchanything.prompts`, or what `as_prompt` takes for one; pixels are those of the EXIF-corrected image.
        A `Hit`, or a `RegionRef`, is a question by itself: its code is in the index, so no model is loaded and no image
        is read. `group_by_image` keeps the best region of each image.

        Raises: PromptError, FilterError, UsageError, ImageError, IndexNotFoundError, IndexMismatchError,
        IndexUnavailableError, WeightsMissingError; ObjectNotFoundError for a region that is not (or no longer) indexed.
        """
        request = PageRequest(limit=limit, offset=offset, group_by_image=group_by_image)
        wanted = as_prompt(prompt)
        if isinstance(image, Hit | RegionRef):
            if not isinstance(wanted, WholeImage):
                raise PromptError(
                    "an indexed region says by itself what is meant: leave the prompt out, or ask with its image"
                )
            return self._query_stored(image.ref if isinstance(image, Hit) else image, request, filter)
        watch = Stopwatch()
        with watch.stage("open"):
            index, encoder = self._open_to_ask()
        with watch.stage("decode"):
            pixels = self._load(image)
        wiring.load_models(encoder, watch)
        encoded = encoder.encode_query(pixels, wanted, watch)
        recollection = Recollection()
        recollection.keep_query(index.manifest.fingerprint, encoded)
        question = Question(pixels, wanted, request, filter)
        with watch.stage("search"):
            page = self._search(index, encoded, request, filter)
        return SearchResults(
            query_image=pixels,
            prompt_description=describe_prompt(wanted),
            selection=describe(encoded.choice, encoded.segmentation),
            hits=page.hits,
            exact=page.exact,
            fingerprint=index.manifest.fingerprint,
            collection=index.collections[1 if isinstance(wanted, WholeImage) else 0],
            timings_ms=watch.timings_ms,
            open_image=self.open_image,
            asked=question_document(image, pixels, wanted, request, filter),
            explainer=lambda image, box: self._explain(question, recollection, image, box),
        )

    def compare(
        self, image: ImageInput, prompt: object, *, candidates: int = 50, filter: Filter | None = None
    ) -> Comparison:
        """The nearest regions by code, ranked by CLIP alone, masked CLIP, that and indexed crops with f_M, and code.

        Raises: what `query` raises; PromptError without a prompt.
        """
        pixels, wanted = self._load(image), as_prompt(prompt)
        return compare(self._context(), pixels, wanted, candidates=candidates, filter=filter)

    def replay(self, receipt: Mapping[str, Any], image: ImageInput | None = None) -> Replay:
        """Ask a receipt's question again (`SearchResults.receipt`) and say what differs.

        `image` is needed where the query image was given as bytes or an array. Raises: UsageError for what is no
        receipt, or without an image; what `query` raises.
        """
        read = Receipt.parse(receipt)
        request = read.request
        results = self.query(
            read.image_to_ask(image),
            read.prompt,
            limit=request.limit,
            offset=request.offset,
            filter=read.filter,
            group_by_image=request.group_by_image,
        )
        return compare_runs(read, results)

    def segment(self, image: ImageInput) -> Segments:
        """All regions of an image, surest first; the index is not asked where a preset was chosen.

        Raises: ImageError, PresetError, WeightsMissingError, ModelError.
        """
        pixels = self._load(image)
        segmentation = self._models.segmenter().segment([pixels])[0]
        regions = candidates(segmentation, range(len(segmentation.scores)))
        return Segments(image=pixels, regions=tuple(regions))

    def export(self, destination: str | Path, *, bucket: str | None = None, key_prefix: str = "") -> int:
        """Write regions, masks and codes as COCO JSON (`.json`) or Parquet (`.parquet`). Returns how many regions.

        Raises: UsageError (another name, a place that cannot be written, no pyarrow), IndexNotFoundError,
        RegionIndexError.
        """
        check_export_path(destination)
        index = self._indexes.open(self._models.manifest().fingerprint)
        return export_regions(index, destination, bucket=bucket, key_prefix=key_prefix)

    @property
    def manifest(self) -> IndexManifest:
        """What the live index was made with. Raises: IndexNotFoundError, IndexUnavailableError."""
        return self._models.manifest()

    def load_models(self) -> None:
        """Load what a question needs now, so that the first one does not wait for it.

        Raises: IndexNotFoundError, IndexMismatchError, PresetError, WeightsMissingError, ModelError.
        """
        wiring.load_models(self._models.open_to_ask()[1], Stopwatch())

    def status(self) -> IndexStatus:
        """What the index holds and with what it was made."""
        live = self._indexes.live()
        if live is None:
            return IndexStatus(self.uri, IndexCounts(0, 0, 0, 0), None, None)
        index = self._scoped(self._indexes.open(live.fingerprint))
        if isinstance(index, ScopedIndex):
            return IndexStatus(self.uri, index.counts(), live, index.collections)
        held = holdings(index)
        return IndexStatus(self.uri, held.counts, live, index.collections, held.garbage)

    def within(self, places: Sequence[Place]) -> Self:
        """This client for questions about some places alone: nothing outside them is found, named or counted.

        It shares models and connection with this one, and is not closed by itself. No place: everything.
        """
        view = copy.copy(self)
        view._places = tuple(places)  # noqa: SLF001 - of a copy of this one
        return view

    def images(
        self, *, bucket: str | None = None, key_prefix: str = "", most: int = 100_000
    ) -> tuple[list[ImageRow], bool]:
        """The indexed images by bucket and key, and whether these are all.

        Raises: IndexNotFoundError, RegionIndexError.
        """
        return list_images(self._stored(), bucket=bucket, key_prefix=key_prefix, most=most)

    def image(self, image: ImageRef) -> ImageRow:
        """What the index holds of an image. Raises: ObjectNotFoundError, IndexNotFoundError, RegionIndexError."""
        return stored_image(self._stored(), image)

    def regions(self, image: ImageRef) -> list[RegionRow]:
        """The indexed regions of an image, by number; no model is loaded. Raises: as `image`."""
        index = self._stored()
        return stored_regions(index, stored_image(index, image))

    def open_image(self, image: ImageRef) -> RGBImage:
        """Fetch and decode an image of the index, (H, W, 3) uint8 RGB. Raises: StoreError, ImageError."""
        return self._load(image)

    def close(self) -> None:
        """Free the connection. Other processes that share the index are not disturbed."""
        self._indexes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _query_stored(self, ref: RegionRef, request: PageRequest, filter: Filter | None) -> SearchResults:
        watch = Stopwatch()
        with watch.stage("open"):
            index = self._stored()
        with watch.stage("look_up"):
            image = stored_image(index, ref.image)
            row = image if ref.region is None else stored_region(index, image, ref.region)
            code, selection = stored_selection(row, ref)
        with watch.stage("search"):
            search = search_images if ref.region is None else search_regions
            page = search(index, code, request, filter=filter, max_limit=self._indexes.max_limit)
        return SearchResults(
            query_image=partial(self.open_image, ref.image),
            prompt_description={"kind": "image" if ref.region is None else "region"},
            selection=selection,
            hits=page.hits,
            exact=page.exact,
            fingerprint=index.manifest.fingerprint,
            collection=index.collections[1 if ref.region is None else 0],
            timings_ms=watch.timings_ms,
            open_image=self.open_image,
            asked=stored_question_document(ref, row, request, filter),
            explainer=partial(self._explain_stored, row, request, filter),
        )

    def _explain_stored(
        self,
        row: RegionRow | ImageRow,
        request: PageRequest,
        filter: Filter | None,
        image: IndexedImage,
        box_xyxy: BoxXYXY | None,
    ) -> Explanation:
        """The stored region's mask as a prompt: the funnel compares features, which the index does not hold."""
        pixels = self.open_image(row.image)
        height, width = pixels.shape[:2]
        prompt = Mask(mask_of_size(row.mask, height, width)) if isinstance(row, RegionRow) else WholeImage()
        return self._explain(Question(pixels, prompt, request, filter), Recollection(), image, box_xyxy)

    def _stored(self) -> RegionIndex:
        """The live index, for which no model is needed. Raises: IndexNotFoundError."""
        return self._scoped(self._models.to_look_up())

    def _open_to_ask(self) -> tuple[RegionIndex, Encoder]:
        index, encoder = self._models.open_to_ask()
        return self._scoped(index), encoder

    def _scoped(self, index: RegionIndex) -> RegionIndex:
        return ScopedIndex(index, self._places) if self._places else index

    def _search(self, index: RegionIndex, query: EncodedQuery, request: PageRequest, filter: Filter | None) -> Page:
        if query.choice.kind == "none":
            return Page((), exact=True)
        search = search_images if query.choice.kind == "image" else search_regions
        return search(index, query.code, request, filter=filter, max_limit=self._indexes.max_limit)

    def _load(self, image: ImageInput) -> RGBImage:
        return load_image(image, read_object=self._read_object, max_pixels=self._settings.ingest.max_pixels)

    def _explain(
        self, question: Question, recollection: Recollection, image: IndexedImage, box_xyxy: BoxXYXY | None
    ) -> Explanation:
        context = replace(self._context(), recollection=recollection)
        live = context.index.manifest.fingerprint
        stored = [manifest.fingerprint for manifest in self._indexes.manifests()]
        others = [self._scoped(self._indexes.open(fingerprint)) for fingerprint in stored if fingerprint != live]
        expected = Expected(locate(image, [context.index, *others]), box_xyxy)
        return explain(context, question, expected, others=others)

    def _context(self) -> SearchContext:
        index, encoder = self._open_to_ask()
        return SearchContext(index, encoder, self._indexes.max_limit, self._open_with_etag)

    def _open_with_etag(self, image: ImageRef) -> tuple[str, RGBImage]:
        stored, data = self._read(image)
        return stored.etag, decode_image(data, name=str(image), max_pixels=self._settings.ingest.max_pixels)

    def _read_object(self, image: ImageRef) -> bytes:
        return self._read(image)[1]

    def _read(self, image: ImageRef) -> tuple[StoredObject, bytes]:
        with self._lock:
            if image.bucket not in self._stores:
                self._stores[image.bucket] = wiring.open_bucket(image.bucket, self._settings)
            store = self._stores[image.bucket]
        return store.read(image.key)


_clients: dict[str, Client] = {}
_clients_lock = threading.Lock()


def connect(uri: str | None = None, *, settings: Settings | None = None, preset: str | None = None) -> Client:
    """A client of the index at `uri` (default: the settings').

    `uri`: a file name (embedded Milvus Lite), `http(s)://host:port` (Milvus server) or `memory://`. `preset` names the
    models for a new index. Raises: SettingsError, IndexUnavailableError.
    """
    chosen = (settings or load_settings()).model_copy(deep=True)
    if uri is not None:
        chosen.milvus.uri = uri
    if preset is not None:
        chosen.models.preset = preset
    return Client(chosen)


def query(
    image: ImageInput,
    prompt: object = None,
    *,
    limit: int = 10,
    filter: Filter | None = None,
    uri: str | None = None,
) -> SearchResults:
    """`Client.query` on one client per URI that the process keeps. Thread-safe."""
    key = uri or load_settings().milvus.uri
    with _clients_lock:
        if key not in _clients:
            if not _clients:
                atexit.register(_close_clients)
            _clients[key] = connect(key)
        client = _clients[key]
    return client.query(image, prompt, limit=limit, filter=filter)


def _close_clients() -> None:
    with _clients_lock:
        while _clients:
            _clients.popitem()[1].close()
