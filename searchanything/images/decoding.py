"""Bytes of an image file to pixels: strict, bounded in memory, the same on every machine.

Read: JPEG, PNG, WebP, GIF and TIFF (first frame or page), BMP, AVIF and HEIC (its primary image). The first bytes say
the format, never the name. EXIF orientation is applied, or XMP's where EXIF has none (AVIF and HEIC have properties for
it, which alone count), transparency laid over white, colours are brought to sRGB by an embedded ICC profile. Whatever
is damaged, cut off, too large or something else is an `ImageError`; nothing is guessed or filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pi_heif.as_plugin import HeifImageFile
from PIL import ExifTags, Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from searchanything.core.errors import ImageError
from searchanything.core.types import RGBImage
from searchanything.images.avif_parts import check_frames
from searchanything.images.colours import PROFILE_SPACES, srgb_transform, transformed
from searchanything.images.file_parts import (
    MAX_PROFILE_BYTES,
    MOST_PNG_CHUNKS,
    MOST_TIFF_VALUES,
    FileHead,
    jpeg_head,
    jpeg_scans,
    own_exif,
    png_parts,
    tiff_values,
    webp_size,
)
from searchanything.images.pillow_errors import PILLOW_ERRORS, mapped
from searchanything.images.pillow_errors import quiet_pillow as _quiet_pillow
from searchanything.images.samples import has_colour, in_own_range, is_wide, to_8_bits, white_of
from searchanything.images.tiff_planes import name_planes

# Plugins are called directly: `Image.open` would try further formats, and warn or refuse by a global pixel limit that
# belongs to the host program.
_PLUGINS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "AVIF": AvifImageFile,
    "HEIC": HeifImageFile,
}

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# Each scan of a JPEG goes over all its pixels, and one of a few bytes takes as long as many: 4 ns a pixel and more.
# Encoders write 10 scans, 24 at most, whatever the size; more than that are decoded where it takes no more than 1–2 s.
_USUAL_SCANS = 24
_MAX_SCANNED_PIXELS = 250_000_000
_MAX_JPEG_SCANS = 500  # libjpeg-turbo's advice
_MAX_EXIF_PARTS = 64  # 4 MB: Pillow joins each with all before, which takes minutes where a few megabytes hold 10^5
# Pillow reads the runs of a BMP in Python: up to 0.25 us a byte, and 0.12 us a pixel of lines that are cut off.
_MAX_RUN_STEPS = 1 << 24
_STRIPE_PIXELS = 1 << 18
_WIDE_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
# Pillow's modes in memory alone, and YCbCr: before Pillow 13 it cannot read such a TIFF that it wrote
_STORABLE_AS = {"HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "PA": "RGBA", "La": "LA", "YCbCr": "RGB"}
_MODES_OF_TIFF = ("CMYK", "F", "I", "LAB")  # the others go through PNG
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 258, 262, 322, 323
_TIFF_COMPRESSION, _TIFF_JPEGS, _TIFF_ROWS = 259, (6, 7), 278
_TIFF_PLACES = ((273, 279), (324, 325))  # offsets and lengths: of strips, of tiles
_TIFF_WHITE = (281, 50717)  # MaxSampleValue, WhiteLevel

_PNG_BITS, _PNG_COLOURS = 24, 25  # where IHDR has the bit depth and the colour type
_PNG_GREY_WITH_OPACITY = 4
_GREY = "grey"  # in an opened PNG's info: whether it is grey with opacity
_SIGNIFICANT_BITS = "significant_bits"  # in an opened PNG's info: the highest number of its sBIT chunk


def image_size(data: bytes, *, name: str, max_pixels: int) -> tuple[int, int]:
    """(height, width) that `decode_image` would give, from the file's header alone.

    Raises: ImageError, also if these are more than `max_pixels`.
    """
    with _quiet_pillow():
        kind, image = open_image(data, name=name, max_pixels=max_pixels)
        with mapped(name, kind):
            # Pillow has the final size of a TIFF that its own tag turns, not of one that XMP turns.
            own = isinstance(image, TiffImageFile) and ExifTags.Base.Orientation in image.tag_v2
            turned = not own and _orientation(image) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)


def decode_image(data: bytes, *, name: str, max_pixels: int) -> RGBImage:
    """Decode an image file of any known format: bytes -> (H, W, 3) uint8 RGB, C-contiguous and writable.

    16-bit samples are scaled to 8 bits by the depth that the file really uses (`searchanything.images.samples`). TIFF
    and WebP are also held to Pillow's own limit of 179 megapixels. Thread-safe; decoding itself releases the
    interpreter lock.

    Raises: ImageError, naming `name` and the reason; for more than `max_pixels` before any pixel is decoded.
    """
    with _quiet_pillow():
        kind, image = open_image(data, name=name, max_pixels=max_pixels)
        with mapped(name, kind):
            wide = is_wide(image)
            frame = image.tile[0].extents if isinstance(image, GifImageFile) and image.tile else None
            image.load()
            if image.mode in _WIDE_GREY:
                pixels = _wide_grey(image)
            elif image.mode in ("I", "F"):
                raise ImageError(name, "has 32-bit samples without a defined range; convert it to 8 or 16 bits")
            elif wide:
                pixels = _wide_colours(image, lambda: open_image(data, name=name, max_pixels=max_pixels)[1])
            else:
                pixels = _rgb(image)
            if frame is not None:
                _clear_around(pixels, frame)
            return _upright(pixels, _orientation(image))


def decode_pil_image(image: Image.Image, *, name: str, max_pixels: int) -> RGBImage:
    """An image that a program opened or made with Pillow, treated as its file would be: (H, W, 3) uint8 RGB.

    Raises: ImageError, as `decode_image`; also where only now its file turns out to be damaged, or it is closed.
    """
    kind = image.format or "Pillow"
    if 0 in image.size:
        raise ImageError(name, f"has no pixels ({image.width} x {image.height})")
    _check_pixels(image.size, name, max_pixels)
    with _quiet_pillow(), mapped(name, kind):
        image.load()  # which turns a TIFF
        exif = image.getexif() if image.format != "AVIF" else own_exif(image)
        if image.mode == "RGB" and not exif and {"icc_profile", "transparency"}.isdisjoint(image.info):
            return np.array(image)
        storable = image.convert(_STORABLE_AS[image.mode]) if image.mode in _STORABLE_AS else image
        file, turn = BytesIO(), Image.Exif()  # of a TIFF's other tags some say how its own samples lay
        turn[ExifTags.Base.Orientation] = exif.get(ExifTags.Base.Orientation, 1)
        storable.save(file, format="TIFF" if storable.mode in _MODES_OF_TIFF else "PNG", exif=turn, compression="raw")
    return decode_image(file.getvalue(), name=name, max_pixels=max_pixels)


def open_image(data: bytes, *, name: str, max_pixels: int) -> tuple[str, ImageFile]:
    """The format and Pillow's image, its pixels not decoded yet. Raises: ImageError, as `decode_image`."""
    kind = _kind(data, name)
    if kind == "WebP":  # opening one allocates its canvas
        _check_pixels(webp_size(data), name, max_pixels)
    with mapped(name, kind):
        if kind == "PNG":
            return kind, _open_png(data, name=name, max_pixels=max_pixels)
        if kind == "JPEG":
            _check_head(data, name)
        if kind == "TIFF" and tiff_values(data) > MOST_TIFF_VALUES:
            raise ImageError(name, "has a tag of very many values; save it anew, with larger strips or tiles")
        if kind == "AVIF":
            check_frames(data, name, max_pixels)
        image = _opened(kind, data, name)
        _check_pixels(image.size, name, max_pixels)
        if kind == "JPEG" and data.count(b"\xff\xda") > _USUAL_SCANS:
            _check_scans(jpeg_scans(data), image.width * image.height, name)
        if isinstance(image, BmpImageFile) and image.tile[0].codec_name == "bmp_rle":
            _check_runs(len(data), image.width * image.height, name)
        if isinstance(image, TiffImageFile):
            tile = (image.tag_v2.get(_TIFF_TILE_WIDTH, 0), image.tag_v2.get(_TIFF_TILE_LENGTH, 0))
            _check_pixels(tile, name, max(max_pixels, 1 << 20))
            if image.tag_v2.get(_TIFF_COMPRESSION) in _TIFF_JPEGS:
                _check_tiff_scans(data, image, name)
            name_planes(image)
    return kind, image


