"""What image files hold beside their pixels, read before a decoder sees it: the scans of a JPEG, the chunks of a PNG.

Decoders have limits for texts and profiles that no pixel needs, and none for scans. So the parts that a picture needs
are found here by the file's own structure; what lies behind a file's end, or inside a comment, counts for nothing.
Pillow keeps an object of each part of a head, which takes up to fifty times the part's own bytes: so parts are counted.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import Image

from searchanything.core.errors import ImageError

_ANEW: Final = "save it anew, without its metadata"
MAX_PROFILE_BYTES: Final = 4 << 20  # printers' profiles reach 3 MB
_MAX_ORIENTING_BYTES: Final = 16 << 20  # of a text that may hold the EXIF orientation, inflated

MOST_READS: Final = 1 << 19  # of a head: 3 for each part or so; what files have is a few thousand
MOST_PNG_CHUNKS: Final = 1 << 17  # 256 MB in the usual chunks of 8 kB are 2^15
MOST_TIFF_VALUES: Final = 1 << 19  # of a tag: tiles of 16 x 16 px, the smallest that TIFF has, in 134 megapixels

# ITU-T T.81, B.1.1: a code behind a fill byte, the last of any number; FF 00 is data, FF D0 to D7 are marks in a scan.
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOS, _SOI, _EOI, _TEM, _APP1 = 0xDA, 0xD8, 0xD9, 0x01, 0xE1
_FRAMES: Final = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
_PILLOW_ALONE: Final = frozenset({_TEM, _SOI, _EOI, 0xC8, *range(0xF0, 0xFE)})  # it reads no length behind these
EXIF: Final = b"Exif\0\0"

_TIFF_TEXTS: Final = (1, 2, 7)  # kinds of values that stay bytes
_TIFF_FRACTIONS: Final = (5, 10)  # Pillow takes 4 µs for each, eight and more times as long as for a whole number
_TIFF_OWN_TAGS: Final = 1024
_TIFF_MORE_TAGS: Final = (34665, 50717)  # EXIF, WhiteLevel: nobody looks at the values of others
_LAST_TIFF_KIND: Final = 18

_PNG_HEAD: Final = 8 + 25  # signature and IHDR
_ORIENTING: Final = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_KEPT: Final = (b"tRNS",)  # of the chunks that a decoder may ignore


def jpeg_scans(data: bytes, start: int = 0, end: int | None = None) -> int:
    """How many scans a decoder of the JPEG at `data[start:end]` meets before the end of the image.

    One of very many segments is not walked to its end: these count as scans, which no decoder should be given.
    """
    place, last = start + 2, len(data) if end is None else min(end, len(data))
    scans = 0
    for _ in range(MOST_READS):
        found = _JPEG_MARKER.search(data, place, last)
        if found is None or found[0][-1] == _EOI:
            return scans
        marker, place = found[0][-1], found.end()
        if marker in (_TEM, _SOI):
            continue
        scans += marker == _SOS
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return MOST_READS


def jpeg_head(data: bytes, most: int) -> tuple[int, int]:
    """What Pillow would keep of a JPEG's head: how many segments of EXIF, and components of all frames.

    Neither is counted much beyond `most`. The head goes up to the first scan, as Pillow reads it.
    """
    place, exif, components = 2, 0, 0
    for _ in range(MOST_READS):
        found = _JPEG_MARKER.search(data, place)
        if found is None or found[0][-1] == _SOS or exif > most or components > most:
            break
        marker, place = found[0][-1], found.end()
        if marker in _PILLOW_ALONE:
            continue
        length = max(2, int.from_bytes(data[place : place + 2], "big"))
        exif += marker == _APP1 and data.startswith(EXIF, place + 2)
        components += (length - 6) // 3 if marker in _FRAMES else 0  # rounded up
        place += length
    return exif, components


def webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a WebP canvas (RFC 9649, sections 2.5 to 2.7); None where the header is no valid one."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", head[6:10])
    return (width & 0x3FFF, height & 0x3FFF) if kind == b"VP8 " else None


def tiff_values(data: bytes) -> int:
    """How many values the largest tag of a TIFF has, of those that Pillow makes numbers of; 0 if none can be read.

    A fraction counts as eight. More values than the file has bytes are damage, and none of them is read.
    """
    order, wide = "<" if data[:2] == b"II" else ">", data[2:3] == b"+"
    entry = struct.Struct(f"{order}HHQ8x" if wide else f"{order}HHL4x")
    most = 0
    try:
        (place,) = struct.unpack_from(f"{order}Q" if wide else f"{order}L", data, 8 if wide else 4)
        (tags,) = struct.unpack_from(f"{order}Q" if wide else f"{order}H", data, place)
        place += 8 if wide else 2
        for number in range(min(tags, MOST_TIFF_VALUES)):
            tag, kind, values = entry.unpack_from(data, place + number * entry.size)
            numbers = kind not in _TIFF_TEXTS and kind <= _LAST_TIFF_KIND
            if numbers and values <= len(data) and (tag < _TIFF_OWN_TAGS or tag in _TIFF_MORE_TAGS):
                most = max(most, 8 * values if kind in _TIFF_FRACTIONS else values)
    except (struct.error, IndexError, OverflowError):  # cut off: the decoder says so
        pass
    return most


class FileHead(BytesIO):
    """A file of which at most `MOST_READS` pieces are read, until `opened`. Raises: ImageError, naming `name`."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name, self._left = name, MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        self._left -= 1
        if self._left < 0:
            raise ImageError(self._name, f"has very many parts before its pixels; {_ANEW}")
        return super().read(size)

    def opened(self) -> None:
        """What follows are pixels, which may lie in any number of pieces."""
        self.__class__ = _FilePixels  # no attribute of its own: a file that held itself would wait for the collector


