"""Answers to many questions asked at once: one that cannot be answered does not stop the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from searchanything.core.errors import (
    FilterError,
    ImageError,
    ObjectNotFoundError,
    PromptError,
    SearchAnythingError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
    TooLargeError,
    UsageError,
)


class HasDocument(Protocol):
    """An answer that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]: ...


Found = TypeVar("Found", bound=HasDocument)
QUESTION_FORMS: Final = "a question: (image, prompt), a Hit, a RegionRef, a list of these two, or words"
_OWN: Final = (PromptError, ImageError, ObjectNotFoundError, StoreError, TooLargeError, UsageError)
_OF_ALL: Final = (FilterError, SettingsError, StoreUnavailableError)


@dataclass(frozen=True, slots=True, eq=False)
class ManyAnswer(Generic[Found]):
    """The answer to one of many questions: its `results`, or the `error` for which it alone has none.

    `number` is its place among the questions, from 0, and `question` what was asked there.
    """

    number: int
    question: object
    results: Found | None = None
    error: SearchAnythingError | None = None

    def __post_init__(self) -> None:
        """Errors are kept as answers are: without the frames that raised them, which hold images of a whole batch."""
        waiting: list[BaseException | None] = [self.error]
        seen = set[int]()
        while waiting:
            if (error := waiting.pop()) is not None and id(error) not in seen:
                seen.add(id(error))
                error.__traceback__ = None
                waiting += [error.__cause__, error.__context__]

    def to_dict(self) -> dict[str, Any]:
        """The document of its `results`, and the `type` and `message` of its `error`: plain types only."""
        return {
            "number": self.number,
            "answer": None if self.results is None else self.results.to_dict(),
            "error": None if self.error is None else {"type": type(self.error).__name__, "message": str(self.error)},
        }


def is_of_one_question(error: SearchAnythingError) -> bool:
    """Whether the other questions can still be answered: what is wrong is this one, not the store or the index."""
    return isinstance(error, _OWN) and not isinstance(error, _OF_ALL)
