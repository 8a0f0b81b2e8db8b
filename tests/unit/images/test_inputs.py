"""What people hand over and cannot be meant: told at once, by name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from corpus import exif_orientation
from PIL import ExifTags, Image

from searchanything import wiring
from searchanything.core.errors import ImageError, ModelError, UsageError
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef, RGBImage
from searchanything.images.inputs import load_image


def unread(image: ImageRef) -> bytes:
    raise AssertionError(f"nobody should have asked for {image}")


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/", "s3:///key"])
def test_a_bucket_without_a_key_is_no_image(place: str) -> None:
    with pytest.raises(UsageError, match=place):
        load_image(place, read_object=unread, max_pixels=100)


def test_a_key_may_hold_slashes() -> None:
    asked = []

    def read(image: ImageRef) -> bytes:
        asked.append(image)
        return b""

    with pytest.raises(ImageError, match="bucket/a/b c"):
        load_image("s3://bucket/a/b c.png", read_object=read, max_pixels=100)
    assert asked == [ImageRef("bucket", "a/b c.png")]


def from_pil(image: Image.Image, max_pixels: int = 10_000) -> RGBImage:
    return load_image(image, read_object=unread, max_pixels=max_pixels)


@pytest.mark.parametrize("mode", ["HSV", "RGBX", "RGBa", "PA", "La", "CMYK", "YCbCr", "LA", "P", "1"])
def test_every_mode_of_a_pil_image_is_read(mode: str) -> None:
    steps = {"PA": ["LA", "PA"], "La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"]}.get(mode, [mode])
    image = Image.new("RGB", (4, 3), (255, 255, 255))
    for step in steps:
        image = image.convert(step)
    np.testing.assert_array_equal(from_pil(image), np.full((3, 4, 3), 255, np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_a_pil_image_of_a_tiff_is_turned_once(mode: str, orientation: int) -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "TIFF", exif=exif_orientation(orientation))
    seen = load_image(file.getvalue(), read_object=unread, max_pixels=100)
    assert seen.shape[:2] == ((4, 6) if orientation < 5 else (6, 4))
    for opened in (Image.open(io.BytesIO(file.getvalue())), Image.open(io.BytesIO(file.getvalue()))):
        np.testing.assert_array_equal(from_pil(opened), seen)
        np.testing.assert_array_equal(from_pil(opened), seen)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_range_are_no_image(mode: str) -> None:
    with pytest.raises(ImageError, match="32-bit samples"):
        from_pil(Image.new(mode, (4, 3)))


@pytest.mark.parametrize("orientation", [None, 8])
def test_a_pil_image_of_an_avif_is_turned_as_its_file(orientation: int | None) -> None:
    """By its own properties: XMP's orientation does not count, and is there as well."""
    file, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (16, 8)).save(file, "AVIF", exif=exif, xmp=xmp)
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert from_pil(image).shape == ((8, 16, 3) if orientation is None else (16, 8, 3))


def test_a_transparent_colour_lies_over_white_as_in_its_file() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (9, 9, 9)).save(file, "PNG", transparency=(9, 9, 9))
    np.testing.assert_array_equal(from_pil(Image.open(file)), np.full((3, 4, 3), 255, np.uint8))


def test_a_pil_image_whose_file_is_cut_off_or_closed_is_named() -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    with pytest.raises(ImageError, match="<PIL image>: is a JPEG file that is cut off"):
        from_pil(Image.open(io.BytesIO(file.getvalue()[:2000])))
    closed = Image.open(file)
    closed.close()
    with pytest.raises(ImageError, match="<PIL image>: is a damaged JPEG file"):
        from_pil(closed)


def test_limits_hold_for_pil_images() -> None:
    with pytest.raises(ImageError, match="declares 4 x 3 pixels"):
        from_pil(Image.new("RGB", (4, 3)), max_pixels=11)
    with pytest.raises(ImageError, match="has no pixels"):
        from_pil(Image.new("RGB", (0, 3)))


def test_a_path_that_no_system_can_have_is_named() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        load_image("a\0b.png", read_object=unread, max_pixels=100)


def test_what_is_no_hash_layer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "layer.safetensors"
    file.write_bytes(b"something else")
    with pytest.raises(ModelError, match=str(file)):
        wiring.hash_layer_of("pico", file, Settings())


@pytest.mark.parametrize(
    ("shape", "dtype", "hints"),
    [
        ((4, 5), np.uint8, ["numpy.stack([array] * 3, axis=-1)"]),
        ((4, 5, 1), np.uint8, ["array.repeat(3, axis=2)"]),
        ((4, 5, 4), np.uint8, ["array[..., :3]"]),
        ((3, 4, 5), np.uint8, ["array.transpose(1, 2, 0)"]),
        ((1, 4, 5, 3), np.uint8, ["array[0]"]),
        ((4, 5, 3), np.float32, ["(255 * array).round().astype('uint8')"]),
        ((4, 5), np.float64, ["(255 * array).round().astype('uint8')", "numpy.stack([array] * 3, axis=-1)"]),
        ((4, 5, 3), np.uint16, [".astype('uint8')"]),
        ((4, 5, 2), np.uint8, []),
        ((2, 4, 5, 3), np.uint8, []),
        ((4, 5, 3), np.bool_, []),
        ((4, 5, 3), np.complex64, []),
    ],
)
def test_arrays_of_another_kind_are_refused_with_what_makes_them_one(
    shape: tuple[int, ...], dtype: type, hints: list[str]
) -> None:
    array = np.ones(shape, dtype)
    with pytest.raises(UsageError) as refused:
        load_image(array, read_object=unread, max_pixels=100)
    said = str(refused.value)
    start = f"expected an array (H, W, 3) uint8 RGB, got {shape} {array.dtype}"
    assert said == start if not hints else said.startswith(f"{start}: ")
    assert said.count(", ", len(start)) >= len(hints) - 1
    for hint in hints:
        assert hint in said[len(start) :]
        array = array.astype("uint8") if hint[0] == "." else eval(hint, {"array": array, "numpy": np})  # noqa: S307
    if hints:
        assert load_image(array, read_object=unread, max_pixels=100).shape == (4, 5, 3)


def test_bytes_are_a_file_and_other_things_no_image() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (1, 2, 3)).save(file, "PNG")
    np.testing.assert_array_equal(
        load_image(file.getvalue(), read_object=unread, max_pixels=100), np.full((3, 4, 3), (1, 2, 3), np.uint8)
    )
    with pytest.raises(ImageError, match=r"^<bytes>: "):
        load_image(b"no image", read_object=unread, max_pixels=100)
    with pytest.raises(UsageError, match="expected a path, bytes, PIL image, array or ImageRef, got int"):
        load_image(5, read_object=unread, max_pixels=100)  # type: ignore[arg-type]
