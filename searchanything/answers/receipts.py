"""Receipts: what was asked, in full, and what came; and whether the same question still has the same answer.

`SearchResults.receipt` writes one, `Receipt.parse` reads it, `compare_runs` says what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from searchanything.answers.questions import (
    WORDS_KIND,
    filter_of,
    image_of_receipt,
    prompt_of_receipt,
)
from searchanything.answers.results import RECEIPT_FORMAT, SearchResults
from searchanything.core.addresses import names_of
from searchanything.core.counting import counted
from searchanything.core.documents import mask_of
from searchanything.core.errors import UsageError
from searchanything.core.escaping import printable
from searchanything.core.extras import package_version
from searchanything.core.geometry import MAX_MASK_CELLS, check_rle, decode_rle
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.images.inputs import ImageInput
from searchanything.prompts.prompt import Prompt, Text
from searchanything.search.search import PageRequest

SELECTION_FIELDS: Final = ("kind", "box_xyxy", "area_px", "rule", "mask_sha256")  # what makes two selections the same
HIT_FIELDS: Final = ("bucket", "key", "etag", "region", "distance_bits")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the receipt has it. `then` and `now` are plain JSON, None where there was nothing."""

    what: str
    then: Any
    now: Any
    sentence: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Replay:
    """A receipt's query asked again: the results now, and what differs from the receipt.

    `notes` tell what is not as it was and yet no difference of the answer: another collection of the same models.
    """

    results: SearchResults
    differences: tuple[Difference, ...]
    receipt_version: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Replay: {self.summary}>"

    @property
    def same(self) -> bool:
        """Whether the answer is as it was."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything replay --format json`."""
        return {
            "same": self.same,
            "differences": [asdict(one) for one in self.differences],
            "notes": list(self.notes),
            "version": {"then": self.receipt_version, "now": package_version()},
            "receipt": self.results.receipt(),
        }

    def to_text(self) -> str:
        """For people: one line per note and difference, and what they come to."""
        notes = [f"note: {one}" for one in self.notes]
        lines = [f"{one.what}: {one.sentence}" for one in self.differences]
        return "\n".join(map(printable, [*notes, *lines, self.summary]))

    @property
    def summary(self) -> str:
        """What notes and differences come to, in a line."""
        if self.differences:
            return f"different in {counted(len(self.differences), 'point')}"
        return f"the same: {counted(len(self.results), 'hit')} as on the receipt"


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """A receipt that was read: the question, ready to be asked again, and the document itself.

    `image` is None where the query image came as bytes or an array, which a receipt does not hold.
    """

    image: ImageInput | RegionRef | tuple[RegionRef, ...] | None
    prompt: Prompt
    request: PageRequest
    filter: Filter | None
    document: Mapping[str, Any]
    max_false_match: float | None = None

    @classmethod
    def parse(cls, document: object, *, max_pixels: int = MAX_MASK_CELLS) -> Self:
        """Read a receipt's JSON value, which may be anybody's. Raises: UsageError for anything else.

        `max_pixels` bounds a prompt's mask.
        """
        form = document.get("format") if isinstance(document, Mapping) else None
        if not isinstance(document, Mapping) or form != RECEIPT_FORMAT:
            raise UsageError(f"expected a receipt of format {RECEIPT_FORMAT}, got {form or type(document).__name__}")
        try:
            page, size = document["page"], (int(document["image"]["height"]), int(document["image"]["width"]))
            _check_answer(document)
            return cls(
                image=image_of_receipt(document["image"]),
                prompt=prompt_of_receipt(document["prompt"], size, max_pixels),
                request=PageRequest(
                    int(page["limit"]), int(page["offset"]), bool(page["group_by_image"]), int(page["rescore"])
                ),
                filter=filter_of(document["filter"]),
                document=document,
                max_false_match=document["max_false_match"],
            )
        # Our own usage errors are ValueErrors; an infinite number overflows.
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UsageError(f"the receipt is damaged: {type(error).__name__}: {error}") from error

    def names(self) -> list[ImageRef]:
        """The names that the image's file has in indexes of its folder, or of a folder around it; none for an object.

        An image outside of what its user named is not for a receipt to open: see `Client.replay`.
        """
        match self.image:
            case Path():
                return names_of(self.image)
            case ImageRef() if Path(self.image.bucket).is_absolute():
                return names_of(Path(self.image.bucket) / self.image.key)
        return []

    @property
    def words(self) -> str | None:
        """The text of a question in words alone."""
        return (
            self.prompt.text
            if self.document["prompt"]["kind"] == WORDS_KIND and isinstance(self.prompt, Text)
            else None
        )

    def image_to_ask(self, given: ImageInput | None) -> ImageInput | RegionRef | tuple[RegionRef, ...]:
        """The image to query with: the given one, else the receipt's. Raises: UsageError if there is neither."""
        if given is not None:
            return given
        if self.image is None:
            source = self.document["image"]["source"]
            raise UsageError(f"the query image was given as {source}, which a receipt does not hold: give it (--image)")
        return self.image


def compare_runs(receipt: Receipt, results: SearchResults) -> Replay:
    """What differs between a receipt and the same question's results now."""
    then, now = receipt.document, results.receipt()
    differences = [
        *_digests_differ("image", then["image"], now["image"], "pixels_sha256", "the query image is another one"),
        *_digests_differ("fingerprint", then, now, "fingerprint", "the index has codes of other models or layers"),
        *_selections_differ(then["selection"], now["selection"]),
        *_hits_differ(then, now, first=receipt.request.offset + 1),
    ]
    if (places := then.get("positions")) is not None:  # the receipt of a part
        there = tuple(place for place in places if place < len(results))
        results = replace(results, hits=tuple(results[place] for place in there), positions=there)
    return Replay(results, tuple(differences), str(then["version"]), _notes(then, now))


