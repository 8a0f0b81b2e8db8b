"""What people hand over and cannot be meant: told at once, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchanything import wiring
from searchanything.errors import ImageError, ModelError, UsageError
from searchanything.inputs import load_image
from searchanything.settings import Settings
from searchanything.types import ImageRef


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


def test_what_is_no_hash_layer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "layer.safetensors"
    file.write_bytes(b"something else")
    with pytest.raises(ModelError, match=str(file)):
        wiring.hash_layer_of("pico", file, Settings())
