"""Long work waits for a bucket's file that a library reads in threads of its own, as Arrow does."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from searchanything.core.errors import StoreUnavailableError
from searchanything.core.patience import PAUSES_S, LongWork, long_work, patiently
from searchanything.core.protocols import StoredFile
from searchanything.stores.files import BucketFiles

SERVER = "the image store at s:8333"
ROWS = 200_000  # more than is fetched with the footer


class RestartingBucket:
    """Of one object; it is asked as a server is, and can be away for one question."""

    bucket = "holiday"

    def __init__(self, data: bytes) -> None:
        self.data, self.away = data, False

    def read_part(self, _key: str, *, first: int, count: int) -> bytes:
        def ask() -> bytes:
            if self.away:
                self.away = False
                raise StoreUnavailableError("refused")
            return self.data[first : first + count]

        return patiently(ask, SERVER, StoreUnavailableError)


def test_a_file_that_arrow_reads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(LongWork, "pause", lambda _, pause_s: slept.append(pause_s))
    table, buffer = pa.table({"number": list(range(ROWS))}), io.BytesIO()
    parquet.write_table(table, buffer, compression="none", use_dictionary=False)
    bucket: Any = RestartingBucket(buffer.getvalue())
    with long_work(), BucketFiles(bucket, "features/").open(StoredFile("a.parquet", len(bucket.data))) as file:
        opened = parquet.ParquetFile(file)
        bucket.away = True
        assert opened.read().equals(table)
    assert slept == [PAUSES_S[0]]
