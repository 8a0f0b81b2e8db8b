"""COCO instance annotations: one JSON file for many images.

Format: https://cocodataset.org/#format-data, "Object Detection". Segmentations may be polygons, uncompressed or
compressed run-length encodings; without one, the filled box stands for the mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from searchanything.core.coco_masks import CocoRle, Polygons, mask_box, mask_pixels, read_coco_mask
from searchanything.core.errors import AnnotationsError
from searchanything.core.geometry import MAX_MASK_CELLS
from searchanything.core.reading import read_file
from searchanything.core.types import MaskRLE
from searchanything.evaluation.truth import Instance, TrueImage, Truth, attribute_text

_SHOWN = 3  # complaints in one message
_WANTED = "expected COCO instances, a JSON object with images, annotations and categories"


class _Image(BaseModel):
    id: StrictInt
    file_name: Annotated[str, MinLen(1)]
    height: Annotated[int, Field(ge=1)] | None  # Label Studio has none of an image that nobody annotated
    width: Annotated[int, Field(ge=1)] | None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, image: Any) -> Any:  # noqa: ANN401 - JSON
        """LVIS has no file_name."""
        match image:
            case {"coco_url": str(address)} if "file_name" not in image:
                return {**image, "file_name": address.partition("?")[0].rpartition("/")[2]}
        return image


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    image_id: StrictInt
    category_id: StrictInt
    bbox: tuple[float, float, float, float] | None = None  # left, top, width, height
    segmentation: Polygons | CocoRle | None = None
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
    sizes = _sizes(path, document)
    if len({one.id for one in document.images}) != len(document.images):
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
    sized = (one for one in document.images if one.id in sizes)
    images = (TrueImage(one.file_name, *sizes[one.id], tuple(found[one.id])) for one in sized)
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
        other = any(len(one["loc"]) < 2 for one in complaints)  # not a wrong entry: a file of another kind
        wanted = f": {_WANTED}" if other else ""
        raise AnnotationsError(path, _where(complaints[0]["loc"]), f"{complaints[0]['msg']}{rest}{wanted}") from None


def _sizes(path: Path, document: _Document) -> dict[int, tuple[int, int]]:
    """The images' (height, width) by their ids, of those that have any."""
    annotated = {one.image_id for one in document.annotations}
    sizes = {}
    for number, one in enumerate(document.images):
        place = _Place(path, f"images[{number}]")
        if one.height is None or one.width is None:
            if one.id in annotated:
                raise place.at("width" if one.height else "height").wrong("that of an annotated image", "null")
            continue
        if one.height * one.width > MAX_MASK_CELLS:
            raise place.wrong(f"at most {MAX_MASK_CELLS:,} pixels", f"{one.width} x {one.height}")
        sizes[one.id] = (one.height, one.width)
    return sizes


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
    pixels = float(mask_pixels(mask))
    if pixels == 0:
        return None
    left, top, width, height = annotation.bbox or mask_box(mask)
    if (width == 0 <= height) or (height == 0 <= width):  # as some tools box a mask that is one pixel wide
        left, top, width, height = mask_box(mask)
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
    if not outline:
        if annotation.bbox is None:
            raise where.wrong("a segmentation or a bbox", "neither")
        left, top, width, height = annotation.bbox
        right, bottom = left + width, top + height
        outline = [[left, top, right, top, right, bottom, left, bottom]]
    try:
        return read_coco_mask(outline, size)
    except ValueError as error:
        raise AnnotationsError(where.path, where.field, str(error)) from error