def _open_png(data: bytes, *, name: str, max_pixels: int) -> ImageFile:
    """A PNG without the texts that no pixel needs: Pillow refuses more than 1 MB of one, and 64 MB of all."""
    parts = png_parts(data)
    if parts.chunks > MOST_PNG_CHUNKS:
        raise ImageError(name, f"has more than {MOST_PNG_CHUNKS:,} chunks; save it anew")
    image = _opened("PNG", parts.data, name)
    _check_pixels(image.size, name, max_pixels)
    if parts.icc_profile:
        image.info["icc_profile"] = parts.icc_profile
    if parts.significant_bits:
        image.info[_SIGNIFICANT_BITS] = parts.significant_bits
    image.info[_GREY] = parts.data[_PNG_COLOURS] == _PNG_GREY_WITH_OPACITY  # which Pillow loads as RGBA, with 16 bits
    if image.mode == "L" and isinstance(key := image.info.get("transparency"), int):
        image.info["transparency"] = key * 255 // ((1 << parts.data[_PNG_BITS]) - 1)  # as Pillow scales the samples
    return image


def _opened(kind: str, data: bytes, name: str) -> ImageFile:
    """Pillow's image, which has read the head."""
    file = FileHead(data, name)
    image = _PLUGINS[kind](file)
    file.opened()
    if kind == "AVIF":
        image.info.pop("xmp", None)  # an AVIF is turned by its own properties, which Pillow puts into its EXIF
    return image


