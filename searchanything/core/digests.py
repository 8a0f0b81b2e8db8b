"""Which images an index holds, in a few bytes each: what a sync keeps of ten million rows."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.batching import batches
from searchanything.core.rows import ImageState, Outcome
from searchanything.core.types import ImageRef

ROW: Final = np.dtype(
    [
        ("image", "u8"),
        ("generation", "i8"),
        ("state", "u8"),
        ("sidecar", "u8"),
        ("regions", "i4"),
        ("failed", "?"),
        ("seen", "?"),
    ]
)
SIDECAR: Final = np.dtype([("image", "u8"), ("sidecar", "u8")])
CHUNK_ROWS: Final = 1 << 16
Numbers = NDArray[np.int64]


class KnownImages:
    """The newest state of each image of an index, 38 bytes a row and no Python object.

    Names and states are 64-bit digests with a salt of this object's own. Two of 10^7 names coincide once in a few
    hundred thousand runs; what that hides from one sync shows in the next, whose salt is another.
    """

    def __init__(self, states: Iterable[ImageState]) -> None:
        self._salt = secrets.token_bytes(16)
        rows = self._collect(states)
        order = np.lexsort((rows["generation"], rows["image"]))
        names = rows["image"][order]
        newest = np.append(names[1:] != names[:-1], True)[: len(names)]
        self.rows = rows[order[newest]]
        self.outdated = len(rows) - len(self.rows)  # image rows of older generations

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def regions(self) -> int:
        """How many region rows the images say that they have."""
        return int(self.rows["regions"].sum(dtype=np.int64))

    def generations(self, numbers: Numbers) -> Numbers:
        """The committed generations of rows by number; any value for -1."""
        return self.rows["generation"][numbers] if len(self.rows) else np.zeros(len(numbers), dtype=np.int64)

    def agree(self, numbers: Numbers, states: Iterable[tuple[str, int]]) -> NDArray[np.bool_]:
        """For each numbered row whether it is a good one of this etag and `modified_at_ms`; -1 never is."""
        if not len(self.rows):
            return np.zeros(len(numbers), dtype=np.bool_)
        rows = self.rows[numbers]
        wanted = np.array([self._state(etag, modified_at_ms) for etag, modified_at_ms in states], dtype=np.uint64)
        agreeing: NDArray[np.bool_] = (numbers >= 0) & (rows["state"] == wanted) & ~rows["failed"]
        return agreeing

    def differing_sidecars(self, listed: NDArray[np.void]) -> NDArray[np.bool_]:
        """For each row whether its sidecar is another than those of a listing (rows of `sidecar_digests`)."""
        expected = np.zeros(len(self.rows), dtype=np.uint64)
        if len(self.rows) and len(listed):
            places = np.searchsorted(self.rows["image"], listed["image"])
            places[places == len(self.rows)] = 0
            known = self.rows["image"][places] == listed["image"]
            expected[places[known]] = listed["sidecar"][known]
        differing: NDArray[np.bool_] = self.rows["sidecar"] != expected
        return differing

    def sidecar_digests(self, sidecars: Iterable[tuple[ImageRef, str]]) -> NDArray[np.void]:
        """Images and the etags of their sidecars, 16 bytes each."""
        rows = [(self._name(image), self._digest(etag)) for image, etag in sidecars]
        return np.array(rows, dtype=SIDECAR)

    def find(self, images: Sequence[ImageRef]) -> Numbers:
        """The number of each image's row, -1 for those that the index does not have."""
        names = np.array([self._name(image) for image in images], dtype=np.uint64)
        if not len(self.rows):
            return np.full(len(names), -1, dtype=np.int64)
        places = np.searchsorted(self.rows["image"], names)
        places[places == len(self.rows)] = 0
        return np.where(self.rows["image"][places] == names, places, -1)

    def _collect(self, states: Iterable[ImageState]) -> NDArray[np.void]:
        chunks = [np.array([self._row(state) for state in chunk], dtype=ROW) for chunk in batches(states, CHUNK_ROWS)]
        return np.concatenate(chunks) if chunks else np.empty(0, dtype=ROW)

    def _row(self, state: ImageState) -> tuple[int, int, int, int, int, bool, bool]:
        return (
            self._name(state.image),
            state.generation,
            self._state(state.etag, state.modified_at_ms) if state.is_findable else 0,
            self._digest(state.sidecar_etag),
            state.regions,
            state.outcome is Outcome.FAILED,
            False,
        )

    def _name(self, image: ImageRef) -> int:
        return self._digest(f"{image.bucket}\0{image.key}")

    def _state(self, etag: str, modified_at_ms: int) -> int:
        return self._digest(f"{etag}\0{modified_at_ms}")

    def _digest(self, text: str) -> int:
        """64 bits of a text; 0 for the empty one."""
        if not text:
            return 0
        data = text.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(data, digest_size=8, key=self._salt).digest(), "big")
