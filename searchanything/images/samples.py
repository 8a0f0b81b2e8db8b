"""16-bit samples to 8 bits, by the range that a file really uses.

Cameras, microscopes and radar write 10, 12 or 14 bits into 16-bit files, mostly in the lower bits: taken for 16 bits,
such an image is near black. So where no sample reaches a quarter of the range, white is the highest value of the file's
own depth: the declared one (PNG's sBIT, TIFF's MaxSampleValue or WhiteLevel) if the samples fit into it, else the
smallest usual one that holds them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

FULL: Final = (1 << 16) - 1
_DEPTHS: Final = (1, 2, 4, 8, 10, 12, 14)
_ENOUGH_PIXELS: Final = 256
_STRIPE_ROWS: Final = 256
_OTHER_BYTE: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_BANDS: Final = {"RGB": 3, "RGBA": 3, "CMYK": 4}  # how many of a mode's bands are colours


def white_of(most: int, declared: int | None, *, pixels: int) -> int:
    """The sample value that is white, where `most` is the highest one among `pixels`; a few pixels tell no depth."""
    if pixels < _ENOUGH_PIXELS:
        return FULL
    if declared is not None and 0 < most <= declared < FULL:
        return declared
    return next(((1 << depth) - 1 for depth in _DEPTHS if most < 1 << depth), FULL) if most else FULL


def to_8_bits(white: int, *, white_is_zero: bool = False) -> NDArray[np.uint8]:
    """(65536,) uint8: what becomes of each 16-bit sample."""
    levels = np.minimum(np.arange(FULL + 1), white)
    if white_is_zero:
        levels = white - levels
    return ((levels * 255 + white // 2) // white).astype(np.uint8)


def is_wide(image: ImageFile) -> bool:
    """Whether Pillow, asked to load this opened file, will keep the upper half of 16-bit colours alone."""
    modes = [raw_mode(tile.args) for tile in image.tile]
    wide = [mode.rpartition(";")[2] in ("16B", "16L", "16N") for mode in modes]
    premultiplied = any(mode.startswith("RGBa") for mode in modes)
    return image.mode in _BANDS and bool(wide) and all(wide) and not premultiplied


def in_own_range(loaded: ImageFile, again: Callable[[], ImageFile], declared: int | None) -> Image.Image:
    """A loaded wide image with its colours, and its opacity, in their own range of 8 bits.

    `again` opens the file once more; it is asked for the lower half only where the upper half is nearly empty.
    """
    colours = _BANDS[loaded.mode]
    dark = [_is_dark(loaded, band) for band in range(len(loaded.getbands()))]
    if not all(dark[:colours]):
        return loaded
    upper, lower = np.asarray(loaded), _lower_half(again())
    scaled = np.array(upper)
    for bands in (slice(0, colours), slice(colours, None)):
        if not all(dark[bands]) or upper[..., bands].size == 0:
            continue
        most = max(int(_joined(upper, lower, top, bands).max()) for top in _stripes(upper))
        table = to_8_bits(white_of(most, declared, pixels=loaded.width * loaded.height))
        for top in _stripes(upper):
            scaled[top : top + _STRIPE_ROWS, :, bands] = table[_joined(upper, lower, top, bands)]
    image = Image.fromarray(scaled, loaded.mode) if loaded.mode != "CMYK" else _cmyk(scaled)
    image.info = dict(loaded.info)
    return image


def has_colour(loaded: ImageFile, again: Callable[[], ImageFile], colour: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a loaded wide image of RGB has a colour of 16 bits: (H, W). `again` is as for `in_own_range`."""
    upper, lower = ([value >> shift & 255 for value in colour] for shift in (8, 0))
    found = _has_colour(loaded, upper)
    if found.any():
        found &= _has_colour(_loaded_lower(again()), lower)
    return found


def _has_colour(image: Image.Image, colour: list[int]) -> NDArray[np.bool_]:
    """Where an image has a colour of 8 bits: (H, W). A band at a time, as all together take several times the room."""
    found = np.ones((image.height, image.width), np.bool_)
    for band, value in enumerate(colour):
        found &= np.asarray(image.getchannel(band)) == value
    return found


def _is_dark(image: Image.Image, band: int) -> bool:
    low, high = image.getextrema()[band]  # type: ignore[misc]
    return bool((high < (FULL >> 8) / 4 and (low, high) != (0, 0)) or high == 0)


def _cmyk(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.frombytes("CMYK", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())


def _stripes(pixels: NDArray[np.uint8]) -> range:
    return range(0, len(pixels), _STRIPE_ROWS)


def _joined(upper: NDArray[np.uint8], lower: NDArray[np.uint8], top: int, bands: slice) -> NDArray[np.uint16]:
    high, low = (half[top : top + _STRIPE_ROWS, :, bands] for half in (upper, lower))
    return np.asarray(high.astype(np.uint16) << 8 | low, dtype=np.uint16)


def _lower_half(image: ImageFile) -> NDArray[np.uint8]:
    """The lower bytes of an opened file's samples, at the places where loading puts the upper ones."""
    grey = any(raw_mode(tile.args) == "LA;16B" for tile in image.tile)
    pixels = np.asarray(_loaded_lower(image))
    # Grey and opacity are read as four bytes: two of grey, upper one first, two of opacity.
    return pixels[..., [1, 1, 1, 3]] if grey else pixels


def _loaded_lower(image: ImageFile) -> ImageFile:
    image.tile = [tile._replace(args=_with_other_byte(tile.args)) for tile in image.tile]
    image.load()
    return image


def raw_mode(args: object) -> str:
    """What Pillow calls the layout of a tile's samples; "" where it does not say."""
    mode = args[0] if isinstance(args, tuple) and args else args
    return mode if isinstance(mode, str) else ""


def _with_other_byte(args: tuple[Any, ...] | str | None) -> tuple[Any, ...] | str:
    mode = raw_mode(args)
    other = "RGBA" if mode == "LA;16B" else mode[:-1] + _OTHER_BYTE[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
