"""Metadata from a JSON file beside an image: `cat.jpg.json` for `cat.jpg`.

The file holds one object. Texts, numbers and booleans become metadata under their names, those of inner objects under
`outer.inner`; null is no value. Lists cannot be filtered by and are left out. What is wrong with a sidecar never stops
its image: it is told in the metadata `sidecar_problem`, which a filter finds, and in the report of the run.

Where regions are taken from sidecars, the key `regions` is no metadata but the image's regions (`given_regions`), and a
row keeps its sidecar's etag with a mark: what was read the other way is indexed again, whatever its metadata say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

from searchanything.core.rows import ImageRow
from searchanything.core.types import Metadata, StoredObject

SIDECAR_PROBLEM: Final = "sidecar_problem"
SIDECAR_REGIONS: Final = "sidecar_regions"  # how many regions a sidecar gave; of images with the segmenter's, not there
MAX_SIDECAR_BYTES: Final = 32 * 1024  # half of what a row takes; the other half is for user metadata and tags
MAX_REGIONS_BYTES: Final = 2**20  # of a sidecar with regions: a thousand outlines of fifty points
_OWN: Final = frozenset({SIDECAR_PROBLEM, SIDECAR_REGIONS})
_REGIONS: Final = "regions"
_READ_FOR_REGIONS: Final = "regions:"  # begins the etags of sidecars whose regions count
_INT64 = range(-(2**63), 2**63)
_SHOWN = 5


def parse_sidecar(data: bytes) -> dict[str, str | int | float | bool]:
    """The metadata that a sidecar's bytes hold, with `sidecar_problem` where something is wrong with them."""
    return _parsed(data, MAX_SIDECAR_BYTES, takes_regions=False)[0]


def parse_sidecar_with_regions(data: bytes) -> tuple[dict[str, str | int | float | bool], object]:
    """The same, and what the key `regions` says, unchecked; None where there is no such key."""
    return _parsed(data, MAX_REGIONS_BYTES, takes_regions=True)


def etag_for_regions(etag: str) -> str:
    """A sidecar's etag as a row keeps it where regions are taken from sidecars; "" for none."""
    return f"{_READ_FOR_REGIONS}{etag}" if etag else ""


def says_the_same(found: StoredObject, row: ImageRow) -> bool:
    """Whether an image's metadata and the regions that it is given are those of its row.

    Where regions count it is the sidecars' etags that say so: what is wrong with regions shows beside the image alone.
    """
    if not any(one.sidecar_etag.startswith(_READ_FOR_REGIONS) for one in (found, row)):
        return dict(found.metadata) == dict(row.metadata)
    return found.sidecar_etag == row.sidecar_etag and _without_own(found.metadata) == _without_own(row.metadata)


def has_given_regions(metadata: Metadata) -> bool:
    """Whether the regions of a row or hit with this metadata are those of its sidecar."""
    return isinstance(metadata.get(SIDECAR_REGIONS), int)  # an object's own metadata are texts


def _without_own(metadata: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in metadata.items() if name not in _OWN}


def _parsed(data: bytes, most_bytes: int, *, takes_regions: bool) -> tuple[dict[str, Any], object]:
    if len(data) > most_bytes:
        return too_large(len(data), most_bytes), None
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse)
        regions = document.pop(_REGIONS, None) if takes_regions and isinstance(document, dict) else None
        if isinstance(document, dict):
            return _metadata(_flat(document, "")), regions
    except RecursionError:
        return problem("is nested too deeply"), None
    except ValueError as error:
        return problem(f"is no JSON: {error}"), None
    return problem(f"expected a JSON object, got {type(document).__name__}"), None


def _metadata(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    left_out = []
    names = 0
    too_long = problem(f"its values under their full names take more than {MAX_SIDECAR_BYTES} bytes")
    for name, value in values:
        names += len(name)
        if names > MAX_REGIONS_BYTES:  # an outer name is part of many: of one sidecar they would take gigabytes
            return too_long
        if name in _OWN or not (_fits(name) and _fits(value)):
            left_out.append(name)
        else:
            metadata[name] = value
    if len(json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")) > MAX_SIDECAR_BYTES:
        return too_long
    if left_out:
        shown = ", ".join(left_out[:_SHOWN]) + (" …" if len(left_out) > _SHOWN else "")
        metadata |= problem(f"left out, as no text, finite 64-bit number or boolean: {shown}")
    return metadata


def too_large(size_bytes: int, most_bytes: int) -> dict[str, str | int | float | bool]:
    """The metadata of a sidecar of so many bytes."""
    return problem(f"has {size_bytes} bytes, at most {most_bytes} are read")


def problem(message: str) -> dict[str, str | int | float | bool]:
    """The metadata of a sidecar that cannot be used."""
    return {SIDECAR_PROBLEM: message.encode("utf-8", "replace").decode()[:500]}


def _flat(document: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and len(prefix) + len(name) < MAX_SIDECAR_BYTES:
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _fits(value: object) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and value in _INT64  # booleans are integers


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
