"""Receipts: what was asked, in full, and what came; and whether the same question still has the same answer.

`SearchResults.receipt` writes one, `Receipt.parse` reads it, `compare_runs` says what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from PIL import Image

from searchanything.answers.results import RECEIPT_FORMAT, SearchResults
from searchanything.core.documents import mask_document
from searchanything.core.errors import PromptError, UsageError
from searchanything.core.geometry import MAX_MASK_CELLS, check_rle, decode_rle, encode_rle
from searchanything.core.types import Filter, ImageRef, MaskRLE, RGBImage, SizeClass
from searchanything.images.inputs import ImageInput, named_image
from searchanything.prompts.prompt import Box, Mask, Points, Prompt, Prompts, Text, WholeImage, describe_prompt
from searchanything.search.locate import names_of
from searchanything.search.search import PageRequest

SELECTION_FIELDS: Final = ("kind", "box_xyxy", "area_px", "rule", "mask_sha256")  # what makes two selections the same
WORDS: Final = "words"  # as the source of the image and the kind of the prompt: there is no image
HIT_FIELDS: Final = ("bucket", "key", "etag", "region", "distance_bits")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the receipt has it. `then` and `now` are plain JSON, None where there was nothing."""

    what: str
    then: Any
    now: Any
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A receipt's query asked again: the results now, and what differs from the receipt.

    `notes` tell what is not as it was and yet no difference of the answer: another collection of the same models.
    """

    results: SearchResults
    differences: tuple[Difference, ...]
    receipt_version: str
    notes: tuple[str, ...] = ()

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
        sum_up = (
            f"different in {len(lines)} points" if lines else f"the same: {len(self.results)} hits as on the receipt"
        )
        return "\n".join([*notes, *lines, sum_up])


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """A receipt that was read: the question, ready to be asked again, and the document itself.

    `image` is None where the query image came as bytes or an array, which a receipt does not hold.
    """

    image: ImageInput | None
    prompt: Prompt
    request: PageRequest
    filter: Filter | None
    document: Mapping[str, Any]

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
            rescore = int(page.get("rescore", 0))  # receipts from before there was rescoring have none
            _check_answer(document)
            return cls(
                image=_image_of(document["image"]),
                prompt=_prompt_of(document["prompt"], size, max_pixels),
                request=PageRequest(int(page["limit"]), int(page["offset"]), bool(page["group_by_image"]), rescore),
                filter=_filter_of(document["filter"]),
                document=document,
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
        return self.prompt.text if self.document["prompt"]["kind"] == WORDS and isinstance(self.prompt, Text) else None

    def image_to_ask(self, given: ImageInput | None) -> ImageInput:
        """The image to query with: the given one, else the receipt's. Raises: UsageError if there is neither."""
        if given is not None:
            return given
        if self.image is None:
            source = self.document["image"]["source"]
            raise UsageError(f"the query image was given as {source}, which a receipt does not hold: give it (--image)")
        return self.image


def question_document(
    image: ImageInput, pixels: RGBImage, prompt: Prompt, request: PageRequest, filter: Filter | None
) -> dict[str, Any]:
    """What was asked, in full, as plain JSON: the part of a receipt that is known before the answer.

    The query image is named where it has a name, and told by the sha256 of its decoded pixels in any case.
    """
    height, width = pixels.shape[:2]
    return {
        "version": package_version(),
        "image": {**_source_of(image), "width": width, "height": height, "pixels_sha256": pixels_digest(pixels)},
        "prompt": prompt_document(prompt),
        "page": asdict(request),
        "filter": None if filter is None else filter_document(filter),
    }


def words_document(text: str, request: PageRequest, filter: Filter | None) -> dict[str, Any]:
    """The same for a question in words alone: in place of an image's pixels the text has a digest."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "version": package_version(),
        "image": {"source": WORDS, "width": 0, "height": 0, "pixels_sha256": digest},
        "prompt": {"kind": WORDS, "text": text},
        "page": asdict(request),
        "filter": None if filter is None else filter_document(filter),
    }


def prompt_document(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain JSON from which it can be made again: a mask as RLE at the image's own size."""
    described = describe_prompt(prompt)
    return described | {"mask": mask_document(encode_rle(prompt.mask))} if isinstance(prompt, Mask) else described


