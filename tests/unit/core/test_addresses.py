"""Addresses and names of objects."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from searchanything.cli.app import next_steps
from searchanything.core.addresses import shown_address, shown_index, split_s3, unmarked
from searchanything.core.errors import SearchAnythingError
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef, source_of
from searchanything.images.inputs import load_image
from searchanything.stores.milvus_address import lite_host_of
from searchanything.stores.sources import parse_source


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


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:secret@host:1/path", "https://host:1/path"),
        ("user:secret@host:1", "host:1"),
        ("https://bucket.host/a.jpg?X-Amz-Signature=secret", "https://bucket.host/a.jpg"),
        ("https://user:sec?ret@host/a", "https://…"),
        ("https://host/?user=me@here:secret", "https://…"),
        ("https://user:se@cret@host", "https://host"),
        ("host:9000", "host:9000"),
    ],
)
def test_what_may_be_secret_of_an_address_is_not_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown


def test_a_file_keeps_its_name() -> None:
    assert shown_index("me@work/what?.db") == "me@work/what?.db"
    assert shown_index("http://me:secret@host:1") == "http://host:1"


@pytest.mark.parametrize(
    "say",
    [
        lambda: parse_source("https://me:hunter2@host/b?sig=hunter2"),
        lambda: parse_source("s3://me:hunter2@bucket"),
        lambda: load_image("https://host/a.jpg?sig=hunter2", read_object=lambda _: b"", max_pixels=1),
        lambda: load_image("s3://me:hunter2@bucket", read_object=lambda _: b"", max_pixels=1),
        lambda: lite_host_of(MilvusSettings(uri="https://me:hunter2@host:1?token=hunter2")),
        lambda: lite_host_of(MilvusSettings(uri="https://host:1/db?token=hunter2")),
    ],
)
def test_no_message_repeats_it(say: Callable[[], object]) -> None:
    with pytest.raises(SearchAnythingError) as error:
        say()
    assert "expected" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_what_to_type_next_names_a_server_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__URI", "http://me:hunter2@host:1")
    assert next_steps().endswith("the index is http://host:1")
