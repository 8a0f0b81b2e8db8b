"""How a client of an index comes about: by its settings, or one per URI that the process keeps."""

from __future__ import annotations

import atexit
import copy
import threading
from typing import TYPE_CHECKING

from searchanything.client.client import Client
from searchanything.client.client_parts import ClientParts
from searchanything.core.arguments import check_kind
from searchanything.core.libraries import LazyModule
from searchanything.core.settings import Settings, load_settings
from searchanything.core.types import Filter

if TYPE_CHECKING:
    from searchanything.client import given
else:
    given = LazyModule("searchanything.client.given")

_clients: dict[str, Client] = {}
_clients_lock = threading.Lock()


def connect(uri: str | None = None, *, settings: Settings | None = None, preset: str | None = None) -> Client:
    """A client of the index at `uri` (default: the settings').

    `uri`: a file name (embedded Milvus Lite), `http(s)://host:port` (Milvus server) or `memory://`. `preset` names the
    models for a new index. Raises: SettingsError, IndexUnavailableError.
    """
    return Client(settings_for(uri, settings=settings, preset=preset))


def settings_for(uri: str | None = None, *, settings: Settings | None = None, preset: str | None = None) -> Settings:
    """What `connect` opens a client with: a copy of the settings, with this URI and preset. Raises: SettingsError."""
    check_kind(settings, Settings | None, "settings", "Settings")
    check_kind(preset, str | None, "preset", "the name of a preset")
    chosen = (load_settings() if settings is None else settings).model_copy(deep=True)
    if uri is not None:
        chosen.milvus.uri = uri
    if preset is not None:
        chosen.models.preset = preset
    return chosen


def afresh(client: Client) -> Client:
    """A client with the models and the connection of another, as if nothing had been asked of it yet."""
    view = copy.copy(client)
    view._parts = ClientParts(client._parts.connection)  # noqa: SLF001 - of a copy, in the client's own package
    return view


def query(
    image: given.ImageInput,
    prompt: object = None,
    *,
    limit: int = 10,
    filter: Filter | None = None,
    uri: str | None = None,
) -> given.SearchResults:
    """`Client.query` on one client per URI that the process keeps. Thread-safe."""
    key = uri or load_settings().milvus.uri
    with _clients_lock:
        if key not in _clients:
            if not _clients:
                atexit.register(_close_clients)
            _clients[key] = connect(key)
        client = _clients[key]
    return client.query(image, prompt, limit=limit, filter=filter)


def _close_clients() -> None:
    with _clients_lock:
        while _clients:
            _clients.popitem()[1].close()
