"""Many questions: their images are read ahead, and each model sees a batch of them at a time.

    questions ── read (threads) ──► batch n+2 ── encode (one thread) ──► n+1 ── search (threads) ──► n, in order

An answer holds no pixels: thousands of them can be kept. What needs pixels (a picture, a receipt, `explain`) reads the
image again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from searchanything import wiring
from searchanything.answers.explanation import Explanation
from searchanything.answers.questions import kept_name, question_document
from searchanything.answers.results import SearchResults
from searchanything.client.asking import Asking, ImageQuestion
from searchanything.client.combining import PartInput
from searchanything.client.stored_questions import check_no_prompt, stored_or_image
from searchanything.core.addresses import check_no_file
from searchanything.core.arguments import shown
from searchanything.core.batching import batches
from searchanything.core.errors import ImageError, SearchAnythingError, UsageError
from searchanything.core.many_answers import QUESTION_FORMS, ManyAnswer, is_of_one_question
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import BoxXYXY, Filter, Hit, ImageRef, RegionRef, RGBImage
from searchanything.encode.canary import check_models, encoding_errors
from searchanything.encode.encoder import EncodedQuery, Encoder, Stopwatch
from searchanything.images.inputs import ImageInput
from searchanything.models.limits import state_limits
from searchanything.prompts.prompt import Prompt, Text, as_prompt, check_units
from searchanything.search.calibration import rate_of
from searchanything.search.locate import IndexedImage
from searchanything.search.search import PageRequest, refuse_as_a_search

AT_ONCE: Final = 16  # questions of a batch
READERS: Final = 8  # threads that read images
SEARCHERS: Final = 4  # threads that ask the index
ManyQuestion: TypeAlias = PartInput | Sequence[Hit | RegionRef]
_Item = TypeVar("_Item")
_Begun = TypeVar("_Begun")


def query_many(
    asking: Asking,
    questions: Iterable[ManyQuestion],
    pages: tuple[PageRequest, PageRequest],
    *,
    filter: Filter | None,
    max_false_match: float | None,
) -> Iterator[ManyAnswer[SearchResults]]:
    """As `Client.query_many`; `pages` are those of `Asking.pages`."""
    if isinstance(questions, str | bytes) or not isinstance(questions, Iterable):
        raise UsageError(f"questions: expected a list, or whatever else can be gone through, got {questions!r}")
    rate, index = rate_of(max_false_match), asking.connection.read_index()
    refuse_as_a_search(index, pages[0], filter=filter)
    asking.judging.scale(index, np.zeros(index.manifest.bits // 8, dtype=np.uint8)).most_bits(rate)
    return _Many(asking, *pages, filter, rate).answers(questions)


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """An image, which is being read, and a prompt for it."""

    image: ImageInput
    prompt: object
    pixels: Future[RGBImage]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A question, and what it asks with: indexed regions, words or a picture; or why it cannot be asked."""

    number: int
    question: object
    by: tuple[RegionRef, ...] | str | _Picture | SearchAnythingError


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """The same, with what asks the index."""

    asked: _Asked
    ask: Callable[[], SearchResults] | SearchAnythingError


@dataclass(frozen=True, slots=True, eq=False)
class _Many:
    """Questions that are answered alike."""

    asking: Asking
    request: PageRequest
    words_request: PageRequest
    filter: Filter | None
    rate: float | None

    def answers(self, questions: Iterable[ManyQuestion]) -> Iterator[ManyAnswer[SearchResults]]:
        pools = [ThreadPoolExecutor(threads) for threads in (READERS, 1, SEARCHERS)]
        readers, encoders, searchers = pools
        images = _Reading(self.asking, readers)
        try:
            read = _one_ahead(batches(enumerate(questions), AT_ONCE), images.begin)
            encoded = _one_ahead(read, lambda batch: encoders.submit(self._encode, batch))
            found = _one_ahead(encoded, lambda batch: [searchers.submit(_answer, one) for one in batch.result()])
            for batch in found:
                for answer in batch:
                    yield answer.result()
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)

    def _encode(self, batch: Sequence[_Asked]) -> list[_Encoded]:
        """What asks the index for each; those with pictures in one pass of each model."""
        asks: list[Callable[[], SearchResults] | SearchAnythingError | None] = []
        pictures: dict[int, tuple[_Picture, RGBImage, Prompt]] = {}
        for number, one in enumerate(batch):
            match one.by:
                case str(words):
                    asked = partial(self.asking.query_words, words, None, None, self.words_request)
                    asks.append(partial(asked, filter=self.filter, max_false_match=self.rate))
                case tuple(refs):
                    asks.append(partial(self.asking.query_stored, refs, self.request, self.filter, self.rate))
                case _Picture() as picture:
                    try:
                        pictures[number] = (picture, *_checked(picture))
                        asks.append(None)
                    except SearchAnythingError as error:
                        asks.append(_own(error))
                case error:
                    asks.append(error)
        for number, ask in zip(pictures, self._with_pictures(list(pictures.values())), strict=True):
            asks[number] = ask
        return [_Encoded(one, ask) for one, ask in zip(batch, asks, strict=True) if ask is not None]

    def _with_pictures(
        self, pictures: Sequence[tuple[_Picture, RGBImage, Prompt]]
    ) -> Iterator[Callable[[], SearchResults] | SearchAnythingError]:
        if not pictures:
            return
        index, encoder = self.asking.connection.open_to_ask()
        state_limits(index.manifest.preset)
        watch = Stopwatch()
        wiring.load_models(encoder, watch)
        encoded = _encode_queries(encoder, [(pixels, prompt) for _, pixels, prompt in pictures], watch)
        shares = {stage: spent / len(pictures) for stage, spent in watch.timings_ms.items()}
        for (picture, pixels, prompt), query in zip(pictures, encoded, strict=True):
            if isinstance(query, SearchAnythingError):
                yield query
                continue
            name = kept_name(picture.image)
            question = ImageQuestion(name, pixels, prompt, self.request, self.filter, self.rate)
            yield partial(self._ask, index, question, query, picture.image, shares)

    def _ask(
        self,
        index: RegionIndex,
        question: ImageQuestion,
        query: EncodedQuery,
        image: ImageInput,
        shares: Mapping[str, float],
    ) -> SearchResults:
        """An answer that reads its image again where that is needed."""
        watch = Stopwatch()
        watch.timings_ms.update(shares)
        found = self.asking.answer(index, question, query, watch)
        asked = partial(_document, self.asking, image, question.prompt, self.request, self.filter)
        again = partial(self._explain, image, question.prompt)
        return replace(found, query_image=partial(self.asking.load, image), asked=asked, explainer=again)

    def _explain(
        self, image: ImageInput, prompt: Prompt, wanted: IndexedImage, box_xyxy: BoxXYXY | None
    ) -> Explanation:
        again = self.asking.query(image, prompt, self.request, filter=self.filter, max_false_match=self.rate)
        return again.explain(wanted, box_xyxy)


