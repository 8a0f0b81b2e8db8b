"""Filters that found nothing: whether their places can be, and whether names and kinds of metadata fit some regions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from searchanything.core.conditions import Value, Where
from searchanything.core.counting import counted
from searchanything.core.errors import RegionIndexError
from searchanything.core.escaping import printable
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Filter

logger = logging.getLogger(__name__)
LOOKED_AT: Final = 100  # regions: any will do, and a search finds some at once, however many rows there are
_NAMES_SHOWN: Final = 8
_SCHEME: Final = "s3://"
_FOUND_WITHOUT: Final = ("!=", "not in")  # hold of images that lack the name


def warn_of_filter(index: RegionIndex, filter: Filter | None, hits: Sequence[object], *, offset: int = 0) -> str:
    """Why a condition of a filter holds of no image, where an answer without hits may come of that, else "". Logged.

    Of several the first is named: anybody may ask a service, with thousands.

    What S3 keeps as user metadata and tags are texts, which equal no number: the commonest reason.
    """
    if hits or offset or filter is None:
        return ""
    reason = _reason_of_place(filter) or _reason_of_metadata(index, filter)
    if not reason:
        return ""
    hint = f"nothing found where {reason}"
    logger.warning("%s", hint)
    return hint


def _reason_of_place(filter: Filter) -> str:
    """A bucket or a beginning of keys that was written as hits name an image: `s3://bucket/key`."""
    for name, text in (("bucket", filter.bucket), ("key_prefix", filter.key_prefix)):
        if text is None or not text.startswith(_SCHEME):
            continue
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        begins = f' and key_prefix is "{key}"' if key else ""
        said = f'{name} is "{text}": buckets and keys are named apart; try bucket is "{bucket}"{begins}'
        return printable(said)
    return ""


def _reason_of_metadata(index: RegionIndex, filter: Filter) -> str:
    equal = [Where(name, "==", value) for name, value in filter.metadata.items() if name]
    conditions = [one for one in (*equal, *filter.where) if one.comparison not in _FOUND_WITHOUT]
    if not conditions:
        return ""
    code = np.random.default_rng(0).integers(0, 256, (1, index.manifest.bits // 8), dtype=np.uint8)
    try:
        [some] = index.search(code, limit=LOOKED_AT, filter=replace(filter, metadata={}, where=()))
    except RegionIndexError as error:  # the question itself is answered
        logger.debug("no look at metadata: %s", error)
        return ""
    seen = [hit.metadata for hit in some]
    for condition in conditions:
        if seen and (reason := _reason(condition, seen)):
            return f"{condition}: {reason}"
    return ""


def _reason(condition: Where, seen: Sequence[Mapping[str, Value]]) -> str | None:
    values = [one[condition.name] for one in seen if condition.name in one]
    if not values:
        names = sorted({name for one in seen for name in one})
        there = f"there are {', '.join(names[:_NAMES_SHOWN])}" if names else "they have none at all"
        more = ", …" if len(names) > _NAMES_SHOWN else ""
        return f"of {counted(len(seen), 'region')} looked at none has metadata of that name; {there}{more}"
    wanted, kinds = {_kind(one) for one in condition.values}, {_kind(one) for one in values}
    if wanted & kinds:
        return None
    differs = f"it is {_kind(values[0])} in the regions looked at, which equals no {_noun(wanted)}"
    as_text = _as_text(condition, values) if kinds == {"a text"} else None
    return differs if as_text is None else f"{differs}; try {as_text}"


def _kind(value: Value) -> str:
    return "a text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"


def _noun(kinds: set[str]) -> str:
    return " or ".join(sorted(one.removeprefix("a ") for one in kinds))


def _as_text(condition: Where, seen: Sequence[Value]) -> Where | None:
    """The same condition on texts; None where their order is not that of the numbers, as of 9 and 10."""
    if any(isinstance(one, float) for one in condition.values):
        return None
    texts = tuple(str(one).lower() for one in condition.values)  # true, not True
    digits = {len(str(one)) if str(one).isdecimal() else 0 for one in (*texts, *seen)}
    if condition.comparison not in ("==", "in") and (len(digits) > 1 or 0 in digits):
        return None
    return replace(condition, value=texts if isinstance(condition.value, tuple) else texts[0])
