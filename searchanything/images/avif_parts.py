"""How many pixels a decoder of an AVIF goes through: its boxes may say 16 x 16 of a frame of 200 megapixels.

Read are the boxes of ISO/IEC 14496-12 and 23008-12 that say where coded images lie, and of these the sequence headers
of AV1 (Bitstream & Decoding Process Specification, 5.3 to 5.5). What is malformed is left for the decoder to refuse.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from searchanything.core.errors import ImageError

MOST_AVIF_PARTS: Final = 1 << 18  # items and units of all of them; what files have is a few thousand
_MOST_CODED: Final = 4  # times the pixels of an image: its opacity, thumbnails, a burst's other images
_MOST_ITEMS: Final = 4096  # as libheif has it
_REFERENCE_BYTES: Final = 8  # of an item that refers, or is referred to: 2 and more
_VERY_MANY: Final = "very many parts"
_LARGEST_HEAD: Final = 512  # bytes of a sequence header up to its size, of 32 operating points
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # kinds of units
_TRACK: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def check_frames(data: bytes, name: str, max_pixels: int) -> None:
    """Refuse an AVIF whose coded frames are much larger, or many more, than the image that it declares.

    Raises: ImageError; ValueError for more parts than `MOST_AVIF_PARTS`, IndexError for boxes that are cut off.
    """
    largest, together = avif_pixels(data)
    if largest > max_pixels:
        raise ImageError(
            name,
            f"has a coded frame of {largest} pixels, more than the {max_pixels} that SEARCHANYTHING_INGEST__MAX_PIXELS "
            "allows",
        )
    if together > _MOST_CODED * max_pixels:
        raise ImageError(
            name,
            f"has coded frames of {largest:,} pixels, {together:,} together, as only decompression bombs do; save it "
            "anew, as one image",
        )


def avif_pixels(data: bytes) -> tuple[int, int]:
    """Of an AVIF's coded images: pixels of the largest frame, and of all frames. Raises: as `check_frames`."""
    items: list[tuple[int, int]] = []
    left = MOST_AVIF_PARTS
    for places in (*_items(data), *_first_samples(data)):
        left -= len(places) + (sum(length for _, length in places) >> 12 if len(places) > 1 else 0)
        if left < 0:
            raise ValueError(_VERY_MANY)
        coded = b"".join([data[at : at + length] for at, length in places]) if len(places) > 1 else data
        start, length = places[0] if len(places) == 1 else (0, len(coded))
        pixels = frames = 0
        for kind, at in _units(coded, start, min(start + length, len(coded))):
            left -= 1
            if left < 0:
                raise ValueError(_VERY_MANY)
            frames += kind in (_FRAME_HEADER, _FRAME)
            if kind == _SEQUENCE:
                pixels = max(pixels, _frame_pixels(coded[at : at + _LARGEST_HEAD]))
        items.append((pixels, frames))
    largest = max((pixels for pixels, _ in items), default=0)
    return largest, sum((pixels or largest) * frames for pixels, frames in items)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box."""
    for _ in range(MOST_AVIF_PARTS):
        if start + 8 > end:
            return
        size, kind, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        last = end if size == 0 else min(start + size, end)
        if last < start + head:
            return
        yield kind, start + head, last
        start = last
    raise ValueError(_VERY_MANY)


def _within(data: bytes, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of the content of all boxes of a path."""
    for kind, first, last in _boxes(data, start, end):
        if kind == path[0]:
            yield from _within(data, path[1:], first, last) if path[1:] else [(first, last)]


def _items(data: bytes) -> Iterator[list[tuple[int, int]]]:
    """Where each coded image lies: offsets and lengths of its extents."""
    for start, end in _within(data, (b"meta",), 0, len(data)):
        inner = {kind: (first, last) for kind, first, last in _boxes(data, start + 4, end)}
        if b"iinf" not in inner or b"iloc" not in inner:
            continue
        _check_items(data, inner)
        at, last = inner[b"iinf"]
        coded = set()
        for kind, first, _ in _boxes(data, at + (8 if data[at] else 6), last):
            wide = data[first : first + 1] == b"\3"
            if kind == b"infe" and data[first + (10 if wide else 8) :][:4] == b"av01":
                coded.add(int.from_bytes(data[first + 4 : first + (8 if wide else 6)], "big"))
        own_start, own_end = inner.get(b"idat", (0, 0))
        for number, method, extents in _locations(data, *inner[b"iloc"]):
            if number in coded:
                base, most = (own_start, own_end) if method == 1 else (0, len(data))
                yield [(base + offset, min(length or most, most)) for offset, length in extents]


