"""Parts for the chaos tests: an embedded index whose server can be killed, and a stack of nothing but syncs."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from integration.lite_processes import kill, processes_of, wait_until_ended

from deploy.local import Stack
from deploy.processes import Program

_SYNCING = """
import sys, time
from pathlib import Path
import searchanything
from fakes.models import CHANNELS, FakeEmbedder, FakeSegmenter, lazy_fakes
from searchanything.core.errors import SearchAnythingError
from searchanything.models import presets
from searchanything.models.hashing import HashLayer
presets.lazy_models = lambda *_: lazy_fakes(FakeSegmenter(), FakeEmbedder())
presets.load_hash = lambda _: HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=5)
with searchanything.connect() as client:
    while True:
        try:
            client.sync(sys.argv[1], repair=True)
        except SearchAnythingError as error:
            print(error, flush=True)
        Path("synced").touch()
        time.sleep(0.3)
"""


class MortalLite:
    """A Milvus Lite file whose server is killed where it runs; its next user starts it again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.uri = str(file)

    def start(self, *, same_address: bool = False) -> None:
        """Nothing: the next user does."""

    def kill(self) -> None:
        """kill -9 of the server, if there is one."""
        if processes_of(self._file)["server"]:
            kill("server", self._file)

    def stop(self) -> None:
        """Wait until it has ended by itself."""
        wait_until_ended(self._file)


def with_fakes(folder: Path) -> dict[str, str]:
    """Settings under which Dask's workers have fake models instead of torch."""
    return {
        **of_python(),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "['fakes.worker_preload']",
        "FAKE_LOADS": str(folder / "loads"),
        "FAKE_SICK": str(sick_file(folder)),
    }


def sick_file(folder: Path) -> Path:
    """The file that makes the device of one worker sick; the worker takes it away."""
    return folder / "sick"


def of_python() -> dict[str, str]:
    """Where programs find the tests' own modules, and the bytecode of all others: else each compiles it anew."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {"PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": os.environ["PYTHONPYCACHEPREFIX"]}


class SyncingStack(Stack):
    """An S3 server, an index, and a process that syncs again and again: no Prefect, no events."""

    def _programs(self, listener: socket.socket) -> dict[str, Program]:  # noqa: ARG002  which is Prefect's server's
        environment = self.environment | of_python()
        command = [sys.executable, "-c", _SYNCING, f"s3://{self.bucket}"]
        ready = (self.folder / "synced").exists
        return {"watcher": Program("watcher", command, environment, self.folder, ready, grace_s=1.0)}
