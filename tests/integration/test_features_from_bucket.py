"""Features in a real bucket, larger than an object may be: fetched in parts, the same rows and codes as from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.settings import Settings
from searchanything.demo.local_s3 import LocalS3
from searchanything.features.parquet import FINGERPRINT_KEY, READ_BYTES, FeatureBatch, feature_schema, record_batch
from searchanything.hash_training.encoding_files import encode_features
from searchanything.hash_training.features import FeatureSource
from searchanything.models.hashing import HashLayer
from searchanything.stores.files import MOST_BYTES
from searchanything.stores.s3 import S3Store
from searchanything.wiring import COUNTED_OBJECTS, open_features

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
MASK, IMAGE, ROWS = 320, 1024, 12_000
LAYER = HashLayer.random_rotation(MASK, IMAGE, bits=64, seed=1)


@pytest.fixture
def settings(s3_server: LocalS3) -> Settings:
    settings = Settings(_env_file=None)
    settings.storage = s3_server.settings().model_copy(update={"max_object_bytes": 1 << 20})  # far below the files
    return settings


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, 1 << 14, size=(ROWS, MASK + IMAGE), dtype=np.uint16)
    return drawn.view(np.float16)  # finite: the highest exponent is not reached


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all parts that are asked for; whole objects must not be."""
    sizes: list[int] = []
    part = S3Store.read_part

    def counting(store: S3Store, key: str, *, first: int, count: int) -> bytes:
        sizes.append(count)
        return part(store, key, first=first, count=count)

    def whole(_: S3Store, key: str) -> None:
        raise AssertionError(f"{key} was fetched whole")

    monkeypatch.setattr(S3Store, "read_part", counting)
    monkeypatch.setattr(S3Store, "read", whole)
    return sizes


def as_parquet(path: Path, rows: np.ndarray) -> Path:
    """All rows in one row group, not compressed."""
    schema = feature_schema(MASK, IMAGE).with_metadata({FINGERPRINT_KEY: b"f1"})
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        batch = FeatureBatch(rows[:, :MASK].astype(np.float32), rows[:, MASK:].astype(np.float32))
        writer.write_batch(record_batch(schema, [str(number) for number in range(len(rows))], batch))
    return path


def codes_of(source: FeatureSource, folder: Path) -> np.ndarray:
    encode_features(source, LAYER, folder / "codes.npy")
    return np.load(folder / "codes.npy")


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_large_objects_are_fetched_in_parts(
    suffix: str, rows: np.ndarray, s3_store: S3Store, settings: Settings, fetched: list[int], tmp_path: Path
) -> None:
    file = tmp_path / f"f.{suffix}"
    if suffix == "npy":
        np.save(file, rows)
    else:
        as_parquet(file, rows)
    size = file.stat().st_size
    assert size > 3 * MOST_BYTES
    s3_store.upload(f"in/f.{suffix}", file.read_bytes())
    dimension = MASK if suffix == "npy" else None
    source = open_features(f"s3://{s3_store.bucket}/in/f.{suffix}", mask_dimension=dimension, settings=settings)
    assert (source.rows, max(fetched) <= 1 << 16) == (ROWS, True)  # header or footer alone
    remote = codes_of(source, tmp_path)
    assert max(fetched) <= (MOST_BYTES if suffix == "npy" else READ_BYTES + (1 << 16))
    assert sum(fetched) < 1.05 * size
    np.testing.assert_array_equal(
        remote, codes_of(open_features(str(file), mask_dimension=dimension, settings=settings), tmp_path)
    )


def test_a_prefix_is_all_its_parquet_objects(
    rows: np.ndarray, s3_store: S3Store, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, part in (("b", rows[50:80]), ("a", rows[:50])):
        s3_store.upload(f"in/{name}.parquet", as_parquet(tmp_path / "part.parquet", part).read_bytes())
    s3_store.upload("in/readme.txt", b"no features")
    place = f"s3://{s3_store.bucket}/in/"
    source = open_features(place, mask_dimension=None, settings=settings)
    assert (source.rows, source.fingerprint) == (80, "f1")
    np.testing.assert_array_equal(np.concatenate([one.image for one in source.batches()]), rows[:80, MASK:])
    assert COUNTED_OBJECTS > 1
    monkeypatch.setattr("searchanything.wiring.COUNTED_OBJECTS", 1)
    assert open_features(place, mask_dimension=None, settings=settings).rows is None


def test_what_is_not_there(s3_store: S3Store, settings: Settings) -> None:
    s3_store.upload("readme.txt", b"no features")
    for key, error, message in (
        ("missing.npy", ObjectNotFoundError, r"missing\.npy: no such object"),
        ("missing.parquet", ObjectNotFoundError, r"missing\.parquet: no such object"),
        ("", UsageError, r"holds no \.parquet object"),
    ):
        with pytest.raises(error, match=message):
            open_features(f"s3://{s3_store.bucket}/{key}", mask_dimension=1, settings=settings)
    with pytest.raises(ObjectNotFoundError, match="no such bucket"):
        open_features("s3://no-such-bucket-here/in/", mask_dimension=None, settings=settings)
