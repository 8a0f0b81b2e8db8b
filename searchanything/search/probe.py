"""A probe learnt from hits that a person marked: right ones and wrong ones, over bits of codes.

The score of a code is its agreement with the right marks' mean less a part of that with the wrong marks' mean, as in
relevance feedback (Rocchio, in: The SMART Retrieval System, 1971). With few marks this beats a logistic regression over
the bits (docs/adr/0060).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import hamming
from searchanything.core.errors import IndexMismatchError, UsageError
from searchanything.core.reading import read_file
from searchanything.core.types import Codes, FloatArray

WRONG_SHARE: Final = 0.4
MAX_MARKS: Final = 100  # right ones, the question's own regions among them; and as many wrong ones
SEARCHED_MARKS: Final = 8  # right ones whose neighbours are looked at, so that an answer's cost is bounded
MAX_PROBE_BYTES: Final = 1 << 20
_CODES_AT_ONCE: Final = 4096
PROBE_FORMAT: Final = "searchanything-probe/1"


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What marks say: `right` (R, B) and `wrong` (W, B) uint8 codes of one `fingerprint`; the query's own is right.

    Each code counts once, however often it is marked: twice would be no more evidence, and would judge itself.

    Raises: UsageError without a right mark, with more than 100 right or wrong ones, or with a code that is both.
    """

    right: Codes
    wrong: Codes
    fingerprint: str

    def __post_init__(self) -> None:
        if not len(self.right) or self.right.shape[1:] != self.wrong.shape[1:]:
            raise UsageError(
                f"expected at least one right mark and wrong marks of the same length, got {self.right.shape} and "
                f"{self.wrong.shape}"
            )
        object.__setattr__(self, "right", _once(self.right))
        object.__setattr__(self, "wrong", _once(self.wrong))
        if max(len(self.right), len(self.wrong)) > MAX_MARKS:
            raise UsageError(
                f"expected at most {MAX_MARKS} right and {MAX_MARKS} wrong marks in all (the question's own regions "
                f"are right ones), got {len(self.right)} right and {len(self.wrong)} wrong: mark fewer"
            )
        if {*map(bytes, self.right)} & {*map(bytes, self.wrong)}:
            raise UsageError(
                "a region is marked right and wrong, or two are that have the same code (the question's own region is "
                "right): leave one of the marks out, as nothing tells them apart"
            )

    def __repr__(self) -> str:
        return f"<Probe: {len(self.right)} right, {len(self.wrong)} wrong, fingerprint {self.fingerprint}>"

    @property
    def weights(self) -> FloatArray:
        """(L,) float32, what each bit counts."""
        return _weights(_signs(self.right), _signs(self.wrong))

    @property
    def questions(self) -> Codes:
        """The codes to search with: the probe's ideal one, then those of at most 8 right marks.

        Of more, each is the one farthest from those before it (Gonzalez 1985), so that every corner is looked at.
        """
        questions = np.packbits(self.weights > 0)[None]
        if len(self.right) <= SEARCHED_MARKS:
            return np.concatenate([questions, self.right])
        for _ in range(SEARCHED_MARKS):
            farthest = int(hamming(questions, self.right).min(axis=0).argmax())
            questions = np.concatenate([questions, self.right[[farthest]]])
        return questions

    def scores(self, codes: Codes) -> FloatArray:
        """(N, B) codes -> (N,) float32: the higher, the better; at most 1."""
        weights = self.weights / np.float32(8 * self.right.shape[1])
        found = np.empty(len(codes), dtype=np.float32)
        for start in range(0, len(codes), _CODES_AT_ONCE):  # as signs, a code takes 32 times its room
            part = slice(start, start + _CODES_AT_ONCE)
            found[part] = _signs(codes[part]) @ weights
        return found

    def precision(self) -> float | None:
        """Of the marks that a probe of the other marks calls right, the share that is; None with too few marks.

        Leave-one-out. A probe calls right what scores above the middle between its marks' mean scores.
        """
        right, wrong = _signs(self.right), _signs(self.wrong)
        if len(right) < 2 or len(wrong) < 2:
            return None
        called = [_calls_right(np.delete(right, place, 0), wrong, right[place]) for place in range(len(right))]
        mistaken = [_calls_right(right, np.delete(wrong, place, 0), wrong[place]) for place in range(len(wrong))]
        return sum(called) / max(1, sum(called) + sum(mistaken))

    def summary(self) -> dict[str, Any]:
        """How many marks there are, and how well they agree: plain JSON."""
        precision = self.precision()
        return {
            "right": len(self.right),
            "wrong": len(self.wrong),
            "precision": None if precision is None else round(precision, 3),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, from which `from_dict` makes it again."""
        return {
            "format": PROBE_FORMAT,
            "fingerprint": self.fingerprint,
            "bits": 8 * self.right.shape[1],
            "right": [base64.b64encode(code.tobytes()).decode() for code in self.right],
            "wrong": [base64.b64encode(code.tobytes()).decode() for code in self.wrong],
            "precision": self.precision(),
        }

    @classmethod
    def from_dict(cls, document: object) -> Self:
        """A probe of its document, which may be anybody's. Raises: UsageError."""
        if not isinstance(document, Mapping) or document.get("format") != PROBE_FORMAT:
            raise UsageError(f"expected a probe of format {PROBE_FORMAT}, as `query --save-probe` writes it")
        try:
            length = int(document["bits"]) // 8
            right, wrong = (_codes_of(document[name], length) for name in ("right", "wrong"))
            return cls(right, wrong, str(document["fingerprint"]))
        except UsageError:  # it can be read, and is no probe for other reasons
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"the probe is damaged: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A probe of its file. Raises: UsageError."""
        try:
            return cls.from_dict(json.loads(read_file(path, most_bytes=MAX_PROBE_BYTES).decode("utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise error if isinstance(error, UsageError) else UsageError(f"{path}: no probe: {error}") from error

    def check_fits(self, fingerprint: str, code_bytes: int) -> None:
        """Raises: IndexMismatchError for an index of other models."""
        if self.fingerprint != fingerprint or self.right.shape[1] != code_bytes:
            raise IndexMismatchError(
                f"the probe was taught on an index of other models (fingerprint {self.fingerprint[:16]}, expected "
                f"{fingerprint[:16]}): mark hits of this index instead"
            )


def taught(known: Probe | None, right: Codes, wrong: Codes, saved: Probe | None, *, fingerprint: str) -> Probe:
    """What was known with new marks (R, B), (W, B) and a saved probe's. A question in words knows nothing before.

    Raises: UsageError where nothing is right, and as `Probe`; IndexMismatchError for a saved probe of other models.
    """
    if saved is not None:
        saved.check_fits(fingerprint, right.shape[1])
    parts = [one for one in (known, saved) if one is not None]
    right = np.concatenate([*(one.right for one in parts), right])
    wrong = np.concatenate([*(one.wrong for one in parts), wrong])
    if not len(right):
        raise UsageError("words have no region of their own: mark at least one hit as right")
    return Probe(right, wrong, fingerprint)


def _weights(right: FloatArray, wrong: FloatArray) -> FloatArray:
    mean = right.mean(axis=0)
    return np.asarray(mean - WRONG_SHARE * wrong.mean(axis=0) if len(wrong) else mean, dtype=np.float32)


def _calls_right(right: FloatArray, wrong: FloatArray, one: NDArray[np.float32]) -> bool:
    weights = _weights(right, wrong)
    middle = ((right @ weights).mean() + (wrong @ weights).mean()) / 2
    return bool(one @ weights > middle)


def _once(codes: Codes) -> Codes:
    """Each code once, in the order in which they came."""
    places = {bytes(code): place for place, code in reversed(list(enumerate(codes)))}
    return codes[sorted(places.values())]


def _signs(codes: Codes) -> FloatArray:
    return np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1


def _codes_of(texts: object, length: int) -> Codes:
    if not isinstance(texts, list):
        raise TypeError("marks are a list")
    joined = b"".join(base64.b64decode(text, validate=True) for text in texts)
    if length < 1 or len(joined) != len(texts) * length:
        raise ValueError(f"expected {len(texts)} codes of {length} bytes, got {len(joined)} bytes")
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(texts), length)