def _notes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """A collection's name holds its fingerprint: another one of the same models is another index, no other answer."""
    named = then["collection"]
    if named == now["collection"] or then["fingerprint"] != now["fingerprint"]:
        return ()
    return (
        f"the answer came from collection {named} then, from {now['collection']} now: "
        "another index of the same models, made anew or elsewhere",
    )


def _digests_differ(
    what: str, then: Mapping[str, Any], now: Mapping[str, Any], name: str, sentence: str
) -> list[Difference]:
    if then[name] == now[name]:
        return []
    return [Difference(what, then[name], now[name], f"{sentence} ({then[name]} then, {now[name]} now)")]


def _selections_differ(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    brief_then, brief_now = ({name: one[name] for name in SELECTION_FIELDS} for one in (then, now))
    if brief_then == brief_now:
        return []
    if then["kind"] != now["kind"]:
        sentence = f"the prompt selected {then['kind']} then, {now['kind']} now"
    else:
        sentence = f"{then['area_px']} px in {then['box_xyxy']} then, {now['area_px']} px in {now['box_xyxy']} now"
        if then["mask"]["size"] == now["mask"]["size"]:
            sentence += f", IoU {_mask_iou(then['mask'], now['mask']):.3f}"
    return [Difference("selection", brief_then, brief_now, sentence)]


def _mask_iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    first, second = (decode_rle(mask_of(mask)) for mask in (one, other))
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0


def _hits_differ(then: Mapping[str, Any], now: Mapping[str, Any], *, first: int) -> list[Difference]:
    """Hits lost, gained and moved; `first` is the rank of the page's first hit.

    A receipt may hold a part of its page: hits at other places are none of its business, unless they were on it.
    """
    before, after = (
        {_name_of(hit): (rank, _identity(hit)) for rank, hit in _ranked(one, first)} for one in (then, now)
    )
    places = then.get("positions")
    shown = after.values() if places is None else [one for one in after.values() if one[0] - first in places]
    differences = []
    for name, (rank, hit) in before.items():
        if name not in after:
            differences.append(Difference("hit lost", hit | {"rank": rank}, None, f"{_said(hit)}, was number {rank}"))
            continue
        rank_now, hit_now = after[name]
        if (rank, hit) != (rank_now, hit_now):
            sentence = f"{_said(hit)}: number {rank} then, {rank_now} now"
            if hit["distance_bits"] != hit_now["distance_bits"]:
                sentence += f"; {hit_now['distance_bits']} bits now"
            if hit["etag"] != hit_now["etag"]:
                sentence += "; its content has changed"
            differences.append(Difference("hit moved", hit | {"rank": rank}, hit_now | {"rank": rank_now}, sentence))
    gained = [(rank, hit) for rank, hit in shown if _name_of(hit) not in before]
    differences += [
        Difference("hit gained", None, hit | {"rank": rank}, f"{_said(hit)}, is number {rank}") for rank, hit in gained
    ]
    return differences


def _ranked(answer: Mapping[str, Any], first: int) -> Iterable[tuple[int, dict[str, Any]]]:
    """The hits of a receipt with their ranks."""
    places = answer.get("positions")
    ranked = enumerate(answer["hits"]) if places is None else zip(places, answer["hits"], strict=True)
    return ((first + place, hit) for place, hit in ranked)


def _identity(hit: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two hits the same: a similarity is arithmetic of a machine, and shows in the order alone."""
    return {name: hit[name] for name in HIT_FIELDS}


def _name_of(hit: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return hit["bucket"], hit["key"], hit["region"]


def _said(hit: Mapping[str, Any]) -> str:
    where = "whole image" if hit["region"] is None else f"region {hit['region']}"
    return f"{ImageRef(hit['bucket'], hit['key'])} {where} at {hit['distance_bits']} bits"


def _check_answer(document: Mapping[str, Any]) -> None:
    """What `compare_runs` will look at is there. Raises: KeyError, TypeError, ValueError."""
    selection = document["selection"]
    check_rle(mask_of(selection["mask"]))
    parts = [({"version", "fingerprint", "collection"}, document), (SELECTION_FIELDS, selection)]
    parts += [(HIT_FIELDS, hit) for hit in document["hits"]]
    for names, part in parts:
        if missing := sorted(set(names) - part.keys()):
            raise KeyError(", ".join(missing))
    _check_positions(document)
    for bucket, key, region in map(_name_of, document["hits"]):  # which are looked up, and said
        if not (isinstance(bucket, str) and isinstance(key, str) and isinstance(region, int | None)):
            raise TypeError(f"expected a hit's bucket, key and region, got {bucket!r}, {key!r} and {region!r}")


def _check_positions(document: Mapping[str, Any]) -> None:
    """The places of a part of a page are different ones, one for each hit. Raises: ValueError."""
    places = document.get("positions")
    if places is not None and (
        len(places) != len(document["hits"])
        or len({*places}) != len(places)
        or not all(isinstance(place, int) and place >= 0 for place in places)
    ):
        raise ValueError(f"expected a place for each of {len(document['hits'])} hits, got {places!r}")
