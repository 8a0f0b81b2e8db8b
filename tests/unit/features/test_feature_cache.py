"""Kept features: whole, current, and gone with their images, whatever is killed and whoever writes meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracts.index_rows import image_row
from fakes.indexing import EMPTY, GREEN_BLUE, POISONED, RED, SMALL_BATCHES, all_regions, new_index, png
from fakes.models import CHANNELS, PALETTE, drawn, fake_encoder
from fakes.side_by_side import side_by_side
from fakes.stores import InMemoryStore

from searchanything.core.codes import hamming, next_generation
from searchanything.core.errors import StoreError, StoreUnavailableError
from searchanything.core.protocols import ImageFeatures, StoredFile
from searchanything.core.rows import Outcome, row_id
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef
from searchanything.features.compact import Compaction, compact
from searchanything.features.contents import GROUP_ROWS, CachedFile, batch_table, file_bytes
from searchanything.features.keep import ParquetKeeper, read_tombstones
from searchanything.features.kept_regions import kept_regions, kept_rows, kept_sample
from searchanything.features.layout import FEATURES, LEASE, TOMBSTONES, FeatureCache
from searchanything.features.liveness import open_files
from searchanything.features.status import CacheStatus, cache_status
from searchanything.hash_training.features import feature_source
from searchanything.hash_training.training import TrainingOptions, train_hash
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob
from searchanything.stores.files import FolderFiles
from searchanything.wiring import open_features

OLD_S = 24 * 3600.0
BLUE = png(drawn(32, 32, blue=(3, 5, 20, 30)))


class Faulty(FolderFiles):
    """Files of which the next writes, or the next deletions, do not happen."""

    refused: type[Exception] | None = None
    undeletable: type[Exception] | None = None

    def write(self, name: str, data: bytes) -> None:
        if self.refused is not None:
            raise self.refused("the disk is full")
        super().write(name, data)

    def delete(self, name: str) -> None:
        if self.undeletable is not None and not name.endswith(LEASE):
            raise self.undeletable("killed")
        super().delete(name)


class Keeping:
    """A store and an index whose features are kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store, self.index, self.encoder = InMemoryStore(), new_index(), fake_encoder()
        self.files = Faulty(folder)
        self.cache = FeatureCache(self.files, self.store.bucket, self.index.manifest)
        self.job = IndexingJob(
            self.store, lambda: self.encoder, self.index, SMALL_BATCHES, keeper=ParquetKeeper(self.cache)
        )

    def put(self, **images: bytes) -> None:
        for name, data in images.items():
            self.store.put(f"{name}.png", data)

    def run(self) -> None:
        index_images(self.job, self.store.list())

    def status(self, *, age_s: float = OLD_S) -> CacheStatus:
        return cache_status(self.cache, self.index, age_s=age_s)

    def compact(self, *, age_s: float = OLD_S, file_rows: int = 1000) -> Compaction:
        return compact(self.cache, self.index, age_s=age_s, file_rows=file_rows)

    def names(self, suffix: str = FEATURES) -> list[str]:
        return sorted(stored.name for stored in self.files.list() if stored.name.endswith(suffix))

    def rows(self) -> dict[str, tuple[list[float], list[float]]]:
        """Region id to both features, read with pyarrow alone; an id that is there twice is an error."""
        found = {}
        for name in self.names():
            table = pq.read_table(self.folder / name)
            for row in table.to_pylist():
                assert row["region_id"] not in found
                found[row["region_id"]] = (row["mask_features"], row["image_features"])
        return found


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    return Keeping(tmp_path / "features")


def whole(keeping: Keeping) -> None:
    """The live rows are exactly the index's regions."""
    status = keeping.status()
    newest = keeping.index.newest({row.image for row in keeping.index.iterate_images()})
    assert status.live_rows == sum(row.regions for row in newest.values())
    assert status.missing == 0


def test_images_of_other_buckets_are_not_missing_here(keeping: Keeping) -> None:
    keeping.put(red=RED)
    keeping.run()
    elsewhere = InMemoryStore("elsewhere")
    for name in ("a.png", "b.png"):
        elsewhere.put(name, BLUE)
    index_images(replace(keeping.job, store=elsewhere, keeper=None), elsewhere.list())
    assert (keeping.status().images, keeping.status().missing) == (1, 0)


