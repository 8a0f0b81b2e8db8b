"""Bytes that changed inside a file of features are noticed, wherever its rows are read."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes.indexing import GREEN_BLUE, RED, SMALL_BATCHES, new_index
from fakes.models import fake_encoder
from fakes.stores import InMemoryStore

from searchanything.core.errors import StoreError, UsageError
from searchanything.core.protocols import StoredFile
from searchanything.core.settings import Settings
from searchanything.features.compact import compact
from searchanything.features.contents import BUCKET_KEY, IMAGES_KEY, CachedFile
from searchanything.features.keep import ParquetKeeper
from searchanything.features.kept_regions import kept_regions, kept_sample
from searchanything.features.layout import TOMBSTONES, FeatureCache
from searchanything.features.parquet import IMAGE_COLUMN, MASK_COLUMN
from searchanything.features.status import cache_status
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob
from searchanything.stores.files import FolderFiles
from searchanything.wiring import open_features

OLD_S = 24 * 3600.0


class KeptFolder:
    """A folder of kept features, in several files, and their index."""

    def __init__(self, folder: Path) -> None:
        store, self.index, self.folder = InMemoryStore(), new_index(), folder
        self.cache = FeatureCache(FolderFiles(folder), store.bucket, self.index.manifest)
        for name, data in (("a", RED), ("b", GREEN_BLUE), ("c", RED)):
            store.put(f"{name}.png", data)
        job = IndexingJob(store, fake_encoder, self.index, SMALL_BATCHES, keeper=ParquetKeeper(self.cache))
        index_images(job, store.list())

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def compact(self) -> None:
        compact(self.cache, self.index, age_s=OLD_S, file_rows=1000)

    def read(self) -> np.ndarray:
        source = open_features(str(self.folder), mask_dimension=None, settings=Settings())
        return np.concatenate([batch.image for batch in source.batches()])


@pytest.fixture
def kept(tmp_path: Path) -> KeptFolder:
    return KeptFolder(tmp_path / "features")


def alter(path: Path, column: str) -> None:
    """Other bits in the last value of a column's first page; the footer stays as it is."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    [chunk] = [one for one in chunks if one.path_in_schema.split(".")[0] == column]
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 0x10
    path.write_bytes(data)


def alter_page_kind(path: Path) -> None:
    """The features' page is of a kind that nobody knows, and skipped: what tells is outside of its checksum."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    data = bytearray(path.read_bytes())
    for chunk in (group.column(number) for number in range(group.num_columns)):
        if chunk.path_in_schema.split(".")[0] == MASK_COLUMN:
            data[chunk.data_page_offset + 1] ^= 0x5A
    path.write_bytes(data)


def alter_footer(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-8 - int.from_bytes(data[-8:-4], "little")] ^= 0x5A
    path.write_bytes(data)


@pytest.mark.parametrize("alter_file", [alter_page_kind, alter_footer])
def test_what_no_checksum_is_of_is_noticed_as_well(kept: KeptFolder, alter_file: Callable[[Path], None]) -> None:
    damaged = kept.files[-1]
    alter_file(damaged)
    with pytest.raises(UsageError, match=rf"{damaged.name} is .*damaged"):
        kept.read()
    with pytest.raises(StoreError, match=rf"(?s){damaged.name}.*index again with --force"):
        list(kept_regions(kept.cache, lambda _: True))


@pytest.mark.parametrize("column", [MASK_COLUMN, IMAGE_COLUMN])
@pytest.mark.parametrize("compacted", [False, True])
def test_altered_features_are_not_read(kept: KeptFolder, column: str, compacted: bool) -> None:
    if compacted:
        assert len(kept.files) > 1
        kept.compact()
    damaged = kept.files[-1]
    alter(damaged, column)
    with pytest.raises(UsageError, match=rf"{damaged.name} is damaged"):
        kept.read()
    for read in (lambda: list(kept_regions(kept.cache, lambda _: True)), lambda: kept_sample(kept.cache, most=1000)):
        with pytest.raises(StoreError, match=rf"{damaged.name}.*index again with --force"):
            read()


def test_a_compaction_neither_copies_nor_deletes_what_is_damaged(kept: KeptFolder) -> None:
    damaged = kept.files[-1]
    alter(damaged, IMAGE_COLUMN)
    before = {path.name: path.read_bytes() for path in kept.files}
    with pytest.raises(StoreError, match=damaged.name):
        kept.compact()
    assert {path.name: path.read_bytes() for path in kept.files} == before


def test_files_without_checksums_are_read_as_before(kept: KeptFolder) -> None:
    rows = kept.read()
    for path in kept.files:
        pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False)  # as older ones are
    np.testing.assert_array_equal(kept.read(), rows)
    kept.compact()
    assert len(kept.files) == 1
    np.testing.assert_array_equal(np.sort(kept.read(), axis=0), np.sort(rows, axis=0))
    alter(kept.files[0], IMAGE_COLUMN)
    with pytest.raises(UsageError, match="is damaged"):  # the compaction gave them checksums
        kept.read()


def test_a_file_that_lists_other_rows_than_it_holds_is_damaged(kept: KeptFolder) -> None:
    """A status goes by the list alone."""
    damaged = kept.files[0]
    pq.write_table(pq.read_table(damaged).slice(1), damaged)  # keeps the list
    with pytest.raises(StoreError, match=rf"{damaged.name}.* lists .* regions and holds .*index again with --force"):
        cache_status(kept.cache, kept.index, age_s=OLD_S)


def relist(path: Path, name: bytes, text: bytes) -> None:
    """The same rows, with another text in the file's metadata."""
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, name: text}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="none", use_dictionary=False)