def filter_document(filter: Filter) -> dict[str, Any]:
    """A filter as plain JSON from which it can be made again."""
    return {
        "bucket": filter.bucket,
        "key_prefix": filter.key_prefix,
        "images": _refs_document(filter.images),
        "exclude": _refs_document(filter.exclude),
        "area_px": list(filter.area_px),
        "size_class": None if filter.size_class is None else str(filter.size_class),
        "metadata": dict(filter.metadata),
        "indexed_at_ms": list(filter.indexed_at_ms),
        "expression": filter.expression,
    }


def pixels_digest(pixels: RGBImage) -> str:
    """sha256 of an image's size and its (H, W, 3) uint8 RGB pixels, EXIF orientation applied."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]} RGB\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def package_version() -> str:
    """This package's version."""
    try:
        return version("searchanything")
    except PackageNotFoundError:
        return "not installed as a package"


def compare_runs(receipt: Receipt, results: SearchResults) -> Replay:
    """What differs between a receipt and the same question's results now."""
    then, now = receipt.document, results.receipt()
    differences = [
        *_digests_differ("image", then["image"], now["image"], "pixels_sha256", "the query image is another one"),
        *_digests_differ("fingerprint", then, now, "fingerprint", "the index was made with other models"),
        *_selections_differ(then["selection"], now["selection"]),
        *_hits_differ(then, now, first=receipt.request.offset + 1),
    ]
    return Replay(results, tuple(differences), str(then.get("version")), _notes(then, now))


def _notes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """A collection's name holds its fingerprint: another one of the same models is another index, no other answer."""
    named = then.get("collection")
    if named in (None, now["collection"]) or then["fingerprint"] != now["fingerprint"]:
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
    first, second = (decode_rle(_rle_of(mask)) for mask in (one, other))
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0


def _hits_differ(then: Mapping[str, Any], now: Mapping[str, Any], *, first: int) -> list[Difference]:
    """Hits lost, gained and moved; `first` is the rank of the page's first hit.

    A receipt may hold a part of its page: hits at other places are none of its business, unless they were on it.
    """
    before, after = (
        {_name_of(hit): (rank, _told_apart(hit)) for rank, hit in _ranked(one, first)} for one in (then, now)
    )
    places = then.get("positions")
    shown = after.values() if places is None else [one for one in after.values() if one[0] - first in places]
    differences = []
    for name, (rank, hit) in before.items():
        if name not in after:
            differences.append(Difference("hit lost", hit | {"rank": rank}, None, f"{_told(hit)}, was number {rank}"))
            continue
        rank_now, hit_now = after[name]
        if (rank, hit) != (rank_now, hit_now):
            sentence = f"{_told(hit)}: number {rank} then, {rank_now} now"
            if hit["distance_bits"] != hit_now["distance_bits"]:
                sentence += f"; {hit_now['distance_bits']} bits now"
            if hit["etag"] != hit_now["etag"]:
                sentence += "; its content has changed"
            differences.append(Difference("hit moved", hit | {"rank": rank}, hit_now | {"rank": rank_now}, sentence))
    gained = [(rank, hit) for rank, hit in shown if _name_of(hit) not in before]
    differences += [
        Difference("hit gained", None, hit | {"rank": rank}, f"{_told(hit)}, is number {rank}") for rank, hit in gained
    ]
    return differences


def _ranked(answer: Mapping[str, Any], first: int) -> Iterable[tuple[int, dict[str, Any]]]:
    """The hits of a receipt with their ranks."""
    places = answer.get("positions", range(len(answer["hits"])))
    return ((first + place, hit) for place, hit in zip(places, answer["hits"], strict=True))


