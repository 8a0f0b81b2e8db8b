"""The client: what platform code holds.

with searchanything.connect("index.db", preset="pico") as client:
    client.index("s3://images")
    results = client.query("query.jpg", (320, 240))
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from searchanything import wiring
from searchanything.answers.comparison import Comparison
from searchanything.answers.explanation import Explanation
from searchanything.answers.receipts import Receipt, Replay, compare_runs, kept_name, question_document
from searchanything.answers.results import SearchResults, Segments
from searchanything.backup.backup import BackupReport, back_up, restore
from searchanything.client.ingestion import Ingestion
from searchanything.client.words import ask_words, check_alone
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, UsageError
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.settings import Settings, load_settings
from searchanything.core.types import BoxXYXY, Filter, ImageRef, RGBImage, StoredObject
from searchanything.encode.encoder import EncodedQuery, Stopwatch
from searchanything.encode.fingerprint import SCHEMA_VERSION
from searchanything.explain.compare import compare
from searchanything.explain.funnel import explain
from searchanything.explain.reencode import Recollection, SearchContext
from searchanything.explain.steps import Expected, SearchQuestion
from searchanything.images.decoding import decode_image
from searchanything.images.inputs import ImageInput, load_image
from searchanything.ingest.garbage import holdings
from searchanything.ingest.reports import IndexStatus
from searchanything.prompts.choose import candidates, describe
from searchanything.prompts.prompt import WholeImage, as_prompt, check_units, describe_prompt
from searchanything.search.export import check_export_path, export_regions
from searchanything.search.locate import IndexedImage, locate
from searchanything.search.rescoring import Probe
from searchanything.search.search import Page, PageRequest, refuse_as_a_search, search_images, search_regions

logger = logging.getLogger(__name__)


class Client(Ingestion):
    """A connection to one index. Thread-safe; models are loaded once per process, at the first need."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._stores: dict[str, ImageStore] = {}

    def query(
        self,
        image: ImageInput | None = None,
        prompt: object = None,
        *,
        text: str | None = None,
        limit: int = 10,
        offset: int = 0,
        filter: Filter | None = None,
        group_by_image: bool = False,
        rescore: int | None = None,
    ) -> SearchResults:
        """Find regions like the one that `prompt` selects in `image`; without a prompt, images like this one.

        `image`: path, bytes, PIL image, (H, W, 3) uint8 RGB array, or `ImageRef` into the bucket. `prompt`: one of
        `searchanything.prompts`, or what `as_prompt` takes for one; pixels are those of the EXIF-corrected image.
        `text` stands alone, without an image: regions of the whole index that it names, if the index has words codes
        (`index(…, add_words=True)`). `group_by_image` keeps the best region of each image. The `rescore` nearest
        are ordered by the query's real values against their bits (default: the setting `search.rescore`;
        0: none).

        Raises: PromptError, FilterError, UsageError, ImageError, IndexNotFoundError, IndexMismatchError,
        IndexUnavailableError, WeightsMissingError.
        """
        search = self._settings.search
        depth = (search.rescore if text is None else search.rescore_words) if rescore is None else rescore
        request = PageRequest(limit=limit, offset=offset, group_by_image=group_by_image, rescore=depth)
        if image is None or text is not None:
            text = check_alone(text, image, prompt)
            index, encoder = self._models.open_to_ask()
            found = ask_words(index, encoder, text, request, filter=filter, max_limit=self._indexes.max_limit)
            return replace(found, open_image=self.open_image)
        wanted = as_prompt(prompt)
        watch = Stopwatch()
        with watch.stage("open"):
            index, encoder = self._models.open_to_ask()
        with watch.stage("decode"):
            pixels = self._load(image)
        check_units(wanted, *pixels.shape[:2])
        wiring.load_models(encoder, watch)
        encoded = encoder.encode_query(pixels, wanted, watch)
        recollection = Recollection()
        recollection.keep_query(index.manifest.fingerprint, encoded)
        question = SearchQuestion(pixels, wanted, request, filter)
        with watch.stage("search"):
            page = self._search(index, encoded, request, filter)
        return SearchResults(
            image=pixels,
            prompt_description=describe_prompt(wanted),
            selection=describe(encoded.choice, encoded.segmentation),
            hits=page.hits,
            exact=page.exact,
            stages=page.stages,
            fingerprint=index.manifest.fingerprint,
            collection=index.collections[1 if isinstance(wanted, WholeImage) else 0],
            timings_ms=watch.timings_ms,
            open_image=self.open_image,
            asked=partial(question_document, kept_name(image), pixels, wanted, request, filter),
            explainer=lambda image, box: self._explain(question, recollection, image, box),
        )

    def compare(
        self, image: ImageInput, prompt: object, *, candidates: int = 50, filter: Filter | None = None
    ) -> Comparison:
        """The nearest regions by code, ranked by CLIP alone, masked CLIP, that and indexed crops with f_M, and code.

        Raises: what `query` raises; PromptError without a prompt.
        """
        pixels, wanted = self._load(image), as_prompt(prompt)
        check_units(wanted, *pixels.shape[:2])
        return compare(self._context(), pixels, wanted, candidates=candidates, filter=filter)

    def replay(
        self, receipt: Mapping[str, Any], image: ImageInput | None = None, *, folder: str | Path | None = None
    ) -> Replay:
        """Ask a receipt's question again (`SearchResults.receipt`) and say what differs.

        `image` is needed where the query image was given as bytes or an array, and where the receipt, which may be
        anybody's, names a file that is not in the index and lies neither below the working directory nor below
        `folder` (the receipt's own). Raises: UsageError for what is no receipt, or without an image; what `query`
        raises.
        """
        read = Receipt.parse(receipt, max_pixels=self._settings.ingest.max_pixels)
        request = read.request
        if image is None:
            self._check_named(read, folder)
        results = self.query(
            None if read.words is not None else read.image_to_ask(image),
            None if read.words is not None else read.prompt,
            text=read.words,
            limit=request.limit,
            offset=request.offset,
            filter=read.filter,
            group_by_image=request.group_by_image,
            rescore=request.rescore,
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

    def status(self) -> IndexStatus:
        """What the index holds and with what it was made."""
        live = self._indexes.live()
        if live is None:
            return IndexStatus(self.uri)
        index = self._indexes.open(live.fingerprint)
        held = holdings(index)
        return IndexStatus(
            self.uri,
            **asdict(held.counts),
            manifest=live,
            collections=index.collections,
            garbage=held.garbage,
            words=index.words,
            words_regions=index.count_words(),
        )

    def backup(self, target: str | Path) -> BackupReport:
        """Write the live index to a tar file, or as objects below `s3://bucket/prefix`; it may be in use meanwhile.

        Raises: UsageError where nothing is indexed or something lies there; StoreError, RegionIndexError.
        """
        return back_up(self._indexes, wiring.backup_place(str(target), self._settings))

    def restore(self, source: str | Path) -> BackupReport:
        """Make the index of a backup, here where nothing is indexed, whatever it was taken from.

        Raises: UsageError where something is indexed; BackupError; StoreError, RegionIndexError.
        """
        place = wiring.backup_place(str(source), self._settings)
        return restore(self._indexes, place, schema_version=SCHEMA_VERSION)

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

    def _search(self, index: RegionIndex, query: EncodedQuery, request: PageRequest, filter: Filter | None) -> Page:
        if query.choice.kind == "none":
            refuse_as_a_search(index, request, filter=filter, max_limit=self._indexes.max_limit)
            return Page((), exact=True)
        search = search_images if query.choice.kind == "image" else search_regions
        probe = Probe(query.code, query.projection)
        return search(index, probe, request, filter=filter, max_limit=self._indexes.max_limit)

    def _check_named(self, receipt: Receipt, folder: str | Path | None) -> None:
        """Refuse to open a file that a receipt names and its user did not. Raises: UsageError."""
        names = receipt.names()
        if not names:
            return
        roots = [root.resolve() for root in (Path.cwd(), *([] if folder is None else [Path(folder)]))]
        path = Path(names[0].bucket) / names[0].key
        if any(path.resolve().is_relative_to(root) and root != root.parent for root in roots):
            return
        index = self._models.open_to_ask()[0]
        if not index.newest(names):
            raise UsageError(
                f"the receipt names {path} as its image, which is not in the index and lies outside of this folder: "
                "give the image yourself (--image)"
            )

    def _load(self, image: ImageInput) -> RGBImage:
        return load_image(image, read_object=self._read_object, max_pixels=self._settings.ingest.max_pixels)

    def _explain(
        self, question: SearchQuestion, recollection: Recollection, image: IndexedImage, box_xyxy: BoxXYXY | None
    ) -> Explanation:
        context = replace(self._context(), recollection=recollection)
        live = context.index.manifest.fingerprint
        others = []
        for manifest in self._indexes.manifests():
            if manifest.fingerprint != live:
                with contextlib.suppress(IndexMismatchError, IndexNotFoundError):  # of another version, or half dropped
                    others.append(self._indexes.open(manifest.fingerprint))
        expected = Expected(locate(image, [context.index, *others]), box_xyxy)
        return explain(context, question, expected, others=others)

    def _context(self) -> SearchContext:
        index, encoder = self._models.open_to_ask()
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
