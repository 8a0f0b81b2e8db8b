"""AVIFs whose boxes say less than their frames hold; the files are made by hand around frames of Pillow's encoder."""

from __future__ import annotations

import struct

import pytest
from corpus import encode
from PIL import Image

from searchanything.core.errors import ImageError
from searchanything.images.avif_parts import MOST_AVIF_PARTS, avif_pixels
from searchanything.images.decoding import decode_image, image_size

SIDE = 256
BOMB = "as only decompression bombs do"


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def full_box(kind: bytes, body: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + body)


def content(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    return data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]


def frame(side: int) -> bytes:
    return encode(Image.new("RGB", (side, side), "teal"), format="avif", speed=10)


def grid(rows: int, columns: int, cell: int, coded: bytes, *, times: int = 1) -> bytes:
    """A grid (ISO/IEC 23008-12, 6.6.2.3) whose cells all are the one frame in `coded`, `times` in a row."""
    payload, cells = content(coded, b"mdat") * times, range(2, 2 + rows * columns)
    size = struct.pack(">II", cell * columns, cell * rows)
    properties = full_box(b"ispe", struct.pack(">II", cell, cell)) + box(b"av1C", content(coded, b"av1C"))
    properties += full_box(b"ispe", size) + full_box(b"pixi", b"\3\x08\x08\x08")
    uses = struct.pack(">II", len(cells) + 1, 1) + bytes([2, 3, 4])
    uses += b"".join(struct.pack(">I", one) + bytes([3, 1, 0x82, 4]) for one in cells)
    kinds = full_box(b"infe", struct.pack(">IH4sx", 1, 0, b"grid"), version=3)
    kinds += b"".join(full_box(b"infe", struct.pack(">IH4sx", one, 0, b"av01"), version=3, flags=1) for one in cells)
    parts = struct.pack(f">IH{len(cells)}I", 1, len(cells), *cells)

    def meta(place: int) -> bytes:
        lies = b"\x44\0" + struct.pack(">I", len(cells) + 1) + struct.pack(">IHHHII", 1, 1, 0, 1, 0, 12)
        lies += b"".join(struct.pack(">IHHHII", one, 0, 0, 1, place, len(payload)) for one in cells)
        inner = full_box(b"hdlr", bytes(4) + b"pict" + bytes(13)) + full_box(b"pitm", struct.pack(">I", 1), version=1)
        inner += full_box(b"iloc", lies, version=2)
        inner += full_box(b"iinf", struct.pack(">I", len(cells) + 1) + kinds, version=1)
        inner += full_box(b"iref", box(b"dimg", parts), version=1)
        inner += box(b"iprp", box(b"ipco", properties) + full_box(b"ipma", uses, version=1))
        return full_box(b"meta", inner + box(b"idat", bytes([0, 1, rows - 1, columns - 1]) + size))

    head = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", payload)


def test_the_pixels_of_all_frames_are_counted() -> None:
    sequence = [Image.new("RGB", (50, 40), colour) for colour in ("red", "blue")]
    moving = encode(sequence[0], format="avif", save_all=True, append_images=sequence[1:])
    assert avif_pixels(encode(Image.new("RGB", (300, 70)), format="avif")) == (21_000, 21_000)
    assert avif_pixels(encode(Image.new("RGBA", (300, 70), (1, 2, 3, 4)), format="avif")) == (21_000, 42_000)
    assert avif_pixels(moving) == (2000, 4000)  # the first of the item and of the track, which are the same


def test_an_honest_grid_is_read() -> None:
    data = grid(3, 2, SIDE, frame(SIDE))
    assert avif_pixels(data) == (SIDE**2, 6 * SIDE**2)
    assert decode_image(data, name="x", max_pixels=6 * SIDE**2).shape == (3 * SIDE, 2 * SIDE, 3)


def test_a_frame_larger_than_it_says_is_refused() -> None:
    data = frame(SIDE)
    at = data.index(b"ispe") + 8
    lie = data[:at] + struct.pack(">II", 16, 16) + data[at + 8 :]
    assert image_size(lie, name="x", max_pixels=SIDE**2) == (16, 16)
    with pytest.raises(ImageError, match="has a coded frame of 65536 pixels, more than"):
        decode_image(lie, name="x", max_pixels=SIDE**2 - 1)


def test_a_grid_of_frames_larger_than_it_says_is_refused() -> None:
    """8 x 8 cells of 64 megapixels in 4.6 kB took 9 s, and 256 x 256 may be."""
    with pytest.raises(ImageError, match=BOMB):
        decode_image(grid(4, 4, 64, frame(SIDE)), name="x", max_pixels=SIDE**2)


def test_frames_in_front_of_the_one_that_is_shown_count() -> None:
    with pytest.raises(ImageError, match=BOMB):
        decode_image(grid(1, 2, SIDE, frame(SIDE), times=5), name="x", max_pixels=2 * SIDE**2)


def test_very_many_items_are_refused_before_they_are_looked_for() -> None:
    """65,025 of them took 31 s to open, during which no other thread ran."""
    data = grid(65, 64, 64, frame(64))
    with pytest.raises(ImageError, match="very many parts"):
        image_size(data, name="x", max_pixels=2**62)
    data = grid(2, 2, 64, frame(64))
    counts = data.index(b"ipma") + 8
    with pytest.raises(ImageError, match="very many parts"):
        image_size(data[:counts] + struct.pack(">I", 65_536) + data[counts + 4 :], name="x", max_pixels=2**62)


@pytest.mark.parametrize("junk", [box(b"free", b"") * (MOST_AVIF_PARTS + 1)])
def test_very_many_parts_hide_nothing(junk: bytes) -> None:
    data = frame(SIDE)
    with pytest.raises(ValueError, match="very many parts"):
        avif_pixels(data[:32] + junk + data[32:])
