"""Notifications as servers send them, and the filter before the queue."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from searchanything.core.errors import EventError
from searchanything.core.settings import ServiceSettings
from searchanything.core.types import ImageRef
from searchanything.images.scopes import Scope
from searchanything.service.events import changed_objects
from searchanything.service.listening import HintFilter
from searchanything.service.waves import WaveQueue


def record(key: str, bucket: str = "images", name: str = "s3:ObjectCreated:Put") -> dict[str, Any]:
    """One record of S3's format, cut down to what all servers send."""
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "x"}}}


def filer(event: str, key: str, **message: Any) -> dict[str, Any]:
    """One event of SeaweedFS's filer, as its webhook sent it (SeaweedFS 4)."""
    return {"event_type": event, "key": key, "message": message or {"new_entry": {"name": "x"}}}


def keys(document: object) -> list[str]:
    return [ref.key for ref in changed_objects(document)]


def test_a_plain_key() -> None:
    assert changed_objects({"Records": [record("2024/a.jpg")]}) == [ImageRef("images", "2024/a.jpg")]


def test_an_encoded_key_is_decoded() -> None:
    assert keys({"Records": [record("2024%2F%C3%A4+b.jpg")]})[0] == "2024/ä b.jpg"


def test_a_key_that_reads_both_ways_counts_twice() -> None:
    # MinIO and AWS mean "a b.jpg" by this, the JuiceFS gateway "a+b.jpg".
    assert keys({"Records": [record("a+b.jpg")]}) == ["a b.jpg", "a+b.jpg"]


def test_records_of_several_objects_come_once_each_in_order() -> None:
    many = [record("b.jpg"), record("a.jpg", name="s3:ObjectRemoved:Delete"), record("b.jpg")]
    assert keys({"Records": many, "EventName": "s3:ObjectCreated:Put", "Key": "images/b.jpg"}) == ["b.jpg", "a.jpg"]


def test_directory_markers_and_impossible_keys_are_no_hints() -> None:
    assert keys({"Records": [record("folder/"), record(""), record("a%00b.jpg"), record("k" * 1025)]}) == ["a%00b.jpg"]


def test_the_filer_names_paths() -> None:
    assert changed_objects(filer("create", "/buckets/images/2024/ä b+c.jpg")) == [ImageRef("images", "2024/ä b+c.jpg")]
    assert keys(filer("delete", "/buckets/images/a.jpg", old_entry={"name": "a.jpg"})) == ["a.jpg"]


@pytest.mark.parametrize(
    "key",
    ["/buckets/images", "/buckets/.system/x", "/buckets/images/.uploads/7/0001.part", "/etc/seaweedfs/filer.conf"],
)
def test_the_filers_own_files_are_no_objects(key: str) -> None:
    assert changed_objects(filer("create", key)) == []


def test_directories_are_no_objects() -> None:
    assert changed_objects(filer("create", "/buckets/images/2024", new_entry={"is_directory": True})) == []


def test_a_version_stands_for_its_object() -> None:
    assert keys(filer("create", "/buckets/images/a.jpg.versions/v_17")) == ["a.jpg"]


def test_a_move_is_about_both_places() -> None:
    moved = filer("rename", "/buckets/images/a.jpg", new_parent_path="/buckets/images/sub", new_entry={"name": "b.jpg"})
    assert keys(moved) == ["a.jpg", "sub/b.jpg"]


def test_a_malformed_record_is_skipped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert keys({"Records": [record("a.jpg"), {"s3": 1}, record("b.jpg")]}) == ["a.jpg", "b.jpg"]
    assert "1 of 3 records" in caplog.text


def test_the_filter_says_what_it_could_not_read() -> None:
    lost: list[str] = []
    hint = HintFilter(WaveQueue(ServiceSettings()), "images", Scope(), lost.append)
    assert hint({"Records": [record("a.jpg"), None]}) == 1
    assert hint({"Records": [record("a.jpg")]}) == 1
    assert ["1 of 2 records" in one for one in lost] == [True]


def test_a_test_message_is_about_nothing() -> None:
    assert changed_objects({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "images"}) == []


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "Records",
        {},
        {"Records": "x"},
        {"Records": [None]},
        {"Records": [{"s3": {"bucket": "images"}}]},
        {"Records": [{"s3": {"bucket": {"name": 5}, "object": {"key": "a"}}}]},
        {"event_type": "create"},
        {"event_type": "create", "key": 7},
        {"event_type": "create", "key": ["/buckets/images/a.jpg"]},
        {"event_type": "create", "key": {}},
    ],
)
def test_what_is_no_notification_is_refused(document: object) -> None:
    before = copy.deepcopy(document)
    with pytest.raises(EventError, match="expected"):
        changed_objects(document)
    assert document == before


def test_the_names_of_what_is_no_notification_are_not_repeated_at_length() -> None:
    with pytest.raises(EventError) as caught:
        changed_objects({f"{number}{'x' * 10**6}": number for number in range(7)})
    assert "got one with '0xxx" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_only_the_watched_bucket_and_prefix_are_hinted_at() -> None:
    queue = WaveQueue(ServiceSettings())
    hint = HintFilter(queue, "images", Scope("2024/"))
    many = [record("2024/a.jpg"), record("2023/b.jpg"), record("2024/c.jpg", bucket="other")]
    assert hint({"Records": many}) == 1
    assert queue.take() == ("2024/a.jpg",)


def test_what_a_run_keeps_for_itself_in_the_bucket_calls_no_other_run() -> None:
    queue = WaveQueue(ServiceSettings())
    hint = HintFilter(queue, "images", Scope())
    assert hint({"Records": [record(".searchanything/tiles/0.jpg"), record("searchanything/0.jpg")]}) == 1
    assert queue.take() == ("searchanything/0.jpg",)
