"""A probe learnt from hits that a person marked: right ones and wrong ones, over bits of codes.

Where the index has words codes, which are bits of f_I alone, the marks' bits are those of both codes (docs/adr/0060).
The score of a code is its agreement with the right marks' mean less a part of that with the wrong marks' mean, as in
relevance feedback (Rocchio, in: The SMART Retrieval System, 1971). With few marks this beats a logistic regression over
the bits (docs/adr/0060).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.codes import code_signs, hamming, stacked
from searchanything.core.errors import ProbeMismatchError, UsageError
from searchanything.core.manifest import WordsPart
from searchanything.core.reading import read_file
from searchanything.core.types import Codes, FloatArray

WRONG_SHARE: Final = 0.4
MAX_MARKS: Final = 100  # right ones, the question's own regions among them; and as many wrong ones
SEARCHED_MARKS: Final = 8  # right ones whose neighbours are looked at, so that an answer's cost is bounded
MAX_PROBE_BYTES: Final = 1 << 20
_CODES_AT_ONCE: Final = 4096
PROBE_FORMAT: Final = "searchanything-probe/1"


@dataclass(frozen=True, slots=True, eq=False)
class MarkedWords:
    """The words codes of marks, in their order: right (R, V) and wrong (W, V) uint8, of the layer of this name."""

    right: Codes
    wrong: Codes
    layer: str

    @property
    def question(self) -> Codes:
        """(1, V), what is nearest to the marks: the code to search with."""
        return np.packbits(_weights(code_signs(self.right), code_signs(self.wrong)) > 0)[None]


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """The codes of marks, right (R, B) and wrong (W, B) uint8; their words codes where each has one."""

    right: Codes
    wrong: Codes
    words: MarkedWords | None = None

    @classmethod
    def joined(cls, parts: Sequence[Marked | Probe], layer: str | None) -> Self:
        """All of them; with words codes where all have such of one layer, the given one."""
        right, wrong = (np.concatenate([getattr(one, side) for one in parts]) for side in ("right", "wrong"))
        words = [one.words for one in parts if one.words is not None and one.words.layer == layer]
        if layer is None or len(words) < len(parts):
            return cls(right, wrong)
        seen = [np.concatenate([getattr(one, side) for one in words]) for side in ("right", "wrong")]
        return cls(right, wrong, MarkedWords(seen[0], seen[1], layer))


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What marks say: `right` (R, B) and `wrong` (W, B) uint8 codes of one `fingerprint`; the query's own is right.

    Each code counts once, however often it is marked: twice would be no more evidence, and would judge itself.

    Raises: UsageError without a right mark, with more than 100 right or wrong ones, or with a code that is both.
    """

    right: Codes
    wrong: Codes
    fingerprint: str
    words: MarkedWords | None = None

    def __post_init__(self) -> None:
        if not len(self.right) or self.right.shape[1:] != self.wrong.shape[1:]:
            raise UsageError(
                f"expected at least one right mark and wrong marks of the same length, got {self.right.shape} and "
                f"{self.wrong.shape}"
            )
        right, wrong = (_once(seen) for seen in self._codes)
        if self.words is not None:
            words = MarkedWords(self.words.right[right], self.words.wrong[wrong], self.words.layer)
            object.__setattr__(self, "words", words)
        object.__setattr__(self, "right", self.right[right])
        object.__setattr__(self, "wrong", self.wrong[wrong])
        if max(len(self.right), len(self.wrong)) > MAX_MARKS:
            raise UsageError(
                f"expected at most {MAX_MARKS} right and {MAX_MARKS} wrong marks in all (the question's own regions "
                f"are right ones), got {len(self.right)} right and {len(self.wrong)} wrong: mark fewer"
            )
        if {*map(bytes, self._codes[0])} & {*map(bytes, self._codes[1])}:
            raise UsageError(
                "a region is marked right and wrong, or two are that have the same code (the question's own region is "
                "right): leave one of the marks out, as nothing tells them apart"
            )

    def __repr__(self) -> str:
        return f"<Probe: {len(self.right)} right, {len(self.wrong)} wrong, fingerprint {self.fingerprint}>"

    @property
    def weights(self) -> FloatArray:
        """(L,) float32, what each bit of a region's code counts."""
        return _weights(code_signs(self.right), code_signs(self.wrong))

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

    def scores(self, codes: Codes, words: Codes | None = None) -> FloatArray:
        """Codes (N, B), and words codes (N, V) if there are any, -> (N,) float32: the higher, the better; at most 1."""
        both = words is not None and self.words is not None
        seen = codes if words is None or not both else np.concatenate([codes, words], axis=1)
        marks = self._judged if both else (code_signs(self.right), code_signs(self.wrong))
        summed = np.stack([one.sum(axis=0) for one in marks], axis=1)
        most = [np.float32(max(1, one.size)) for one in marks]
        found = np.empty(len(codes), dtype=np.float32)
        for start in range(0, len(codes), _CODES_AT_ONCE):  # as signs, a code takes 32 times its room
            part = slice(start, start + _CODES_AT_ONCE)
            # Sums of signs are whole numbers, exact in whatever order a library adds them: equal codes agree equally.
            agreeing = code_signs(seen[part]) @ summed
            found[part] = agreeing[:, 0] / most[0] - WRONG_SHARE * (agreeing[:, 1] / most[1])
        return found

    @property
    def _codes(self) -> tuple[Codes, Codes]:
        """The codes of right and wrong marks that count: with their words codes, if they have such."""
        if self.words is None:
            return self.right, self.wrong
        return (
            np.concatenate([self.right, self.words.right], axis=1),
            np.concatenate([self.wrong, self.words.wrong], axis=1),
        )

    @property
    def _judged(self) -> tuple[FloatArray, FloatArray]:
        return code_signs(self._codes[0]), code_signs(self._codes[1])

    def precision(self) -> float | None:
        """Of the marks that a probe of the other marks calls right, the share that is; None with too few marks.

        Leave-one-out. A probe calls right what scores above the middle between its marks' mean scores.
        """
        right, wrong = self._judged
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
            "right": _texts_of(self.right),
            "wrong": _texts_of(self.wrong),
            "words": None if self.words is None else _words_document(self.words),
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
            words = None if document.get("words") is None else _words_of(document["words"], len(right), len(wrong))
            return cls(right, wrong, str(document["fingerprint"]), words)
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
        """Raises: ProbeMismatchError for an index of other models or layer, or of codes of another length."""
        cure = "mark hits of this index instead"
        if self.fingerprint != fingerprint:
            raise ProbeMismatchError(
                f"the probe was taught on an index of other models or of another hash layer (fingerprint "
                f"{self.fingerprint[:64]}, expected {fingerprint}): {cure}"
            )
        if self.right.shape[1] != code_bytes:
            raise ProbeMismatchError(
                f"the probe has codes of {8 * self.right.shape[1]} bits, expected {8 * code_bytes}: {cure}"
            )