class _FilePixels(FileHead):
    """The same file, of which any number of pieces is read. Pillow reads a BMP byte by byte."""

    read = BytesIO.read


@dataclass(frozen=True, slots=True)
class PngParts:
    """A PNG without what its pixels do not need. `data` is a PNG file, EXIF before the pixels.

    `icc_profile` is None where there is none that can be used; `significant_bits` is None where the file does not say.
    `chunks` is how many there were; of more than `MOST_PNG_CHUNKS` nothing is kept.
    """

    data: bytes
    chunks: int
    icc_profile: bytes | None = None
    significant_bits: int | None = None


def png_parts(data: bytes) -> PngParts:
    """The parts of a PNG that its picture depends on. Whatever is malformed is left for the decoder to refuse."""
    ahead: dict[bytes, bytes] = {}
    rest: list[memoryview] = []
    profile, bits, seen_profile = None, None, False
    view, place, chunks = memoryview(data), _PNG_HEAD, 0
    while place + 12 <= len(data):
        chunks += 1
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4], "big")
        needed = not kind[:1].islower() or kind in _KEPT
        if end > len(data) or chunks > MOST_PNG_CHUNKS or not (needed or _is_sound(view[place:end])):
            break
        body = view[place + 8 : end - 4]
        if needed:
            rest.append(view[place:end])
        elif kind == b"eXIf":
            ahead.setdefault(kind, bytes(view[place:end]))
        elif kind == b"iCCP" and not seen_profile:
            seen_profile, profile = True, _inflated(bytes(body).partition(b"\0")[2][1:], MAX_PROFILE_BYTES)
        elif kind == b"sBIT":
            bits = max(body, default=None)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _keep_orienting(ahead, kind, body)
        place = end
        if kind == b"IEND":
            break
    else:
        place = min(place, len(data))
    if not rest or bytes(rest[-1][4:8]) != b"IEND":
        rest.append(view[place:])
    whole = b"" if chunks > MOST_PNG_CHUNKS else b"".join([view[:_PNG_HEAD], *ahead.values(), *rest])
    return PngParts(whole, chunks, profile, bits)


def _is_sound(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _keep_orienting(ahead: dict[bytes, bytes], kind: bytes, body: memoryview) -> None:
    """Keep the first text of each name that may hold an EXIF orientation, not compressed any more."""
    name = bytes(body[:80]).partition(b"\0")[0]
    if name not in _ORIENTING or name in ahead:
        return
    text = bytes(body[len(name) + 1 :])
    if kind == b"zTXt":
        inflated = _inflated(text[1:], _MAX_ORIENTING_BYTES)
        chunk = None if inflated is None else _chunk(b"tEXt", name + b"\0" + inflated)
    elif kind == b"iTXt" and text[:1] == b"\1":
        inflated = _inflated(text[2:].split(b"\0", 2)[-1], _MAX_ORIENTING_BYTES)
        chunk = None if inflated is None else _chunk(b"iTXt", name + b"\0\0\0\0\0" + inflated)
    else:
        chunk = _chunk(kind, bytes(body)) if len(body) <= _MAX_ORIENTING_BYTES else None
    ahead[name] = chunk or b""


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _inflated(data: bytes, most: int) -> bytes | None:
    """A zlib stream's content; None where it is damaged or longer than `most`."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, most)
    except zlib.error:
        return None
    return None if stream.unconsumed_tail else inflated


def own_exif(image: Image.Image) -> Image.Exif:
    """EXIF alone: where it has no orientation, Pillow takes that of XMP, which turns no AVIF."""
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return exif
