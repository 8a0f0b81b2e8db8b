"""What of an error may stand in an answer: hosts, paths and settings of a server are not for who only has a key."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from searchanything.core.errors import (
    ImageError,
    ObjectChangedError,
    ObjectNotFoundError,
    PresetError,
    ProbeMismatchError,
    SearchAnythingError,
    ServeError,
    SettingsError,
    UsageError,
    WebhookError,
)

logger = logging.getLogger(__name__)

# About what was asked, or in words for whoever asks. The text of any other may name the index's address, a file, a
# host or a setting.
_PUBLIC: Final = (
    *(UsageError, ImageError, ObjectNotFoundError, ObjectChangedError, ProbeMismatchError),
    *(WebhookError, ServeError),
)
_OWN_SIDE: Final = (SettingsError, PresetError)
IN_LOG: Final = "the log of the server has the cause under request {request}"
_request: ContextVar[str] = ContextVar("request", default="")


@contextmanager
def numbered(request: str) -> Iterator[None]:
    """What is logged in here belongs to this request of a server."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def public_text(error: SearchAnythingError) -> str:
    """An error's text, or what kind it is; then the log has the text, by a server under the number of the request."""
    if isinstance(error, _PUBLIC) and not isinstance(error, _OWN_SIDE):
        return str(error)
    request = _request.get()
    logger.warning("%s%s: %s", f"request {request}: " if request else "", type(error).__name__, error)
    where = IN_LOG.format(request=request) if request else "the log has the cause"
    return f"{title_of(error)}: {where}"


def title_of(error: SearchAnythingError) -> str:
    """What an error's class says of itself, in one line."""
    return (type(error).__doc__ or type(error).__name__).partition("\n")[0].rstrip(".")
