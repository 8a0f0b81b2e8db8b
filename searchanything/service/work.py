"""What a worker process does: one client for its whole life, so models are loaded once, and batches of keys.

Settings come from the worker's own environment: secrets travel neither through Prefect nor through Dask.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.ingest.reports import IndexReport
from searchanything.ingest.vanished import Said
from searchanything.service.reports import BatchReport

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_clients: list[Client] = []  # at most one; a list, so that importers of the name see it


def warm_up(source: str) -> None:
    """Load the models before they are needed; an index that is not there is made. Raises: as `Client.refresh`."""
    client = worker_client()
    client.refresh(source, ())
    client.operations.load_models()


def refresh_keys(
    source: str,
    keys: Sequence[str],
    *,
    reading: Mapping[str, str],
    force: bool = False,
    tiles: int = 0,
    said: Said = "named",
) -> BatchReport:
    """Bring these keys up to date, as `Client.refresh` does, in this process, with up to `tiles` for the contact sheet.

    What is `said` of them decides whether those that are gone are forgotten. `reading` is the coordinator's.

    Raises: as `Operations.refresh_with_sheet`.
    """
    start = time.perf_counter()
    operations = worker_client().operations
    report, shown = operations.refresh_with_sheet(source, keys, force=force, tiles=tiles, said=said, reading=reading)
    seconds = time.perf_counter() - start
    return BatchReport(report, seconds, socket.gethostname(), os.getpid(), shown)


def check_worker(source: str, key: str) -> None:
    """Whether this process can encode an image at all, and its store answers about this one.

    Raises: as `Operations.check_models` and `Operations.check_readable`.
    """
    operations = worker_client().operations
    operations.check_models()
    operations.check_readable(source, key)


def tidy(source: str, *, reading: Mapping[str, str]) -> BatchReport:
    """Collect garbage. Raises: as `Operations.collect_garbage`."""
    start = time.perf_counter()
    found = worker_client().operations.collect_garbage(source, reading=reading)
    seconds = time.perf_counter() - start
    return BatchReport(found.repaired or IndexReport(), seconds, socket.gethostname(), os.getpid())


def worker_client() -> Client:
    """This process's one client."""
    with _lock:
        if not _clients:
            _clients.append(connect())
        return _clients[0]
