"""What a server's answers are in a program: hits that can be asked about, refined, drawn and saved.

Only the standard library is imported here, as in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from searchanything.answers.hit_confidence import WEAK, Confidence
from searchanything.answers.showing import sheet_html
from searchanything.answers.tables import hits_table
from searchanything.client.calls import Call, box_sides, document, hit_of, image_document, selection_of, sender
from searchanything.client.remote_names import located
from searchanything.client.remote_pictures import DrawnThere
from searchanything.core.arguments import marked_regions_of
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.files import save_json
from searchanything.core.libraries import LazyModule
from searchanything.core.sliced import Sliced, kept_places
from searchanything.core.types import Hit, ImageRef, RegionRef, Selection

if TYPE_CHECKING:
    import pandas as pd

    from searchanything.prompts import prompt as prompts
else:
    pd, prompts = LazyModule("pandas"), LazyModule("searchanything.prompts.prompt")

_SIDES = ("right", "wrong")


@dataclass(frozen=True, slots=True)
class Marks:
    """What a person said of hits, as it is sent to the server each time: it remembers nothing."""

    right: tuple[RegionRef, ...] = ()
    wrong: tuple[RegionRef, ...] = ()
    probe: Mapping[str, Any] | None = None

    def joined(self, right: Iterable[Hit | RegionRef], wrong: Iterable[Hit | RegionRef], probe: object) -> Marks:
        """These with more. Raises: UsageError for what are no marks, or no probe."""
        more, less = marked_regions_of(right, "right"), marked_regions_of(wrong, "wrong")
        rights, wrongs = (tuple(dict.fromkeys(refs)) for refs in ((*self.right, *more), (*self.wrong, *less)))
        return Marks(rights, wrongs, _both(self.probe, _probe_document(probe)))

    def to_dict(self) -> dict[str, Any]:
        """The part of a request."""
        right, wrong = ([image_document(one) for one in several] for several in (self.right, self.wrong))
        return {"right": right, "wrong": wrong, "probe": self.probe}


def _probe_document(probe: object) -> Mapping[str, Any] | None:
    """A probe's document. Raises: UsageError for what is neither; the server reads its codes."""
    found = probe.to_dict() if hasattr(probe, "to_dict") else probe
    if found is None:
        return None
    words = found.get("words") if isinstance(found, Mapping) else None
    if not (
        isinstance(found, Mapping)
        and all(isinstance(found.get(name), list) for name in _SIDES)
        and (words is None or (isinstance(words, Mapping) and all(isinstance(words.get(n), list) for n in _SIDES)))
    ):
        raise UsageError("expected a probe or its document, as `save_probe` writes it")
    return found


