"""What is said to a server and what its answers mean, without any network: shared by both remote clients.

Only the standard library is imported here, so that a program that asks a server needs neither numpy nor Pillow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from searchanything.core import errors
from searchanything.core.addresses import split_s3
from searchanything.core.arguments import check_filter_kind, no_image
from searchanything.core.documents import filter_document, mask_document, mask_of
from searchanything.core.errors import (
    AccessError,
    BusyError,
    ImageError,
    PromptError,
    SearchAnythingError,
    ServerUnreachableError,
    UsageError,
)
from searchanything.core.prompt_fields import plain_fields
from searchanything.core.types import Candidate, Filter, Hit, ImageRef, RegionRef, Selection, TextMatch

Result = TypeVar("Result")
_TYPE_PREFIX: Final = "urn:searchanything:problem:"
_HIT_SAME: Final = ("etag", "region", "area_px", "score", "distance_bits", "metadata", "similarity", "false_match")


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One request, and how its answer is read. `body` is JSON, `data` raw bytes; `once`: never sent twice."""

    method: str
    path: str
    read: Callable[[bytes], Result]
    body: Mapping[str, Any] | None = None
    data: bytes | None = None
    once: bool = False

    def encoded(self) -> tuple[dict[str, str], bytes | None]:
        """Headers and body as they are sent."""
        if self.body is not None:
            return {"Content-Type": "application/json"}, _json(self.body)
        return ({"Content-Type": "application/octet-stream"}, self.data) if self.data is not None else ({}, None)


def sender(send: Callable[[Call[Any]], Any] | None) -> Callable[[Call[Any]], Any]:
    """What sends an answer's further questions. Raises: UsageError for one that no server gave."""
    if send is None:
        raise UsageError("these results are not from a server, so nothing can be asked about them")
    return send


def _json(body: Mapping[str, Any]) -> bytes:
    """Raises: UsageError for values that JSON does not have."""
    try:
        return json.dumps(body, allow_nan=False, default=_plain).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"the question cannot be sent: {error}") from error


def _plain(value: object) -> object:
    """A number or an array of a library as JSON has it. Raises: TypeError."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__index__"):
        return int(value)
    raise TypeError(f"expected numbers, texts and lists, got {type(value).__name__}")


def document(data: bytes) -> dict[str, Any]:
    """A JSON document. Raises: ServerUnreachableError for anything else."""
    try:
        read = json.loads(data)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ServerUnreachableError("what answers is not searchanything serve: it sent no JSON document")
    return read


def region_documents(regions: object) -> list[dict[str, Any]] | None:
    """Several indexed regions as the server names them; None for anything else. Raises: UsageError."""
    if not isinstance(regions, Sequence) or isinstance(regions, str | bytes | bytearray | memoryview):
        return None
    named = [image_document(one) if isinstance(one, Hit | RegionRef) else None for one in regions]
    if not named or None in named:
        raise UsageError("expected an image, or hits or RegionRefs as one question")
    return [one for one in named if one is not None]


def image_document(image: object) -> dict[str, Any] | None:
    """An indexed image or region as the server names it; None for what has to be uploaded."""
    if isinstance(image, Hit):
        image = image.ref
    if isinstance(image, RegionRef):
        named = {"bucket": image.image.bucket, "key": image.image.key}
        return named if image.region is None else named | {"region": image.region}
    if isinstance(image, ImageRef):
        return {"bucket": image.bucket, "key": image.key}
    if isinstance(image, str) and (parts := split_s3(image)) is not None:
        if not all(parts):
            raise UsageError(f"expected s3://bucket/key, got {image!r}")
        return {"bucket": parts[0], "key": parts[1]}
    return None


def image_bytes(image: object) -> bytes:
    """What is uploaded: a file's bytes, or a PIL image or an array as PNG. Raises: ImageError, UsageError."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:
            raise ImageError(str(image), f"cannot be read: {error}") from error
    try:
        from PIL import Image

        from searchanything.core.files import png_bytes

        return png_bytes(image if isinstance(image, Image.Image) else Image.fromarray(image))  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise no_image(image) from error


def prompt_document(prompt: object) -> dict[str, Any] | None:
    """A prompt as the server takes it, from whatever `as_prompt` takes. Raises: PromptError."""
    match prompt:
        case None:
            return None
        case str():
            return {"kind": "text", "text": prompt}
        case Mapping():
            return _of_fields(plain_fields(prompt))
    if type(prompt).__module__ == "searchanything.prompts.prompt":
        return _of_prompt(prompt)
    return _of_numbers(prompt)


def asked_words(question: object) -> str | None:
    """The words that a text or a `Text` asks with; None for anything else."""
    if type(question).__name__ == "Text":  # its class needs numpy, which may not be there
        question = getattr(question, "text", None)
    return question if isinstance(question, str) else None


def sent_filter(filter: Filter | None) -> dict[str, Any]:
    """A filter as the server takes it. Raises: FilterError, UsageError for parts that a server does not take."""
    check_filter_kind(filter)
    if filter is None:
        return {}
    if filter.expression is not None or filter.within:
        raise UsageError(
            "expression and within are for an index that you open yourself: a server takes the other parts"
        )
    return {name: value for name, value in filter_document(filter).items() if name not in ("expression", "within")}


def hit_of(one: Mapping[str, Any]) -> Hit:
    """A hit as an index would give it."""
    return Hit(
        **{name: one[name] for name in _HIT_SAME},
        image=ImageRef(one["bucket"], one["key"]),
        box_xyxy=_box(one["box_xyxy"]),
        mask=None if one["mask"] is None else mask_of(one["mask"]),
        image_width=one["image"]["width"],
        image_height=one["image"]["height"],
    )


