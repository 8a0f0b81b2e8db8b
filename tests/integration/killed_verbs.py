"""The helper of `test_killed_verbs`: does one thing with hand-written models, and says how far it is, line by line."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.machine import Machine

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.ingest import garbage


def opened(uri: str) -> Client:
    """A client of this index, in a process of its own."""
    Machine().install(pytest.MonkeyPatch())
    return connect(uri, preset="pico")


def said(done: int) -> None:
    """Say it, and stay there if that is when it is killed."""
    sys.stdout.write(f"{done}\n")
    sys.stdout.flush()
    if done >= int(sys.argv[5]):
        threading.Event().wait()


def retry(client: Client, _folder: Path) -> None:
    client.retry_failed(progress=lambda step: said(step.done))


def repair(client: Client, folder: Path) -> None:
    garbage.DELETED_AT_ONCE = int(sys.argv[4])  # type: ignore[misc]
    index: Any = type(client._parts.connection.read_index())
    delete, deleted = index.delete_before, [0]

    def counted(self: Any, below: Any) -> Any:
        result = delete(self, below)
        deleted[0] += len(below)
        said(deleted[0])
        return result

    index.delete_before = counted
    client.sync(folder, repair=True)


def main() -> None:
    with opened(sys.argv[2]) as client:
        {"retry": retry, "repair": repair}[sys.argv[1]](client, Path(sys.argv[3]))


if __name__ == "__main__":
    main()