@dataclass(slots=True, eq=False)
class _Reading:
    """Reads the images of batches, one that several questions of a batch or of the one before name once."""

    asking: Asking
    readers: ThreadPoolExecutor
    _of_batch: dict[object, Future[RGBImage]] = field(default_factory=dict)

    def begin(self, batch: Sequence[tuple[int, object]]) -> list[_Asked]:
        """The questions, with their images being read."""
        known, self._of_batch = self._of_batch, {}
        return [_Asked(number, question, self._begin(question, known)) for number, question in batch]

    def _begin(
        self, question: object, known: Mapping[object, Future[RGBImage]]
    ) -> tuple[RegionRef, ...] | str | _Picture | SearchAnythingError:
        try:
            by = _parsed(question)
        except SearchAnythingError as error:
            return _own(error)
        if not isinstance(by, _Unread):
            return by
        key = by.image if isinstance(by.image, ImageRef | str | bytes) else id(by.image)
        if key not in self._of_batch:
            self._of_batch[key] = known.get(key) or self.readers.submit(self.asking.load, by.image)
        return _Picture(by.image, by.prompt, self._of_batch[key])


@dataclass(frozen=True, slots=True, eq=False)
class _Unread:
    image: ImageInput
    prompt: object


def _parsed(question: Any) -> tuple[RegionRef, ...] | str | _Unread:  # noqa: ANN401 - anything may be given
    """What a question asks with. Raises: UsageError, PromptError."""
    match question:
        case str() | Text():
            words = question if isinstance(question, str) else question.text
            check_no_file(words)
            return Text(words).text
        case Hit() | RegionRef() | list():
            return stored_or_image(question)  # type: ignore[return-value]  # a list of others is refused
        case (image, prompt):
            stored = stored_or_image(image)
            if isinstance(stored, tuple):
                check_no_prompt(as_prompt(prompt))
                return stored
            return _Unread(image, prompt)
    raise UsageError(f"expected {QUESTION_FORMS}, got {shown(question)}; a whole image is (image, None)")


def _checked(picture: _Picture) -> tuple[RGBImage, Prompt]:
    """The pixels, and the prompt for them. Raises: ImageError, UsageError, PromptError, StoreError."""
    prompt = as_prompt(picture.prompt)
    pixels = picture.pixels.result()
    check_units(prompt, *pixels.shape[:2])
    return pixels, prompt


def _encode_queries(
    encoder: Encoder, queries: Sequence[tuple[RGBImage, Prompt]], watch: Stopwatch
) -> Sequence[EncodedQuery | SearchAnythingError]:
    """Each of a batch that fails by itself. Raises: DeviceError where a known image fails as well."""
    try:
        return encoder.encode_queries(queries, watch)
    except encoding_errors() as error:
        if len(queries) > 1:
            return [one for query in queries for one in _encode_queries(encoder, [query], watch)]
        check_models(encoder)
        height, width = queries[0][0].shape[:2]
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        return [ImageError(f"an image of {width} × {height}", f"cannot be encoded: {type(error).__name__}: {reason}")]


def _document(
    asking: Asking, image: ImageInput, prompt: Prompt, request: PageRequest, filter: Filter | None
) -> Mapping[str, Any]:
    return question_document(kept_name(image), asking.load(image), prompt, request, filter)


def _answer(one: _Encoded) -> ManyAnswer[SearchResults]:
    number, question, ask = one.asked.number, one.asked.question, one.ask
    if isinstance(ask, SearchAnythingError):
        return ManyAnswer(number, question, error=ask)
    try:
        return ManyAnswer(number, question, results=ask())
    except SearchAnythingError as error:
        return ManyAnswer(number, question, error=_own(error))


def _one_ahead(items: Iterable[_Item], begin: Callable[[_Item], _Begun]) -> Iterator[_Begun]:
    """What was begun for each item, given when the next one is begun; where that fails, what was begun before first."""
    waiting: list[_Begun] = []
    try:
        for item in items:
            waiting.append(begin(item))
            if len(waiting) > 1:
                yield waiting.pop(0)
    except Exception:
        yield from waiting
        raise
    yield from waiting


def _own(error: SearchAnythingError) -> SearchAnythingError:
    """The error, if it is that of one question. Raises: the error, if it is not."""
    if is_of_one_question(error):
        return error
    raise error
