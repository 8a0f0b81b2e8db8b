"""TIFFs that keep the samples of each colour by themselves, in planes of 16 bits."""

from __future__ import annotations

from typing import Final

import PIL
from PIL.TiffImagePlugin import TiffImageFile

from searchanything.images.samples import raw_mode

_BITS, _PLANAR_CONFIGURATION, _SEPARATE = 258, 284, 2
_RAW: Final = "raw"
_BEFORE_13: Final = int(PIL.__version__.partition(".")[0]) < 13  # its libtiff was given the compression as well


def name_planes(image: TiffImageFile) -> None:
    """Have planes that are not compressed read with their 16 bits: Pillow takes them for planes of 8."""
    tags = image.tag_v2
    if tags.get(_PLANAR_CONFIGURATION) != _SEPARATE or set(tags.get(_BITS, ())) != {16}:
        return
    if not image.tile or any(tile.codec_name != _RAW for tile in image.tile):
        return
    if image.mode == "CMYK":  # of which Pillow can read no plane of 16 bits
        _leave_to_libtiff(image)
        return
    ending = "16L" if tags.prefix == b"II" else "16B"
    for number, tile in enumerate(image.tile):
        band = raw_mode(tile.args)
        layout = image.mode if band == "I" else f"{band};{ending}"
        image.tile[number] = tile._replace(args=(layout, *(tile.args or ())[1:]))


def _leave_to_libtiff(image: TiffImageFile) -> None:
    """Have libtiff join the planes."""
    extents = [tile.extents for tile in image.tile if tile.extents is not None]
    whole = (0, 0, max(one[2] for one in extents), max(one[3] for one in extents))
    compression = (_RAW,) if _BEFORE_13 else ()
    layout = (f"{image.mode};16N", *compression, False, image.tag_v2.offset)
    image.tile = [image.tile[0]._replace(codec_name="libtiff", extents=whole, offset=0, args=layout)]
    image.use_load_libtiff = True
