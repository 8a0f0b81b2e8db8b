"""A warm process keeps the index of its last question to a Milvus server open: opening one takes up to a second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchanything.core.libraries import importing

if TYPE_CHECKING:
    from searchanything.client.client import Client
    from searchanything.core.settings import MilvusSettings


class KeptIndex:
    """A `Connect`. Each question is judged and reads its images as if it were the first.

    An embedded index is opened anew: its file is the asker's, who may move or delete it.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, Client] | None = None  # first the settings, folder and files that it was opened with

    @contextlib.contextmanager
    def __call__(self, uri: str | None, preset: str | None) -> Iterator[Client]:
        """The client for a question. After one that ends in an error another is opened."""
        with importing():
            from searchanything.client.opening import afresh, connect, settings_for

        settings = settings_for(uri, preset=preset)
        if not settings.milvus.uri.startswith(("http://", "https://")):
            with connect(settings=settings) as client:
                yield client
            return
        opened_with = settings, Path.cwd(), _certificates(settings.milvus)
        if self._kept is None or self._kept[0] != opened_with:
            self.close()
            self._kept = opened_with, connect(settings=settings)
        try:
            yield afresh(self._kept[1])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what is kept."""
        if self._kept is not None:
            client = self._kept[1]
            self._kept = None
            client.close()


def _certificates(milvus: MilvusSettings) -> tuple[tuple[int, ...] | None, ...]:
    """The files of a connection as they are now; None for one that is not named, or not there: opening says so."""
    found: list[tuple[int, ...] | None] = []
    for path in (milvus.ca_file, milvus.client_cert_file, milvus.client_key_file):
        state = None
        if path is not None:
            with contextlib.suppress(OSError):
                there = path.stat()
                state = there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns
        found.append(state)
    return tuple(found)
