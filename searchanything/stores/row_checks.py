"""What a row must be before an index takes it: Milvus Lite stores nearly anything without a word.

Limits of texts are bytes of UTF-8, as Milvus counts a VARCHAR.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from searchanything.core.errors import IndexMismatchError, RegionIndexError
from searchanything.core.manifest import WordsPart
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Codes, Metadata
from searchanything.images.incoming import BUCKET_BYTES, ETAG_BYTES, KEY_BYTES, METADATA_BYTES
from searchanything.stores.columns import INT64_MAX, INT64_MIN

MAX_LIMIT = 16384  # rows of an answer: Milvus' own, for searches and queries alike; no index gives more
ID_BYTES = 32
ERROR_BYTES = 256
MESSAGE_BYTES = 2048
MASK_COUNTS_BYTES = 4096

_INT32_MAX = 2**31 - 1
AnyRow = TypeVar("AnyRow", RegionRow, ImageRow)


@dataclass(frozen=True, slots=True)
class RowLimits:
    """What the rows of one index have in common: the length of their codes."""

    bits: int

    def regions(self, rows: Sequence[RegionRow]) -> list[RegionRow]:
        """The rows to insert, repeated ones left out.

        Raises: IndexMismatchError (code length), RegionIndexError naming the image and the limit it breaks.
        """
        fresh = self._fresh(rows)
        for row in fresh:
            name = str(row.image)
            _check_numbers(name, {"box_xyxy": row.box_xyxy, "score": (row.score,)})
            height, width = row.mask.size
            _check_integers(name, {"region": row.region, "mask height": height, "mask width": width})
            _check_integers(name, {"area_px": row.area_px, "indexed_at_ms": row.indexed_at_ms}, largest=INT64_MAX)
            _check_bytes(name, "mask counts", row.mask.counts, MASK_COUNTS_BYTES)
        return fresh

    def images(self, rows: Sequence[ImageRow]) -> list[ImageRow]:
        """The rows to insert, repeated ones left out, too long messages cut; an empty image with a code says so.

        Raises: IndexMismatchError (code length), RegionIndexError naming the image and the limit it breaks.
        """
        fresh = self._fresh(rows)
        for row in fresh:
            name = str(row.image)
            _check_integers(name, {"attempts": row.attempts, "regions": row.regions})
            times = {"first_at_ms": row.first_at_ms, "last_at_ms": row.last_at_ms, "modified_at_ms": row.modified_at_ms}
            _check_integers(name, times, largest=INT64_MAX)
            _check_bytes(name, "sidecar_etag", row.sidecar_etag, ETAG_BYTES)
        return [
            replace(row, error=cut_to_bytes(row.error, ERROR_BYTES), message=cut_to_bytes(row.message, MESSAGE_BYTES))
            for row in fresh
        ]

    def queries(self, codes: Codes, *, limit: int) -> list[bytes]:
        """(Q, bits // 8) uint8 codes -> Q byte strings. Raises: IndexMismatchError, RegionIndexError (limit)."""
        if codes.ndim != 2 or codes.dtype != np.uint8 or codes.shape[1] * 8 != self.bits:
            raise IndexMismatchError(
                f"expected (Q, {self.bits // 8}) uint8 codes, got {codes.shape} {codes.dtype}: "
                "they were made by another hash layer than this index"
            )
        if not 1 <= limit <= MAX_LIMIT:
            raise RegionIndexError(f"expected a limit from 1 to {MAX_LIMIT}, got {limit}")
        return [code.tobytes() for code in codes]

    def _fresh(self, rows: Sequence[AnyRow]) -> list[AnyRow]:
        """The rows without repeated ones, what all rows have in common checked."""
        fresh = _without_repeats(rows)
        for row in fresh:
            self._check_shared(row)
        return fresh

    def _check_shared(self, row: RegionRow | ImageRow) -> None:
        name = repr(str(row.image))
        _check_bytes(name, "bucket", row.image.bucket, BUCKET_BYTES)
        _check_bytes(name, "key", row.image.key, KEY_BYTES)
        _check_bytes(name, "etag", row.etag, ETAG_BYTES)
        _check_bytes(name, "id", row.id, ID_BYTES)
        if len(row.code) * 8 != self.bits:
            raise IndexMismatchError(f"{name}: expected a code of {self.bits} bits, got {len(row.code) * 8}")
        _check_integers(name, {"generation": row.generation}, largest=INT64_MAX)
        _check_integers(name, {"image_width": row.image_width, "image_height": row.image_height})
        _check_metadata(name, row.metadata)


def words_rows(part: WordsPart | None, rows: Sequence[RegionRow]) -> list[RegionRow]:
    """The rows that have a words code, with that as their code. Raises: RegionIndexError, IndexMismatchError."""
    bits = words_part(part).bits
    found = [replace(row, code=row.words_code, words_code=b"") for row in rows if row.words_code]
    for row in found:
        if len(row.code) * 8 != bits:
            raise IndexMismatchError(f"{row.image}: expected a words code of {bits} bits, got {len(row.code) * 8}")
    return found


def words_part(part: WordsPart | None) -> WordsPart:
    """Raises: RegionIndexError where an index has no words codes."""
    if part is None:
        raise RegionIndexError("the index has no words codes; add them: searchanything index SOURCE --add-words")
    return part


def cut_to_bytes(text: str, limit: int) -> str:
    """The longest beginning of `text` that fits into `limit` bytes, whole characters only; no lone surrogates."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit and data.decode() == text else data[:limit].decode("utf-8", "ignore")


def _without_repeats(rows: Iterable[AnyRow]) -> list[AnyRow]:
    """Milvus keeps a key that comes twice in a batch twice."""
    fresh: dict[str, AnyRow] = {}
    for row in rows:
        if fresh.setdefault(row.id, row) != row:
            raise RegionIndexError(f"{row.image}: two different rows of one batch have the id {row.id}")
    return list(fresh.values())


def _check_bytes(name: str, field: str, text: str, limit: int) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise RegionIndexError(f"{name}: the {field} cannot be written as UTF-8: {text!r}") from None
    if length > limit:
        raise RegionIndexError(f"{name}: expected at most {limit} bytes of {field}, got {length}")


def _check_integers(name: str, fields: Mapping[str, int], largest: int = _INT32_MAX) -> None:
    for field, value in fields.items():
        if not 0 <= value <= largest:
            raise RegionIndexError(f"{name}: expected {field} from 0 to {largest}, got {value}")


def _check_numbers(name: str, fields: Mapping[str, Sequence[float]]) -> None:
    for field, values in fields.items():
        if not all(math.isfinite(value) for value in values):
            raise RegionIndexError(f"{name}: expected finite numbers as {field}, got {values}")


def _check_metadata(name: str, metadata: Metadata) -> None:
    for field, value in metadata.items():
        if not isinstance(field, str) or not isinstance(value, str | int | float):
            raise RegionIndexError(f"{name}: metadata takes texts, numbers and booleans, got {field!r}: {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise RegionIndexError(f"{name}: metadata {field!r} is not a finite number: {value}")
        if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
            raise RegionIndexError(f"{name}: metadata {field!r} does not fit into 64 bits: {value}")
    _check_bytes(name, "metadata", json.dumps(dict(metadata), ensure_ascii=False), METADATA_BYTES)
