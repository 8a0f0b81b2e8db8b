"""Fixtures that several test folders share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:  # for the fixtures' types alone: numpy and torch read their settings below when they are loaded
    from searchanything.demo.local_s3 import LocalS3
    from searchanything.stores.s3 import S3Store

os.environ["SEARCHANYTHING_SERVE__WARM_IDLE_S"] = "0"  # tests leave no process behind

# Two runs share the cores with the servers that they start. There, threads that spin while they wait for each other
# take the time of those they wait for: a rotation of 1,344 dimensions cost 3 to 7 s of CPU instead of half a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the package sets it, here for tests that load torch before

# uv does not compile what it installs, and many machines forbid imports to: then each process that a test starts
# compiles torch and the others anew, which is half of its start. Here it is kept once, beside the checkout's caches.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".cache" / "bytecode")
os.environ["SEARCHANYTHING_MODELS__MEASURED_DIR"] = str(Path(__file__).parents[1] / ".cache" / "measured")
sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]


def pytest_collection_finish() -> None:
    """What is loaded by now stays to the end: no collection of garbage looks at torch and 5,000 tests any more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """A real S3 server (SeaweedFS) on loopback, one for the whole run."""
    from searchanything.demo.local_s3 import LocalS3

    with LocalS3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_store(s3_server: LocalS3) -> S3Store:
    """A store over a fresh bucket."""
    from searchanything.stores.s3 import S3Store

    store = S3Store(s3_server.settings(), f"test-{uuid4().hex}")
    store.make_bucket()
    return store
