"""Sidecars: what their bytes mean, whose value counts, and how a change of one is noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import image_row, region_row
from fakes.indexing import GREEN_BLUE, RED, Setting, all_regions
from fakes.stores import InMemoryStore
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.types import Filter, ImageRef, StoredObject
from searchanything.images.names import SkipReason
from searchanything.images.scopes import Patterns, Scope
from searchanything.images.sidecars import MAX_SIDECAR_BYTES, parse_sidecar
from searchanything.ingest import sync
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.ingest.reports import IndexReport, SyncReport
from searchanything.ingest.sync import SyncJob, sync_images
from searchanything.search.search import PageRequest, search_regions
from searchanything.stores.folder import FolderStore
from searchanything.stores.row_checks import RowLimits
from searchanything.stores.sidecars import SidecarStore

SCOPE = Scope(patterns=Patterns(include=("*.png",)), sidecar_suffix=".json")
OPTIONS = IndexingOptions(2, 2, listing_is_enough=False)


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        (b'{"shelf": "a", "year": 2024, "f": 2.5, "yes": true}', {"shelf": "a", "year": 2024, "f": 2.5, "yes": True}),
        (b'\xef\xbb\xbf{"\xc3\xa4": "\xc3\xa4"}', {"ä": "ä"}),
        (b'{"exif": {"lens": {"mm": 35}, "iso": 100}, "none": null}', {"exif.lens.mm": 35, "exif.iso": 100}),
        (b"{}", {}),
        (b"{}".ljust(MAX_SIDECAR_BYTES), {}),
    ],
)
def test_scalars_become_metadata(data: bytes, metadata: dict[str, object]) -> None:
    assert parse_sidecar(data) == metadata


@pytest.mark.parametrize(
    ("data", "kept", "said"),
    [
        (b"{", {}, "is no JSON"),
        (b"\xff\xfe{", {}, "is no JSON"),
        (b"[1]", {}, "expected a JSON object, got list"),
        (b'{"a": NaN}', {}, "NaN is no JSON"),
        (b'{"a": 1, "tags": ["x"]}', {"a": 1}, "left out, as no text, finite 64-bit number or boolean: tags"),
        (b'{"a": 1, "n": 9223372036854775808, "x": 1e999}', {"a": 1}, ": n, x"),
        (b'{"a": "\\ud800"}', {}, ": a"),
        (b'{"a": 1, "\\udfff": 2}', {"a": 1}, ": ?"),
        (b'{"sidecar_problem": "forged", "a": 1}', {"a": 1}, ": sidecar_problem"),
        (b"[" * 100_000, {}, "has 100000 bytes, at most 32768 are read"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, {}, "nested too deeply"),
        (b'{"a":' * 980 + b"1" + b"}" * 980, {}, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_and_the_rest_is_kept(data: bytes, kept: dict[str, object], said: str) -> None:
    metadata = parse_sidecar(data)
    assert said in str(metadata.pop("sidecar_problem"))
    assert metadata == kept


@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=4)),
    max_leaves=12,
).map(lambda document: json.dumps(document).encode())))  # fmt: skip
def test_whatever_a_sidecar_holds_a_row_takes_its_metadata(data: bytes) -> None:
    metadata = parse_sidecar(data)
    RowLimits(256).images([image_row(ImageRef("b", "k"), generation=1, metadata=metadata)])
    RowLimits(256).regions([region_row(ImageRef("b", "k"), generation=1, metadata=metadata)])


def test_the_longest_metadata_fits_beside_other_metadata() -> None:
    metadata = parse_sidecar(
        json.dumps({f"name {number}": "é" * 50 for number in range(200)}, ensure_ascii=False).encode()
    )
    assert len(metadata) == 200
    full = {**metadata, "user": "x" * 20_000}
    RowLimits(256).images([image_row(ImageRef("b", "k"), generation=1, metadata=full)])
    assert "at most" in str(parse_sidecar(b'{"a": "' + b"x" * MAX_SIDECAR_BYTES + b'"}')["sidecar_problem"])
    for number, fits in ((32, True), (33, False)):  # each value's full name repeats the folder's: 1,010 bytes each
        said = parse_sidecar(json.dumps({"n" * 1000: {f"{key:02}": 0 for key in range(number)}}).encode())
        assert (len(said), "sidecar_problem" in said) == ((number, False) if fits else (1, True))
    assert said == {"sidecar_problem": "its values under their full names take more than 32768 bytes"}


class Beside:
    """A store with sidecars, an index, and short ways to run things over both."""

    def __init__(self, store: InMemoryStore | None = None) -> None:
        self.setting = Setting(store=store)
        self.raw = self.setting.store
        self.store = SidecarStore(self.raw, ".json")

    def job(self) -> IndexingJob:
        return IndexingJob(self.store, lambda: self.setting.encoder, self.setting.index, OPTIONS, SCOPE)

    def index(self) -> IndexReport:
        return index_images(self.job(), self.store.list())

    def refresh(self, *keys: str) -> IndexReport:
        return refresh_images(self.job(), keys)

    def sync(self, *, repair: bool = False) -> SyncReport:
        refresh = partial(refresh_images, self.job()) if repair else None
        return sync_images(SyncJob(self.store, self.setting.index, SCOPE, OPTIONS, refresh))

    def metadata(self, key: str = "a.png") -> dict[str, object]:
        row = self.setting.row(key)
        assert all(dict(one.metadata) == dict(row.metadata) for one in all_regions(self.setting.index))
        return dict(row.metadata)


@pytest.fixture
def beside() -> Beside:
    beside = Beside()
    beside.raw.put("a.png", RED, metadata={"shelf": "user", "camera": "x"})
    beside.raw.put("a.png.json", b'{"shelf": "sidecar", "year": 2024}')
    return beside


def test_sidecars_are_skipped_as_what_they_are(beside: Beside) -> None:
    for key in ("notes.txt", "b.json"):  # it would be the sidecar of an object `b`, which is no `*.png`
        beside.raw.put(key, b"{}")
    for skips in (beside.index().skips, beside.sync().skips):
        assert {one.reason: set(one.examples) for one in skips} == {
            SkipReason.SIDECAR: {"a.png.json"},
            SkipReason.EXCLUDED: {"notes.txt", "b.json"},
        }
    everything = replace(SCOPE, patterns=Patterns())
    assert everything.why_skipped("b.json", None) is SkipReason.SIDECAR
    assert everything.why_skipped("notes.txt", None) is SkipReason.OTHER
    assert everything.why_skipped("notes.txt.json", None) is SkipReason.OTHER, "of no image"


def test_a_sidecars_values_count_before_user_metadata_and_arrive_in_filters(beside: Beside) -> None:
    assert beside.index().indexed == 1
    assert beside.metadata() == {"shelf": "sidecar", "camera": "x", "year": 2024}
    code = np.zeros(8, dtype=np.uint8)
    for shelf, hits in (("sidecar", 1), ("user", 0)):
        page = search_regions(beside.setting.index, code, PageRequest(), filter=Filter(metadata={"shelf": shelf}))
        assert len(page.hits) == hits


@pytest.mark.parametrize("way", ["index", "refresh", "refresh the sidecar", "sync"])
@pytest.mark.parametrize(("data", "shelf"), [(b'{"shelf": "new"}', "new"), (None, "user")])
def test_a_changed_or_deleted_sidecar_makes_its_image_stale(
    beside: Beside, way: str, data: bytes | None, shelf: str
) -> None:
    beside.index()
    assert not beside.sync().differs
    if data is None:
        beside.raw.delete("a.png.json")
    else:
        beside.raw.put("a.png.json", data)
    assert beside.sync().stale == ("a.png",)
    run = {
        "index": beside.index,
        "refresh": lambda: beside.refresh("a.png"),
        "refresh the sidecar": lambda: beside.refresh("a.png.json"),
        "sync": lambda: beside.sync(repair=True),
    }[way]
    run()
    assert beside.metadata()["shelf"] == shelf
    assert not beside.sync().differs
    assert len(beside.setting.visible()) == 1


def test_a_sidecar_that_comes_later_is_noticed_and_one_without_news_is_not_stale(beside: Beside) -> None:
    beside.raw.put("b.png", GREEN_BLUE)
    beside.index()
    beside.raw.put("b.png.json", b'{"n": 1}')
    beside.raw.put("a.png.json", b'{"year": 2024,   "shelf": "sidecar"}')  # other bytes, same values
    beside.raw.put("lonely.png.json", b"{}")
    report = beside.sync(repair=True)
    assert (report.stale, report.missing, report.orphaned) == (("b.png",), (), ())
    assert beside.setting.row("b.png").metadata == {"n": 1}


def test_many_sidecars_that_changed_are_looked_at_in_parts(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "LISTED_BATCH", 2)
    for key in "bcde":
        beside.raw.put(f"{key}.png", RED)
    beside.index()
    for key in "bcde":
        beside.raw.put(f"{key}.png.json", b'{"n": 1}')
    assert beside.sync().stale == ("b.png", "c.png", "d.png", "e.png")


def test_a_sync_asks_only_about_doubtful_objects(beside: Beside) -> None:
    for number in range(20):
        beside.raw.put(f"{number}.png", RED)
        beside.raw.put(f"{number}.png.json", b'{"n": 1}')
    beside.index()
    asked: list[str] = []
    stat = beside.raw.stat
    beside.raw.stat = lambda key: (asked.append(key), stat(key))[1]  # type: ignore[method-assign]
    assert beside.sync().checked == 21
    assert asked == []


def test_a_bad_sidecar_is_reported_and_its_image_indexed(beside: Beside) -> None:
    beside.raw.put("a.png.json", b"{oops")
    report = beside.index()
    assert (report.indexed, report.failed) == (1, 0)
    [warning] = report.warnings
    assert (warning.key, warning.error) == ("a.png", "SidecarError")
    assert "is no JSON" in warning.message
    assert beside.metadata()["shelf"] == "user"
    assert not beside.sync().differs


@pytest.mark.parametrize(("error", "raised"), [(StoreError("denied"), False), (StoreUnavailableError("gone"), True)])
def test_a_sidecar_that_is_refused_is_reported_and_a_store_that_is_gone_raises(
    beside: Beside, error: StoreError, raised: bool
) -> None:
    beside.raw.failures["a.png.json"] = error
    if raised:
        with pytest.raises(StoreUnavailableError):
            beside.index()
        return
    assert "cannot be read: denied" in beside.index().warnings[0].message


def test_a_large_sidecar_is_not_fetched(beside: Beside) -> None:
    beside.raw.put("a.png.json", b" " * (MAX_SIDECAR_BYTES + 1))
    beside.index()
    assert "a.png.json" not in beside.raw.reads
    assert "at most" in str(beside.metadata()["sidecar_problem"])


def test_a_folder_has_sidecars_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    (tmp_path / "a.png.json").write_text('{"k": "v"}')
    store = SidecarStore(FolderStore(tmp_path), ".json")
    found = store.stat("a.png")
    assert found == store.read("a.png")[0]
    assert isinstance(found, StoredObject)
    listed = {one.ref.key: one.etag for one in store.list()}
    assert (found.metadata, found.sidecar_etag) == ({"k": "v"}, listed["a.png.json"])
    assert store.stat("b.png") is None
