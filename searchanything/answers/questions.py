"""A question as plain JSON, and back: image, prompt, page and filter of a receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from searchanything.core.conditions import Where
from searchanything.core.documents import filter_document, mask_document, mask_of
from searchanything.core.errors import PromptError
from searchanything.core.extras import package_version
from searchanything.core.geometry import decode_rle, encode_rle
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Filter, ImageRef, RegionRef, RGBImage, SizeClass
from searchanything.images.inputs import ImageInput, named_image
from searchanything.prompts.prompt import Box, Mask, Points, Prompt, Prompts, Text, WholeImage, describe_prompt
from searchanything.search.search import PageRequest

WORDS_KIND: Final = "words"  # source of the image, and kind of the prompt, of a question in words alone

SEVERAL: Final = "indexed regions"  # source of the image of a question by several regions


def question_document(
    image: ImageInput, pixels: RGBImage, prompt: Prompt, request: PageRequest, filter: Filter | None
) -> dict[str, Any]:
    """What was asked, in full, as plain JSON: the part of a receipt that is known before the answer.

    The query image is named where it has a name, and told by the sha256 of its decoded pixels in any case.
    """
    height, width = pixels.shape[:2]
    named = {**_source_of(image), "width": width, "height": height, "pixels_sha256": pixels_digest(pixels)}
    return _document(named, receipt_prompt(prompt), request, filter)


def stored_question_document(
    refs: Sequence[RegionRef], rows: Sequence[RegionRow | ImageRow], request: PageRequest, filter: Filter | None
) -> dict[str, Any]:
    """The same for a question by indexed regions: they are named, and told by the sha256 of their codes."""
    names = [{"bucket": ref.image.bucket, "key": ref.image.key, "region": ref.region} for ref in refs]
    named: dict[str, Any] = {"source": "index", **names[0], "etag": rows[0].etag}
    if len(refs) > 1:
        named = {"source": SEVERAL, "regions": names}
    size = {"width": rows[0].image_width, "height": rows[0].image_height}
    digest = hashlib.sha256(b"".join(row.code for row in rows)).hexdigest()
    kind = "image" if refs[0].region is None else "region"
    image = {**named, **size, "pixels_sha256": digest}
    return _document(image, {"kind": kind if len(refs) == 1 else f"{kind}s"}, request, filter)


def words_document(text: str, request: PageRequest, filter: Filter | None) -> dict[str, Any]:
    """The same for a question in words alone: in place of an image's pixels the text has a digest."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    image = {"source": WORDS_KIND, "width": 0, "height": 0, "pixels_sha256": digest}
    return _document(image, {"kind": WORDS_KIND, "text": text}, request, filter)


def _document(
    image: dict[str, Any], prompt: dict[str, Any], request: PageRequest, filter: Filter | None
) -> dict[str, Any]:
    """The page's bound is not in it: that follows from `max_false_match` and the index."""
    return {
        "version": package_version(),
        "image": image,
        "prompt": prompt,
        "page": {name: getattr(request, name) for name in ("limit", "offset", "group_by_image", "rescore")},
        "filter": None if filter is None else filter_document(filter),
    }


def receipt_prompt(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain JSON from which it can be made again: a mask as RLE at the image's own size."""
    described = describe_prompt(prompt)
    return described | {"mask": mask_document(encode_rle(prompt.mask))} if isinstance(prompt, Mask) else described


def pixels_digest(pixels: RGBImage) -> str:
    """sha256 of an image's size and its (H, W, 3) uint8 RGB pixels, EXIF orientation applied."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]} RGB\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def kept_name(image: ImageInput) -> ImageInput:
    """As much of a query image as its receipt needs: a name that stays right wherever the process goes, no bytes."""
    if isinstance(image, str | Path):
        named = named_image(image)
        return named.absolute() if isinstance(named, Path) else named
    return b"" if isinstance(image, bytes) else image


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


def image_of_receipt(document: Mapping[str, Any]) -> ImageInput | RegionRef | tuple[RegionRef, ...] | None:
    """The query image by its name; None where it came as bytes or an array. Raises: TypeError, KeyError."""
    if not isinstance(document["pixels_sha256"], str):
        raise TypeError("pixels_sha256 is no text")
    match document["source"]:
        case "object":
            return ImageRef(str(document["bucket"]), str(document["key"]))
        case "index":
            return _region_of(document)
        case "indexed regions":
            return tuple(_region_of(one) for one in document["regions"])
        case "file":
            return Path(document["path"])
    return None


def _region_of(document: Mapping[str, Any]) -> RegionRef:
    image, region = ImageRef(str(document["bucket"]), str(document["key"])), document["region"]
    return RegionRef(image, None if region is None else int(region))


def prompt_of_receipt(document: Mapping[str, Any], size: tuple[int, int], max_pixels: int) -> Prompt:
    """The prompt of a document, for an image of that (height, width). Raises: KeyError, TypeError, ValueError."""
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
            mask = mask_of(document["mask"])
            if mask.size != size:  # before anything of that size is made
                raise PromptError(f"expected a mask of the image's size {size}, got {mask.size}")
            return Mask(decode_rle(mask, most_cells=max_pixels))
        case "image" | "region" | "images" | "regions":  # regions of the index are named with their images
            return WholeImage()
        case "boxes" | "mixed":
            return Prompts(
                document["boxes_xyxy"], document["foreground"], document["background"], text=document["text"]
            )
    raise ValueError(f"unknown kind of prompt {document['kind']!r}")


def filter_of(document: Mapping[str, Any] | None) -> Filter | None:
    """The filter that a document tells. Raises: ValueError, KeyError, TypeError."""
    if document is None:
        return None
    size_class = document["size_class"]
    return Filter(
        bucket=document["bucket"],
        key_prefix=document["key_prefix"],
        images=_refs_of(document["images"]),
        exclude=_refs_of(document["exclude"]),
        within=tuple((str(bucket), str(key_prefix)) for bucket, key_prefix in document["within"]),
        area_px=_range_of(document["area_px"]),
        size_class=None if size_class is None else SizeClass(size_class),
        metadata=dict(document["metadata"]),
        indexed_at_ms=_range_of(document["indexed_at_ms"]),
        expression=document["expression"],
        where=tuple(Where(one["name"], one["comparison"], one["value"]) for one in document["where"]),
    )


def _refs_of(documents: Iterable[Mapping[str, Any]]) -> tuple[ImageRef, ...]:
    return tuple(ImageRef(one["bucket"], one["key"]) for one in documents)


def _range_of(values: Iterable[int | None]) -> tuple[int | None, int | None]:
    low, high = values
    return low, high