def _check_items(data: bytes, inner: Mapping[bytes, tuple[int, int]]) -> None:
    """Refuse very many items by whatever names them: libavif looks for each among all, with the interpreter held."""
    counts = [
        sum(1 for _ in _boxes(data, inner[b"iinf"][0] + (8 if data[inner[b"iinf"][0]] else 6), inner[b"iinf"][1]))
    ]
    at = inner[b"iloc"][0]
    counts.append(int.from_bytes(data[at + 6 : at + (10 if data[at] == 2 else 8)], "big"))
    if b"iprp" in inner:
        uses = [at for kind, at, _ in _boxes(data, *inner[b"iprp"]) if kind == b"ipma"]
        counts.append(sum(int.from_bytes(data[at + 4 : at + 8], "big") for at in uses))
    if b"iref" in inner:
        counts.append((inner[b"iref"][1] - inner[b"iref"][0]) // _REFERENCE_BYTES)
    if max(counts) > _MOST_ITEMS:
        raise ValueError(_VERY_MANY)


def _locations(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Of each entry of iloc: the item, the method of construction, and the extents."""

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    version, sizes = data[at], int.from_bytes(data[at + 4 : at + 6], "big")
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    at, left = at + 6, MOST_AVIF_PARTS
    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base, count, extents = number(base_size), number(2), []
        left -= 1 + count
        if left < 0:
            raise ValueError(_VERY_MANY)
        for _ in range(count):
            number(index_size if version else 0)
            extents.append((base + number(offset_size), number(length_size)))
        if at > end:
            return
        yield item, method, extents


def _first_samples(data: bytes) -> Iterator[list[tuple[int, int]]]:
    """Where the first sample of each track of a sequence lies."""
    for start, end in _within(data, _TRACK, 0, len(data)):
        inner = {kind: first for kind, first, _ in _boxes(data, start, end)}
        wide = b"co64" in inner
        try:
            (offset,) = struct.unpack_from(">Q" if wide else ">I", data, inner[b"co64" if wide else b"stco"] + 8)
            same, _, first = struct.unpack_from(">III", data, inner[b"stsz"] + 4)
        except (KeyError, struct.error):
            continue
        yield [(offset, same or first)]


def _units(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Kind of each unit (OBU), and where its content begins."""
    while at < end:
        head = data[at]
        at += 2 if head & 4 else 1
        size, shift = end - at, 0
        if head & 2:
            size = 0
            for byte in data[at : at + 8]:
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        yield head >> 3 & 15, at
        at += max(size, 0)


def _frame_pixels(header: bytes) -> int:
    """The most pixels that a frame has by a sequence header."""
    bits, left = int.from_bytes(header.ljust(_LARGEST_HEAD, b"\0"), "big"), 8 * _LARGEST_HEAD

    def read(count: int) -> int:
        nonlocal left
        left -= count
        return bits >> left & ((1 << count) - 1)

    read(4)
    if read(1):  # a still picture's short header
        read(5)
    else:
        _skip_operating_points(read)
    width_bits, height_bits = read(4) + 1, read(4) + 1
    return (read(width_bits) + 1) * (read(height_bits) + 1)


def _skip_operating_points(read: Callable[[int], int]) -> None:
    delay_bits = 0
    if read(1):  # timing
        read(64)
        if read(1):
            zeros = next((count for count in range(32) if read(1)), 32)
            read(zeros if zeros < 32 else 0)
        if read(1):
            delay_bits = read(5) + 1
            read(42)
    has_delay = read(1)
    for _ in range(read(5) + 1):
        read(12)
        if read(5) > 7:
            read(1)
        if delay_bits and read(1):
            read(2 * delay_bits + 1)
        if has_delay and read(1):
            read(4)