@pytest.mark.parametrize(
    "altered",
    [
        {"regions": -1},
        {"regions": 10**30},
        {"regions": 1.0},
        {"regions": "1"},
        {"generation": "x"},
        {"generation": None},
        {"generation": 2**63},
        {"key": "\ud800"},
        {"key": ["a"]},
        {"etag": 1},
        None,
    ],
    ids=str,
)
def test_a_list_of_what_no_index_has_is_damage(kept: KeptFolder, altered: dict[str, Any] | None) -> None:
    """Anybody may have written the file: each number of its list is used as one."""
    damaged = kept.files[0]
    listed = json.loads(pq.read_schema(damaged).metadata[IMAGES_KEY])
    number = listed[0]["regions"]
    entry = {**listed[0], **(altered or {})}
    if isinstance(entry["regions"], int) and entry["regions"] != number:  # the sum is right
        listed.append({**listed[0], "key": "z", "regions": number - entry["regions"]})
    text = json.dumps([entry, *listed[1:]])
    relist(damaged, IMAGES_KEY, b"[" * 100_000 if altered is None else text.encode())
    for read in (
        lambda: cache_status(kept.cache, kept.index, age_s=OLD_S),
        lambda: list(kept_regions(kept.cache, lambda _: True)),
        lambda: kept_sample(kept.cache, most=1000),
        kept.compact,
    ):
        with pytest.raises(StoreError, match=rf"{damaged.name}.*index again with --force"):
            read()
    assert len(kept.read())  # whoever trains takes it as rows of nobody knows which images


@pytest.mark.parametrize("bucket", [b"[" * 100_000, b'"\\ud800"'])
def test_rows_of_a_bucket_that_has_no_name_are_read(kept: KeptFolder, bucket: bytes) -> None:
    rows = kept.read()
    relist(kept.files[0], BUCKET_KEY, bucket)
    np.testing.assert_array_equal(np.sort(kept.read(), axis=0), np.sort(rows, axis=0))


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a.png": Infinity}', b'{"a.png": null}', b"[]", b"\xff"])
def test_tombstones_that_nobody_wrote_are_damage(kept: KeptFolder, text: bytes) -> None:
    name = kept.cache.new_name(TOMBSTONES)
    kept.cache.files.write(name, text)
    with pytest.raises(StoreError, match=rf"{name} is damaged"):
        cache_status(kept.cache, kept.index, age_s=OLD_S)


class UnreadableDisk(FolderFiles):
    """A folder on a disk that opens files, and reads none."""

    def open(self, file: StoredFile) -> BinaryIO:
        class Unreadable(BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002
                raise OSError(errno.EIO, "Input/output error")

        return Unreadable(bytes(file.size_bytes))


def test_a_file_on_a_disk_that_cannot_be_read_is_not_called_damaged(kept: KeptFolder) -> None:
    cache = FeatureCache(UnreadableDisk(kept.folder), kept.cache.bucket, kept.index.manifest)
    with pytest.raises(OSError, match="Input/output error"):
        cache_status(cache, kept.index, age_s=OLD_S)


def test_a_disk_that_cannot_be_read_is_no_damage(kept: KeptFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    [stored, *_] = kept.cache.files.list()

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with CachedFile(kept.cache, stored) as file:
        monkeypatch.setattr(file, "_parquet", type("Unreadable", (), {"read": unreadable})())
        with pytest.raises(OSError, match="Input/output error"):
            file.table([True] * len(file.images))
