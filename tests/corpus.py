"""Bad and odd image files, made from a seed: what buckets really hold, and what an attacker would put there.

`expected` says what decoding must give: `image` (its `size` is known), `error`, or `either` for random damage, where a
decoder may or may not notice.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

SEED = 20261123
_FORMATS = {
    "jpeg": {"format": "JPEG", "quality": 85},
    "progressive.jpeg": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "quality": 80},
    "lossless.webp": {"format": "WEBP", "lossless": True},
    "gif": {"format": "GIF"},
    "tiff": {"format": "TIFF"},
    "lzw.tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    "deflate.tiff": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "bmp": {"format": "BMP"},
    "avif": {"format": "AVIF", "quality": 60},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the corpus. `size` is (height, width) where an image is expected."""

    name: str
    data: bytes
    expected: Literal["image", "error", "either"]
    size: tuple[int, int] | None = None


def build_corpus() -> list[Case]:
    """All cases; the same bytes on every run with the same Pillow."""
    rng = np.random.default_rng(SEED)
    cases = [*_whole(rng), *_cut_off(rng), *_flipped(rng), *_foreign(rng), *_odd_modes(rng), *_odd_sizes(), *_bombs()]
    return [*cases, *_bad_metadata(rng)]


def encode(image: Image.Image, **options: object) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def photo_like(rng: np.random.Generator, height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    """Smooth colours with some noise, (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / (9 + 4 * band) + y / (7 + 3 * band)) for band in range(3)]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(width: int, height: int, *extra: bytes, rows: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    """A PNG of hand-made chunks: header, `extra`, one IDAT of compressed `rows`, end."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    tail = png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + tail


def tiff_file(tags: dict[int, tuple[int, int]], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag -> (type, value), all single values; `body` begins at byte 8."""
    directory = struct.pack("<H", len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + struct.pack("<I", 0)


def exif_orientation(orientation: int) -> bytes:
    """An EXIF block with that orientation alone."""
    return b"Exif\0\0" + tiff_file({0x0112: (3, orientation)})


def _whole(rng: np.random.Generator) -> Iterator[Case]:
    image = Image.fromarray(photo_like(rng))
    for suffix, options in _FORMATS.items():
        yield Case(f"whole.{suffix}", encode(image, **options), "image", (60, 90))


def _cut_off(rng: np.random.Generator) -> Iterator[Case]:
    """Every format ended at many points. What ends within its header or in the middle of its pixels must not pass."""
    image = Image.fromarray(photo_like(rng))
    for suffix, options in _FORMATS.items():
        data = encode(image, **options)
        for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            yield Case(f"cut-{share}.{suffix}", data[: max(4, int(len(data) * share))], "error")
        for missing in (1, 2, 8):  # an end mark alone is missing: some decoders need none
            yield Case(f"short-by-{missing}.{suffix}", data[:-missing], "either")


def _flipped(rng: np.random.Generator) -> Iterator[Case]:
    """Random bits flipped, and blocks zeroed: in the first bytes, anywhere, and many at once."""
    image = Image.fromarray(photo_like(rng))
    for suffix, options in _FORMATS.items():
        data = (
            encode(image, exif=exif_orientation(1), **options)
            if suffix not in ("gif", "bmp")
            else encode(image, **options)
        )
        for number in range(14):
            damaged = bytearray(data)
            end = min(len(data), 120) if number % 2 else len(data)
            for _ in range(1 if number < 8 else 30):
                damaged[rng.integers(4, end)] ^= 1 << rng.integers(8)
            yield Case(f"flipped-{number}.{suffix}", bytes(damaged), "either")
        start = len(data) // 2
        yield Case(f"zeroed.{suffix}", data[:start] + bytes(len(data) // 4) + data[start + len(data) // 4 :], "either")


def _foreign(rng: np.random.Generator) -> Iterator[Case]:
    """Other things under an image's name."""
    foreign = {
        "empty.jpg": b"",
        "one-byte.jpg": b"\xff",
        "html.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "xml-error.jpg": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "pdf.png": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "zip.png": b"PK\x03\x04" + bytes(60),
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "text.bmp": b"BMW is a maker of cars, and this is a text about it. " * 4,
        "wave.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        "video.avif": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(60),
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60),
        "zeros.jpg": bytes(5000),
        "noise.jpg": rng.integers(0, 256, 5000, dtype=np.uint8).tobytes(),
        "lfs-pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "gzip.jpg": b"\x1f\x8b\x08\0" + bytes(50),
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, data in foreign.items():
        yield Case(name, data, "error")
    starts = {"jpg": b"\xff\xd8\xff\xe0", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "tif": b"II*\0", "bmp": b"BM"}
    starts |= {"webp": b"RIFF\xff\0\0\0WEBPVP8 ", "avif": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif"}
    for suffix, start in starts.items():
        yield Case(f"magic-only.{suffix}", start, "error")
        yield Case(f"magic-zeros.{suffix}", start + bytes(500), "error")
        noise = rng.integers(0, 256, 500, dtype=np.uint8).tobytes()
        yield Case(f"magic-noise.{suffix}", start + noise, "error")


def _odd_modes(rng: np.random.Generator) -> Iterator[Case]:
    """Every way to store colours that these formats know."""
    rgb = Image.fromarray(photo_like(rng, 20, 30))
    size = (20, 30)
    alpha = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        for suffix, options in (("png", {}), ("tiff", {}), ("gif", {}), ("webp", {}), ("avif", {})):
            source = rgba if mode in ("LA", "RGBA") else rgb
            yield Case(f"mode-{mode}.{suffix}", encode(source.convert(mode), format=suffix, **options), "image", size)
    for mode in ("L", "CMYK"):
        yield Case(f"mode-{mode}.jpeg", encode(rgb.convert(mode), format="jpeg"), "image", size)
    for mode in ("CMYK", "YCbCr", "LAB"):
        yield Case(f"mode-{mode}.tiff", encode(rgb.convert(mode), format="tiff"), "image", size)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield Case(f"mode-{mode}.bmp", encode(rgb.convert(mode), format="bmp"), "image", size)
    wide = Image.fromarray(rng.integers(0, 65536, size, dtype=np.uint16))
    for suffix in ("png", "tiff"):
        yield Case(f"16-bit.{suffix}", encode(wide, format=suffix), "image", size)
    palette = rgb.convert("P")
    yield Case("palette-alpha.png", encode(palette, format="png", transparency=bytes(range(256))), "image", size)
    yield Case("palette-index.png", encode(palette, format="png", transparency=3), "image", size)
    yield Case("colour-key.png", encode(rgb, format="png", transparency=(1, 2, 3)), "image", size)
    for mode, dtype in (("I", np.int32), ("F", np.float32)):
        yield Case(f"mode-{mode}.tiff", encode(Image.fromarray(np.ones(size, dtype)), format="tiff"), "error")
    frames = [rgb, rgb.rotate(90), rgb.rotate(180)]
    for suffix in ("gif", "webp", "png", "tiff", "avif"):
        data = encode(frames[0], format=suffix, save_all=True, append_images=frames[1:])
        yield Case(f"animated.{suffix}", data, "image", size)


def _odd_sizes() -> Iterator[Case]:
    """Images of one pixel, and of one row or column."""
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (3, 1), (16_383, 2)):
        image = Image.new("RGB", (width, height), (10, 200, 30))
        for suffix in ("jpeg", "png", "gif", "tiff", "bmp", "webp", "avif"):
            if suffix == "webp" and max(width, height) > 16_383:
                continue
            yield Case(f"{width}x{height}.{suffix}", encode(image, format=suffix), "image", (height, width))
    nothing = {"png": png_file(0, 0), "gif": b"GIF89a" + bytes(7) + b";"}
    nothing["tiff"] = tiff_file({256: (4, 0), 257: (4, 0), 258: (3, 8), 262: (3, 1), 273: (4, 8), 279: (4, 0)})
    for suffix, data in nothing.items():
        yield Case(f"0x0.{suffix}", data, "error")


def _bombs() -> Iterator[Case]:
    """Small files that ask for much memory or time."""
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (100_000, 1_001)):
        yield Case(f"bomb-{width}x{height}.png", png_file(width, height, rows=bytes(1 << 16)), "error")
    text = zlib.compress(bytes(64 << 20), 9)  # no pixel needs it, so it is never inflated
    yield Case("bomb-ztxt.png", png_file(1, 1, png_chunk(b"zTXt", b"k\0\0" + text), rows=bytes(4)), "image", (1, 1))
    yield Case(
        "bomb-itxt.png", png_file(1, 1, png_chunk(b"iTXt", b"k\0\1\0\0\0" + text), rows=bytes(4)), "image", (1, 1)
    )
    yield Case("bomb-iccp.png", png_file(1, 1, png_chunk(b"iCCP", b"k\0\0" + text), rows=bytes(4)), "image", (1, 1))
    chunk = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))
    yield Case("bomb-many-ztxt.png", png_file(1, 1, *[chunk] * 500, rows=bytes(4)), "image", (1, 1))
    yield Case("bomb-idat.png", png_file(1, 1, rows=bytes(32 << 20)), "either")
    yield Case("bomb.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF7, 0, 0) + bytes(768) + b";", "error")
    frame = b"," + struct.pack("<HHHHB", 60_000, 60_000, 5_000, 5_000, 0) + b"\x02\x02\x44\x01\0;"
    canvas = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    yield Case("bomb-frame.gif", canvas + frame, "error")
    extended = struct.pack("<I", 0) + (16_382).to_bytes(3, "little") * 2
    still = encode(Image.new("RGB", (8, 8)), format="webp")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended + still
    yield Case("bomb-canvas.webp", b"RIFF" + struct.pack("<I", len(body)) + body, "error")
    tags = {256: (4, 200_000), 257: (4, 200_000), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8), 279: (4, 4)}
    yield Case("bomb.tiff", tiff_file(tags, bytes(4)), "error")
    tiled = {256: (4, 10), 257: (4, 10), 258: (3, 8), 259: (3, 8), 262: (3, 1)}
    tiled |= {322: (4, 65_536), 323: (4, 65_536), 324: (4, 8), 325: (4, 4)}
    yield Case("bomb-tile.tiff", tiff_file(tiled, bytes(4)), "error")
    many = tags | dict.fromkeys(range(40000, 44000), (4, 16777215))
    yield Case("bomb-tags.tiff", tiff_file(many, bytes(4)), "error")
    loop = bytearray(
        tiff_file({256: (4, 1), 257: (4, 1), 258: (3, 8), 262: (3, 1), 273: (4, 8), 279: (4, 1)}, bytes(4))
    )
    loop[-4:] = struct.pack("<I", 12)  # the next directory is this one
    yield Case("loop.tiff", bytes(loop), "either")
    header = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54)
    bmp = header + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(4)
    yield Case("bomb.bmp", bmp, "error")
    lines = _bmp_of_runs(10_000, 10_000, b"\1\5\0\0" * 10_000)
    yield Case("bomb-lines.bmp", lines, "error")
    yield Case("bomb-runs.bmp", _bmp_of_runs(5_000, 5_000, b"\1\5" * (10 << 20)), "error")
    jpeg = bytearray(encode(Image.new("L", (8, 8)), format="jpeg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    yield Case("bomb.jpeg", bytes(jpeg), "error")
    yield Case("bomb-scans.jpeg", _many_scans(2_000), "error")
    yield from _bombs_of_many_parts()


def _bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 256 colours in runs (RLE8)."""
    head = b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 0, 0) + bytes(1024) + runs


def _bombs_of_many_parts() -> Iterator[Case]:
    """Heads of so many parts that an object of each is fifty times as large, and what is repeated by a few bytes."""
    jpeg = encode(Image.new("RGB", (16, 16)), format="jpeg")
    frame = b"\x08\0\x10\0\x10\3" + b"\1\x11\0" * 6_000
    frame = b"\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame
    behind_end = b"\xff\xd9" + frame * 200
    hidden = b"\xff\xf0\xff\xff" + (frame * 3).ljust(65_533, b"a")  # Pillow reads no length there, and so finds them
    heads = {"comments": b"\xff\xfe\0\2" * 1_000_000, "frames": frame * 200, "end": behind_end, "hidden": hidden * 70}
    for name, head in heads.items():
        yield Case(f"bomb-{name}.jpeg", jpeg[:2] + head + jpeg[2:], "error")
    run = jpeg[:2] + b"\xff" * 120_000 + b"\0" + jpeg[2:] + b"\xff\xda" * 30
    yield Case("bomb-run.jpeg", run, "image", (16, 16))
    for kind in (b"IDAT", b"PLTE", b"ABCD"):
        chunks = png_chunk(kind, b"") * 400_000
        yield Case(f"bomb-{kind.decode()}.png", png_file(1, 1, chunks, rows=bytes(4)), "error")
    screen = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    picture = b"," + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\2\2\x4c\1\0;"
    yield Case("bomb-comment.gif", screen + b"!\xfe" + b"\2ab" * 1_500_000 + b"\0" + picture, "error")
    yield Case("bomb-comments.gif", screen + b"!\xfe\1a\0" * 1_000_000 + picture, "error")
    yield Case("bomb-strips.tiff", _tiff_of_strips(1_000_000), "error")
    strip = jpeg[:-2] + b"\xff\xfe\0\2" * 50_000 + b"\xff\xda\0\2" * 30
    yield Case("bomb-strips-over.tiff", _tiff_of_strips(2_000, compression=7, each=strip), "error")
    for name, element, count in (("matrix", _MATRIX, 100_000), ("table", _TABLE, 2_000)):
        profile = _profile_of_programs(element, count)
        data = encode(Image.new("RGB", (16, 16)), format="png", icc_profile=profile)
        yield Case(f"bomb-{name}.png", data, "image", (16, 16))


_MATRIX = b"matf" + bytes(4) + struct.pack(">HH12f", 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
_TABLE = b"clut" + bytes(4) + struct.pack(">HH", 3, 3) + bytes([16] * 3 + [0] * 13) + struct.pack(">f", 0.5) * 3 * 16**3


def _tiff_of_strips(count: int, *, compression: int = 1, each: bytes = b"") -> bytes:
    """A TIFF one pixel wide whose strips all lie in the same place, and are as long as `each`, or 8 bytes."""
    offsets = struct.pack("<I", 8) * count
    lengths = struct.pack("<I", len(each) or 8) * count
    if each:  # they begin one byte after the other
        offsets = b"".join(struct.pack("<I", 8 + number) for number in range(count))
        each += bytes(count)
    body = each + offsets + lengths
    tags = {256: (4, 1), 257: (4, count), 258: (3, 8), 259: (3, compression), 262: (3, 1), 278: (4, 1)}
    tags |= {273: (4, 8 + len(each)), 279: (4, 8 + len(each) + len(offsets))}
    file = bytearray(tiff_file(tags, body))
    for tag in (273, 279):
        place = file.index(struct.pack("<HHI", tag, 4, 1), 8 + len(body))
        file[place + 4 : place + 8] = struct.pack("<I", count)
    return bytes(file)


def _profile_of_programs(element: bytes, count: int) -> bytes:
    """A profile of sRGB with a tag D2B0 that names one element `count` times (ICC.1:2022, 10.16)."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = int.from_bytes(profile[128:132], "big")
    table, body = bytearray(profile[132 : 132 + 12 * tags]), profile[132 + 12 * tags :]
    for at in range(4, len(table), 12):  # one more entry comes before them
        table[at : at + 4] = struct.pack(">I", int.from_bytes(table[at : at + 4], "big") + 12)
    program = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, count)
    program += struct.pack(">II", 16 + 8 * count, len(element)) * count + element
    table += struct.pack(">4sII", b"D2B0", 132 + len(table) + 12 + len(body), len(program))
    whole = profile[:128] + struct.pack(">I", tags + 1) + table + body + program
    return struct.pack(">I", len(whole)) + whole[4:8] + b"\x04\x30" + whole[10:]


def _many_scans(count: int) -> bytes:
    """A progressive JPEG of 1500 x 1500 px that refines the same coefficients again and again."""
    whole = encode(Image.new("L", (1500, 1500), 99), format="jpeg", progressive=True)
    first = whole.index(b"\xff\xda")
    second = whole.index(b"\xff\xda", first + 2)
    return whole[:second] + whole[first:second] * count + b"\xff\xd9"


def _bad_metadata(rng: np.random.Generator) -> Iterator[Case]:
    """Sound pixels beside broken or strange EXIF blocks and colour profiles: these must not cost the image."""
    image = Image.fromarray(photo_like(rng))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles = {"foreign": b"this is no profile", "cut": srgb[: len(srgb) // 2], "srgb": srgb, "zeros": bytes(128)}
    exifs = {
        "empty": b"",
        "cut": exif_orientation(6)[:12],
        "noise": b"Exif\0\0" + rng.integers(0, 256, 200, dtype=np.uint8).tobytes(),
        "far": b"Exif\0\0II*\0" + struct.pack("<I", 0xFFFFFFF0),
        "orientation-0": exif_orientation(0),
        "orientation-99": exif_orientation(99),
        "huge-count": b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 0x7FFFFFFF, 8, 0),
    }
    for suffix in ("jpeg", "png", "webp"):
        for name, profile in profiles.items():
            yield Case(f"profile-{name}.{suffix}", encode(image, format=suffix, icc_profile=profile), "image", (60, 90))
        for name, exif in exifs.items():
            yield Case(f"exif-{name}.{suffix}", encode(image, format=suffix, exif=exif), "image", (60, 90))
