"""Metadata from a JSON file beside an image: `cat.jpg.json` for `cat.jpg`.

The file holds one object. Texts, numbers and booleans become metadata under their names, those of inner objects under
`outer.inner`; null is no value. Lists cannot be filtered by and are left out. What is wrong with a sidecar never stops
its image: it is told in the metadata `sidecar_problem`, which a filter finds, and in the report of the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

SIDECAR_PROBLEM: Final = "sidecar_problem"
MAX_SIDECAR_BYTES: Final = 32 * 1024  # half of what a row takes; the other half is for user metadata and tags
_INT64 = range(-(2**63), 2**63)
_SHOWN = 5


def parse_sidecar(data: bytes) -> dict[str, str | int | float | bool]:
    """The metadata that a sidecar's bytes hold, with `sidecar_problem` where something is wrong with them."""
    if len(data) > MAX_SIDECAR_BYTES:
        return problem(f"has {len(data)} bytes, at most {MAX_SIDECAR_BYTES} are read")
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse)
        values = list(_flat(document, "")) if isinstance(document, dict) else None
    except RecursionError:
        return problem("is nested too deeply")
    except ValueError as error:
        return problem(f"is no JSON: {error}")
    if values is None:
        return problem(f"expected a JSON object, got {type(document).__name__}")
    metadata: dict[str, Any] = {}
    left_out = []
    for name, value in values:
        if name == SIDECAR_PROBLEM or not (_fits(name) and _fits(value)):
            left_out.append(name)
        else:
            metadata[name] = value
    if len(json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")) > MAX_SIDECAR_BYTES:
        return problem(f"its values under their full names take more than {MAX_SIDECAR_BYTES} bytes")
    if left_out:
        shown = ", ".join(left_out[:_SHOWN]) + (" …" if len(left_out) > _SHOWN else "")
        metadata |= problem(f"left out, as no text, finite 64-bit number or boolean: {shown}")
    return metadata


def problem(message: str) -> dict[str, str | int | float | bool]:
    """The metadata of a sidecar that cannot be used."""
    return {SIDECAR_PROBLEM: message.encode("utf-8", "replace").decode()[:500]}


def _flat(document: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
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
