"""Files that viewers show and a decoder's limits refuse: big texts, trailers, thumbnails, many scans, few bits."""

from __future__ import annotations

import gc
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from corpus import encode, exif_orientation, png_chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from searchanything.core.errors import ImageError
from searchanything.core.types import RGBImage
from searchanything.images.decoding import decode_image, decode_pil_image, image_size
from searchanything.images.file_parts import MOST_TIFF_VALUES, FileHead, jpeg_head, jpeg_scans, png_parts, tiff_values

NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8))
PNG = encode(NOISE, format="png")
JPEG = encode(NOISE, format="jpeg")
LONG = b"A" * 1_100_000  # Pillow takes 1 MB of a text
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CHUNKS = {
    "zTXt": png_chunk(b"zTXt", b"k\0\0" + zlib.compress(LONG)),
    "iTXt": png_chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(LONG)),
    "xmp": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
    "iCCP": png_chunk(b"iCCP", b"k\0\0" + zlib.compress(PROFILE + bytes(2_000_000))),
    "tEXt": png_chunk(b"tEXt", b"k\0" + b"x" * 70_000_000),
    "iCCP of 64 MB": png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(64 << 20))),
}


def decoded(data: bytes) -> RGBImage:
    return decode_image(data, name="x", max_pixels=100_000_000)


def with_chunk(chunk: bytes, *, behind: bool) -> bytes:
    place = len(PNG) - 12 if behind else 33
    return PNG[:place] + chunk + PNG[place:]


class TestPng:
    @pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
    @pytest.mark.parametrize("name", CHUNKS)
    def test_texts_and_profiles_of_any_length(self, name: str, behind: bool) -> None:
        data = with_chunk(CHUNKS[name], behind=behind)
        np.testing.assert_array_equal(decoded(data), np.asarray(NOISE))
        assert image_size(data, name="x", max_pixels=10_000) == (48, 64)

    def test_an_animation_with_a_long_text(self) -> None:
        data = encode(NOISE, format="png", save_all=True, append_images=[Image.new("RGB", NOISE.size)])
        np.testing.assert_array_equal(decoded(data[:33] + CHUNKS["zTXt"] + data[33:]), np.asarray(NOISE))

    @pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
    def test_an_orientation_in_a_text_still_counts(self, kind: bytes) -> None:
        xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>' + b" " * 1_100_000
        exif = b"\nexif\n%8d\n" % len(exif_orientation(6)) + exif_orientation(6).hex().encode() + b"\n"
        bodies = {
            b"zTXt": b"Raw profile type exif\0\0" + zlib.compress(exif),
            b"tEXt": b"Raw profile type exif\0" + exif,
            b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp),
        }
        data = with_chunk(png_chunk(kind, bodies[kind]), behind=True)
        assert image_size(data, name="x", max_pixels=10_000) == (64, 48)
        np.testing.assert_array_equal(decoded(data), np.rot90(np.asarray(NOISE), -1))

    def test_a_large_profile_is_used(self) -> None:
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        assert png_parts(with_chunk(CHUNKS["iCCP"], behind=False)).icc_profile == PROFILE + bytes(2_000_000)
        small = png_chunk(b"iCCP", b"k\0\0" + zlib.compress(lab))
        assert png_parts(with_chunk(small, behind=False)).icc_profile == lab

    def test_what_cannot_be_inflated_is_left_out(self) -> None:
        for chunk in (b"Raw profile type exif\0\0damage", b"k\0\0damage"):
            kind = b"iCCP" if chunk[:1] == b"k" else b"zTXt"
            parts = png_parts(with_chunk(png_chunk(kind, chunk), behind=False))
            assert (parts.data, parts.icc_profile) == (PNG, None)

    @pytest.mark.parametrize("name", ["zTXt", "iCCP"])
    def test_a_flipped_byte_in_a_text_is_damage(self, name: str) -> None:
        chunk = bytearray(CHUNKS[name])
        chunk[20] ^= 1
        with pytest.raises(ImageError, match="damaged PNG"):
            decoded(with_chunk(bytes(chunk), behind=False))

    @given(st.lists(st.tuples(st.sampled_from([b"tEXt", b"gAMA", b"pHYs", b"abCd", b"eXIf"]), st.binary(max_size=40))))
    @settings(max_examples=60, deadline=None)
    def test_no_chunk_that_may_be_ignored_costs_the_image(self, chunks: list[tuple[bytes, bytes]]) -> None:
        data = PNG[:33] + b"".join(png_chunk(kind, body) for kind, body in chunks) + PNG[33:]
        assert decoded(data).shape[2] == 3

    @given(st.binary(max_size=200), st.integers(0, len(PNG)))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes_have_parts(self, noise: bytes, cut: int) -> None:
        png_parts(PNG[:cut] + noise)


