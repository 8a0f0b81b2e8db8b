"""How an index store in Milvus comes about: a file's server starts first, for pymilvus takes as long to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchanything.core.libraries import importing
from searchanything.core.settings import MilvusSettings
from searchanything.stores.milvus_address import lite_host_of

if TYPE_CHECKING:
    from searchanything.stores.milvus import MilvusIndexStore


def open_milvus(settings: MilvusSettings) -> MilvusIndexStore:
    """The index store at `settings.uri`: a file's name or `http(s)://host:port`. Connects at the first call.

    The server of a file that is there is being started meanwhile.

    Raises: SettingsError; IndexUnavailableError where a file cannot be looked for; LibraryError where pymilvus cannot
    be loaded.
    """
    host = lite_host_of(settings)
    if host is not None:
        host.start_early()
    try:
        with importing():
            from searchanything.stores.lite_connection import LiteConnection
            from searchanything.stores.milvus import MilvusIndexStore
            from searchanything.stores.milvus_connection import MilvusConnection
    except BaseException:
        if host is not None:
            host.release()
        raise

    connection = MilvusConnection(settings) if host is None else LiteConnection(settings, host)
    return MilvusIndexStore(connection, settings.collection_prefix)
