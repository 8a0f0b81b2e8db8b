"""Many questions: their images are read ahead, and each model sees a batch of them at a time.

    questions ── read (threads) ──► batch n+2 ── encode (one thread) ──► n+1 ── search (threads) ──► n, in order

An answer holds no pixels of an image with a name: thousands of them can be kept. What needs pixels (a picture, a
receipt, `explain`) reads the image again. An array or PIL image is copied as it is taken, for whoever gives it may use
its memory again (frames of a video), and its answer keeps the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from searchanything import wiring
from searchanything.answers.explanation import Explanation
from searchanything.answers.questions import kept_name
from searchanything.answers.results import SearchResults
from searchanything.client.asking import Asking, ImageQuestion
from searchanything.client.combining import PartInput
from searchanything.client.stored_questions import check_no_prompt, stored_or_image
from searchanything.core.addresses import check_no_file
from searchanything.core.arguments import shown
from searchanything.core.errors import SearchAnythingError, UsageError
from searchanything.core.many_answers import QUESTION_FORMS, ManyAnswer, is_of_one_question
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import BoxXYXY, Filter, Hit, ImageRef, RegionRef, RGBImage
from searchanything.encode.encode_queries import encode_each
from searchanything.encode.encoder import EncodedQuery, Stopwatch
from searchanything.images.inputs import ImageInput
from searchanything.models.limits import state_limits
from searchanything.prompts.prompt import Prompt, Text, as_prompt, check_units
from searchanything.search.calibration import rate_of
from searchanything.search.locate import IndexedImage
from searchanything.search.search import PageRequest, refuse_as_a_search

AT_ONCE: Final = 16  # questions of a batch
BATCH_PIXELS: Final = 2**26  # of its images, 200 MB; a batch that has as many takes no further one
READERS: Final = 8  # threads that read images, and questions that are read beyond a batch
SEARCHERS: Final = 4  # threads that ask the index
ManyQuestion: TypeAlias = PartInput | Sequence[Hit | RegionRef]
_NO_PIXELS: Final = np.zeros((1, 1, 3), dtype=np.uint8)
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
    check_questions(questions)
    rate, index = rate_of(max_false_match), asking.connection.read_index()
    refuse_as_a_search(index, pages[0], filter=filter)
    asking.judging.scale(index, np.zeros(index.manifest.bits // 8, dtype=np.uint8)).most_bits(rate)
    return _Many(asking, *pages, filter, rate).answers(questions)


def check_questions(questions: object) -> None:
    """Raises: UsageError for what is no list and no stream of questions."""
    if isinstance(questions, str | bytes) or not isinstance(questions, Iterable):
        raise UsageError(f"questions: expected a list, or whatever else can be gone through, got {questions!r}")


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """An image, which is being read, and a prompt for it: its name for a receipt, and what reads it once more."""

    name: ImageInput
    again: ImageInput
    prompt: Prompt
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
        images, waits = _Reading(self.asking, readers), True
        try:
            read = _batches(_ahead(enumerate(questions), images.begin, READERS))
            encoded = _ahead(read, lambda batch: encoders.submit(self._encode, batch))
            found = _ahead(encoded, lambda batch: [searchers.submit(_answer, one) for one in batch.result()])
            for batch in found:
                for answer in batch:
                    yield answer.result()
        except KeyboardInterrupt:  # a batch may take long, and nobody wants its answers
            waits = False
            raise
        finally:
            for pool in pools:
                pool.shutdown(wait=waits, cancel_futures=True)

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
                        asks.append(own_error(error))
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
        encoded = encode_each(encoder, [(pixels, prompt) for _, pixels, prompt in pictures], watch)
        shares = {stage: spent / len(pictures) for stage, spent in watch.timings_ms.items()}
        for (picture, pixels, prompt), query in zip(pictures, encoded, strict=True):
            if isinstance(query, SearchAnythingError):
                yield query
                continue
            question = ImageQuestion(picture.name, pixels, prompt, self.request, self.filter, self.rate)
            yield partial(self._ask, index, question, query, picture.again, shares)

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
        asked = partial(_document, self.asking, image, replace(question, pixels=_NO_PIXELS))
        again = partial(self._explain, image, question.prompt)
        return replace(found, query_image=partial(self.asking.load, image), asked=asked, explainer=again)

    def _explain(
        self, image: ImageInput, prompt: Prompt, wanted: IndexedImage, box_xyxy: BoxXYXY | None
    ) -> Explanation:
        again = self.asking.query(image, prompt, self.request, filter=self.filter, max_false_match=self.rate)
        return again.explain(wanted, box_xyxy)


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """Reads images as questions are taken; one that another question waits for or is asked with is read once."""

    asking: Asking
    readers: ThreadPoolExecutor
    _known: WeakValueDictionary[object, Future[RGBImage]] = field(default_factory=WeakValueDictionary)

    def begin(self, numbered: tuple[int, object]) -> _Asked:
        """The question, with its image being read. Raises: what concerns all questions."""
        number, question = numbered
        try:
            by = parsed_question(question)
            return _Asked(number, question, self._picture(by) if isinstance(by, UnreadPicture) else by)
        except SearchAnythingError as error:
            return _Asked(number, question, own_error(error))

    def _picture(self, by: UnreadPicture) -> _Picture:
        image, name = by.image, kept_name(by.image)
        if isinstance(image, ImageRef | str | bytes | Path):
            pixels = self._known.get(image)
            if pixels is None:
                pixels = self._known[image] = self.readers.submit(self.asking.load, image)
            return _Picture(name, image if isinstance(image, bytes) else name, by.prompt, pixels)
        copy = self._copy(id(image), self.asking.load(image))
        return _Picture(name, copy.result(), by.prompt, copy)

    def _copy(self, key: int, pixels: RGBImage) -> Future[RGBImage]:
        """The pixels of what may change; those of the question before where they are the same."""
        known = self._known.get(key)
        if known is not None and np.array_equal(known.result(), pixels):
            return known
        copy = self._known[key] = Future[RGBImage]()
        copy.set_result(pixels)
        return copy


@dataclass(frozen=True, slots=True, eq=False)
class UnreadPicture:
    """An image that nobody has read yet, and a prompt for it."""

    image: ImageInput
    prompt: Prompt


def parsed_question(question: Any) -> tuple[RegionRef, ...] | str | UnreadPicture:  # noqa: ANN401 - anything may be given
    """What a question asks with. Raises: UsageError, PromptError."""
    match question:
        case str() | Text():
            words = question if isinstance(question, str) else question.text
            check_no_file(words)
            return Text(words).text
        case Hit() | RegionRef() | list():
            return stored_or_image(question)  # type: ignore[return-value]  # a list of others is refused
        case (image, prompt):
            wanted, stored = as_prompt(prompt), stored_or_image(image)
            if isinstance(stored, tuple):
                check_no_prompt(wanted)
                return stored
            return UnreadPicture(image, wanted)
    raise UsageError(f"expected {QUESTION_FORMS}, got {shown(question)}; a whole image is (image, None)")


def _checked(picture: _Picture) -> tuple[RGBImage, Prompt]:
    """The pixels, and the prompt for them. Raises: ImageError, UsageError, PromptError, StoreError."""
    pixels = picture.pixels.result()
    check_units(picture.prompt, *pixels.shape[:2])
    return pixels, picture.prompt


def _document(asking: Asking, image: ImageInput, question: ImageQuestion) -> Mapping[str, Any]:
    return replace(question, pixels=asking.load(image)).document()


def _answer(one: _Encoded) -> ManyAnswer[SearchResults]:
    number, question, ask = one.asked.number, one.asked.question, one.ask
    if isinstance(ask, SearchAnythingError):
        return ManyAnswer(number, question, error=ask)
    try:
        return ManyAnswer(number, question, results=ask())
    except SearchAnythingError as error:
        return ManyAnswer(number, question, error=own_error(error))


def _batches(asked: Iterable[_Asked]) -> Iterator[list[_Asked]]:
    """Up to `AT_ONCE` questions each, whose images are read and have about `BATCH_PIXELS`."""
    batch: list[_Asked] = []
    pixels: dict[int, int] = {}  # of each image
    try:
        for one in asked:
            if isinstance(one.by, _Picture) and one.by.pixels.exception() is None:
                pixels[id(one.by.pixels)] = one.by.pixels.result()[..., 0].size
            batch.append(one)
            del one  # what waits for the next question holds no image
            if len(batch) == AT_ONCE or sum(pixels.values()) >= BATCH_PIXELS:
                pixels.clear()
                yield _emptied(batch)
    except Exception:
        if batch:
            yield _emptied(batch)
        raise
    if batch:
        yield _emptied(batch)


def _emptied(batch: list[_Item]) -> list[_Item]:
    taken = batch.copy()
    batch.clear()
    return taken


def _ahead(items: Iterable[_Item], begin: Callable[[_Item], _Begun], most: int = 1) -> Iterator[_Begun]:
    """What was begun for each item, `most` ahead of what is given; where that fails, what was begun before first."""
    waiting: list[_Begun] = []
    try:
        for item in items:
            waiting.append(begin(item))
            del item  # it may hold images
            if len(waiting) > most:
                yield waiting.pop(0)
    except Exception:
        while waiting:
            yield waiting.pop(0)
        raise
    while waiting:
        yield waiting.pop(0)


def own_error(error: SearchAnythingError) -> SearchAnythingError:
    """The error, if it is that of one question. Raises: the error, if it is not."""
    if is_of_one_question(error):
        return error
    raise error