def scans_repeated(size: tuple[int, int], count: int) -> bytes:
    """A progressive JPEG whose next to last scan comes `count` times more: a few bytes, and all pixels each time."""
    data = encode(Image.new("RGB", size, (9, 9, 9)), format="jpeg", progressive=True)
    starts = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    return data[:-2] + data[starts[-2] : starts[-1]] * count + b"\xff\xd9"


class TestJpeg:
    @pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_scans_are_counted_in_the_image_alone(self, mode: str, progressive: bool) -> None:
        whole = encode(NOISE.convert(mode), format="jpeg", progressive=progressive)
        scans = jpeg_scans(whole)
        assert scans == whole.count(b"\xff\xda")  # noise of this size holds none by chance
        false = b"\xff\xda" * 600
        comment = b"\xff\xfe" + (len(false) + 2).to_bytes(2, "big") + false
        thumbnail = b"\xff\xe1" + (len(whole) + 8).to_bytes(2, "big") + b"Exif\0\0" + whole
        for data in (
            whole[:2] + comment + whole[2:],
            whole[:2] + thumbnail + whole[2:],
            whole + false,
            whole * 300,  # as many pictures in one file
        ):
            assert jpeg_scans(data) == scans
            np.testing.assert_array_equal(decoded(data), decoded(whole))
        assert jpeg_scans(b"junk" + whole + false, 4) == scans

    @pytest.mark.parametrize("alone", [b"\xff\x01", b"\xff\xd8"], ids=["TEM", "SOI"])
    def test_marks_that_stand_alone_hide_nothing(self, alone: bytes) -> None:
        """ITU-T T.81, B.1.1.3: no length follows them. Read as one, the two bytes behind them hid all that there is."""
        exif = b"\xff\xe1" + (8).to_bytes(2, "big") + b"Exif\0\0"
        data = JPEG[:2] + alone + exif + alone + JPEG[2:]
        assert (jpeg_head(data, 5), jpeg_scans(data)) == ((1, 3), jpeg_scans(JPEG))

    def test_many_scans_of_many_pixels_are_refused_before_they_are_decoded(self) -> None:
        data = scans_repeated((3000, 2000), 480)
        with pytest.raises(ImageError, match="has 490 scans of 6,000,000 pixels"):
            image_size(data, name="x", max_pixels=10_000_000)

    def test_many_scans_of_few_pixels_are_decoded(self) -> None:
        assert decoded(scans_repeated((64, 48), 480)).shape == (48, 64, 3)
        with pytest.raises(ImageError, match="scans"):
            decoded(scans_repeated((64, 48), 600))

    def test_strips_of_a_tiff_count_as_often_as_they_are_named(self) -> None:
        strip = scans_repeated((4000, 8), 80)
        rows, count = 8, 500
        tags = {256: (4, [4000]), 257: (4, [rows * count]), 258: (3, [8, 8, 8]), 259: (3, [7]), 262: (3, [6])}
        tags |= {273: (4, [8] * count), 277: (3, [3]), 278: (4, [rows]), 279: (4, [len(strip)] * count)}
        with pytest.raises(ImageError, match="90 scans of 16,000,000 pixels"):
            decoded(tiff(tags, strip))

    def test_modes_that_are_not_read_are_not_called_damage(self) -> None:
        """A TIFF of RGB in 32-bit floats or of JPEG 2000, a JPEG of 12 bits, a BMP of 3 bits a pixel."""
        floats = {256: (4, [2]), 257: (4, [2]), 258: (3, [32] * 3), 259: (3, [1]), 262: (3, [2]), 273: (4, [8])}
        floats |= {277: (3, [3]), 278: (4, [2]), 279: (4, [48]), 339: (3, [3] * 3)}
        jpeg = b"\xff\xd8\xff\xc1" + struct.pack(">HBHHB3B", 11, 12, 8, 8, 1, 1, 0x11, 0)
        bmp = struct.pack("<2sI4xIIiiHHI20x", b"BM", 70, 54, 40, 4, 4, 1, 3, 0) + bytes(16)
        refused = {
            "TIFF": (tiff(floats, bytes(48)), "unknown pixel mode"),
            "JPEG": (jpeg, "cannot handle 12-bit layers"),
            "BMP": (bmp, r"Unsupported BMP pixel depth \(3\)"),
        }
        for kind, (data, why) in refused.items():
            with pytest.raises(ImageError, match=rf"is a {kind} file of an unsupported kind \({why}\); convert"):
                decoded(data)
        with pytest.raises(ImageError, match=r"unsupported kind \(compression 34712\); save it anew"):
            decoded(tiff(floats | {259: (3, [34712])}, bytes(48)))

    @given(st.binary(max_size=300))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes_have_some_number_of_scans(self, noise: bytes) -> None:
        assert 0 <= jpeg_scans(b"\xff\xd8" + noise) <= noise.count(b"\xff\xda") + noise.count(b"\xff")

    @given(st.binary(max_size=300))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes_have_some_head(self, noise: bytes) -> None:
        exif, components = jpeg_head(b"\xff\xd8" + noise, 64)
        assert min(exif, components) >= 0
        for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            assert tiff_values(magic + noise) >= 0


