"""The codes that questions ask with, without asking: what `Operations.tune` tries in place of codes of the index."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from searchanything.client.asking import Asking
from searchanything.client.asking_many import (
    ManyQuestion,
    UnreadPicture,
    check_questions,
    own_error,
    parsed_question,
)
from searchanything.client.stored_questions import StoredQuestion
from searchanything.core.codes import stacked
from searchanything.core.errors import SearchAnythingError, UsageError
from searchanything.core.on_step import OnStep
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes
from searchanything.encode.encode_queries import encode_one
from searchanything.encode.encoder import Encoder
from searchanything.prompts.prompt import check_units
from searchanything.search.search import query_code_of

logger = logging.getLogger(__name__)


def question_codes(
    asking: Asking, models: tuple[RegionIndex, Encoder], questions: Iterable[ManyQuestion], on_step: OnStep
) -> Codes:
    """The codes (Q, B) uint8 of the regions that questions of `Client.query_many` choose, by an index and its models.

    One that chooses no region (words alone, a whole image), or that cannot be asked, is left out with a warning.

    Raises: UsageError where none is left; what concerns all questions, as `Client.query_many`.
    """
    check_questions(questions)
    codes: list[bytes] = []
    done = 0
    for done, question in enumerate(questions, start=1):
        try:
            codes.append(_code_of(asking, models, question).tobytes())
        except SearchAnythingError as error:
            logger.warning("a question is left out: %s", own_error(error))
        on_step("encoding questions", done, None)
    if not codes:
        raise UsageError(f"expected questions that each choose a region, got {done:,}, none of which does")
    return stacked(codes, models[0].manifest.bits)


def _code_of(asking: Asking, models: tuple[RegionIndex, Encoder], question: ManyQuestion) -> Codes:
    """The code (B,) of the region that a question chooses. Raises: what is wrong with this question."""
    index, encoder = models
    by = parsed_question(question)
    if isinstance(by, str):
        raise UsageError(f"the words {by!r} alone are compared with words codes: name an image for them")
    if not isinstance(by, UnreadPicture):
        stored = StoredQuestion.look_up(index, by)
        if stored.whole_images:
            raise UsageError(f"{by[0].image} is a whole image: name one of its regions")
        return query_code_of(stored.asked)
    pixels = asking.load(by.image)
    check_units(by.prompt, *pixels.shape[:2])
    encoded = encode_one(encoder, pixels, by.prompt)
    if encoded.choice.kind != "region":
        raise UsageError(f"no region is chosen: {encoded.choice.reason}")
    return encoded.code
