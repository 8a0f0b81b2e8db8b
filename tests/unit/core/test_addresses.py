"""Addresses and names of objects."""

from __future__ import annotations

import pytest

from searchanything.core.addresses import split_s3, unmarked
from searchanything.core.types import ImageRef, source_of


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://bucket/a/b.jpg", ("bucket", "a/b.jpg")),
        ("S3://bucket", ("bucket", "")),
        ("s3:///key", ("", "key")),
        ("s3://bucket//a%20b?c#d", ("bucket", "/a%20b?c#d")),
        ("s3:/bucket/key", None),
        ("/home/s3://bucket", None),
    ],
)
def test_one_reading_of_an_s3_name(text: str, parts: tuple[str, str] | None) -> None:
    assert split_s3(text) == parts


@pytest.mark.parametrize(("bucket", "source"), [("photos", "s3://photos"), ("/home/me/photos", "/home/me/photos")])
def test_a_bucket_as_people_write_it(bucket: str, source: str) -> None:
    assert source_of(bucket) == source


@pytest.mark.parametrize(("bucket", "shown"), [("photos", "s3://photos/a/7.jpg"), ("/home/me", "/home/me/a/7.jpg")])
def test_what_is_shown_of_an_image_can_be_pasted(bucket: str, shown: str) -> None:
    assert str(ImageRef(bucket, "a/7.jpg")) == shown


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("photos/a/7.jpg", ImageRef("photos", "a/7.jpg")),
        ("7.jpg", None),
        ("photos/", None),
        ("/photos/7.jpg", None),
        ("./photos/7.jpg", None),
        ("~/7.jpg", None),
        ("s3://photos/7.jpg", None),
        ("file:///photos/7.jpg", None),
    ],
)
def test_an_object_without_its_scheme(text: str, named: ImageRef | None) -> None:
    assert unmarked(text) == named
