"""Decoding: golden pixels from independent computations, and a corpus of bad and odd files."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from corpus import Case, build_corpus, encode, exif_orientation, photo_like, png_chunk, png_file, tiff_file
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from searchanything.core.errors import ImageError
from searchanything.images.decoding import decode_image, image_size

MAX_PIXELS = 100_000_000

# EXIF 2.32, tag 0x0112: on which sides of the visible image row 0 and column 0 of the stored pixels lie
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@cache
def corpus() -> list[Case]:
    return build_corpus()


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, name="image", max_pixels=MAX_PIXELS)


def srgb_of_linear(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: linear light in [0, 1] to 8-bit sRGB."""
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded)


def icc_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 display profile made by hand (ICC.1:2001-04, sections 6.1 to 6.3)."""
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    d50 = struct.pack(">iii", 63190, 65536, 54061)
    head = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + d50
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65536) for value in values))


LINEAR = b"curv\0\0\0\0" + struct.pack(">I", 0)
WHITE = xyz(0.9642, 1.0, 0.8249)
PRIMARIES = (xyz(0.4361, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7141))  # sRGB's, for D50


def rgb_profile(red: bytes, green: bytes, blue: bytes) -> bytes:
    curves = {b"rTRC": LINEAR, b"gTRC": LINEAR, b"bTRC": LINEAR}
    return icc_profile(b"RGB ", {b"wtpt": WHITE, b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, **curves})


class TestCorpus:
    def test_is_large_enough(self) -> None:
        names = [case.name for case in corpus()]
        assert len(set(names)) == len(names) >= 300

    def test_every_file_gives_an_image_or_an_error_that_names_it(self) -> None:
        wrong: list[str] = []
        seen: Counter[str] = Counter()
        for case in corpus():
            started = time.process_time()
            try:
                image = decode_image(case.data, name=case.name, max_pixels=MAX_PIXELS)
            except ImageError as error:
                outcome, sound = "error", error.name == case.name and str(error).startswith(f"{case.name}: ")
            else:
                outcome = "image"
                sound = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
                sound &= image.flags.c_contiguous and image.flags.writeable
                sound &= case.size is None or image.shape[:2] == case.size
            sound &= case.expected in (outcome, "either") and time.process_time() - started < 5
            seen[outcome] += 1
            if not sound:
                wrong.append(f"{case.name}: {case.expected} expected, {outcome}")
        assert not wrong
        assert min(seen.values()) > 100

    def test_the_size_from_the_header_is_the_decoded_one(self) -> None:
        for case in corpus():
            if case.expected == "image":
                size = image_size(case.data, name=case.name, max_pixels=MAX_PIXELS)
                assert size == case.size, case.name

    def test_bombs_cost_little_memory(self, tmp_path: Path) -> None:
        for case in corpus():
            if case.name.startswith("bomb"):
                (tmp_path / case.name).write_bytes(case.data)
        program = (
            "import re, sys; from pathlib import Path\n"
            "from searchanything.images.decoding import decode_image\n"
            "from searchanything.core.errors import ImageError\n"
            "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024\n"
            "files = [path.read_bytes() for path in Path(sys.argv[1]).iterdir()]; before = peak()\n"
            "for data in files:\n"
            "    try: decode_image(data, name='bomb', max_pixels=100_000_000)\n"
            "    except ImageError: pass\n"
            "print(len(files), peak() - before)\n"
        )
        answer = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, text=True)
        count, grown_mib = map(int, answer.stdout.split())
        assert count > 15
        assert grown_mib < 50

    def test_threads_decode_the_same(self) -> None:
        cases = [case for case in corpus() if case.expected == "image"]
        alone = [decode(case.data) for case in cases]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(decode, [case.data for case in cases]))
        assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))

    def test_no_warning_escapes_and_no_filter_stays(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            with ThreadPoolExecutor(4) as pool:
                for case in corpus():
                    pool.submit(decode_image, case.data, name=case.name, max_pixels=MAX_PIXELS)
            assert list(warnings.filters) == filters
        assert not caught

    def test_warnings_of_others_are_heard_while_an_image_is_decoded(self) -> None:
        from searchanything.images.decoding import _quiet_pillow

        with _quiet_pillow(), pytest.warns(UserWarning, match="heard"):
            warnings.warn("heard", UserWarning, stacklevel=1)


class TestOrientation:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "avif", "jpeg"])
    def test_the_image_is_turned_as_the_standard_says(self, orientation: int, suffix: str) -> None:
        stored = np.random.default_rng(1).integers(0, 256, (2, 3, 3), dtype=np.uint8)
        block = 16 if suffix in ("jpeg", "avif") else 1  # lossy: blocks of one colour
        row_side, column_side = ORIENTATIONS[orientation]
        height, width = (2, 3) if row_side in ("top", "bottom") else (3, 2)
        seen = np.empty((height, width, 3), np.uint8)
        for row in range(2):
            for column in range(3):
                place = {"top": row, "left": row, "bottom": 1 - row, "right": 1 - row}[row_side]
                other = {"top": column, "left": column, "bottom": 2 - column, "right": 2 - column}[column_side]
                y, x = (place, other) if row_side in ("top", "bottom") else (other, place)
                seen[y, x] = stored[row, column]
        options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}, "avif": {"quality": 100}}
        image = Image.fromarray(np.kron(stored, np.ones((block, block, 1), np.uint8)))
        data = encode(image, format=suffix, exif=exif_orientation(orientation), **options.get(suffix, {}))

        decoded = decode(data)

        assert image_size(data, name="x", max_pixels=MAX_PIXELS) == decoded.shape[:2] == (height * block, width * block)
        middle = decoded[block // 2 :: block, block // 2 :: block].astype(int)
        assert np.abs(middle - seen).max() <= (6 if block > 1 else 0)

    def test_exif_after_the_pixels_of_a_png_counts(self) -> None:
        data = encode(Image.new("RGB", (3, 2)), format="png")
        end = data.rindex(b"IEND") - 4
        data = data[:end] + png_chunk(b"eXIf", exif_orientation(6)[6:]) + data[end:]
        assert image_size(data, name="x", max_pixels=10) == decode(data).shape[:2] == (3, 2)

    @pytest.mark.parametrize("suffix", ["png", "webp", "jpeg", "tiff", "avif"])
    def test_an_orientation_in_xmp_alone(self, suffix: str) -> None:
        """It counts, as for ImageMagick; but an AVIF is turned by its properties irot and imir alone."""
        xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        options = {"tiff": {"tiffinfo": {700: xmp}}, "png": {"pnginfo": PngInfo()}}.get(suffix, {"xmp": xmp})
        if suffix == "png":
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
        data = encode(Image.new("RGB", (32, 16)), format=suffix, **options)
        size = (16, 32) if suffix == "avif" else (32, 16)
        assert image_size(data, name="x", max_pixels=MAX_PIXELS) == decode(data).shape[:2] == size


class TestTransparency:
    def test_it_is_laid_over_white(self) -> None:
        colours = np.random.default_rng(2).integers(0, 256, (16, 16, 4), dtype=np.uint8)
        alpha = colours[..., 3:].astype(float) / 255
        expected = colours[..., :3] * alpha + 255 * (1 - alpha)
        decoded = decode(encode(Image.fromarray(colours), format="png"))
        assert np.abs(decoded - expected).max() <= 1

    def test_a_palette_with_transparency(self) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.putdata([0, 1, 2])
        decoded = decode(encode(image, format="png", transparency=bytes([255, 0, 128])))
        assert decoded[0, 0].tolist() == [10, 20, 30]
        assert decoded[0, 1].tolist() == [255, 255, 255]
        assert np.abs(decoded[0, 2] - np.array([162.1, 167.2, 172.2])).max() <= 1  # c · 128/255 + 255 · 127/255

    def test_a_colour_key(self) -> None:
        image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
        assert decode(encode(image, format="png", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]

    def test_a_wide_grey_key(self) -> None:
        image = Image.fromarray(np.array([[1000, 2000]], np.uint16))
        assert decode(encode(image, format="png", transparency=1000)).tolist() == [[[255] * 3, [8] * 3]]

    @pytest.mark.parametrize(
        ("bits", "row", "key", "seen"),
        [(2, b"\x1b", 2, [0, 85, 255, 255]), (4, b"\x05\xaf", 5, [0, 255, 170, 255])],
    )
    def test_a_grey_key_of_few_bits(self, bits: int, row: bytes, key: int, seen: list[int]) -> None:
        """As ImageMagick 6.9 and libvips 8.18 show it."""
        data = png_file(4, 1, png_chunk(b"tRNS", struct.pack(">H", key)), rows=b"\0" + row, bits=bits, colour=0)
        assert decode(data)[0, :, 1].tolist() == seen

    @pytest.mark.parametrize("key", [(0x1234, 0x5678, 0x9ABC), (0x12, 0x56, 0x9A)])
    def test_a_wide_colour_key_counts_with_all_its_bits(self, key: tuple[int, int, int]) -> None:
        """As ImageMagick 6.9 and libvips 8.18 show it: the second colour differs in its lower bits alone."""
        colours = (key, (key[0] ^ 1, *key[1:]), (0xFFFF, 0, 0x8000))
        rows = b"\0" + struct.pack(">9H", *(sample for colour in colours for sample in colour))
        data = png_file(3, 1, png_chunk(b"tRNS", struct.pack(">3H", *key)), rows=rows, bits=16)
        decoded = decode(data)[0].astype(int)
        assert decoded[0].tolist() == [255, 255, 255]
        assert np.abs(decoded[1:] - [[sample / 257 for sample in colour] for colour in colours[1:]]).max() <= 1

    def test_what_the_first_frame_of_a_gif_leaves_free_is_white(self) -> None:
        """GIF89a, 23: nothing is drawn there; browsers and ImageMagick's -coalesce leave it clear."""
        data = bytearray(encode(Image.new("RGB", (2, 1), (0, 0, 200)), format="gif"))
        data[6:10] = struct.pack("<2H", 4, 3)
        frame = data.index(b",\0\0\0\0\2\0\1\0")
        data[frame + 1 : frame + 5] = struct.pack("<2H", 1, 1)
        seen = np.full((3, 4, 3), 255)
        seen[1, 1:3] = (0, 0, 200)
        assert decode(bytes(data)).tolist() == seen.tolist()


