"""What a caller gives by mistake is said before it does harm: one check for types, one for lists, one for numbers.

Only the standard library is imported here: the light client checks what it is given, too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, Final

from searchanything.core.errors import FilterError, UsageError
from searchanything.core.types import Filter, Hit, RegionRef

_LONGEST: Final = 300  # letters of what is shown


def check_kind(
    value: object, kinds: type | UnionType, name: str, what: str, *, error: type[UsageError] = UsageError
) -> None:
    """Raises: UsageError, or what is given as `error`, for an argument of another type; `what` says it in words."""
    if not isinstance(value, kinds):
        raise error(f"{name}: expected {what}, got {shown(value)}")


def shown(value: object) -> str:
    """What came, for a message: as Python writes it, of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def as_array(value: object) -> str:
    """What to do about what is no array and can become one, as a tensor or a PIL image can; else nothing."""
    convertible = hasattr(value, "__array__") or hasattr(value, "__array_interface__")
    return ": numpy.asarray(…) makes an array of it" if convertible else ""


def no_image(image: object) -> UsageError:
    """What is said of what cannot be an image, with what to do about it where that can be guessed."""
    cure = as_array(image)
    if isinstance(image, bytearray | memoryview):
        cure = ": bytes(…) makes bytes of it"
    elif hasattr(image, "read"):
        cure = ": give what its read() gives"
    elif isinstance(image, Hit | RegionRef):
        cure = ": the image that it lies in is its .image"
    return UsageError(f"expected a path, bytes, PIL image, array or ImageRef, got {type(image).__name__}{cure}")


def check_flags(**flags: object) -> None:
    """Raises: UsageError for what is neither true nor false: the text "false" would be true."""
    for name, value in flags.items():
        if value not in (True, False):
            raise UsageError(f"{name}: expected True or False, got {shown(value)}")


def check_progress(progress: object) -> None:
    """Raises: UsageError for what cannot be called."""
    if progress is not None and not callable(progress):
        raise UsageError(f"progress: expected a function that takes an IndexProgress, got {shown(progress)}")


def check_filter_kind(filter: object) -> None:
    """Raises: FilterError for what is neither a filter nor None."""
    check_kind(filter, Filter | None, "filter", "a searchanything.Filter", error=FilterError)


def check_under(bucket: object, key_prefix: object) -> None:
    """Raises: UsageError for what cannot be the name of a bucket, None for all, and the beginning of keys."""
    check_kind(bucket, str | None, "bucket", "a text")
    check_kind(key_prefix, str, "key_prefix", "a text")


def several(values: object, kinds: type | UnionType, name: str, what: str) -> tuple[Any, ...]:
    """What a list, or whatever else can be gone through, holds; a text, or one thing by itself, is no list.

    Raises: UsageError, also for a list of other things; `what` says in words what they should be.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        cure = ": put it in brackets" if isinstance(values, kinds) else ""
        raise UsageError(f"{name}: expected a list of {what}, got {shown(values)}{cure}")
    found = tuple(values)
    for one in found:
        check_kind(one, kinds, name, what)
    return found


def whole_number_of(value: object, name: str, *, least: int) -> int:
    """A whole number, NumPy's as well. Raises: UsageError for anything else, and for one that is too small."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # or a TypeError
    except TypeError:
        found = None
    if found is None or found < least:
        raise UsageError(f"{name}: expected a whole number of {least} or more, got {value!r}")
    return found


def marked_regions_of(marks: object, name: str) -> tuple[RegionRef, ...]:
    """The regions of hits that a person marked, all of them right, or all wrong ones. Raises: UsageError."""
    return tuple(
        one.ref if isinstance(one, Hit) else one for one in several(marks, Hit | RegionRef, name, "hits or RegionRefs")
    )


def check_places(places: object, name: str, *, error: type[UsageError] = UsageError) -> None:
    """Raises: UsageError, or what is given as `error`, for what are no pairs of a bucket and a key prefix."""
    pairs: Sequence[Any] = places if isinstance(places, Sequence) and not isinstance(places, str | bytes) else ("",)
    for one in pairs:
        if not isinstance(one, tuple | list) or len(one) != 2 or not all(isinstance(part, str) for part in one):
            raise error(f"{name}: expected pairs of a bucket and a key prefix, got {places!r}")