def _check_head(data: bytes, name: str) -> None:
    """Refuse a JPEG of very many segments of EXIF, or of frames that no JPEG has."""
    exif, components = jpeg_head(data, _MAX_EXIF_PARTS)
    if exif > _MAX_EXIF_PARTS:
        raise ImageError(name, f"has more than {_MAX_EXIF_PARTS} segments of EXIF; save it anew, without its metadata")
    if components > _MAX_EXIF_PARTS:
        raise ImageError(name, "is a damaged JPEG file (very many components)")


def _check_scans(scans: int, pixels: int, name: str) -> None:
    """Refuse a JPEG of `pixels` that takes long because of its many scans."""
    if scans > _USUAL_SCANS and (scans > _MAX_JPEG_SCANS or scans * pixels > _MAX_SCANNED_PIXELS):
        raise ImageError(
            name,
            f"has {scans} scans of {pixels:,} pixels, as only decompression bombs do; save it anew, as a JPEG of "
            f"{_USUAL_SCANS} scans at most",
        )


def _check_runs(length: int, pixels: int, name: str) -> None:
    """Refuse a BMP of runs that takes long."""
    if max(length, pixels) > _MAX_RUN_STEPS:
        raise ImageError(name, f"is a BMP file of runs of {pixels:,} pixels in {length:,} bytes; save it anew, as PNG")


def _check_tiff_scans(data: bytes, image: TiffImageFile, name: str) -> None:
    """The same for a TIFF whose strips or tiles are JPEGs, any of which may be named many times."""
    tags = image.tag_v2
    places = [
        place
        for offsets, lengths in _TIFF_PLACES
        for place in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    ]
    if not places or (data.count(b"\xff\xda") <= _USUAL_SCANS and len(set(places)) == len(places)):
        return
    if sum(min(length, len(data)) for _, length in set(places)) > 2 * len(data):  # each would be walked to its end
        raise ImageError(name, "is a damaged TIFF file (strips or tiles that lie over one another)")
    scans = {place: jpeg_scans(data, place[0], sum(place)) for place in set(places)}
    mean = sum(scans[place] for place in places) / len(places)
    _check_scans(round(mean), image.width * image.height, name)


def _declared_white(image: ImageFile) -> int | None:
    """The value of white that a file with 16-bit samples tells."""
    if isinstance(image, TiffImageFile):
        declared = [image.tag_v2[tag] for tag in _TIFF_WHITE if tag in image.tag_v2]
        values = [max(one) if isinstance(one, tuple) else one for one in declared]
        return next((int(one) for one in values if one >= 1), None)
    bits = image.info.get(_SIGNIFICANT_BITS)
    return (1 << min(bits, 16)) - 1 if isinstance(bits, int) else None


