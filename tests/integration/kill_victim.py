"""The helper of `test_index_kill`: reads orders, forks a victim for each, and says how it ended.

The victims are forked before anything has been connected, which gRPC needs and which saves an import for each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.index_rows import HASH_LAYER, image_row, manifest_of, region_row
from integration.lite_processes import processes_of

from searchanything.core.settings import MilvusSettings
from searchanything.core.types import ImageRef
from searchanything.stores.lite_connection import LiteConnection
from searchanything.stores.lite_host import LiteHost
from searchanything.stores.milvus import MilvusIndexStore

IMAGE = ImageRef("bucket", "the image.jpg")


class MortalConnection(LiteConnection):
    """Dies, and its server with it, at one of its writes."""

    def __init__(self, file: Path, *, write: int | None, acknowledged: bool) -> None:
        super().__init__(MilvusSettings(uri=str(file), lite_idle_s=0.5), LiteHost(file, idle_s=0.5, timeout_s=30.0))
        self._file = file
        self._death_at, self._acknowledged, self._writes = write, acknowledged, 0

    def _write(self, doing: str, call: Callable[..., object]) -> None:
        number, self._writes = self._writes, self._writes + 1
        if number == self._death_at and not self._acknowledged:
            server = self._server()
            threading.Timer(random.uniform(0.0002, 0.004), self._die, [server]).start()  # noqa: S311 - no secret
            super()._write(doing, call)
            time.sleep(5)
        super()._write(doing, call)
        if number == self._death_at:
            self._die(self._server())

    def _server(self) -> int:
        self._once("connect", self._surely_connected)
        return processes_of(self._file)["server"][0]

    def _die(self, server: int) -> None:
        os.kill(server, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def work(file: Path, orders: dict[str, Any]) -> None:
    """Replace the image, make another index and switch to it; or only make an index."""
    connection = MortalConnection(file, write=orders["write"], acknowledged=orders["acknowledged"])
    store = MilvusIndexStore(connection, "searchanything_")
    if "create" in orders:
        store.create(manifest_of(orders["create"]), HASH_LAYER)
        return
    generation = orders["generation"]
    index = store.open("0" * 64)
    index.insert_regions([region_row(IMAGE, number, generation=generation) for number in range(60)])
    index.insert_images([image_row(IMAGE, generation=generation, regions=60)])
    index.delete_before({IMAGE: generation})
    store.create(manifest_of(orders["fingerprint"]), HASH_LAYER)
    store.switch(orders["fingerprint"])
    store.close()


def main() -> None:
    file = Path(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(file, json.loads(line))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        sys.stdout.write({0: "done", int(signal.SIGKILL): "killed"}.get(status, f"failed: {status}") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