def test_what_was_indexed_without_features_is_missing(keeping: Keeping) -> None:
    """But for what has no region."""
    keeping.put(a=RED, b=GREEN_BLUE, c=EMPTY, d=POISONED)
    index_images(replace(keeping.job, keeper=None), keeping.store.list())
    keeping.put(e=BLUE)
    keeping.run()
    assert (keeping.status().images, keeping.status().missing) == (1, 2)


def test_a_deletion_or_a_later_attempt_ends_what_is_older_alone(keeping: Keeping) -> None:
    images = [many_regions(number, 1) for number in range(4)]
    keeper = ParquetKeeper(keeping.cache)
    keeper.keep(images)
    kept_on, deleted, unfinished, replaced = images
    keeper.add_tombstones({kept_on.image: kept_on.generation, deleted.image: deleted.generation + 1})
    for one, later in ((unfinished, -1), (replaced, 1)):
        keeping.index.insert_images([image_row(one.image, generation=one.generation + later, code=bytes(8), regions=1)])
    assert (keeping.status().rows, keeping.status().live_rows, keeping.status().young_rows) == (4, 0, 2)


def test_a_deletion_that_was_done_meanwhile_hides_no_other(keeping: Keeping) -> None:
    """Whoever compacts deletes what says so, after this one listed it."""
    keeper, bucket = ParquetKeeper(keeping.cache), keeping.store.bucket
    for number, key in enumerate("abc"):
        keeper.add_tombstones({ImageRef(bucket, key): number + 1})
    listed = list(keeping.files.list())
    (keeping.folder / listed[0].name).unlink()
    left = {key: number + 1 for number, key in enumerate("abc")}
    found = read_tombstones(keeping.cache, listed)
    assert len(found) == 2
    assert found.items() <= left.items()


def test_a_file_that_was_merged_meanwhile_hides_no_other(keeping: Keeping) -> None:
    keeping.put(**{f"i{number}": RED for number in range(5)})
    keeping.run()
    listed = list(keeping.files.list())
    (keeping.folder / min(keeping.names())).unlink()
    assert [one.stored.name for one in open_files(keeping.cache, listed)] == keeping.names()
    assert len(keeping.names()) == 2


def test_regions_and_samples_are_of_this_index_alone(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE)
    keeping.run()
    other = new_index()
    manifest = replace(other.manifest, created_at_ms=keeping.index.manifest.created_at_ms + 1)
    foreign = ParquetKeeper(FeatureCache(keeping.files, keeping.store.bucket, manifest))
    index_images(replace(keeping.job, index=other, keeper=foreign), keeping.store.list())
    assert len(keeping.names()) == 2
    own = {row.id: row.image.key for row in all_regions(keeping.index)}
    for names in ({"a.png", "b.png"}, {"b.png"}, {"c.png"}):
        found = [
            one for ids, _ in kept_regions(keeping.cache, lambda image, names=names: image.key in names) for one in ids
        ]
        assert sorted(found) == sorted(one for one, key in own.items() if key in names)
    sizes = [len(kept_sample(keeping.cache, most=most)) for most in (1, 3, 100)]
    assert sizes == [1, 3, 3]


