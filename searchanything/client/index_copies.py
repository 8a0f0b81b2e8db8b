"""An index as a file, and back: exports, backups and what is made of them.

All of these read or write every row, so each says how far it is.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from searchanything import wiring
from searchanything.client.connection import Connection
from searchanything.core.arguments import check_kind, check_progress
from searchanything.core.errors import ModelError
from searchanything.core.libraries import importing
from searchanything.core.patience import long_work
from searchanything.ingest.progress import steps_of
from searchanything.ingest.reports import OnProgress

if TYPE_CHECKING:
    from searchanything.backup.backup import BackupReport
    from searchanything.core.manifest import IndexManifest


@long_work()
def export_index(
    connection: Connection, destination: str | Path, bucket: str | None, key_prefix: str, *, progress: OnProgress | None
) -> int:
    """As `Client.export`."""
    with importing():
        from searchanything.search.export import check_export_path, export_regions

    check_export_path(destination)
    check_progress(progress)
    index, on_step = connection.read_index(), steps_of(progress)
    return export_regions(index, destination, bucket=bucket, key_prefix=key_prefix, on_step=on_step)


@long_work()
def back_up_index(connection: Connection, target: str | Path, *, progress: OnProgress | None) -> BackupReport:
    """As `Client.backup`."""
    with importing():
        from searchanything.backup.backup import back_up
        from searchanything.client.standing_memory import StandingMemory

    check_kind(target, str | Path, "target", "a tar file's path or s3://bucket/prefix")
    check_progress(progress)
    indexes, place = connection.whole(), wiring.backup_place(str(target), connection.settings)
    return back_up(indexes, place, StandingMemory(indexes).notes(), on_step=steps_of(progress))


@long_work()
def restore_index(connection: Connection, source: str | Path, *, progress: OnProgress | None) -> BackupReport:
    """As `Client.restore`."""
    with importing():
        from searchanything.backup.backup import Checks, restore
        from searchanything.client.change_lease import change_lease
        from searchanything.client.standing_memory import StandingMemory
        from searchanything.models.words_layer import WordsLayer

    check_progress(progress)
    indexes, place = connection.whole(), wiring.backup_place(str(source), connection.settings)
    on_step = steps_of(progress)
    hold = partial(change_lease, command=f"searchanything restore {shlex.quote(str(source))}")
    checks = Checks(_check_head, WordsLayer.from_bytes, StandingMemory(indexes).check_notes)
    return restore(indexes, place, checks=checks, hold=hold, on_step=on_step)


def _check_head(manifest: IndexManifest, hash_layer: bytes) -> None:
    """Raises: ModelError, UsageError, KeyError, TypeError for what no index was made with."""
    from searchanything.encode.asked_regions import made_with
    from searchanything.models.hashing import HashLayer

    made_with(manifest)
    if len(HashLayer.from_bytes(hash_layer).weight) != manifest.bits:
        raise ModelError(f"the hash layer makes no codes of {manifest.bits} bits")