class TestDepth:
    def test_sixteen_bits_are_scaled(self) -> None:
        samples = np.random.default_rng(3).integers(0, 65536, (9, 7), dtype=np.uint16)
        expected = np.round(samples / 65535 * 255).astype(np.uint8)
        for suffix in ("png", "tiff"):
            decoded = decode(encode(Image.fromarray(samples), format=suffix))
            assert np.array_equal(decoded, np.stack([expected] * 3, -1))

    def test_twelve_bits_are_scaled(self) -> None:
        tags = {256: (4, 2), 257: (4, 1), 258: (3, 12), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1), 279: (4, 3)}
        decoded = decode(tiff_file(tags, b"\xff\xf8\x00"))  # 4095 and 2048 of 4095
        assert decoded[0, :, 0].tolist() == [255, 128]

    def test_zero_may_be_white(self) -> None:
        tags = {256: (4, 2), 257: (4, 1), 258: (3, 16), 259: (3, 1), 262: (3, 0), 273: (4, 8), 277: (3, 1), 279: (4, 4)}
        assert decode(tiff_file(tags, b"\0\0\xff\xff"))[0, :, 0].tolist() == [255, 0]

    def test_one_bit(self) -> None:
        image = Image.fromarray(np.array([[True, False]]))
        assert decode(encode(image, format="png")).tolist() == [[[255] * 3, [0] * 3]]


