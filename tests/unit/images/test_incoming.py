"""Any text in any field of an object from outside: it costs that field, or that image, and never the run."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from corpus import png_chunk
from fakes.indexing import RED, SMALL_BATCHES, Setting, whole
from fakes.stores import InMemoryStore
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.errors import StoreError, UnusableKeyError, UsageError
from searchanything.core.omissions import Omissions
from searchanything.core.rows import Outcome
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images.incoming import (
    ETAG_BYTES,
    KEY_BYTES,
    METADATA_BYTES,
    METADATA_PROBLEM,
    IncomingStore,
    check_key,
    sound_metadata,
    sound_object,
)
from searchanything.images.scopes import Scope
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.service.events import changed_objects
from searchanything.stores.row_checks import RowLimits
from searchanything.stores.sidecars import SidecarStore

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    ["\ud800", "a\0b", "\x1b[31m", "\u202ex", "é" * 3000, "x" * 70_000, "\udcff" * 2000, ""]
)
ANY_VALUE = ANY_TEXT | st.integers() | st.floats() | st.booleans() | st.none() | st.binary(max_size=20)
NUMBER = st.integers(-(2**70), 2**70)


class StrangeStore(InMemoryStore):
    """A store whose objects have whatever fields they were given, and whose listing tells all of them."""

    def __init__(self, strange: dict[str, Any], key: str = "strange.png") -> None:
        super().__init__(max_object_bytes=1 << 80)
        self.strange = replace(self.put(key, RED), **strange)
        self._objects[key] = (self.strange, RED)
        for number in range(3):
            self.put(f"good{number}.png", RED)

    def list(self, prefix: str = "", omissions: Omissions | None = None) -> Iterator[StoredObject]:  # noqa: ARG002
        yield from [found for found, _ in self._objects.values()]


def good_ones_are_there(setting: Setting) -> None:
    assert {"good0.png", "good1.png", "good2.png"} <= set(setting.visible())
    whole(setting.index)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "etag": ANY_TEXT,
            "content_type": st.none() | ANY_TEXT,
            "metadata": st.dictionaries(ANY_TEXT, ANY_VALUE, max_size=4),
            "sidecar_etag": ANY_TEXT,
            "modified_at_ms": NUMBER,
            "size_bytes": NUMBER,
        },
    )
)
@settings(max_examples=60, deadline=None)
def test_any_field_of_an_object(strange: dict[str, Any]) -> None:
    setting = Setting(store=StrangeStore(strange))
    report = setting.run()
    assert (report.indexed, report.failed) == (4, 0)
    good_ones_are_there(setting)
    RowLimits(setting.index.manifest.bits).images(list(setting.index.iterate_images()))
    for row in [*setting.index.iterate_images(), *setting.index.iterate_regions()]:
        json.dumps(dict(row.metadata), allow_nan=False).encode()
        f"{row.image}{row.etag}{json.dumps(dict(row.metadata), ensure_ascii=False)}".encode()
    again = setting.run()
    assert (again.unchanged, again.indexed) == (4, 0), "the same input must be taken for the same object"
    found = sync_images(SyncJob(setting.store, setting.index, Scope()))
    assert (found.missing, found.stale, found.orphaned, found.failed) == ((), (), (), ())


@given(ANY_TEXT)
@settings(max_examples=40, deadline=None)
def test_any_key(name: str) -> None:
    key = f"{name}.png"
    setting = Setting(store=StrangeStore({}, key))
    reports = [setting.run()]
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, SMALL_BATCHES)
    reports.append(refresh_images(job, [key, "good0.png"]))
    try:
        check_key(key)
    except UnusableKeyError:
        assert [one.failures[0].error for one in reports] == ["UnusableKeyError"] * 2
        f"{reports[0].failures}".encode()
    else:
        assert setting.knows(key)
    good_ones_are_there(setting)
    omissions = Omissions()
    assert {one.ref.key for one in IncomingStore(setting.store).list("", omissions)} >= {"good0.png"}
    assert omissions.skipped == len(reports[0].failures)
    sync_images(SyncJob(setting.store, setting.index, Scope()))


@given(st.binary(max_size=60) | ANY_VALUE.map(lambda value: json.dumps({"a": value}, default=repr).encode()))
@settings(max_examples=30, deadline=None)
def test_any_sidecar(sidecar: bytes) -> None:
    setting = Setting()
    setting.store.put("a.png", RED)
    setting.store.put("a.png.json", sidecar)
    setting.store.put("b.png", RED)
    store = SidecarStore(setting.store, ".json")
    job = IndexingJob(store, lambda: setting.encoder, setting.index, SMALL_BATCHES, Scope(sidecar_suffix=".json"))
    assert index_images(job, store.list()).indexed == 2


@given(st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_exif(exif: bytes) -> None:
    png = RED[:33] + png_chunk(b"eXIf", exif) + RED[33:]
    setting = Setting(store=StrangeStore({}))
    setting.store.put("strange.png", png)
    assert setting.run().indexed == 4


@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=60, deadline=None)
def test_any_event(bucket: str, key: str) -> None:
    documents = (
        {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": f"{key}.jpg"}}}]},
        {"event_type": "create", "key": f"/buckets/{bucket}/{key}.jpg"},
    )
    for document in documents:
        for ref in changed_objects(document):
            assert ref.image_id
            check_key(ref.key)


def test_a_lone_surrogate_in_a_webhook_names_no_object() -> None:
    record = {"s3": {"bucket": {"name": "b"}, "object": {"key": "\ud800.jpg"}}}
    assert changed_objects({"Records": [record]}) == []


class TripsOver(InMemoryStore):
    """A store that trips over one object's headers."""

    def stat(self, key: str) -> StoredObject | None:
        if key == "bad.png":
            raise OverflowError("date value out of range")
        return super().stat(key)


