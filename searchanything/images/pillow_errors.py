"""Pillow's errors in our words, and its warnings kept quiet: what both have in common for every format."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from PIL import Image

from searchanything.core.errors import ImageError

_PILLOW_MODULES = r"PIL\."
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(_PILLOW_MODULES), 0)

# What Pillow raises on damaged files, as the corpus in the tests found it.
PILLOW_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# What it says of a mode that it does not know; the file may be in order, or its header damaged.
_UNSUPPORTED = re.compile(r"unknown pixel mode|unknown data organization|unsupported|cannot handle", re.IGNORECASE)


@contextmanager
def mapped(name: str, kind: str) -> Iterator[None]:
    """Turn what Pillow raises on bad files into an ImageError with a reason in words."""
    try:
        yield
    except ImageError:
        raise
    except PILLOW_ERRORS as error:
        raise ImageError(name, _reason(error, kind)) from error


def _reason(error: Exception, kind: str) -> str:
    message = " ".join(str(error).split())[:160]
    if isinstance(error, Image.DecompressionBombError):
        return f"is a {kind} file with more pixels than Pillow ever decodes (179 million)"
    if isinstance(error, MemoryError):
        return f"is a {kind} file that needs more memory than there is"
    if "truncated" in message or isinstance(error, EOFError):
        return f"is a {kind} file that is cut off ({message or 'early end'})"
    if kind == "TIFF" and isinstance(error.__cause__, KeyError) and message.isdigit():
        return f"is a TIFF file of an unsupported kind (compression {message}); save it anew with another compression"
    if kind == "TIFF" and message == "decoder error -2":  # libtiff's only word for both
        return "is a TIFF file that is damaged, or compressed in a way that is not read; save it anew"
    if _UNSUPPORTED.search(message):
        return f"is a {kind} file of an unsupported kind ({message}); convert it to 8-bit RGB"
    return f"is a damaged {kind} file ({message or type(error).__name__})"


class _PillowSilence:
    """Ignores Pillow's warnings while any thread decodes, and takes back nothing but its own filter.

    `warnings.catch_warnings` is no choice: threads that leave it in another order than they entered it would leave
    each other's filters behind.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._ours = False

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if _PILLOW_FILTER not in warnings.filters:
                warnings.filterwarnings("ignore", module=_PILLOW_MODULES)
                self._ours = True

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._ours:
                self._ours = False
                with suppress(ValueError):  # someone has put back the filters of before
                    filters: Any = warnings.filters  # a list, typed as a sequence
                    filters.remove(_PILLOW_FILTER)


_silence = _PillowSilence()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()
