"""A warm process keeps the connection of its last question to a Milvus server: opening one takes half a second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchanything.core.libraries import importing

if TYPE_CHECKING:
    from searchanything.client.client import Client
    from searchanything.core.protocols import IndexStore


class KeptIndex:
    """A `Connect`. Each question has a client of its own, which knows nothing from the questions before.

    An embedded index is opened anew as well: its file is the asker's, who may move or delete it.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, IndexStore] | None = None  # the settings and folder that it was opened with, first

    @contextlib.contextmanager
    def __call__(self, uri: str | None, preset: str | None) -> Iterator[Client]:
        """The client for a question. After one that ends in an error the connection is made anew."""
        with importing():
            from searchanything import wiring
            from searchanything.client.client import Client
            from searchanything.client.opening import settings_for

        settings = settings_for(uri, preset=preset)
        if not settings.milvus.uri.startswith(("http://", "https://")):
            with Client(settings) as client:
                yield client
            return
        opened_with = settings.milvus, Path.cwd()
        if self._kept is None or self._kept[0] != opened_with:
            self.close()
            self._kept = opened_with, wiring.open_index_store(settings.milvus)
        try:
            yield Client(settings, indexes=self._kept[1])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what is kept."""
        if self._kept is not None:
            indexes = self._kept[1]
            self._kept = None
            indexes.close()