def _told_apart(hit: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two hits the same: a similarity is arithmetic of a machine, and shows in the order alone."""
    return {name: hit[name] for name in HIT_FIELDS}


def _name_of(hit: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return hit["bucket"], hit["key"], hit["region"]


def _told(hit: Mapping[str, Any]) -> str:
    where = "whole image" if hit["region"] is None else f"region {hit['region']}"
    return f"{ImageRef(hit['bucket'], hit['key'])} {where} at {hit['distance_bits']} bits"


def _source_of(image: ImageInput) -> dict[str, Any]:
    match image:
        case ImageRef():
            return {"source": "object", "bucket": image.bucket, "key": image.key}
        case str() | Path():
            named = named_image(image)
            return {"source": "file", "path": str(named.absolute())} if isinstance(named, Path) else _source_of(named)
        case bytes():
            return {"source": "bytes"}
        case Image.Image():
            return {"source": "a PIL image"}
    return {"source": "an array"}


def _image_of(document: Mapping[str, Any]) -> ImageInput | None:
    if not isinstance(document["pixels_sha256"], str):
        raise TypeError("pixels_sha256 is no text")
    match document["source"]:
        case "object":
            return ImageRef(str(document["bucket"]), str(document["key"]))
        case "file":
            return Path(document["path"])
    return None


def _prompt_of(document: Mapping[str, Any], size: tuple[int, int], max_pixels: int) -> Prompt:
    match document["kind"]:
        case "point" | "points" | "background":
            return Points(
                document["foreground"],
                document["background"],
                granularity=document["granularity"],
                rule=document["rule"],
            )
        case "box":
            return Box(*document["box_xyxy"])
        case "text" | "words":
            return Text(document["text"])
        case "mask":
            mask = _rle_of(document["mask"])
            if mask.size != size:  # before anything of that size is made
                raise PromptError(f"expected a mask of the image's size {size}, got {mask.size}")
            return Mask(decode_rle(mask, most_cells=max_pixels))
        case "image":
            return WholeImage()
        case "boxes" | "mixed":
            return Prompts(
                document["boxes_xyxy"], document["foreground"], document["background"], text=document["text"]
            )
    raise ValueError(f"unknown kind of prompt {document['kind']!r}")


def _filter_of(document: Mapping[str, Any] | None) -> Filter | None:
    if document is None:
        return None
    size_class = document["size_class"]
    return Filter(
        bucket=document["bucket"],
        key_prefix=document["key_prefix"],
        images=_refs_of(document.get("images", ())),  # receipts from before there was this part have none
        exclude=_refs_of(document["exclude"]),
        area_px=_range_of(document["area_px"]),
        size_class=None if size_class is None else SizeClass(size_class),
        metadata=dict(document["metadata"]),
        indexed_at_ms=_range_of(document["indexed_at_ms"]),
        expression=document["expression"],
    )


def _refs_document(images: Iterable[ImageRef]) -> list[dict[str, str]]:
    return [{"bucket": image.bucket, "key": image.key} for image in images]


def _refs_of(documents: Iterable[Mapping[str, Any]]) -> tuple[ImageRef, ...]:
    return tuple(ImageRef(one["bucket"], one["key"]) for one in documents)


def _range_of(values: Iterable[int | None]) -> tuple[int | None, int | None]:
    low, high = values
    return low, high


def _rle_of(document: Mapping[str, Any]) -> MaskRLE:
    height, width = document["size"]
    return MaskRLE((int(height), int(width)), str(document["counts"]))


def _check_answer(document: Mapping[str, Any]) -> None:
    """What `compare_runs` will look at is there. Raises: KeyError, TypeError, ValueError."""
    selection = document["selection"]
    check_rle(_rle_of(selection["mask"]))
    parts = [({"fingerprint"}, document), (SELECTION_FIELDS, selection)]
    parts += [(HIT_FIELDS, hit) for hit in document["hits"]]
    for names, part in parts:
        if missing := sorted(set(names) - part.keys()):
            raise KeyError(", ".join(missing))
    _check_positions(document)
    for hit in document["hits"]:
        hash(_name_of(hit))  # the names of hits are looked up


def _check_positions(document: Mapping[str, Any]) -> None:
    """The places of a part of a page are different ones, one for each hit. Raises: ValueError."""
    places = document.get("positions")
    if places is not None and (
        len(places) != len(document["hits"])
        or len({*places}) != len(places)
        or not all(isinstance(place, int) and place >= 0 for place in places)
    ):
        raise ValueError(f"expected a place for each of {len(document['hits'])} hits, got {places!r}")


def kept_name(image: ImageInput) -> ImageInput:
    """As much of a query image as its receipt needs: a name that stays right wherever the process goes, no bytes."""
    if isinstance(image, str | Path):
        named = named_image(image)
        return named.absolute() if isinstance(named, Path) else named
    return b"" if isinstance(image, bytes) else image
