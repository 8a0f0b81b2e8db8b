"""Pascal VOC 2012's layout: a folder of images, one XML and one palette image of objects for each.

Layout: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, sections 3 and 9. Pixel value n of
`SegmentationObject` is the n-th object of the XML; 255 is void, the border between objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from searchanything.core.errors import AnnotationsError, ImageError
from searchanything.core.geometry import encode_rle
from searchanything.core.reading import inside, read_file
from searchanything.evaluation.truth import Instance, TrueImage, Truth
from searchanything.images.decoding import open_image
from searchanything.images.pillow_errors import PILLOW_ERRORS, quiet_pillow

CLASSES: Final = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_VOID: Final = 255


def read_voc(
    root: Path,
    *,
    split: str = "val",
    category: str | None = None,
    attributes: Sequence[str] = (),
    max_pixels: int = 100_000_000,
) -> Truth:
    """The images of `ImageSets/Segmentation/SPLIT.txt` with their instances.

    Masks come from `SegmentationObject`, boxes are tight around them. Category and attributes (`pose`, `truncated`,
    `difficult`, …) are those of the XML's object; an image without an XML takes its categories from
    `SegmentationClass`. `category` names another field of the XML's objects that holds the category. A mask of more
    than `max_pixels` is not decoded.

    Raises: AnnotationsError, which names the file and the field.
    """
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    try:
        names = read_file(listing).decode("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationsError(listing, "file", f"cannot be read: {error}") from error
    for name in names:
        try:
            inside(root, f"JPEGImages/{name}.jpg")
        except (OSError, ValueError) as error:
            raise AnnotationsError(listing, name, str(error)) from error
    return Truth(tuple(_image(root, name, category or "name", attributes, max_pixels) for name in names))


def _image(root: Path, name: str, category: str, attributes: Sequence[str], max_pixels: int) -> TrueImage:
    numbers = _palette(root / "SegmentationObject" / f"{name}.png", max_pixels)
    height, width = numbers.shape
    annotation = root / "Annotations" / f"{name}.xml"
    described = _objects(annotation) if annotation.exists() else None
    if described is None and (attributes or category != "name"):
        raise AnnotationsError(annotation, "file", "cannot be read: the fields that were asked for are in it alone")
    classes = None if described is not None else _palette(root / "SegmentationClass" / f"{name}.png", max_pixels)
    instances = []
    for number in np.unique(numbers[(numbers > 0) & (numbers < _VOID)]).tolist():
        mask = numbers == number
        if described is not None:
            if number > len(described):
                raise AnnotationsError(annotation, "object", f"expected {number} or more objects, got {len(described)}")
            fields = {key: _field(described[number - 1], key, number, annotation) for key in (category, *attributes)}
        else:
            fields = {"name": _class_name(classes, mask, root / "SegmentationClass" / f"{name}.png")}
        instance = _instance(mask, fields[category], {key: fields[key] for key in attributes})
        instances.append(replace(instance, annotation=str(number)))
    void = numbers == _VOID
    border = encode_rle(void) if void.any() else None
    return TrueImage(f"JPEGImages/{name}.jpg", height, width, tuple(instances), border)


def _instance(mask: NDArray[np.bool_], category: str, attributes: Mapping[str, str]) -> Instance:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Instance(category, box, float(mask.sum()), encode_rle(mask), attributes=attributes)


def _palette(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """The palette numbers of a PNG, (H, W)."""
    try:
        with quiet_pillow():
            stored = open_image(read_file(path), name=path.name, max_pixels=max_pixels)[1]
            mode, pixels = stored.mode, np.asarray(stored)
    except ImageError as error:
        raise AnnotationsError(path, "file", f"cannot be read: it {error.reason}") from error
    except PILLOW_ERRORS as error:
        raise AnnotationsError(path, "file", f"cannot be read: {error}") from error
    if mode not in ("P", "L"):
        raise AnnotationsError(path, "pixels", f"expected palette numbers, got mode {mode}")
    return pixels


def _objects(path: Path) -> list[ET.Element]:
    try:
        return ET.fromstring(read_file(path)).findall("object")  # noqa: S314  entities are never resolved
    except (OSError, ET.ParseError, LookupError, ValueError) as error:  # the last two of encodings that it has not
        raise AnnotationsError(path, "file", f"cannot be read: {error}") from error


def _field(element: ET.Element, key: str, number: int, path: Path) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise AnnotationsError(path, f"object[{number}].{key}", "expected a text, got none")
    return text


def _class_name(classes: NDArray[np.uint8] | None, mask: NDArray[np.bool_], path: Path) -> str:
    """The class of most of an object's pixels."""
    if classes is None or classes.shape != mask.shape:
        raise AnnotationsError(path, "pixels", f"expected a size of {mask.shape}, as in SegmentationObject")
    found = classes[mask & (classes > 0) & (classes < _VOID)]
    number = int(np.bincount(found, minlength=1).argmax())
    if not 1 <= number <= len(CLASSES):
        raise AnnotationsError(path, "pixels", f"expected classes 1 to {len(CLASSES)}, got {number}")
    return CLASSES[number - 1]
