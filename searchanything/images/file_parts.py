"""What image files hold beside their pixels, read before a decoder sees it: the scans of a JPEG, the chunks of a PNG.

Decoders have limits for texts and profiles that no pixel needs, and none for scans. So the parts that a picture needs
are found here by the file's own structure; what lies behind a file's end, or inside a comment, counts for nothing.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import Image

MAX_PROFILE_BYTES: Final = 4 << 20  # printers' profiles reach 3 MB
_MAX_ORIENTING_BYTES: Final = 16 << 20  # of a text that may hold the EXIF orientation, inflated

# ITU-T T.81, B.1.1: fill bytes, and a code; FF 00 is data, FF D0 to FF D7 are marks inside a scan.
_JPEG_MARKER: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_SOS, _SOI, _EOI, _TEM, _APP1 = 0xDA, 0xD8, 0xD9, 0x01, 0xE1
EXIF: Final = b"Exif\0\0"

_PNG_HEAD: Final = 8 + 25  # signature and IHDR
_ORIENTING: Final = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_KEPT: Final = (b"tRNS",)  # of the chunks that a decoder may ignore


def jpeg_scans(data: bytes, start: int = 0, end: int | None = None) -> int:
    """How many scans a decoder of the JPEG at `data[start:end]` meets before the end of the image."""
    place, last = start + 2, len(data) if end is None else min(end, len(data))
    scans = 0
    while (found := _JPEG_MARKER.search(data, place, last)) is not None:
        marker, place = found[0][-1], found.end()
        if marker == _EOI:
            break
        if marker in (_TEM, _SOI):
            continue
        scans += marker == _SOS
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return scans


def jpeg_exif_parts(data: bytes, most: int) -> int:
    """How many segments of EXIF a JPEG has before its first scan; not counted beyond `most` + 1."""
    place, parts = 2, 0
    while parts <= most and (found := _JPEG_MARKER.search(data, place)) is not None:
        marker, place = found[0][-1], found.end()
        if marker in (_SOS, _EOI):
            break
        if marker in (_TEM, _SOI):
            continue
        parts += marker == _APP1 and data.startswith(EXIF, place + 2)
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return parts


@dataclass(frozen=True, slots=True)
class PngParts:
    """A PNG without what its pixels do not need. `data` is a PNG file, EXIF before the pixels.

    `icc_profile` is None where there is none that can be used; `significant_bits` is None where the file does not say.
    """

    data: bytes
    icc_profile: bytes | None = None
    significant_bits: int | None = None


def png_parts(data: bytes) -> PngParts:
    """The parts of a PNG that its picture depends on. Whatever is malformed is left for the decoder to refuse."""
    ahead: dict[bytes, bytes] = {}
    rest: list[memoryview] = []
    profile, bits, seen_profile = None, None, False
    view, place = memoryview(data), _PNG_HEAD
    while place + 12 <= len(data):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4], "big")
        needed = not kind[:1].islower() or kind in _KEPT
        if end > len(data) or not (needed or _is_sound(view[place:end])):
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
    return PngParts(b"".join([view[:_PNG_HEAD], *ahead.values(), *rest]), profile, bits)


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
