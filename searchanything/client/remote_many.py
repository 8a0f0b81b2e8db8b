"""Many questions to a server: some at a time, the answers in order. Needs the standard library alone, as `calls`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from searchanything.client.calls import asked_words
from searchanything.client.remote_results import RemoteResults
from searchanything.core.addresses import check_no_file
from searchanything.core.arguments import shown
from searchanything.core.errors import BusyError, SearchAnythingError, UsageError
from searchanything.core.many_answers import QUESTION_FORMS, ManyAnswer, is_of_one_question
from searchanything.core.types import Hit, RegionRef

AT_A_TIME: Final = 4  # of the server's 16 that may wait for its models
AHEAD: Final = 16  # questions that are begun before the oldest of them has its answer
BUSY_TIMES: Final = 60  # how often a question waits for a server that is busy
Ask = Callable[..., RemoteResults]


def ask_many(ask: Ask, questions: Iterable[object]) -> Iterator[ManyAnswer[RemoteResults]]:
    """The answers, in the order of the questions. Raises: UsageError for what are no questions; as `RemoteClient`."""
    if isinstance(questions, str | bytes) or not isinstance(questions, Iterable):
        raise UsageError(f"questions: expected a list, or whatever else can be gone through, got {shown(questions)}")
    return _answers(ask, questions)


def _answers(ask: Ask, questions: Iterable[object]) -> Iterator[ManyAnswer[RemoteResults]]:
    from searchanything.ingest.ahead import map_ahead  # which one question does not need

    pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="searchanything")
    waits = True
    try:
        yield from map_ahead(pool, lambda numbered: _answer(ask, *numbered), enumerate(questions), most=AHEAD)
    except KeyboardInterrupt:  # the server may take long, and nobody wants its answers
        waits = False
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)


def _answer(ask: Ask, number: int, question: object) -> ManyAnswer[RemoteResults]:
    """Its answer, once the server has time. Raises: as `RemoteClient.query`; BusyError after `BUSY_TIMES` of them."""
    waits = 0
    while True:
        try:
            return ManyAnswer(number, question, results=_asked(ask, question))
        except BusyError as busy:
            waits += 1
            if waits > BUSY_TIMES:
                raise
            time.sleep(busy.retry_after_s)
        except SearchAnythingError as error:
            if not is_of_one_question(error):
                raise
            return ManyAnswer(number, question, error=error)


def _asked(ask: Ask, question: object) -> RemoteResults:
    words = asked_words(question)
    if words is not None:
        check_no_file(words)
        return ask(text=words)
    if isinstance(question, Hit | RegionRef | list):
        return ask(question)
    if isinstance(question, tuple) and len(question) == 2:
        return ask(*question)
    raise UsageError(f"expected {QUESTION_FORMS}, got {shown(question)}; a whole image is (image, None)")