def taught(
    known: Probe | Marked | None, marked: Marked, saved: Probe | None, *, fingerprint: str, layer: str | None = None
) -> Probe:
    """What was known with new marks and a saved probe's. A question in words knows nothing before.

    `layer` is the name of the index's words layer. Raises: UsageError where nothing is right, and as `Probe`;
    ProbeMismatchError for a saved probe of other models.
    """
    if saved is not None:
        saved.check_fits(fingerprint, marked.right.shape[1])
    before = [one for one in (known, saved) if one is not None]
    given = [marked] if len(marked.right) + len(marked.wrong) else []
    if not any(len(one.right) for one in (*before, *given)):
        raise UsageError("words have no region of their own: mark at least one hit as right")
    parts = Marked.joined([*before, *given], layer)
    return Probe(parts.right, parts.wrong, fingerprint, parts.words)


def _weights(right: FloatArray, wrong: FloatArray) -> FloatArray:
    mean = right.mean(axis=0)
    return np.asarray(mean - WRONG_SHARE * wrong.mean(axis=0) if len(wrong) else mean, dtype=np.float32)


def _calls_right(right: FloatArray, wrong: FloatArray, one: NDArray[np.float32]) -> bool:
    weights = _weights(right, wrong)
    middle = ((right @ weights).mean() + (wrong @ weights).mean()) / 2
    return bool(one @ weights > middle)


def _once(codes: Codes) -> list[int]:
    """Where each code comes first, in the order in which they came."""
    places = {bytes(code): place for place, code in reversed(list(enumerate(codes)))}
    return sorted(places.values())


def layer_name(words: WordsPart | None) -> str | None:
    """What tells a words layer from others, with the length of its codes; None where an index has none."""
    return None if words is None else f"{hashlib.sha256(words.layer).hexdigest()[:16]}/{words.bits}"


def _texts_of(codes: Codes) -> list[str]:
    return [base64.b64encode(code.tobytes()).decode() for code in codes]


def _words_document(words: MarkedWords) -> dict[str, Any]:
    bits = 8 * words.right.shape[1]
    return {"layer": words.layer, "bits": bits, "right": _texts_of(words.right), "wrong": _texts_of(words.wrong)}


def _words_of(document: Mapping[str, Any], right: int, wrong: int) -> MarkedWords:
    """Of so many marks. Raises: what unreadable documents raise."""
    length = int(document["bits"]) // 8
    codes = [_codes_of(document[name], length) for name in ("right", "wrong")]
    if (len(codes[0]), len(codes[1])) != (right, wrong):
        raise ValueError(f"expected {right} and {wrong} words codes, got {len(codes[0])} and {len(codes[1])}")
    layer = str(document["layer"])
    if not layer.endswith(f"/{8 * length}"):
        raise ValueError(f"expected words codes as long as layer {layer} makes them, got {8 * length} bits")
    return MarkedWords(codes[0], codes[1], layer)


def _codes_of(texts: object, length: int) -> Codes:
    if not isinstance(texts, list):
        raise TypeError("marks are a list")
    if length < 1:
        raise ValueError(f"expected codes of at least 8 bits, got {length} bytes")
    return stacked((base64.b64decode(text, validate=True) for text in texts), 8 * length)