class TestColour:
    def test_cmyk_without_a_profile(self) -> None:
        for ink, seen in (((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0)), ((0, 0, 0, 0), (255,) * 3)):
            data = encode(Image.new("CMYK", (16, 16), ink), format="jpeg", quality=100)
            assert np.abs(decode(data).astype(int) - np.array(seen)).max() <= 3

    def test_a_linear_profile_is_brought_to_srgb(self) -> None:
        ramp = np.stack([np.arange(256, dtype=np.uint8)[np.newaxis]] * 3, -1)
        data = encode(Image.fromarray(ramp), format="png", icc_profile=rgb_profile(*PRIMARIES))
        assert np.abs(decode(data) - srgb_of_linear(ramp / 255)).max() <= 2

    def test_primaries_are_respected(self) -> None:
        image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
        red, green, blue = PRIMARIES
        decoded = decode(encode(image, format="png", icc_profile=rgb_profile(blue, green, red))).astype(int)
        assert np.abs(decoded - np.array([[[0, 0, 255], [0, 255, 0], [255, 0, 0]]])).max() <= 2

    @pytest.mark.parametrize(("dtype", "suffix"), [(np.uint8, "png"), (np.uint16, "png"), (np.uint16, "tiff")])
    def test_a_grey_profile(self, dtype: type[np.generic], suffix: str) -> None:
        ramp = np.arange(256, dtype=np.uint8)[np.newaxis]
        stored = ramp.astype(dtype) * (257 if dtype is np.uint16 else 1)
        gamma_2_2 = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
        profile = icc_profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": gamma_2_2})
        decoded = decode(encode(Image.fromarray(stored), format=suffix, icc_profile=profile))
        assert np.abs(decoded[..., 1] - srgb_of_linear((ramp / 255) ** 2.2)).max() <= 2
        assert np.abs(decoded[..., 1].astype(int) - ramp).max() > 4  # so it is not simply passed through

    def test_a_grey_profile_of_grey_with_opacity(self) -> None:
        """64 of 255 in linear light is 137 in sRGB (IEC 61966-2-1); ImageMagick 6.9 shows the same."""
        profile = zlib.compress(icc_profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": LINEAR}))
        for bits, full in ((8, 255), (16, 65535)):
            samples = (full * 64 // 255, full, full * 64 // 255, 0, full, full)
            rows = b"\0" + b"".join(sample.to_bytes(bits // 8, "big") for sample in samples)
            data = png_file(3, 1, png_chunk(b"iCCP", b"k\0\0" + profile), rows=rows, bits=bits, colour=4)
            assert np.abs(decode(data)[0].astype(int) - [[137] * 3, [255] * 3, [255] * 3]).max() <= 2

    def test_a_profile_of_another_space_is_ignored(self) -> None:
        image = Image.fromarray(photo_like(np.random.default_rng(4)))
        profile = icc_profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": LINEAR})
        assert np.array_equal(decode(encode(image, format="png", icc_profile=profile)), np.array(image))

    def test_transparency_and_profile_together(self) -> None:
        image = Image.fromarray(np.array([[[64, 64, 64, 255], [64, 64, 64, 0]]], np.uint8))
        decoded = decode(encode(image, format="png", icc_profile=rgb_profile(*PRIMARIES)))
        assert abs(int(decoded[0, 0, 0]) - 137) <= 2  # 64/255 of linear light is 137 in sRGB
        assert decoded[0, 1].tolist() == [255, 255, 255]


class TestLimits:
    def test_the_pixel_limit_is_inclusive(self) -> None:
        data = encode(Image.new("RGB", (10, 10)), format="png")
        assert decode_image(data, name="x", max_pixels=100).shape == (10, 10, 3)
        for reader in (decode_image, image_size):
            with pytest.raises(ImageError, match=r"x: declares 10 x 10 pixels, more than the 99"):
                reader(data, name="x", max_pixels=99)

    def test_more_pixels_than_pillow_warns_of(self) -> None:
        data = encode(Image.new("1", (10_000, 9_500)), format="png")  # 95 million; Pillow warns from 89 on
        assert image_size(data, name="x", max_pixels=MAX_PIXELS) == (9_500, 10_000)

    def test_the_first_frame_is_taken(self) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ((200, 0, 0), (0, 200, 0))]
        for suffix, options in (("gif", {}), ("webp", {"lossless": True}), ("tiff", {}), ("png", {})):
            data = encode(frames[0], format=suffix, save_all=True, append_images=frames[1:], **options)
            assert np.array_equal(decode(data), np.array(frames[0])), suffix

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", r"is empty \(0 bytes\)"),
            (b"<html>", r"is not an image of a known format .* begins with b'<html>'"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a damaged HEIC file"),
            (b"\x89PNG\r\n\x1a\n", "is a damaged PNG file"),
        ],
    )
    def test_the_reason_is_in_words(self, data: bytes, reason: str) -> None:
        with pytest.raises(ImageError, match=reason) as caught:
            decode_image(data, name="a/b.jpg", max_pixels=1)
        assert caught.value.name == "a/b.jpg"
        assert "\n" not in caught.value.reason


TURN = Image.Transpose
HEIC_TURNS = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE}
HEIC_TURNS |= {6: TURN.ROTATE_90, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_270}


class TestHeic:
    """As phones write it; written here by libheif's x265, without loss where the test compares pixels."""

    PIXELS = np.random.default_rng(3).integers(0, 256, (48, 80, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)

    @classmethod
    def encoded(cls, image: Image.Image | None = None, **options: object) -> bytes:
        options = {"quality": -1, "chroma": 444, "matrix_coefficients": 0, **options}
        file = pillow_heif.from_pillow(image or Image.fromarray(cls.PIXELS))
        target = BytesIO()
        file.save(target, **options)
        return target.getvalue()

    def test_pixels_come_through(self) -> None:
        assert np.array_equal(decode(self.encoded()), self.PIXELS)

    @pytest.mark.parametrize("said", [1, 6, 8])
    @pytest.mark.parametrize("orientation", HEIC_TURNS)
    def test_stands_upright(self, orientation: int, said: int) -> None:
        """By its properties irot and imir, which libheif wrote here; whatever its EXIF says."""
        turned = Image.fromarray(self.PIXELS).transpose(HEIC_TURNS[orientation])
        data = self.encoded(turned, exif=exif_orientation(orientation))
        entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
        assert data.count(entry) == 1
        assert b"irot" in data or b"imir" in data
        data = data.replace(entry, struct.pack("<HHIHH", 0x0112, 3, 1, said, 0))
        assert image_size(data, name="x", max_pixels=MAX_PIXELS) == self.PIXELS.shape[:2]
        assert np.array_equal(decode(data), self.PIXELS)

    def test_transparency_lies_over_white(self) -> None:
        clear = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
        assert (decode(self.encoded(clear)) == 255).all()

    def test_too_many_pixels_are_refused_unread(self) -> None:
        with pytest.raises(ImageError, match="declares 160 x 96 pixels"):
            decode_image(self.encoded(), name="a.heic", max_pixels=1000)

    def test_cut_off_anywhere_is_an_error(self) -> None:
        data = self.encoded()
        for length in range(16, len(data) - 1, max(1, len(data) // 40)):
            with pytest.raises(ImageError):
                decode(data[:length])

    @pytest.mark.parametrize("seed", range(40))
    def test_damage_is_a_result_or_an_image_error(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        data = bytearray(self.encoded(quality=60))
        for position in rng.integers(12, 900, 6):
            data[position] = rng.integers(256)
        with contextlib.suppress(ImageError):
            assert decode(bytes(data)).ndim == 3
