"""Questions to an index: an image and a prompt in, hits out, and why they came or did not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from searchanything import wiring
from searchanything.answers.comparison import Comparison
from searchanything.answers.explanation import Explanation
from searchanything.answers.questions import kept_name, question_document
from searchanything.answers.receipts import Receipt, Replay, compare_runs
from searchanything.answers.results import SearchResults, Segments
from searchanything.client.connection import Connection
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, UsageError
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.types import BoxXYXY, Filter, ImageRef, RGBImage, StoredObject
from searchanything.encode.encoder import EncodedQuery, Stopwatch
from searchanything.explain.compare import compare
from searchanything.explain.funnel import explain
from searchanything.explain.reencode import Recollection, SearchContext
from searchanything.explain.steps import Expected, SearchQuestion
from searchanything.images.decoding import decode_image
from searchanything.images.inputs import ImageInput, load_image
from searchanything.prompts.choose import candidates as all_candidates
from searchanything.prompts.choose import describe
from searchanything.prompts.prompt import WholeImage, as_prompt, check_units, describe_prompt
from searchanything.search.locate import IndexedImage, find_image
from searchanything.search.search import Page, PageRequest, refuse_as_a_search, search_images, search_regions


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Answers questions with the live index. `Client` says what each method promises. Thread-safe."""

    connection: Connection
    _stores: dict[str, ImageStore] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def query(self, image: ImageInput, prompt: object, request: PageRequest, *, filter: Filter | None) -> SearchResults:
        """As `Client.query`."""
        wanted = as_prompt(prompt)
        watch = Stopwatch()
        with watch.stage("open"):
            index, encoder = self.connection.models.open_to_ask()
        with watch.stage("decode"):
            pixels = self.load(image)
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
            fingerprint=index.manifest.fingerprint,
            collection=index.collections[1 if isinstance(wanted, WholeImage) else 0],
            timings_ms=watch.timings_ms,
            open_image=self.load,
            asked=partial(question_document, kept_name(image), pixels, wanted, request, filter),
            explainer=lambda image, box: self._explain(question, recollection, image, box),
        )

    def compare(self, image: ImageInput, prompt: object, *, candidates: int, filter: Filter | None) -> Comparison:
        """As `Client.compare`."""
        pixels, wanted = self.load(image), as_prompt(prompt)
        check_units(wanted, *pixels.shape[:2])
        return compare(self._context(), pixels, wanted, candidates=candidates, filter=filter)

    def replay(self, document: Mapping[str, Any], image: ImageInput | None, *, folder: str | Path | None) -> Replay:
        """As `Client.replay`."""
        receipt = Receipt.parse(document, max_pixels=self.connection.settings.ingest.max_pixels)
        if image is None:
            self._check_named(receipt, folder)
        wanted = receipt.image_to_ask(image)
        return compare_runs(receipt, self.query(wanted, receipt.prompt, receipt.request, filter=receipt.filter))

    def segment(self, image: ImageInput) -> Segments:
        """As `Client.segment`."""
        pixels = self.load(image)
        segmentation = self.connection.models.segmenter().segment([pixels])[0]
        regions = all_candidates(segmentation, range(len(segmentation.scores)))
        return Segments(image=pixels, regions=tuple(regions))

    def load(self, image: ImageInput) -> RGBImage:
        """The image's pixels, (H, W, 3) uint8 RGB, read from its bucket if it lies in one."""
        max_pixels = self.connection.settings.ingest.max_pixels
        return load_image(image, read_object=lambda ref: self._read(ref)[1], max_pixels=max_pixels)

    def _search(self, index: RegionIndex, query: EncodedQuery, request: PageRequest, filter: Filter | None) -> Page:
        max_limit = self.connection.indexes.max_limit
        if query.choice.kind == "none":
            refuse_as_a_search(index, request, filter=filter, max_limit=max_limit)
            return Page((), exact=True)
        search = search_images if query.choice.kind == "image" else search_regions
        return search(index, query.code, request, filter=filter, max_limit=max_limit)

    def _check_named(self, receipt: Receipt, folder: str | Path | None) -> None:
        """Refuse to open a file that a receipt names and its user did not. Raises: UsageError."""
        names = receipt.names()
        if not names:
            return
        roots = [root.resolve() for root in (Path.cwd(), *([] if folder is None else [Path(folder)]))]
        path = Path(names[0].bucket) / names[0].key
        if any(path.resolve().is_relative_to(root) and root != root.parent for root in roots):
            return
        index = self.connection.models.open_to_ask()[0]
        if not index.newest(names):
            raise UsageError(
                f"the receipt names {path} as its image, which is not in the index and lies outside of this folder: "
                "give the image yourself (--image)"
            )

    def _explain(
        self, question: SearchQuestion, recollection: Recollection, image: IndexedImage, box_xyxy: BoxXYXY | None
    ) -> Explanation:
        context, indexes = replace(self._context(), recollection=recollection), self.connection.indexes
        live = context.index.manifest.fingerprint
        others = []
        for manifest in indexes.manifests():
            if manifest.fingerprint != live:
                with contextlib.suppress(IndexMismatchError, IndexNotFoundError):  # of another version, or half dropped
                    others.append(indexes.open(manifest.fingerprint))
        expected = Expected(find_image(image, [context.index, *others]), box_xyxy)
        return explain(context, question, expected, others=others)

    def _context(self) -> SearchContext:
        index, encoder = self.connection.models.open_to_ask()
        return SearchContext(index, encoder, self.connection.indexes.max_limit, self._open_with_etag)

    def _open_with_etag(self, image: ImageRef) -> tuple[str, RGBImage]:
        stored, data = self._read(image)
        return stored.etag, decode_image(data, name=str(image), max_pixels=self.connection.settings.ingest.max_pixels)

    def _read(self, image: ImageRef) -> tuple[StoredObject, bytes]:
        with self._lock:
            if image.bucket not in self._stores:
                self._stores[image.bucket] = wiring.open_bucket(image.bucket, self.connection.settings)
            store = self._stores[image.bucket]
        return store.read(image.key)