def selection_of(one: Mapping[str, Any]) -> Selection:
    """What the prompt selected."""
    match_ = one["text_match"]
    return Selection(
        kind=one["kind"],
        box_xyxy=_box(one["box_xyxy"]),
        area_px=one["area_px"],
        mask=mask_of(one["mask"]),
        score=one["score"],
        rule=one["rule"],
        reason=one["reason"],
        runners_up=tuple(candidate_of(other) for other in one["runners_up"]),
        text_match=None if match_ is None else TextMatch(**match_),
    )


def candidate_of(one: Mapping[str, Any]) -> Candidate:
    """A region of a segmentation."""
    return Candidate(_box(one["box_xyxy"]), one["area_px"], one["score"], mask_of(one["mask"]))


def error_of(status: int, data: bytes, retry_after: str | None) -> SearchAnythingError:
    """The error that a problem stands for: of the class that it names, as far as this version knows it."""
    try:
        problem = document(data)
    except ServerUnreachableError as error:
        return ServerUnreachableError(f"status {status}: {error}")
    name = str(problem.get("type", "")).removeprefix(_TYPE_PREFIX)
    detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
    kind = getattr(errors, name, SearchAnythingError)
    if not (isinstance(kind, type) and issubclass(kind, SearchAnythingError)):
        kind = SearchAnythingError
    if kind is AccessError:
        return AccessError(detail, known=status == 403)
    if kind is BusyError:
        return BusyError(detail, retry_after_s=seconds_of(retry_after))
    if kind is ImageError:
        head, _, tail = detail.partition(": ")
        return ImageError(head, tail or detail)
    try:
        return kind(detail)
    except TypeError:  # it takes more than a message
        return SearchAnythingError(detail)


def seconds_of(retry_after: str | None) -> int:
    """The seconds of a Retry-After; 1 without one, and for a date, which a proxy may send."""
    text = (retry_after or "").strip()
    return int(text) if text.isascii() and text.isdigit() else 1


def _of_prompt(prompt: Any) -> dict[str, Any]:  # noqa: ANN401 - a prompt's class needs numpy, which may not be there
    match type(prompt).__name__:
        case "Points":
            if prompt.rule != "searchanything":
                raise UsageError(f"a server takes the rule searchanything alone, got {prompt.rule}")
            places = {"foreground": _pairs(prompt.foreground), "background": _pairs(prompt.background)}
            return {"kind": "points", **places, "granularity": prompt.granularity}
        case "Box":
            return {"kind": "box", "box_xyxy": box_sides(prompt)}
        case "Text":
            return {"kind": "text", "text": prompt.text}
        case "Mask":
            from searchanything.core.geometry import encode_rle

            return {"kind": "mask", "mask": mask_document(encode_rle(prompt.mask))}
        case "WholeImage":
            return {"kind": "image"}
    boxes = [box_sides(box) for box in prompt.boxes]
    places = {"foreground": _pairs(prompt.foreground), "background": _pairs(prompt.background)}
    return {"kind": "mixed", "boxes_xyxy": boxes, **places, "text": prompt.text}


def box_sides(box: object) -> list[float]:
    """A `Box`, or x1, y1, x2, y2, as the server takes it. Raises: PromptError for what are no four numbers."""
    sides = _row(box, 4)
    if sides is None:
        raise PromptError(f"expected a box as four numbers x1, y1, x2, y2, got {box!r}")
    return sides


def _of_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if set(fields) == {"mask"}:
        from searchanything.prompts.prompt import as_prompt

        return _of_prompt(as_prompt(fields))
    places: dict[str, Any] = {name: _pairs(fields[name]) for name in ("foreground", "background") if name in fields}
    if {"boxes", "text"} & set(fields):
        boxes = _rows(fields.pop("boxes", ()), 4, "boxes, each a Box or four numbers")
        return {"kind": "mixed", "boxes_xyxy": boxes, **fields, **places}
    return {"kind": "points", **fields, **places}


def _of_numbers(prompt: object) -> dict[str, Any]:
    if (sides := _row(prompt, 4)) is not None:
        return {"kind": "box", "box_xyxy": sides}
    for length, kind, name in ((2, "points", "foreground"), (4, "mixed", "boxes_xyxy")):
        with suppress(PromptError):
            if rows := _rows(prompt, length, name):
                return {"kind": kind, name: rows}
    raise PromptError(f"expected a prompt, a text, a point, a box, points or boxes, got {prompt!r}")


def _pairs(points: object) -> list[list[float]]:
    return _rows(points, 2, "points as (x, y) pairs")


def _rows(given: object, length: int, what: str) -> list[list[float]]:
    """One row of so many numbers, or several. Raises: PromptError for anything else, `what` says in words for what."""
    one = _row(given, length)
    rows = [_row(each, length) for each in (given if isinstance(given, Iterable) else [None])] if one is None else [one]
    if None in rows:
        raise PromptError(f"expected {what}, got {given!r}")
    return [row for row in rows if row is not None]


def _row(given: object, length: int) -> list[float] | None:
    """So many numbers, or a box's sides, whoever's list or array they are; None for anything else."""
    values: Any = getattr(given, "xyxy", given)
    values = values.tolist() if hasattr(values, "tolist") else values
    is_row = isinstance(values, Sequence) and len(values) == length
    return list(values) if is_row and all(isinstance(one, int | float) for one in values) else None


def _box(sides: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = sides
    return x1, y1, x2, y2
