"""Questions to an index: an image and a prompt in, hits out, and why they came or did not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from searchanything import wiring
from searchanything.answers.comparison import Comparison
from searchanything.answers.explanation import Explanation
from searchanything.answers.matching import Matching, Scale
from searchanything.answers.questions import kept_name, question_document, stored_question_document
from searchanything.answers.receipts import Receipt, Replay, compare_runs
from searchanything.answers.results import Refiner, SearchResults, Segments
from searchanything.client.asking_words import WordsQuestion, ask_words, check_alone
from searchanything.client.connection import Connection
from searchanything.client.refining import Judging, Refinable
from searchanything.client.stored_questions import StoredInput, StoredQuestion, check_no_prompt, stored_or_image
from searchanything.client.why import others_of, refiner_with_reasons, stored_question, with_reasons, words_question
from searchanything.core.arguments import check_kind
from searchanything.core.errors import ImageError, ObjectNotFoundError, UsageError
from searchanything.core.geometry import mask_of_size
from searchanything.core.protocols import ImageStore, RegionIndex
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import BoxXYXY, Filter, ImageRef, RegionRef, RGBImage, StoredObject, source_of
from searchanything.encode.encode_queries import encode_one
from searchanything.encode.encoder import EncodedQuery, Stopwatch
from searchanything.explain.by_index import IndexQuestion
from searchanything.explain.compare import compare
from searchanything.explain.funnel import explain
from searchanything.explain.reencode import Recollection, SearchContext
from searchanything.explain.steps import Expected, SearchQuestion
from searchanything.images.decoding import decode_image
from searchanything.images.inputs import ImageInput, load_image
from searchanything.models.limits import state_limits
from searchanything.prompts.choose import candidates as all_candidates
from searchanything.prompts.choose import selection_of_choice
from searchanything.prompts.prompt import Mask, Prompt, WholeImage, as_prompt, check_units, describe_prompt
from searchanything.search.calibration import rate_of
from searchanything.search.empty_filters import warn_of_filter
from searchanything.search.locate import IndexedImage
from searchanything.search.refine import asked_region
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import (
    Asked,
    Page,
    PageRequest,
    query_code_of,
    refuse_as_a_search,
    search_images,
    search_regions,
)


@dataclass(frozen=True, slots=True, eq=False)
class ImageQuestion:
    """What is asked with an image: what it is called (or itself), its pixels, and the prompt that fits them."""

    image: ImageInput
    pixels: RGBImage
    prompt: Prompt
    request: PageRequest
    filter: Filter | None
    max_false_match: float | None

    def document(self) -> dict[str, Any]:
        """For a receipt."""
        return question_document(self.image, self.pixels, self.prompt, self.request, self.filter)


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Answers questions with the live index. `Client` says what each method promises. Thread-safe."""

    # Over 200 lines: every kind of question in one place, so that all are opened, scoped, timed and judged alike.

    connection: Connection
    judging: Judging
    _stores: dict[str, ImageStore] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def within(self, connection: Connection) -> Asking:
        """The same with another view of the index; the open buckets are shared."""
        return replace(self, connection=connection)

    def pages(
        self, *, limit: int, offset: int = 0, group_by_image: bool, rescore: int | None
    ) -> tuple[PageRequest, PageRequest]:
        """What is wanted of an answer by an image, and of one by words alone: they are rescored differently far.

        Raises: UsageError.
        """
        search = self.connection.settings.search
        by_image, by_words = (
            PageRequest(limit, offset, group_by_image, depth if rescore is None else rescore)
            for depth in (search.rescore, search.rescore_words)
        )
        return by_image, by_words

    def query(
        self,
        image: ImageInput | StoredInput,
        prompt: object,
        request: PageRequest,
        *,
        filter: Filter | None,
        max_false_match: float | None = None,
    ) -> SearchResults:
        """As `Client.query`."""
        max_false_match = rate_of(max_false_match)
        wanted = as_prompt(prompt)
        image = stored_or_image(image)
        if isinstance(image, tuple):
            check_no_prompt(wanted)
            return self.query_stored(image, request, filter, max_false_match)
        watch = Stopwatch()
        with watch.stage("open"):
            index, encoder = self.connection.open_to_ask()
        with watch.stage("decode"):
            pixels = self.load(image)
        check_units(wanted, *pixels.shape[:2])
        state_limits(index.manifest.preset)
        wiring.load_models(encoder, watch)
        encoded = encode_one(encoder, pixels, wanted, watch)
        question = ImageQuestion(kept_name(image), pixels, wanted, request, filter, max_false_match)
        return self.answer(index, question, encoded, watch)

    def answer(
        self, index: RegionIndex, question: ImageQuestion, encoded: EncodedQuery, watch: Stopwatch
    ) -> SearchResults:
        """The answer to a question whose region is chosen and encoded. Raises: as `query`."""
        request, most = question.request, question.max_false_match
        recollection = Recollection()
        recollection.keep_query(index.manifest.fingerprint, encoded)
        with watch.stage("judge"):
            scale = self._scale(index, encoded)
            bounded = request if scale is None else replace(request, most_bits=scale.most_bits(most))
        searched = SearchQuestion(question.pixels, question.prompt, bounded, question.filter)
        with watch.stage("search"):
            page = self._search(index, encoded, bounded, question.filter)
        hint = warn_of_filter(index, question.filter, page.hits, offset=request.offset)
        judged = None if scale is None else scale.matching(page, most, before=request.offset)
        matching = judged or Matching(0, bits=index.manifest.bits)
        of_region = encoded.choice.kind == "region"
        own = partial(asked_region, index, encoded.code, encoded.words_code)
        return SearchResults(
            query_image=question.pixels,
            prompt_description=describe_prompt(question.prompt),
            selection=selection_of_choice(encoded.choice, encoded.segmentation),
            hits=matching.hits,
            matching=matching,
            hint=hint,
            exact=page.exact,
            stages=page.stages,
            fingerprint=index.manifest.fingerprint,
            collection=index.collections[1 if isinstance(question.prompt, WholeImage) else 0],
            timings_ms=watch.timings_ms,
            open_image=self.load,
            asked=question.document,
            explainer=partial(self._explain, index.manifest.fingerprint, searched, recollection),
            refiner=self._refiner(Refinable(index, own, request, question.filter, most)) if of_region else None,
        )

    def query_words(
        self,
        text: str | None,
        image: object,
        prompt: object,
        request: PageRequest,
        *,
        filter: Filter | None,
        max_false_match: float | None = None,
    ) -> SearchResults:
        """As `Client.query` with a text alone."""
        question = WordsQuestion(check_alone(text, image, prompt), request, filter, max_false_match)
        index, encoder = self.connection.open_for_words()
        state_limits(index.manifest.preset)
        found = ask_words(index, encoder, question, self.judging)
        refiner = self._refiner(Refinable(index, lambda: None, request, filter, max_false_match))
        found = replace(found, open_image=self.load, refiner=refiner)

        def explained() -> IndexQuestion:
            values = encoder.encode_text(question.text)
            bounded = question.within(self.judging.scale(index, values.code, "words"))
            return words_question(index, values, bounded, filter=filter)

        return with_reasons(found, self.connection, explained)

    def query_stored(
        self, refs: tuple[RegionRef, ...], request: PageRequest, filter: Filter | None, most: float | None
    ) -> SearchResults:
        """As `Client.query` by what is indexed; `most` is the highest rate of false matches."""
        watch = Stopwatch()
        with watch.stage("open"):
            index = self.connection.read_index()
        with watch.stage("look_up"):
            question = StoredQuestion.look_up(index, refs)
            code = query_code_of(question.asked)
        whole = question.whole_images
        with watch.stage("judge"):
            scale = self.judging.scale(index, code, "images" if whole else "regions")
            bounded = replace(request, most_bits=scale.most_bits(most))
        with watch.stage("search"):
            page = question.search(index, bounded, filter=filter)
        hint = warn_of_filter(index, filter, page.hits, offset=request.offset)
        matching = scale.matching(page, most, before=request.offset)
        found = SearchResults(
            query_image=partial(self.load, refs[0].image),
            prompt_description={"kind": question.kind},
            selection=question.selection,
            hits=matching.hits,
            matching=matching,
            hint=hint,
            exact=page.exact,
            stages=page.stages,
            fingerprint=index.manifest.fingerprint,
            collection=index.collections[1 if whole else 0],
            timings_ms=watch.timings_ms,
            open_image=self.load,
            asked=partial(stored_question_document, refs, question.rows, request, filter),
            refiner=None
            if whole
            else self._refiner(Refinable(index, partial(question.marked, index), request, filter, most)),
        )
        stored = partial(stored_question, index, question, bounded, filter=filter)
        by_index = with_reasons(found, self.connection, stored)
        if len(question.rows) > 1:
            return by_index
        row = question.rows[0]
        made = partial(_question_of_row, row, question.asked, bounded, filter)
        return replace(by_index, explainer=partial(self._explain_stored, by_index, row, made))

    def _refiner(self, question: Refinable) -> Refiner:
        return refiner_with_reasons(self.connection, self.judging, question)

    def compare(self, image: ImageInput, prompt: object, *, candidates: int, filter: Filter | None) -> Comparison:
        """As `Client.compare`."""
        pixels, wanted = self.load(image), as_prompt(prompt)
        check_units(wanted, *pixels.shape[:2])
        return compare(self.context(), pixels, wanted, candidates=candidates, filter=filter)

    def replay(self, document: Mapping[str, Any], image: ImageInput | None, *, folder: str | Path | None) -> Replay:
        """As `Client.replay`."""
        check_kind(folder, str | Path | None, "folder", "a folder's path")
        receipt = Receipt.parse(document, max_pixels=self.connection.settings.ingest.max_pixels)
        if receipt.words is not None:
            found = self.query_words(
                receipt.words,
                None,
                None,
                receipt.request,
                filter=receipt.filter,
                max_false_match=receipt.max_false_match,
            )
            return compare_runs(receipt, found)
        if image is None:
            self._check_named(receipt, folder)
        wanted = receipt.image_to_ask(image)
        results = self.query(
            wanted,
            receipt.prompt,
            receipt.request,
            filter=receipt.filter,
            max_false_match=receipt.max_false_match,
        )
        return compare_runs(receipt, results)

    def context(self) -> SearchContext:
        """The live index, the models that fit it, and the images behind it. Raises: as `Client.query`."""
        index, encoder = self.connection.open_to_ask()
        return SearchContext(index, encoder, self._read_with_etag)

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
        if query.choice.kind == "none":
            refuse_as_a_search(index, request, filter=filter)
            return Page((), exact=True)
        search = search_images if query.choice.kind == "image" else search_regions
        values = QueryValues(query.code, query.projection)
        return search(index, values, request, filter=filter)

    def _scale(self, index: RegionIndex, query: EncodedQuery) -> Scale | None:
        """How far chance explains what lies near the query's code; None where it selected nothing."""
        if query.choice.kind == "none":
            return None
        return self.judging.scale(index, query.code, "images" if query.choice.kind == "image" else "regions")

    def _check_named(self, receipt: Receipt, folder: str | Path | None) -> None:
        """Refuse to open a file that a receipt names and its user did not. Raises: UsageError."""
        names = receipt.names()
        if not names:
            return
        roots = [root.resolve() for root in (Path.cwd(), *([] if folder is None else [Path(folder)]))]
        path = Path(names[0].bucket) / names[0].key
        if any(path.resolve().is_relative_to(root) and root != root.parent for root in roots):
            return
        index = self.connection.open_to_ask()[0]
        if not index.newest(names):
            raise UsageError(
                f"the receipt names {path} as its image, which is not in the index and lies outside of this folder: "
                "give the image yourself (--image)"
            )

    def _explain(
        self,
        fingerprint: str,
        question: SearchQuestion,
        recollection: Recollection,
        image: IndexedImage,
        box_xyxy: BoxXYXY | None,
    ) -> Explanation:
        """Of an answer of the index of this fingerprint. Raises: IndexMismatchError where another one is live."""
        others = others_of(self.connection, fingerprint)
        context = replace(self.context(), recollection=recollection)
        return explain(context, question, Expected(others.named(image, context.index), box_xyxy), others=others)

    def _explain_stored(
        self,
        by_index: SearchResults,
        row: RegionRow | ImageRow,
        question: Callable[[RGBImage], SearchQuestion],
        image: IndexedImage,
        box_xyxy: BoxXYXY | None,
    ) -> Explanation:
        """The ranking is by the stored code; pixels are for float features, which the index does not hold.

        Where the object is no longer the one that was indexed, the index alone explains, as it answered alone.
        """
        pixels = self._pixels_of(row)
        if pixels is None:
            return replace(by_index.explain(image, box_xyxy), query_image=None)
        return self._explain(by_index.fingerprint, question(pixels), Recollection(), image, box_xyxy)

    def _pixels_of(self, row: RegionRow | ImageRow) -> RGBImage | None:
        """The image as it was indexed, None where its object is gone or another one."""
        try:
            etag, decode = self._read_with_etag(row.image)
            return decode() if etag == row.etag else None
        except (ObjectNotFoundError, ImageError):
            return None

    def _read_with_etag(self, image: ImageRef) -> tuple[str, Callable[[], RGBImage]]:
        stored, data = self._read(image)
        max_pixels = self.connection.settings.ingest.max_pixels
        return stored.etag, partial(decode_image, data, name=str(image), max_pixels=max_pixels)

    def _read(self, image: ImageRef) -> tuple[StoredObject, bytes]:
        self.connection.check_seen(image)
        with self._lock:
            if image.bucket not in self._stores:
                self._stores[image.bucket] = wiring.open_source(source_of(image.bucket), self.connection.settings)[0]
            store = self._stores[image.bucket]
        return store.read(image.key)


def _question_of_row(
    row: RegionRow | ImageRow, asked: Asked, request: PageRequest, filter: Filter | None, pixels: RGBImage
) -> SearchQuestion:
    """A stored region as a question of pixels: its mask is the prompt, and what is compared is its code."""
    height, width = pixels.shape[:2]
    prompt = Mask(mask_of_size(row.mask, height, width)) if isinstance(row, RegionRow) else WholeImage()
    return SearchQuestion(pixels, prompt, request, filter, asked)
