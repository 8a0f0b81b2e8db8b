"""`searchanything.connect`: to an index, or to a server that has one (docs/adr/0052)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

from searchanything.client.remote import RemoteClient, is_server
from searchanything.core.arguments import check_kind
from searchanything.core.errors import LibraryError, UsageError
from searchanything.core.libraries import LazyModule, importing

if TYPE_CHECKING:
    from searchanything.client import given
else:
    given = LazyModule("searchanything.client.given")


@overload
def connect(uri: str, *, key: str) -> RemoteClient: ...


@overload
def connect(
    uri: str | Path | None = None, *, settings: given.Settings | None = None, preset: str | None = None
) -> given.Client: ...


def connect(
    uri: str | Path | None = None,
    *,
    settings: given.Settings | None = None,
    preset: str | None = None,
    key: str | None = None,
) -> given.Client | RemoteClient:
    """A client of the index at `uri` (default: the settings'), or of a server of `searchanything serve`.

    `uri`: a file name (embedded Milvus Lite), `http(s)://host:port` (Milvus server, or `searchanything serve`) or
    `memory://`. With a `key` it is a server's address. Without one, an http address is asked once which of the two it
    is, so a `RemoteClient` may come where a `Client` is promised: it has `query`, `segment` and `status` (a document),
    and refuses the rest.
    `preset` names the models for a new index.

    Raises: SettingsError, IndexUnavailableError, ServerUnreachableError; UsageError for a key without an http address;
    LibraryError where the packages for an index are not installed, with the command that installs them.
    """
    check_kind(uri, str | Path | None, "uri", "a file's name, an address or memory://")
    uri = None if uri is None else str(uri)
    web = uri is not None and uri.startswith(("http://", "https://"))
    if key is not None:
        if uri is None or not web:
            raise UsageError(f"a key goes with the address of a server, http(s)://host:port, got {uri!r}")
        return RemoteClient(uri, key=key)
    if uri is not None and web and settings is None and preset is None and is_server(uri):
        return cast("given.Client", RemoteClient(uri))
    try:
        with importing():
            from searchanything.client.opening import connect as open_index
    except LibraryError as error:
        if not web:
            raise
        unanswered = f"{error.reason} (no `searchanything serve` answers at {uri}, so it was to be opened as Milvus)"
        raise LibraryError(error.library, unanswered, error.cure) from error
    return open_index(uri, settings=settings, preset=preset)