def format_of(data: bytes) -> str | None:
    """The format that a file's first bytes tell; None for none that is read. 256 bytes are enough."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in _HEIF_BRANDS):
            return "HEIC"
    return None


def _kind(data: bytes, name: str) -> str:
    """The format by the first bytes."""
    if not data:
        raise ImageError(name, "is empty (0 bytes)")
    kind = format_of(data)
    if kind is not None:
        return kind
    raise ImageError(name, f"is not an image of a known format ({', '.join(_PLUGINS)}): it begins with {data[:12]!r}")


def _check_pixels(size: tuple[int, int] | None, name: str, max_pixels: int) -> None:
    if size is not None and size[0] * size[1] > max_pixels:
        raise ImageError(
            name,
            f"declares {size[0]} x {size[1]} pixels, more than the {max_pixels} that "
            "SEARCHANYTHING_INGEST__MAX_PIXELS allows",
        )


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1 to 8; 1 where none can be read. Pillow clears a TIFF's after turning it."""
    with suppress(*PILLOW_ERRORS):
        exif = Image.Image.getexif(image)  # PNG's own method would decode the pixels first
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        if isinstance(orientation, int) and 1 <= orientation <= 8:
            return orientation
    return 1


def _upright(pixels: RGBImage, orientation: int) -> RGBImage:
    """Undo an EXIF orientation (EXIF 2.32, tag 0x0112: where row 0 and column 0 of the stored pixels belong)."""
    if orientation >= 5:  # rows are columns
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _wide_grey(image: ImageFile) -> RGBImage:
    """Up to 16 bits of grey, scaled to 8."""
    bits, white_is_zero = 16, False
    if isinstance(image, TiffImageFile):
        bits = int(image.tag_v2.get(_TIFF_BITS, (16,))[0])
        white_is_zero = image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    samples: NDArray[np.uint16] = np.asarray(image)
    white = (1 << bits) - 1
    if bits == 16:
        white = white_of(int(samples.max()), _declared_white(image), pixels=samples.size)
    grey = Image.fromarray(to_8_bits(white, white_is_zero=white_is_zero)[samples])
    grey.info["icc_profile"] = image.info.get("icc_profile")
    pixels = _rgb(grey)
    if isinstance(transparent := image.info.get("transparency"), int):
        pixels[samples == transparent] = 255
    return pixels


def _wide_colours(image: ImageFile, again: Callable[[], ImageFile]) -> RGBImage:
    """16-bit colours, of which Pillow loaded the upper halves, in 8 bits; `again` opens the file once more."""
    key = image.info.pop("transparency", None)
    colours = in_own_range(image, again, _declared_white(image))
    pixels = _rgb(colours.convert("LA") if image.info.get(_GREY) else colours)  # so that a profile of grey fits
    if key is not None:
        pixels[has_colour(image, again, key)] = 255
    return pixels


def _clear_around(pixels: RGBImage, frame: tuple[int, int, int, int]) -> None:
    """Make white what a GIF's first frame leaves free: it is transparent, and Pillow paints it in some colour."""
    left, top, right, bottom = frame
    pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:] = 255, 255, 255, 255


def _rgb(image: Image.Image) -> RGBImage:
    """Any 8-bit mode to sRGB pixels, in stripes, so that copies stay small and in the processor's cache."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIPE_PIXELS // image.width)
    for top in range(0, image.height, rows):
        stripe = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(_flattened(stripe))
    return pixels


def _flattened(image: Image.Image) -> Image.Image:
    """Any 8-bit mode to sRGB, transparency over white."""
    profile = image.info.get("icc_profile")
    base, alpha = _split_alpha(image)
    if base.mode not in PROFILE_SPACES:
        base = base.convert("RGB")
    transform = srgb_transform(profile, base.mode) if profile and len(profile) <= MAX_PROFILE_BYTES else None
    rgb = transformed(base, transform) if transform else base if base.mode == "RGB" else base.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours without their transparency, and the transparency if there is any."""
    if "transparency" in image.info or image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    if image.mode == "RGBA":
        return image.convert("RGB"), image.getchannel("A")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    return (image.convert("L") if image.mode == "1" else image), None