class Opened(FolderFiles):
    """Files, and the names of those that were opened."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.names: list[str] = []

    def open(self, file: StoredFile) -> BinaryIO:
        self.names.append(file.name)
        return super().open(file)


def test_a_sample_is_of_files_of_any_age_and_opens_no_more_than_it_needs(keeping: Keeping) -> None:
    files = Opened(keeping.folder)
    cache = FeatureCache(files, "memory", keeping.index.manifest)
    assert kept_sample(cache, most=6) is None
    names = [f"{cache.index}-{number:019d}-{'0' * 8}{FEATURES}" for number in range(12)]
    for name in names:
        table, listed = batch_table([many_regions(1, 1)])
        files.write(name, file_bytes(cache, [table], listed))
    found = kept_sample(cache, most=6)
    assert found is not None
    assert len(found) == len(files.names) == 6
    assert set(files.names) not in ({*names[:6]}, {*names[6:]})


def test_a_row_per_region_under_the_ids_of_the_index(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=EMPTY, d=POISONED, e=BLUE)
    keeping.run()
    regions = {row.id: row for row in all_regions(keeping.index)}
    assert set(keeping.rows()) == set(regions)
    status = keeping.status()
    assert (status.rows, status.live_rows, status.images, status.missing) == (4, 4, 3, 0)
    assert status.bytes == sum(path.stat().st_size for path in keeping.folder.iterdir())
    per_region = status.to_dict()["bytes_per_region"]
    assert per_region == pytest.approx(status.bytes / 4, abs=0.05)
    assert status.to_dict() == asdict(status) | {"bytes_per_region": per_region}
    for name in keeping.names():
        schema = pq.read_schema(keeping.folder / name)
        fixed = [one for one in schema if pa.types.is_fixed_size_list(one.type)]
        assert [(one.name, one.nullable) for one in fixed] == [("mask_features", False), ("image_features", False)], (
            "older pyarrows read no nulls among lists of a fixed size"
        )
        metadata = schema.metadata
        assert metadata[b"feature_fingerprint"].decode() == keeping.index.manifest.feature_fingerprint
        assert json.loads(metadata[b"searchanything_bucket"]) == "memory"
        for image in json.loads(metadata[b"searchanything_images"]):
            row = keeping.index.newest([ImageRef("memory", image["key"])])[ImageRef("memory", image["key"])]
            assert (image["etag"], image["generation"], image["regions"]) == (row.etag, row.generation, row.regions)


def test_codes_of_kept_features_are_those_of_the_index(keeping: Keeping) -> None:
    generator = np.random.default_rng(3)
    for number in range(30):
        colours = generator.permutation(list(PALETTE))[:2]
        image = drawn(60, 60, **{colours[0]: (2, 2, 20 + number, 30), colours[1]: (6, 34, 50, 36 + number // 2)})
        keeping.put(**{f"image{number}": png(image)})
    keeping.run()
    keeping.compact()
    source = open_features(str(keeping.folder), mask_dimension=None, settings=Settings(_env_file=None))
    assert source.fingerprint == keeping.index.manifest.feature_fingerprint
    features = list(source.batches())
    codes = keeping.encoder.hasher.encode(
        np.concatenate([batch.mask for batch in features]), np.concatenate([batch.image for batch in features])
    )
    stored = {row.id: np.frombuffer(row.code, np.uint8) for row in all_regions(keeping.index)}
    ids = [row for name in keeping.names() for row in pq.read_table(keeping.folder / name)["region_id"].to_pylist()]
    distances = np.array([hamming(codes[[at]], stored[row][None])[0, 0] for at, row in enumerate(ids)])
    assert len(ids) == 60
    assert distances.max() <= 1  # of 64 bits: an activation that float16 moves over zero
    assert distances.mean() < 0.1
    trained = train_hash(source.batches(), options=TrainingOptions(method="itq", bits=64, steps=1))
    assert trained.rows == 60


def test_the_whole_images_features_stand_beside_its_first_region(keeping: Keeping) -> None:
    keeping.put(a=GREEN_BLUE, b=RED)
    keeping.run()
    keeping.compact()
    [name] = keeping.names()
    table = pq.read_table(keeping.folder / name).to_pylist()
    codes = {}
    for row in table:
        if row["whole_image_features"] is not None:
            features = (np.array([row[f"whole_{kind}_features"]], np.float32) for kind in ("mask", "image"))
            codes[row["region_id"]] = keeping.encoder.hasher.encode(*features)[0].tobytes()
    firsts = {row.id: row.image for row in all_regions(keeping.index) if row.region == 0}
    assert set(codes) == set(firsts)
    for region_id, image in firsts.items():
        kept, indexed = (
            np.frombuffer(code, np.uint8)[None] for code in (codes[region_id], newest_code(keeping, image))
        )
        assert hamming(kept, indexed)[0, 0] <= 1


def newest_code(keeping: Keeping, image: ImageRef) -> bytes:
    return keeping.index.newest([image])[image].code


@pytest.mark.parametrize("error", [StoreUnavailableError, StoreError])
def test_without_features_nothing_is_committed(keeping: Keeping, error: type[Exception]) -> None:
    keeping.put(a=RED)
    keeping.files.refused = error
    with pytest.raises(error, match="full"):
        keeping.run()
    assert list(keeping.index.iterate_images()) == []
    keeping.files.refused = None
    keeping.run()
    whole(keeping)


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


@pytest.mark.parametrize("step", ["insert_regions", "insert_images", "delete_before"])
def test_death_in_a_commit_leaves_garbage_at_most(keeping: Keeping, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.put(a=RED, b=BLUE)
    keeping.run()
    before = keeping.rows()
    keeping.put(a=GREEN_BLUE)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(keeping.index, step, die)
        with pytest.raises(Killed):
            keeping.run()
    committed = step == "delete_before"
    status = keeping.status()
    assert (status.live_rows, status.young_rows) == ((3, 0) if committed else (2, 2))
    keeping.compact()  # the attempt may still be running
    assert keeping.status().young_rows == status.young_rows
    keeping.compact(age_s=0)
    assert (keeping.status().rows, keeping.status().young_rows) == (status.live_rows, 0)
    assert committed or keeping.rows() == before
    keeping.run()
    whole(keeping)
    keeping.compact()
    assert keeping.status().rows == 3


def test_features_go_with_their_image(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=BLUE)
    keeping.run()
    before = keeping.rows()
    gone = {row.id for row in all_regions(keeping.index) if row.image.key == "b.png"}
    keeping.store.delete("b.png")
    refresh_images(keeping.job, ["b.png"])
    assert len(keeping.names(TOMBSTONES)) == 1
    status = keeping.status()
    assert (status.rows, status.live_rows, status.young_rows) == (4, 2, 0)
    done = keeping.compact()
    assert (done.rows_dropped, done.finished) == (2, True)
    assert keeping.rows() == {name: row for name, row in before.items() if name not in gone}
    assert keeping.names(TOMBSTONES) == []
    refresh_images(keeping.job, ["b.png", "never.png"])
    assert keeping.names(TOMBSTONES) == []  # no features, no tombstone


def test_an_object_that_vanishes_before_its_commit_gets_a_tombstone(keeping: Keeping) -> None:
    keeping.put(a=RED)
    keeping.store.after_read = keeping.store.delete
    keeping.run()
    assert keeping.status().rows == 1
    assert (keeping.status().live_rows, keeping.status().young_rows) == (0, 0)
    keeping.compact()
    assert list(keeping.files.list()) == []


def test_an_image_that_comes_back_gets_no_tombstone(keeping: Keeping) -> None:
    keeping.put(a=RED)
    keeping.run()
    keeping.store.delete("a.png")
    refresh_images(keeping.job, ["a.png"])
    keeping.put(a=RED)
    keeping.run()
    assert (keeping.status().rows, keeping.status().live_rows) == (2, 1)
    keeping.compact()
    whole(keeping)


def test_indexing_again_leaves_one_copy(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE)
    keeping.run()
    index_images(replace(keeping.job, options=replace(SMALL_BATCHES, force=True)), keeping.store.list())
    assert (keeping.status().rows, keeping.status().live_rows) == (6, 3)
    keeping.compact()
    assert (keeping.status().rows, keeping.status().files) == (3, 1)
    assert set(keeping.rows()) == {row.id for row in all_regions(keeping.index)}


def test_compaction_merges_small_files_and_leaves_large_ones(keeping: Keeping) -> None:
    keeping.put(**{f"i{number}": GREEN_BLUE for number in range(12)})
    keeping.run()
    before, rows = keeping.names(), keeping.rows()
    assert len(before) == 6
    done = keeping.compact(file_rows=9)
    assert (done.files_before, done.files_after, done.rows_before, done.rows_dropped) == (6, 2, 24, 0)
    assert keeping.rows() == rows
    assert done.bytes_after == keeping.status().bytes
    large = keeping.names()
    assert keeping.compact(file_rows=9).files_after == 2
    assert keeping.names() == large


@pytest.mark.parametrize("file_rows", [1, 6, 9, 20, 1000])
def test_what_a_compaction_says_is_what_the_disk_shows(keeping: Keeping, file_rows: int) -> None:
    """Files of 2 and 7 regions; of 9, of which 4 are dead; and of nothing but 5 dead ones."""
    keeper, parts = ParquetKeeper(keeping.cache), ([2], [2], [2], [2], [7], [5, -4], [-5])
    live = {}
    for number, part in enumerate(parts):
        images = [many_regions(10 * number + place, abs(rows)) for place, rows in enumerate(part)]
        keeper.keep(images)
        gone = {one.image: one.generation + 1 for one, rows in zip(images, part, strict=True) if rows < 0}
        if gone:
            keeper.add_tombstones(gone)
        live |= {one.image.key: rows for one, rows in zip(images, part, strict=True) if rows > 0}
    before = {name: (keeping.folder / name).stat().st_size for name in keeping.names()}
    done = keeping.compact(file_rows=file_rows)
    assert (done.files_before, done.rows_before, done.rows_dropped) == (len(before), 29, 9)
    assert done.bytes_before == sum(before.values())
    assert done.files_after == len(keeping.names())
    assert done.bytes_after == sum(path.stat().st_size for path in keeping.folder.iterdir())
    found = {}
    for file in open_files(keeping.cache, list(keeping.files.list())):
        rows = sum(image.regions for image in file.images)
        assert file.stored.name in before or rows < file_rows + 7, "no larger than by a part of the last file"
        assert len(file.table([True] * len(file.images))) == rows
        found |= {image.key: image.regions for image in file.images}
    assert found == live
    assert sum(2 * rows < file_rows for rows in sizes(keeping)) <= 1, "small files were merged"
    assert {"files": done.to_dict()["files"], "bytes": done.to_dict()["bytes"]} == {
        "files": {"before": done.files_before, "after": done.files_after},
        "bytes": {"before": done.bytes_before, "after": done.bytes_after},
    }


def test_a_file_is_full_at_its_number_of_rows(keeping: Keeping) -> None:
    keeper = ParquetKeeper(keeping.cache)
    for number in range(5):
        keeper.keep([many_regions(number, 2)])
    keeping.compact(file_rows=6)
    assert sorted(sizes(keeping)) == [4, 6]


def test_a_killed_compaction_is_done_with_by_the_next(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=BLUE)
    keeping.run()
    rows = keeping.rows()
    keeping.files.undeletable = Killed  # type: ignore[assignment]
    with pytest.raises(Killed):
        keeping.compact()
    keeping.files.undeletable = None
    status = keeping.status()
    assert (status.files, status.rows, status.live_rows) == (3, 8, 4)
    keeping.compact()
    assert keeping.rows() == rows
    whole(keeping)


def test_one_compaction_at_a_time(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=BLUE)
    keeping.run()
    other = FeatureCache(keeping.files, "memory", keeping.index.manifest)
    name = other.new_name(LEASE)
    keeping.files.write(name, b"lease")
    with pytest.raises(StoreError, match="another compaction is running"):
        keeping.compact()
    assert keeping.names(LEASE) == [name]
    monkeypatch.setattr("searchanything.features.compact.LEASE_S", 0.0)
    keeping.compact()
    assert (keeping.names(LEASE), len(keeping.names())) == ([], 1)


def test_a_small_file_alone_stays_as_it_is(keeping: Keeping) -> None:
    ParquetKeeper(keeping.cache).keep([many_regions(1, 2)])
    names = keeping.names()
    done = keeping.compact()
    assert keeping.names() == names
    assert (done.files_before, done.files_after, done.rows_dropped) == (1, 1, 0)
    assert done.bytes_after == done.bytes_before == (keeping.folder / names[0]).stat().st_size


def test_a_running_compaction_is_seen_by_another(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=BLUE)
    keeping.run()
    newest, refused = keeping.index.newest, []

    def ask(images: list[ImageRef]) -> object:
        with pytest.raises(StoreError, match="another compaction is running") as caught:
            keeping.compact()
        refused.append(caught.value)
        return newest(images)

    with monkeypatch.context() as patch:
        patch.setattr(keeping.index, "newest", ask)
        assert keeping.compact().files_after == 1
    assert refused
    assert keeping.names(LEASE) == []


def test_a_compaction_that_runs_out_of_time_leaves_the_rest(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=BLUE)
    keeping.run()
    keeping.store.delete("a.png")
    refresh_images(keeping.job, ["a.png"])
    with monkeypatch.context() as patch:
        patch.setattr("searchanything.features.compact.RUN_S", -1.0)
        assert not keeping.compact().finished
    assert len(keeping.names(TOMBSTONES)) == 1
    assert keeping.compact().finished
    whole(keeping)


def test_a_compaction_that_cannot_look_at_all_has_merged_the_small_files(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = ParquetKeeper(keeping.cache)
    for number in range(6):  # the large ones are the older ones
        keeper.keep([many_regions(number, 2000 if number < 3 else 1)])
    large = keeping.names()[:3]
    monkeypatch.setattr("searchanything.features.compact.time", SimpleNamespace(monotonic=count().__next__))
    monkeypatch.setattr("searchanything.features.compact.RUN_S", 3.5)  # three files: each costs a look at the clock
    assert not keeping.compact(file_rows=2000).finished
    assert keeping.names()[:3] == large
    assert sorted(sizes(keeping)) == [3, 2000, 2000, 2000]


def test_compactions_and_writers_at_once(keeping: Keeping) -> None:
    """Two writers with keepers of their own index, replace and delete while a third thread compacts without pause."""

    def write(name: str) -> None:
        cache = FeatureCache(keeping.files, "memory", keeping.index.manifest)
        job = replace(keeping.job, open_encoder=fake_encoder, keeper=ParquetKeeper(cache))
        for number in range(8):
            keys = [f"{name}{number}.png", f"{name}{max(0, number - 2)}.png", "shared.png"]
            keeping.store.put(keys[0], GREEN_BLUE)
            keeping.store.put("shared.png", (RED, BLUE)[number % 2])
            if number % 3 == 2:
                keeping.store.delete(keys[1])
            refresh_images(job, keys)

    writers = [partial(write, name) for name in "ab"]
    assert side_by_side(writers, meanwhile=lambda: keeping.compact(file_rows=6)) == []
    refresh_images(keeping.job, [found.ref.key for found in keeping.store.list()])
    whole(keeping)
    keeping.compact(age_s=0)
    live = {row.image: row for row in keeping.index.newest({r.image for r in keeping.index.iterate_images()}).values()}
    current = {row.id for row in all_regions(keeping.index) if row.generation == live[row.image].generation}
    assert all(row.outcome is Outcome.INDEXED for row in live.values())
    assert set(keeping.rows()) == current


def test_indexes_that_share_a_bucket_leave_each_other_alone(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE)
    keeping.run()
    names = keeping.names()
    other = new_index()
    manifest = replace(other.manifest, created_at_ms=keeping.index.manifest.created_at_ms + 1)
    cache = FeatureCache(keeping.files, "memory", manifest)
    assert compact(cache, other, age_s=0).files_before == 0
    assert cache_status(cache, other, age_s=0).other_files == len(names) == 1
    assert keeping.names() == names


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "uncounted"])
def test_training_and_hashing_meet_each_image_once(keeping: Keeping, counted: bool) -> None:
    keeping.put(a=RED, b=GREEN_BLUE, c=BLUE)
    keeping.run()
    other = new_index()  # another hash of the same models
    manifest = replace(other.manifest, created_at_ms=keeping.index.manifest.created_at_ms + 1)
    keeper = ParquetKeeper(FeatureCache(keeping.files, "memory", manifest))
    keeping.put(c=RED)  # changed since
    index_images(replace(keeping.job, index=other, keeper=keeper), keeping.store.list())
    tables = [pq.read_table(keeping.folder / name) for name in keeping.names()]
    assert sum(table.num_rows for table in tables) == 8
    newest = {row.id for row in all_regions(other)}
    expected = [row["mask_features"] for table in tables for row in table.to_pylist() if row["region_id"] in newest]
    files = [(name, partial((keeping.folder / name).open, "rb")) for name in keeping.names()]
    source = feature_source("kept", files, mask_dimension=None, count_rows=counted)
    found = np.concatenate([batch.mask for batch in source.batches()])
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert source.rows == (len(expected) if counted else None)


def test_rows_that_a_killed_compaction_left_twice_are_read_once(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE)
    keeping.run()
    (name,) = keeping.names()
    (keeping.folder / keeping.cache.new_name(FEATURES)).write_bytes((keeping.folder / name).read_bytes())
    source = open_features(str(keeping.folder), mask_dimension=None, settings=Settings(_env_file=None))
    assert source.rows == sum(len(batch.mask) for batch in source.batches()) == 3


def test_a_part_of_a_kept_file_is_read_whole(keeping: Keeping) -> None:
    keeping.put(a=RED, b=GREEN_BLUE)
    keeping.run()
    (name,) = keeping.names()
    pq.write_table(pq.read_table(keeping.folder / name).slice(1), keeping.folder / "part.parquet")  # keeps the footer
    source = open_features(str(keeping.folder), mask_dimension=None, settings=Settings(_env_file=None))
    assert source.rows == sum(len(batch.mask) for batch in source.batches()) == 5


def test_what_a_killed_writer_left_is_swept(keeping: Keeping) -> None:
    keeping.put(a=RED)
    keeping.run()
    half = keeping.folder / f".{keeping.cache.new_name(FEATURES)}.0a1b2c3d.part"
    foreign = keeping.folder / "notes.txt"
    for path in (half, foreign):
        path.write_bytes(b"PAR1")
    keeping.compact()
    assert half.exists()  # perhaps it is being written
    keeping.compact(age_s=0)
    assert not half.exists()
    assert foreign.exists()
    whole(keeping)


def test_a_damaged_file_is_named(keeping: Keeping) -> None:
    keeping.put(a=RED)
    keeping.run()
    [name] = keeping.names()
    for data in (b"", b"PAR1 and no more", (keeping.folder / name).read_bytes()[:-9]):
        (keeping.folder / name).write_bytes(data)
        with pytest.raises(StoreError, match=rf"{name}.*index again with --force"):
            keeping.status()
    (keeping.folder / name).rename(keeping.folder / keeping.cache.new_name(TOMBSTONES))
    with pytest.raises(StoreError, match="is damaged"):
        keeping.status()


def test_values_beyond_half_floats_stay_finite(keeping: Keeping) -> None:
    mask = np.array([[1e6, -1e6, 0.5, 0], [1, 2, 3, 4]], np.float32)
    features = ImageFeatures(ImageRef("memory", "a.png"), "e", next_generation(), mask, np.ones((2, 8), np.float32))
    table, listed = batch_table([features])
    keeping.files.write(keeping.cache.new_name(FEATURES), file_bytes(keeping.cache, [table], listed))
    [[kept, _]] = keeping.rows().values()
    assert kept == [65504.0, -65504.0, 0.5, 0.0]


def test_the_whole_images_features_are_the_last_rows_of_each_image(keeping: Keeping) -> None:
    generator = np.random.default_rng(8)
    images = [
        ImageFeatures(
            ImageRef("memory", f"{number}.png"),
            "e",
            next_generation(),
            *(generator.integers(0, 2048, (regions + 1, width)).astype(np.float32) for width in (CHANNELS, 6)),
        )
        for number, regions in enumerate((2, 1, 3))
    ]
    ParquetKeeper(keeping.cache).keep(images)
    [file] = open_files(keeping.cache, list(keeping.files.list()))
    with CachedFile(keeping.cache, file.stored) as again:
        found = kept_rows(again, [True, False, True])
    wanted = (images[0], images[2])
    assert found.ids == [
        row_id(one.image, one.generation, at) for one in wanted for at in range(len(one.mask_features) - 1)
    ]
    for part, name in ((found.regions, slice(None, -1)), (found.images, slice(-1, None))):
        np.testing.assert_array_equal(part.mask, np.concatenate([one.mask_features[name] for one in wanted]))
        np.testing.assert_array_equal(part.image, np.concatenate([one.image_features[name] for one in wanted]))


def test_files_are_neither_compressed_nor_encoded_and_no_part_of_them_is_large(keeping: Keeping) -> None:
    ParquetKeeper(keeping.cache).keep([many_regions(0, GROUP_ROWS + 10)])
    [name] = keeping.names()
    metadata = pq.ParquetFile(keeping.folder / name).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [GROUP_ROWS, 10]
    for chunk in (group.column(number) for group in groups for number in range(group.num_columns)):
        assert (chunk.compression, chunk.has_dictionary_page, chunk.is_stats_set) == ("UNCOMPRESSED", False, False)


def test_a_large_batch_becomes_several_files(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchanything.features.keep.FILE_ROWS", 5)
    images = [many_regions(number, regions) for number, regions in enumerate((2, 3, 1, 9, 1))]
    ParquetKeeper(keeping.cache).keep(images)
    assert sorted(sizes(keeping)) == [1, 1, 5, 9]


def many_regions(number: int, regions: int) -> ImageFeatures:
    rows = np.ones((regions + 1, CHANNELS), np.float32)
    return ImageFeatures(ImageRef("memory", f"{number}.png"), "e", next_generation(), rows, rows)


def sizes(keeping: Keeping) -> Iterator[int]:
    for stored in keeping.files.list():
        with CachedFile(keeping.cache, stored) as file:
            yield sum(image.regions for image in file.images)


def test_keys_of_any_letters_are_kept(keeping: Keeping) -> None:
    keys = ["räder/äöü 🚲.png", "line\nbreak.png", '"quoted".png']
    for key in keys:
        keeping.store.put(key, RED)
    keeping.run()
    whole(keeping)
    keeping.store.delete(keys[2])
    refresh_images(keeping.job, keys)
    assert keeping.compact().rows_dropped == 1
    whole(keeping)
