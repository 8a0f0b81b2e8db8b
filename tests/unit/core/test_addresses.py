"""Addresses and names of objects."""

from __future__ import annotations

import pytest

from searchanything.core.addresses import source_of, split_s3


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
