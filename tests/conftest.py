"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from searchanything.demo.local_s3 import LocalS3
from searchanything.stores.s3 import S3Store

os.environ["SEARCHANYTHING_SERVE__WARM_IDLE_S"] = "0"  # tests leave no process behind


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """A real S3 server (SeaweedFS) on loopback, one for the whole run."""
    with LocalS3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_store(s3_server: LocalS3) -> S3Store:
    """A store over a fresh bucket."""
    store = S3Store(s3_server.settings(), f"test-{uuid4().hex}")
    store.make_bucket()
    return store
