"""A question in words alone: no query image, no segmenter; the whole index is asked by its words codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from searchanything.answers.matching import Scale
from searchanything.answers.questions import words_document
from searchanything.answers.results import SearchResults
from searchanything.client.refining import Judging
from searchanything.core.errors import UsageError, WordsMissingError
from searchanything.core.geometry import encode_rle
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import row_id
from searchanything.core.types import Filter, Hit, ImageRef, RGBImage, Selection, TextMatch
from searchanything.encode.encoder import Encoder, Stopwatch
from searchanything.prompts.prompt import Text
from searchanything.search.by_words import search_words
from searchanything.search.calibration import rate_of
from searchanything.search.empty_filters import warn_of_filter
from searchanything.search.rescoring import QueryValues
from searchanything.search.search import PageRequest

HOW_TO_ADD_WORDS: Final = (
    "the index cannot be searched by words alone yet: searchanything index SOURCE --add-words (a setting for new "
    "indexes: SEARCHANYTHING_INGEST__WORDS=true); or give an image, and the text as its prompt"
)
CANVAS_PX: Final = (240, 320)


def check_alone(text: str | None, image: object, prompt: object) -> str:
    """The text, if it stands alone. Raises: UsageError for neither or both, PromptError for a text of blanks."""
    if text is None:
        raise UsageError("expected an image, or words alone: query(text=…)")
    if image is not None or prompt is not None:
        raise UsageError("text= asks the whole index without an image; within one, give it as the prompt: Text(…)")
    return Text(text).text


@dataclass(frozen=True, slots=True)
class WordsQuestion:
    """What is asked in words alone. Raises: UsageError for a rate that is none."""

    text: str
    request: PageRequest
    filter: Filter | None
    max_false_match: float | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_false_match", rate_of(self.max_false_match))

    def within(self, scale: Scale) -> PageRequest:
        """The page that is asked for, bounded by the distance that the rate allows."""
        return replace(self.request, most_bits=scale.most_bits(self.max_false_match))


def ask_words(index: RegionIndex, encoder: Encoder, question: WordsQuestion, judging: Judging) -> SearchResults:
    """The regions that a text names. Raises: WordsMissingError without words codes; FilterError, RegionIndexError."""
    if index.words is None:
        raise WordsMissingError(HOW_TO_ADD_WORDS)
    watch, text, most = Stopwatch(), question.text, question.max_false_match
    with watch.stage("embed"):
        values = encoder.encode_text(text)
    with watch.stage("judge"):
        scale = judging.scale(index, values.code, "words")
        request = question.within(scale)
    with watch.stage("search"):
        page = search_words(index, values, request, filter=question.filter)
    hint = warn_of_filter(index, question.filter, page.hits, offset=request.offset)
    with watch.stage("judge"):
        first = page.hits[:1]
        if request.offset:  # the text is judged by its best hit, whichever page is shown
            best = replace(request, limit=1, offset=0)
            first = search_words(index, values, best, filter=question.filter).hits
        match = _judged(index, encoder, values, first[0]) if first else None
        matching = scale.matching(page, most, before=request.offset)
    return SearchResults(
        query_image=np.broadcast_to(np.uint8(255), (*CANVAS_PX, 3)),  # of one value: answers are kept by the thousand
        prompt_description={"kind": "words", "text": text},
        selection=_selection(text, match),
        hits=matching.hits,
        matching=matching,
        hint=hint,
        exact=page.exact,
        stages=page.stages,
        fingerprint=index.manifest.fingerprint,
        collection=index.words.collection,
        timings_ms=watch.timings_ms,
        open_image=_no_images,
        asked=partial(words_document, text, request, question.filter),
    )


def _judged(index: RegionIndex, encoder: Encoder, values: QueryValues, hit: Hit) -> TextMatch | None:
    """How well a text fits its best hit, as is said of text prompts; None if that is gone by now."""
    newest = index.newest([hit.image]).get(hit.image)
    if newest is None:
        return None
    name = row_id(hit.image, newest.generation, hit.region)
    code = index.codes_of([name], of="words").get(name)
    return None if code is None else encoder.judge_words(values, np.frombuffer(code, dtype=np.uint8))


def _selection(text: str, match: TextMatch | None) -> Selection:
    return Selection(
        kind="words",
        box_xyxy=(0.0, 0.0, 0.0, 0.0),
        area_px=0,
        mask=encode_rle(np.zeros((1, 1), dtype=np.bool_)),
        score=0.0 if match is None else match.cosine,
        rule="words",
        reason=f"all regions of the index, by the words {text!r}",
        text_match=match,
    )


def _no_images(image: ImageRef) -> RGBImage:
    raise UsageError(f"{image}: these results are not from a client, so no image can be read")
