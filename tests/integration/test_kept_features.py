"""Kept features in a real bucket: by whom they are seen, and hash layers trained and applied from there by commands."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes.indexing import GREEN_BLUE, RED, new_index, png
from fakes.models import PALETTE, drawn, fake_encoder
from fakes.side_by_side import side_by_side
from fakes.storage import storage_variables

from searchanything.cli.app import run
from searchanything.core.codes import hamming
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import StoredFile
from searchanything.core.settings import Settings
from searchanything.demo.local_s3 import LocalS3
from searchanything.features.compact import compact
from searchanything.features.keep import ParquetKeeper
from searchanything.features.layout import FeatureCache
from searchanything.features.status import cache_status
from searchanything.ingest.pipeline import index_images, refresh_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.stores.files import BucketFiles
from searchanything.stores.memory import MemoryRegionIndex
from searchanything.stores.s3 import S3Store
from searchanything.wiring import open_feature_cache

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
FOUR = IndexingOptions(batch_images=4, transfer_threads=4)


@pytest.fixture
def settings(s3_server: LocalS3) -> Settings:
    settings = Settings(_env_file=None)
    settings.storage = s3_server.settings()
    return settings


@pytest.fixture
def index() -> MemoryRegionIndex:
    return new_index()


@pytest.fixture
def cache(s3_store: S3Store, settings: Settings, index: MemoryRegionIndex) -> FeatureCache:
    return open_feature_cache(s3_store.bucket, index.manifest, settings)


def fill(store: S3Store, count: int) -> None:
    generator = np.random.default_rng(2)
    for number in range(count):
        colours = generator.permutation(list(PALETTE))[:2]
        image = drawn(60, 60, **{colours[0]: (2, 2, 20 + number, 30), colours[1]: (6, 34, 50, 36 + number // 2)})
        store.upload(f"in/{number}.png", png(image))


def test_layers_are_trained_and_applied_from_the_bucket(
    s3_store: S3Store,
    s3_server: LocalS3,
    cache: FeatureCache,
    index: MemoryRegionIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(s3_store, 16)
    encoder = fake_encoder()
    job = IndexingJob(s3_store, lambda: encoder, index, FOUR, keeper=ParquetKeeper(cache))
    assert index_images(job, s3_store.list()).regions == 32
    again = index_images(job, s3_store.list())
    assert (again.unchanged, again.skipped, again.failed) == (16, 0, 0)  # what is ours is not even skipped
    place = f"s3://{s3_store.bucket}/.searchanything/features/{index.manifest.feature_fingerprint}/"
    status = cache_status(cache, index, age_s=3600)
    assert (status.location, status.files, status.live_rows, status.missing) == (place, 4, 32, 0)
    s3_store.delete("in/3.png")
    refresh_images(job, ["in/3.png"])
    done = compact(cache, index, age_s=3600)
    assert (done.files_after, done.rows_dropped) == (1, 2)
    kept = [found.ref.key for found in s3_store.list(".searchanything/")]
    assert len(kept) == 1
    assert done.bytes_after == s3_store.stat(kept[0]).size_bytes  # type: ignore[union-attr]

    for name, value in storage_variables(s3_server.settings()).items():
        monkeypatch.setenv(name, value)
    layer = tmp_path / "layer.safetensors"
    layer.write_bytes(encoder.hasher.to_bytes())
    trained = ("hash", "train", "--features", place, "--method", "itq", "--bits", "64", "--format", "json")
    assert run([*trained, "--out", str(tmp_path / "new.safetensors")]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 30
    codes = str(tmp_path / "codes.npy")
    assert run(["hash", "encode", "--features", place, "--hash", str(layer), "--out", codes]) == 0
    ids = pq.read_table(io.BytesIO(s3_store.read(kept[0])[1]))["region_id"].to_pylist()
    stored = {row.id: np.frombuffer(row.code, np.uint8)[None] for row in index.iterate_regions()}
    assert set(ids) == set(stored)
    for name, code in zip(ids, np.load(codes), strict=True):
        assert hamming(code[None], stored[name])[0, 0] <= 1


def test_workers_write_side_by_side_while_it_is_compacted(
    s3_store: S3Store, settings: Settings, index: MemoryRegionIndex, cache: FeatureCache
) -> None:
    def work(name: str) -> None:
        keeper = ParquetKeeper(open_feature_cache(s3_store.bucket, index.manifest, settings))
        job = IndexingJob(s3_store, fake_encoder, index, FOUR, keeper=keeper)
        for number in range(5):
            s3_store.upload(f"{name}{number}.png", GREEN_BLUE)
            s3_store.upload("shared.png", (RED, GREEN_BLUE)[number % 2])
            refresh_images(job, [f"{name}{number}.png", "shared.png"])

    workers = [partial(work, name) for name in "ab"]
    assert side_by_side(workers, meanwhile=lambda: compact(cache, index, age_s=3600, file_rows=8)) == []
    compact(cache, index, age_s=0)
    status = cache_status(cache, index, age_s=0)
    newest = index.newest({row.image for row in index.iterate_images()})
    assert status.rows == status.live_rows == sum(row.regions for row in newest.values())
    assert status.missing == 0


def test_no_more_of_a_file_is_fetched_than_is_read(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = BucketFiles(s3_store, "own/")
    data = np.random.default_rng(0).bytes(3 << 20)
    files.write("large", data)
    [stored] = files.list()
    assert stored == StoredFile("large", len(data))
    fetched: list[int] = []
    whole = s3_store.read_part

    def counting(key: str, *, first: int, count: int) -> bytes:
        fetched.append(count)
        return whole(key, first=first, count=count)

    monkeypatch.setattr(s3_store, "read_part", counting)
    with files.open(stored) as file:
        file.seek(-1000, io.SEEK_END)
        assert file.read() == data[-1000:]
        file.seek(1 << 20)
        assert file.read(10) == data[1 << 20 : (1 << 20) + 10]
        assert sum(fetched) <= 2 << 17
        file.seek(0)
        assert file.read() == data
    files.delete("large")
    assert list(files.list()) == []
    with pytest.raises(ObjectNotFoundError), files.open(stored) as file:
        file.read()
