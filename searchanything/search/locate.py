"""From what people name an indexed image by to the image, whichever index it is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from searchanything.core.addresses import check_image_name, check_one_bucket, names_of, split_s3, unmarked
from searchanything.core.errors import UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Hit, ImageRef, RegionRef

IndexedImage: TypeAlias = str | Path | ImageRef | Hit | RegionRef


def find_image(image: IndexedImage, indexes: Sequence[RegionIndex]) -> ImageRef:
    """The image that is meant: an `ImageRef` or what has one, `s3://bucket/key`, the path of a file that was indexed,
    or a key, alone or after its bucket.

    Indexes are asked in turn. An image that none of them knows gets the name that it would have.

    Raises: UsageError for a key that several buckets have, or what is no name.
    """
    if isinstance(image, ImageRef):
        return image
    if isinstance(image, Hit | RegionRef):
        return image.image
    check_image_name(image)
    if isinstance(image, str) and (named := split_s3(image)) is not None:
        if not all(named):
            raise UsageError(f"{image}: expected s3://bucket/key")
        return ImageRef(*named)
    of_path = names_of(Path(image))
    for index in indexes:
        known = index.newest(of_path)
        found = [ref for ref in of_path if ref in known] or _of_key(str(image), index)
        if found:
            return found[0]
    return of_path[0]


def _of_key(key: str, index: RegionIndex) -> list[ImageRef]:
    """The indexed images with exactly this key, or with this bucket and key."""
    whole = unmarked(key)
    found = sorted(
        {row.image for row in index.iterate_images(key_prefix=key) if row.image.key == key}
        | (set() if whole is None else set(index.newest([whole])))
    )
    check_one_bucket(key, found)
    return found
