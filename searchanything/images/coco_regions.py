"""The instances of a COCO file, image by image, as regions of sidecars.

A file is read as tools write it: ids are numbers or texts, sizes may be missing, `categories` do not matter, and
`iscrowd` does not either, as CVAT has it at each mask. A list of results is read as well, where these name their files,
or another file has their images.

Format: https://cocodataset.org/#format-data, "Object Detection", and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from searchanything.core.errors import AnnotationsError
from searchanything.core.reading import read_file
from searchanything.images.given_regions import check_given_region

_KEPT: Final = ("box_xyxy", "bbox", "bbox_mode", "mask", "segmentation", "score")
_STEP: Final = 1000  # annotations between two steps of progress
Entry: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class NamedImage:
    """An image by the name that a file has for it, and its regions, the largest first."""

    name: str
    regions: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CocoRegions:
    """The images of a file in its order, and what of its annotations is no region, a sentence each."""

    images: list[NamedImage]
    left_out: list[str]


def read_coco_regions(
    path: Path, progress: Callable[[int, int], None] = lambda *_: None, *, images_file: Path | None = None
) -> CocoRegions:
    """The regions of a COCO file's images; `progress` hears how many annotations are looked at, and of how many.

    With an `images_file` it is a list of results, which name images of that COCO file by their ids: those alone are
    the file's images. Raises: AnnotationsError for a file that is none.
    """
    document = _parsed(path)
    if images_file is not None:
        results = _objects(path, {"results": document}, "results")
        known, keys = (
            _images_by_id(images_file, _parsed(images_file)),
            [_known_as(one.get("image_id")) for one in results],
        )
        named = {key: known[key] for key in dict.fromkeys(keys) if key in known}
        return _gathered("results", results, named, keys, progress)
    if isinstance(document, list):
        return _gathered("", document, *_images_of_results(path, document), progress)
    found, annotations = _images_by_id(path, document), _objects(path, document, "annotations")
    if any("segments_info" in one for one in annotations):
        raise AnnotationsError(path, "annotations", "expected instances, got COCO's panoptic format")
    keys = [_known_as(one.get("image_id")) for one in annotations]
    return _gathered("annotations", annotations, found, keys, progress)


def _images_by_id(path: Path, document: object) -> dict[str, tuple[NamedImage, Entry]]:
    """A COCO file's images, and what says of their regions how large they are. Raises: AnnotationsError."""
    found: dict[str, tuple[NamedImage, Entry]] = {}
    for number, one in enumerate(_objects(path, document, "images")):
        if (known := _known_as(one.get("id"))) in found:
            raise AnnotationsError(path, f"images[{number}].id", f"expected one image for each id, got {known} again")
        found[known] = (NamedImage(_name(path, number, one)), _size(one))
    return found


def _images_of_results(path: Path, results: list[Any]) -> tuple[dict[str, tuple[NamedImage, Entry]], list[str]]:
    """The images that results name, and the name that each has. Raises: AnnotationsError."""
    names = [str(one.get("file_name", "")) if isinstance(one, dict) else "" for one in results]
    if "" in names:
        wanted = (
            "expected a COCO file with images and annotations, or results of which each has a file_name, got neither"
        )
        cure = "of results with an image_id, --annotations names the COCO file that has their images"
        raise AnnotationsError(path, f"[{names.index('')}]", f"{wanted}; {cure}")
    return {name: (NamedImage(name), {}) for name in names}, names


def _gathered(
    place: str,
    annotations: list[Entry],
    images: dict[str, tuple[NamedImage, Entry]],
    keys: list[str],
    progress: Callable[[int, int], None],
) -> CocoRegions:
    """The annotations as regions of their images, which `keys` name."""
    left_out = []
    by_size = sorted(zip(range(len(keys)), keys, annotations, strict=True), key=lambda one: -_area(one[2]))
    for done, (number, key, one) in enumerate(by_size):
        if done % _STEP == 0:
            progress(done, len(by_size))
        entry = {name: one[name] for name in _KEPT if one.get(name) not in (None, [])}
        try:
            if key not in images:
                raise ValueError(f"expected the image_id of an image, got {key}")
            image, size = images[key]
            check_given_region(entry)
        except ValueError as error:
            left_out.append((number, f"{place}[{number}]: {error}"))
        else:
            image.regions.append(entry | size)
    return CocoRegions([image for image, _ in images.values()], [text for _, text in sorted(left_out)])


def _parsed(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        # NaN is what tables write of what is missing, and no JSON that a sidecar may hold.
        return json.loads(read_file(path).decode("utf-8-sig"), parse_constant=lambda _: None)
    except OSError as error:
        raise AnnotationsError(path, "file", f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationsError(path, "file", f"expected JSON, got none: {error}") from error


def _objects(path: Path, document: object, name: str) -> list[Entry]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise AnnotationsError(path, name, f"expected COCO's list, got {type(found).__name__}")
    for number, one in enumerate(found):
        if not isinstance(one, dict):
            raise AnnotationsError(path, f"{name}[{number}]", f"expected an object, got {type(one).__name__}")
    return found


def _name(path: Path, number: int, image: Entry) -> str:
    """COCO Annotator has the path beside the bare name; LVIS has nothing but the address."""
    for name in ("path", "file_name", "coco_url"):
        if isinstance(found := image.get(name), str) and found:
            return found
    raise AnnotationsError(path, f"images[{number}].file_name", "expected the name of a file, got none")


def _size(image: Entry) -> Entry:
    """What says of a region which size its image has, if the file knows it: Label Studio does not always."""
    with suppress(TypeError, ValueError, OverflowError):
        sides = [int(image.get("height", 0)), int(image.get("width", 0))]
        return {"image_size": sides} if min(sides) >= 1 else {}
    return {}


def _known_as(identity: object) -> str:
    """1, 1.0 and "1" are one id: tables turn numbers into others."""
    return str(int(identity)) if isinstance(identity, float) and identity.is_integer() else str(identity)


def _area(annotation: Entry) -> float:
    """How large an annotation is, by its own word or its box: for an order alone."""
    area, box = annotation.get("area"), annotation.get("bbox")
    with suppress(TypeError, LookupError, ArithmeticError, ValueError):
        found = float(box[2] * box[3] if area is None else area)  # type: ignore[index]  # else a TypeError
        return 0.0 if math.isnan(found) else found
    return 0.0
