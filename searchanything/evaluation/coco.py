"""COCO instance annotations: one JSON file for many images.

Format: https://cocodataset.org/#format-data, "Object Detection". Segmentations may be polygons, uncompressed or
compressed run-length encodings; without one, the filled box stands for the mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from annotated_types import MinLen
from pycocotools import mask as coco_mask
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from searchanything.core.counting import counted
from searchanything.core.errors import AnnotationsError
from searchanything.core.geometry import MAX_MASK_CELLS, check_rle
from searchanything.core.reading import read_file
from searchanything.core.types import MaskRLE
from searchanything.evaluation.truth import Instance, TrueImage, Truth, attribute_text

Polygon: TypeAlias = Annotated[list[float], MinLen(6)]
_SHOWN = 3  # complaints in one message


class _Rle(BaseModel):
    size: tuple[int, int]
    counts: str | list[int]


class _Image(BaseModel):
    id: StrictInt
    file_name: Annotated[str, MinLen(1)]
    height: int = Field(ge=1)
    width: int = Field(ge=1)


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    image_id: StrictInt
    category_id: StrictInt
    bbox: tuple[float, float, float, float] | None = None  # left, top, width, height
    segmentation: list[Polygon] | _Rle | None = None
    area: float | None = Field(None, ge=0)
    iscrowd: bool = False


class _Category(BaseModel):
    id: StrictInt
    name: Annotated[str, MinLen(1)]


class _Document(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which file something is wrong."""

    path: Path
    field: str

    def at(self, name: str) -> _Place:
        return _Place(self.path, f"{self.field}.{name}")

    def wrong(self, expected: str, got: object) -> AnnotationsError:
        return AnnotationsError(self.path, self.field, f"expected {expected}, got {got}")


def read_coco(path: Path, *, category: str | None = None, attributes: Sequence[str] = ()) -> Truth:
    """The images of an annotations file, in its order, with their instances.

    `category` names the annotations' key that holds the category, in place of `category_id`; `attributes` are further
    keys that every annotation must have.

    Raises: AnnotationsError, which names the file and the field.
    """
    document = _parsed(path)
    names = {one.id: one.name for one in document.categories}
    sizes = {one.id: (one.height, one.width) for one in document.images}
    for number, one in enumerate(document.images):
        if one.height * one.width > MAX_MASK_CELLS:
            place = _Place(path, f"images[{number}]")
            raise place.wrong(f"at most {MAX_MASK_CELLS:,} pixels", f"{one.width} x {one.height}")
    if len(sizes) != len(document.images):
        raise AnnotationsError(path, "images", "expected one entry for each id, some id occurs twice")
    found: defaultdict[int, list[Instance]] = defaultdict(list)
    empty = 0
    for number, annotation in enumerate(document.annotations):
        place = _Place(path, f"annotations[{number}]")
        if annotation.image_id not in sizes:
            raise place.at("image_id").wrong("the id of an image", annotation.image_id)
        extra = _attributes(annotation, [*attributes, *([category] if category else [])], place)
        name = extra[category] if category else names.get(annotation.category_id)
        if name is None:
            raise place.at("category_id").wrong("the id of a category", annotation.category_id)
        instance = _instance(annotation, sizes[annotation.image_id], name, extra, place)
        empty += instance is None
        if instance is not None:
            known_as = (annotation.model_extra or {}).get("id")
            found[annotation.image_id].append(
                replace(instance, annotation=str(number if known_as is None else known_as))
            )
    images = (TrueImage(one.file_name, one.height, one.width, tuple(found[one.id])) for one in document.images)
    return Truth(tuple(images), empty)


def _parsed(path: Path) -> _Document:
    try:
        return _Document.model_validate_json(read_file(path))
    except OSError as error:
        raise AnnotationsError(path, "file", f"cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        complaints = error.errors(include_url=False)
        wrong = "; ".join(f"{_where(one['loc'])}: {one['msg']}" for one in complaints[1:_SHOWN])
        rest = f"; and {wrong}" if wrong else ""
        raise AnnotationsError(path, _where(complaints[0]["loc"]), f"{complaints[0]['msg']}{rest}") from None


def _where(location: Sequence[str | int]) -> str:
    """`annotations[3].bbox` for ("annotations", 3, "bbox", …): pydantic's names of union members are left out."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[:3]]
    return "".join(parts).lstrip(".") or "file"


def _attributes(annotation: _Annotation, names: Sequence[str], place: _Place) -> dict[str, str]:
    values: Mapping[str, Any] = annotation.model_extra or {}
    for name in names:
        if not isinstance(values.get(name), str | int | float):
            raise place.at(name).wrong("a text, number or boolean", values.get(name))
    return {name: attribute_text(values[name]) for name in names}


def _instance(
    annotation: _Annotation, size: tuple[int, int], name: str, attributes: Mapping[str, str], place: _Place
) -> Instance | None:
    """The instance of an annotation; None where it has no pixel."""
    mask = _mask(annotation, size, place)
    encoded = {"size": list(size), "counts": mask.counts.encode("ascii")}
    pixels = float(coco_mask.area(encoded))
    if pixels == 0:
        return None
    left, top, width, height = annotation.bbox or tuple(float(side) for side in coco_mask.toBbox(encoded))
    if width <= 0 or height <= 0:
        raise place.at("bbox").wrong("a positive width and height", (width, height))
    return Instance(
        category=name,
        box_xyxy=(left, top, left + width, top + height),
        area_px=pixels if annotation.area is None else annotation.area,
        mask=mask,
        crowd=annotation.iscrowd,
        attributes=attributes,
    )


def _mask(annotation: _Annotation, size: tuple[int, int], place: _Place) -> MaskRLE:
    """The mask at the image's size (height, width)."""
    where = place.at("segmentation")
    outline = annotation.segmentation
    if isinstance(outline, _Rle):
        return _run_lengths(outline, size, where)
    if not outline:
        if annotation.bbox is None:
            raise where.wrong("a segmentation or a bbox", "neither")
        left, top, width, height = annotation.bbox
        right, bottom = left + width, top + height
        outline = [[left, top, right, top, right, bottom, left, bottom]]
    if any(len(polygon) % 2 for polygon in outline):
        raise where.wrong("polygons of x, y pairs", "an odd number of coordinates")
    reach = 2 * max(size) + 1
    if not all(-reach <= place <= 2 * reach for polygon in outline for place in polygon):  # a pixel a step is walked
        raise where.wrong(f"coordinates near the image, from {-reach} to {2 * reach}", "others")
    merged = coco_mask.merge(coco_mask.frPyObjects(outline, *size))
    return MaskRLE(size, merged["counts"].decode("ascii"))


def _run_lengths(rle: _Rle, size: tuple[int, int], where: _Place) -> MaskRLE:
    if rle.size != size:
        raise where.wrong(f"the image's size {size}", rle.size)
    counts = rle.counts
    if isinstance(counts, list):
        if min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
            raise where.wrong(f"runs of {size[0] * size[1]} pixels", f"{sum(counts)} in {counted(len(counts), 'run')}")
        plain = {"size": list(size), "counts": counts}
        return MaskRLE(size, coco_mask.frPyObjects(plain, *size)["counts"].decode("ascii"))
    mask = MaskRLE(size, counts)
    try:
        check_rle(mask)  # pycocotools trusts its input, and would read beyond it
    except ValueError as error:
        raise AnnotationsError(where.path, where.field, str(error)) from error
    return mask