def _both(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The marks of two saved probes; the server counts those once that are in both. Raises: UsageError."""
    if one is None or other is None:
        return one or other
    odd = [name for name in ("format", "fingerprint", "bits") if one.get(name) != other.get(name)]
    if odd:
        said = " and ".join(str(probe.get(odd[0]))[:32] for probe in (one, other))
        raise UsageError(f"the probes were taught on indexes of different models ({odd[0]} {said}): use one of them")
    words, more = one.get("words"), other.get("words")
    joined = None
    if words is not None and more is not None and words.get("layer") == more.get("layer"):
        joined = {**words, **_joined(words, more)}
    return {**one, **_joined(one, other), "words": joined}


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [*one[name], *other[name]] for name in _SIDES}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RemoteAnswer(Sliced[Hit]):
    """The hits of a query, nearest first, with what was selected. `document` is the server's whole answer.

    `good_match` is False where even the nearest hit is hardly nearer than by chance. `positions` are the hits' places
    in the page, None where they are the whole page.
    """

    hits: tuple[Hit, ...]
    selection: Selection
    document: Mapping[str, Any]
    asked: Mapping[str, Any] = field(default_factory=dict)
    send: Callable[[Call[Any]], Any] | None = None
    marks: Marks = field(default_factory=Marks)
    positions: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls, document: Mapping[str, Any], asked: Mapping[str, Any], send: Callable[[Call[Any]], Any], marks: Marks
    ) -> Self:
        """The answer that the server sent."""
        return cls(
            tuple(hit_of(one) for one in document["hits"]),
            selection_of(document["selection"]),
            document,
            asked,
            send,
            marks,
        )

    @property
    def good_match(self) -> bool:
        return bool(self.document["good_match"])

    @property
    def exact(self) -> bool:
        return bool(self.document["exact"])

    @property
    def fingerprint(self) -> str:
        return str(self.document["fingerprint"])

    @property
    def confidences(self) -> tuple[Confidence | None, ...]:
        """How good each hit is, in a word, as `SearchResults.confidences`."""
        said = (one["confidence"] for one in self.document["hits"])
        return tuple(None if one is None else Confidence(**one) for one in said)

    @property
    def verdict(self) -> str:
        """ "no good match: …" where `max_false_match` left nothing; else empty."""
        return "" if self.matching is None else str(self.matching["verdict"])

    @property
    def hint(self) -> str:
        """Why the filter lets nothing through, where that can be said; else empty."""
        return str(self.document["hint"])

    @property
    def matching(self) -> Mapping[str, Any] | None:
        """How far chance explains the hits."""
        found: Mapping[str, Any] | None = self.document["matching"]
        return found

    @property
    def probe(self) -> Mapping[str, Any] | None:
        """What marks taught, where the hits are refined: how many, their precision, and `saved`, the probe itself."""
        found: Mapping[str, Any] | None = self.document["probe"]
        return found

    @property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """What search and rescoring took, and how many rows they looked at."""
        found: Sequence[Mapping[str, Any]] = self.document["stages"]
        return found

    @property
    def timings_ms(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self.document["timings_ms"]
        return found

    @property
    def _items(self) -> tuple[Hit, ...]:
        return self.hits

    def _sliced(self, index: slice) -> Self:
        places = kept_places(self.positions, index, count=len(self.hits))
        receipt = self.document["receipt"]
        if receipt is not None and places != self.positions and places is not None:
            receipt = {**receipt, "hits": receipt["hits"][index], "positions": list(places)}
        said = {**self.document, "hits": self.document["hits"][index], "receipt": receipt}
        return replace(self, hits=self.hits[index], positions=places, document=said)

    def __repr__(self) -> str:
        match = "" if self.good_match else ", no good match"
        nearest = f", nearest {self.hits[0].image} at {counted(self.hits[0].distance_bits, 'bit')}" if self.hits else ""
        return f"<{type(self).__name__}: {counted(len(self), 'hit')} ({self.selection.reason}){nearest}{match}>"

    def to_dict(self) -> dict[str, Any]:
        """The server's document without the receipt: plain types only."""
        return {name: value for name, value in self.document.items() if name != "receipt"}

    def receipt(self) -> dict[str, Any]:
        """All that is needed to repeat this query: see `searchanything replay`. Raises: UsageError if refined."""
        if self.document["receipt"] is None:
            raise UsageError("a refined answer has no receipt: save its probe, and the receipt of the query before")
        return dict(self.document["receipt"])

    def save_receipt(self, path: str | Path) -> None:
        """Write the receipt, all or nothing. Raises: UsageError if refined, or as `save_probe`."""
        save_json(self.receipt(), path)

    def to_pandas(self) -> pd.DataFrame:
        """One row per hit, boxes in four columns. Raises: UsageError where pandas is not installed."""
        return hits_table(self.hits)

    def save_probe(self, path: str | Path) -> None:
        """Write what the marks taught as JSON, all or nothing.

        Raises: UsageError without marks, for another suffix than .json, or a place that cannot be written.
        """
        if self.probe is None:
            raise UsageError("there is nothing to save: refine the answer first")
        save_json(self.probe["saved"], path)


class RemoteResults(RemoteAnswer, DrawnThere):
    """A `RemoteAnswer` that is asked further, and drawn."""

    __slots__ = ()

    def refine(
        self, right: Iterable[Hit | RegionRef] = (), wrong: Iterable[Hit | RegionRef] = (), *, probe: object = None
    ) -> Self:
        """As `SearchResults.refine`. `probe`: a `Probe`, or its document as `save_probe` writes it."""
        marks, send = self.marks.joined(right, wrong, probe), sender(self.send)
        if marks == Marks():
            raise UsageError("expected hits that are right or wrong, or a probe")
        found = send(Call("POST", "/v1/refine", document, {**self.asked, **marks.to_dict()}))
        return type(self).of(found, self.asked, send, marks)

    def explain(
        self, image: str | Path | ImageRef | Hit | RegionRef, box_xyxy: prompts.BoxInput | None = None
    ) -> dict[str, Any]:
        """Why this image is not among the hits, or where it is: the document of `searchanything explain --format json`.

        `image` and `box_xyxy`: as `SearchResults.explain` takes them. Raises: as `SearchResults.explain`.
        """
        send = sender(self.send)
        sides = None if box_xyxy is None else box_sides(box_xyxy)
        expected = {"expect": located(image, send), "expect_box_xyxy": sides}
        found: dict[str, Any] = send(Call("POST", "/v1/explain", document, {**self._question, **expected}))
        return found

    def _repr_html_(self) -> str:
        lines = []
        for said, good in zip(self.document["hits"], self.confidences, strict=True):
            name = "" if said["region"] is None else f" #{said['region']}"
            weak = good is not None and good.word in WEAK
            lines.append((f"{said['key']}{name}, {said['distance_bits']} bits", "weak match" if weak else ""))
        verdict = self.verdict or ("" if self.good_match else "no good match")
        return sheet_html(self._repr_png_(), lines, caption=repr(self), verdict=verdict)

    def _repr_png_(self) -> bytes:
        places = {} if self.positions is None else {"positions": list(self.positions)}
        return bytes(sender(self.send)(Call("POST", "/v1/sheet", bytes, {**self._question, **places})))

    @property
    def _question(self) -> dict[str, Any]:
        """What was asked, with the marks of a refined answer: a server remembers neither."""
        return {**self.asked, **({} if self.marks == Marks() else self.marks.to_dict())}
