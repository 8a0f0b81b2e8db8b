"""Embedded colour profiles: the transform to sRGB, without what a profile could have computed for ever."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image, ImageCms

PROFILE_SPACES: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # of Pillow's modes
_HEAD, _TAG = 128, 12  # bytes of a profile's header, and of each tag in the table behind it
_MOST_TAGS: Final = 100  # as LittleCMS reads
_PROGRAM: Final = b"D2B"  # D2B0 to D2B3


@lru_cache(maxsize=8)
def srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None for a broken or foreign one, and for sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(_without_programs(profile)))
        if source.profile.xcolor_space.strip() != PROFILE_SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        difference = np.array(transformed(probe, transform), np.int16) - np.array(probe.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if np.abs(difference).max() > 1 else None


def transformed(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """The image in the colours that the transform leads to."""
    if (result := ImageCms.applyTransform(image, transform)) is None:
        raise ValueError("the colour profile gave no image")  # only ever so in place
    return result


def _without_programs(profile: bytes) -> bytes:
    """The profile with its multi-process elements under names that nobody looks up (ICC.1:2022, 9.2.17 and 10.16).

    They are programs: a table may name one element a million times, or a million tables of colours, in a file of a
    kilobyte. The matrix or the tables that say the same beside them are what other readers go by.
    """
    plain = bytearray(profile)
    tags = min(int.from_bytes(profile[_HEAD : _HEAD + 4], "big"), _MOST_TAGS)
    for place in range(_HEAD + 4, _HEAD + 4 + tags * _TAG, _TAG):
        if plain[place : place + 3] == _PROGRAM:
            plain[place : place + 3] = _PROGRAM.lower()
    return bytes(plain)


def _probe(mode: str) -> Image.Image:
    """Colours all over the space, to see what a transform does."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3))