def test_an_answer_that_the_store_trips_over_costs_that_object() -> None:
    setting = Setting(store=TripsOver())
    for key in ("a.png", "bad.png", "c.png", "d.png"):
        setting.store.put(key, RED)
    job = IndexingJob(setting.store, lambda: setting.encoder, setting.index, SMALL_BATCHES)
    report = refresh_images(job, ["a.png", "bad.png", "c.png", "d.png"])
    assert (report.indexed, report.failed) == (3, 1)
    assert setting.row("bad.png").outcome is Outcome.FAILED
    assert "cannot be understood (OverflowError" in setting.row("bad.png").message
    with pytest.raises(StoreError):
        IncomingStore(setting.store).stat("bad.png")


def test_what_can_be_kept_is_kept_as_it_is() -> None:
    metadata = {"title": "Küste", "n": 2**63 - 1, "x": 0.25, "ok": True}
    stored = StoredObject(ImageRef("b", "k.png"), "e" * ETAG_BYTES, 3, 7, "image/png", metadata, "s")
    assert sound_object(stored) == stored
    assert [type(value) for value in sound_object(stored).metadata.values()] == [str, int, float, bool]


def test_metadata_that_is_too_much_is_left_out_and_told() -> None:
    setting = Setting(store=StrangeStore({"metadata": {"long": "ü" * METADATA_BYTES, "short": "sea", "none": None}}))
    report = setting.run()
    kept = setting.row("strange.png").metadata
    assert kept["short"] == "sea"
    assert set(kept) == {"short", METADATA_PROBLEM}
    assert "none, long" in str(kept[METADATA_PROBLEM])
    assert [(one.key, one.error) for one in report.warnings] == [("strange.png", "MetadataError")]
    many = sound_metadata({f"{letter}{number}": "x" * 50 for letter in string.ascii_letters for number in range(99)})
    assert len(json.dumps(dict(many))) <= METADATA_BYTES
    assert len(many) > 500


def test_lone_surrogates_are_told_by_their_escapes() -> None:
    assert sound_metadata({"a\ud800": "\udfff", "b": 10**30, "c": float("nan")}) == {
        "a\\ud800": "\\udfff",
        "b": hex(10**30),
        "c": "nan",
    }


def test_a_key_may_have_4096_bytes() -> None:
    check_key("é" * (KEY_BYTES // 2))
    with pytest.raises(UnusableKeyError, match="has 4098 bytes, at most 4096 are kept"):
        check_key("é" * (KEY_BYTES // 2 + 1))


def test_a_listing_notes_the_keys_that_cannot_be_kept() -> None:
    store = InMemoryStore()
    for key in ("good.png", "a\udcff.png", "b" * KEY_BYTES + "\udcff.png"):
        store.put(key, RED)
    omissions = Omissions()
    assert [found.ref.key for found in IncomingStore(store).list(omissions=omissions)] == ["good.png"]
    assert omissions.skipped == 2
    assert {one.key for one in omissions.examples} == {"a\\udcff.png", "b" * KEY_BYTES}
    assert {one.reason for one in omissions.examples} == {"no index can keep its key: it is not UTF-8"}
    assert [found.ref.key for found in IncomingStore(store).list()] == ["good.png"]


def test_a_bucket_that_cannot_be_kept_is_told_at_once() -> None:
    with pytest.raises(UsageError, match="is not UTF-8; rename it"):
        IncomingStore(InMemoryStore("/photos/\udcff"))
