"""Indexed regions as they are typed: IMAGE#REGION, such as s3://bucket/key#3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from searchanything.core.addresses import split_s3
from searchanything.core.errors import UsageError

if TYPE_CHECKING:
    from searchanything.client.client import Client
    from searchanything.core.types import RegionRef

MOST_DIGITS = 18
REGION_FORM = "IMAGE#REGION such as s3://bucket/key#3"


def whole_number(text: str) -> int | None:
    """A number of ASCII digits that an index may have; None for anything else, such as ² or a thousand digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def split_region(text: str) -> tuple[str, int] | None:
    """An image's name and a region's number; None for anything else, such as a file whose own name ends so."""
    image, separator, region = text.rpartition("#")
    number = whole_number(region)
    if not separator or not image or number is None:
        return None
    if split_s3(text) is None and Path(text).exists():
        return None
    return image, number


def named_region(client: Client, text: str) -> RegionRef | None:
    """The region that is meant; None for what names none. Raises: UsageError."""
    from searchanything.core.types import RegionRef

    named = split_region(text)
    return None if named is None else RegionRef(client.locate(named[0]), named[1])


def named_regions(client: Client, texts: list[str]) -> list[RegionRef]:
    """Several, as one question. Raises: UsageError for what names none."""
    found = [(text, named_region(client, text)) for text in texts]
    odd = [text for text, region in found if region is None]
    if odd:
        raise UsageError(f"{odd[0]}: expected {REGION_FORM}: several regions of the index are one question")
    return [region for _, region in found if region is not None]