@pytest.mark.parametrize("tag", [273, 324, 258])
def test_tags_of_a_tiff_are_counted_by_their_numbers(tag: int) -> None:
    tags = {256: (4, [1]), tag: (3, list(range(9))), 40_000: (4, list(range(99)))}  # Pillow looks at no such tag
    assert tiff_values(tiff(tags, bytes(8))) == 9
    assert tiff_values(tiff(tags, bytes(8))[:-200]) <= 9


def test_the_smallest_tiles_of_100_megapixels_are_no_bomb() -> None:
    """16 x 16 pixels (TIFF 6.0, section 15), and the most fractions that take no longer to read."""
    assert tiff_values(tiff({324: (4, [8] * (10_000 // 16) ** 2)}, bytes(8))) <= MOST_TIFF_VALUES
    head = b"II*\0" + struct.pack("<IHHHII", 8, 1, 282, 5, MOST_TIFF_VALUES // 8 + 1, 26)
    assert tiff_values(head + bytes(MOST_TIFF_VALUES)) > MOST_TIFF_VALUES


def test_a_tiff_with_a_tag_of_more_values_than_it_has_bytes_is_read_without_it() -> None:
    tags = {256: (4, [4]), 257: (4, [4]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8]), 277: (3, [1])}
    data = tiff(tags | {278: (4, [4]), 279: (4, [16]), 532: (4, [7, 8, 9])}, bytes(range(16)))
    damaged = data.replace(struct.pack("<HHI", 532, 4, 3), struct.pack("<HHI", 532, 4, 2**31 - 1))
    assert tiff_values(damaged) == 1
    assert decoded(damaged)[..., 0].tolist() == np.arange(16).reshape(4, 4).tolist()


def tiff(tags: dict[int, tuple[int, list[int]]], pixels: bytes) -> bytes:
    """A little-endian TIFF with its pixels at byte 8; type 3 is 16 bits, type 4 is 32."""
    size = {3: 2, 4: 4}
    directory = 8 + len(pixels) + len(pixels) % 2
    behind, entries = directory + 6 + 12 * len(tags), b""
    values = b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = b"".join(number.to_bytes(size[kind], "little") for number in numbers)
        if len(packed) > 4:
            place, values = behind + len(values), values + packed
            packed = place.to_bytes(4, "little")
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = b"II*\0" + directory.to_bytes(4, "little") + pixels + bytes(len(pixels) % 2)
    return head + len(tags).to_bytes(2, "little") + entries + bytes(4) + values


def opencv(pixels: np.ndarray, suffix: str) -> bytes:
    """A file of 16-bit samples by another library."""
    order = [2, 1, 0, 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else [2, 1, 0]
    done, data = cv2.imencode(f".{suffix}", pixels if pixels.ndim == 2 else pixels[..., order])
    assert done
    return data.tobytes()


def ramp(most: int) -> np.ndarray:
    """(40, 50, 3) of up to 16 bits, from 0 to `most`."""
    return np.random.default_rng(1).permutation(np.linspace(0, most, 6000)).astype(np.uint16).reshape(40, 50, 3)


def expected(samples: np.ndarray, white: int) -> np.ndarray:
    return np.floor(samples * 255.0 / white + 0.5).astype(np.uint8)


class TestDepth:
    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    def test_samples_of_fewer_bits_fill_the_range(self, suffix: str, bits: int) -> None:
        white = (1 << bits) - 1
        colours = ramp(white)
        opaque = np.full((40, 50, 1), 65535, np.uint16)
        # Full range: Pillow keeps the upper half of colours, which is at most one level away.
        near = {"rtol": 0, "atol": 1 if bits == 16 else 0}
        np.testing.assert_allclose(decoded(opencv(colours, suffix)), expected(colours, white), **near)
        grey = expected(colours[..., :1], white).repeat(3, axis=2)
        np.testing.assert_array_equal(decoded(opencv(colours[..., 0], suffix)), grey)
        clear = decoded(opencv(np.dstack([colours, opaque]), suffix))
        np.testing.assert_allclose(clear, expected(colours, white), **near)

    def test_grey_with_opacity(self) -> None:
        grey = ramp(4095)[..., 0]
        for full in (65535, 4095):
            samples = np.dstack([grey, np.full_like(grey, full)])
            raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
            head = struct.pack(">IIBBBBB", 50, 40, 16, 4, 0, 0, 0)
            data = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
            np.testing.assert_array_equal(decoded(b"\x89PNG\r\n\x1a\n" + data)[..., 0], expected(grey, 4095))

    def test_a_declared_depth_counts_where_the_samples_fit_into_it(self) -> None:
        dark = ramp(900)  # would be 10 bits by itself
        for bits, white in ((12, 4095), (9, 1023), (16, 1023)):
            data = opencv(dark, "png")
            data = data[:33] + png_chunk(b"sBIT", bytes([bits] * 3)) + data[33:]
            np.testing.assert_array_equal(decoded(data), expected(dark, white))
        grey = dark[..., 0]
        tags = {256: (4, [50]), 257: (4, [40]), 258: (3, [16]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8])}
        tags |= {277: (3, [1]), 278: (4, [40]), 279: (4, [4000]), 281: (3, [2000])}
        np.testing.assert_array_equal(decoded(tiff(tags, grey.tobytes()))[..., 0], expected(grey, 2000))

    @pytest.mark.parametrize("rows", [40, 16], ids=["one strip", "strips"])
    @pytest.mark.parametrize(
        ("photometric", "bands", "white"),
        [(1, 1, 65535), (1, 1, 4095), (2, 3, 65535), (2, 3, 4095), (2, 4, 65535), (2, 4, 4095), (5, 4, 65535)],
    )
    def test_planes_of_16_bits(self, rows: int, photometric: int, bands: int, white: int) -> None:
        """As ImageMagick and tifffile write them, one colour after the other (TIFF 6.0, PlanarConfiguration 2)."""
        colours = ramp(white)[..., : min(bands, 3)]
        stored = white - colours if photometric == 5 else colours
        fourth = np.full((40, 50, bands - stored.shape[2]), 0 if photometric == 5 else white, np.uint16)
        planes = np.moveaxis(np.dstack([stored, fourth]), 2, 0)
        strips = [plane[top : top + rows].tobytes() for plane in planes for top in range(0, 40, rows)]
        places = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
        tags = {256: (4, [50]), 257: (4, [40]), 258: (3, [16] * bands), 259: (3, [1]), 262: (3, [photometric])}
        tags |= {273: (4, places), 277: (3, [bands]), 278: (4, [rows]), 279: (4, [len(strip) for strip in strips])}
        tags |= {284: (3, [2])} | ({338: (3, [2])} if photometric == 2 and bands == 4 else {})
        seen = decoded(tiff(tags, b"".join(strips)))
        np.testing.assert_allclose(seen, np.broadcast_to(expected(colours, white), seen.shape), rtol=0, atol=1)

    def test_a_pil_image_of_planes(self) -> None:
        """Its tags say that samples lie in planes, which they do in its file alone."""
        colours = np.random.default_rng(5).integers(0, 256, (8, 16, 3), dtype=np.uint8)
        planes = b"".join(plane.tobytes() for plane in 255 - np.moveaxis(colours, 2, 0)) + bytes(8 * 16)  # no black
        tags = {256: [16], 257: [8], 258: [8] * 4, 259: [1], 262: [5], 273: [8, 136, 264, 392], 277: [4], 278: [8]}
        data = tiff({tag: (3, one) for tag, one in (tags | {279: [128] * 4, 284: [2]}).items()}, planes)
        opened = Image.open(io.BytesIO(data))
        assert (opened.mode, opened.getexif()[284]) == ("CMYK", 2)
        for found in (decoded(data), decode_pil_image(opened, name="x", max_pixels=10_000)):
            np.testing.assert_array_equal(found, colours)

    def test_black_stays_black(self) -> None:
        for pixels in (np.zeros((40, 50), np.uint16), np.zeros((40, 50, 3), np.uint16)):
            assert decoded(opencv(pixels, "png")).max() == 0

    def test_a_pil_image_of_12_bits(self) -> None:
        grey = ramp(4095)[..., 0]
        found = decode_pil_image(Image.fromarray(grey), name="x", max_pixels=10_000)
        np.testing.assert_array_equal(found[..., 0], expected(grey, 4095))


@pytest.mark.parametrize("format", ["webp", "tiff", "avif", "gif"])
def test_metadata_of_megabytes_costs_no_image(format: str) -> None:
    buffer, big = io.BytesIO(), b"x" * 3_000_000
    options = {"comment": big} if format == "gif" else {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0" + big}
    if format == "tiff":
        options = {"icc_profile": big, "description": "x" * 3_000_000}
    NOISE.save(buffer, format, **options)
    assert decoded(buffer.getvalue()).shape == (48, 64, 3)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif", "gif", "bmp"])
def test_a_decoded_file_is_let_go_at_once(format: str) -> None:
    """Not only when the collector comes by: a run over files of 50 MB would hold gigabytes of them until then."""
    data = encode(NOISE, format=format)
    gc.collect()
    gc.disable()
    try:
        assert decoded(data).shape == (48, 64, 3)
        assert image_size(data, name="x", max_pixels=10_000) == (48, 64)
        assert not [one for one in gc.get_objects() if isinstance(one, FileHead)]
    finally:
        gc.enable()


def test_exif_in_very_many_segments_is_refused_before_it_is_joined() -> None:
    """Pillow takes 8 s of 2·10⁵ such segments, 3 MB, and four times as long of twice as many."""
    image = encode(Image.new("RGB", (8, 8)), format="JPEG")
    part = b"\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0\0"
    named = b"\xff\xfe" + struct.pack(">H", 2 + 6 * 1000) + b"Exif\0\0" * 1000  # in a comment it is none
    for usual in (image[:2] + part * 64 + image[2:], image[:2] + named + image[2:], image + part * 100):
        assert decode_image(usual, name="usual", max_pixels=64).shape == (8, 8, 3)
    for read in (decode_image, image_size):
        with pytest.raises(ImageError, match="segments of EXIF"):
            read(image[:2] + part * 65 + image[2:], name="many", max_pixels=64)
