"""What the settings say of a Milvus server's address: an embedded file's host, or how to speak TLS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from searchanything.core.addresses import host_of, is_loopback, shown_address
from searchanything.core.errors import SettingsError
from searchanything.core.settings import MilvusSettings
from searchanything.stores.lite_host import LiteHost


def lite_host_of(settings: MilvusSettings) -> LiteHost | None:
    """The host of an embedded index's file; None for a server's address. Raises: SettingsError."""
    if settings.uri.lower().startswith(("http://", "https://")):
        if re.search("/.|[?#]", settings.uri.partition("://")[2]):
            raise SettingsError(
                f"SEARCHANYTHING_MILVUS__URI: expected http(s)://host:port without a path, got "
                f"{shown_address(settings.uri)!r}; a database is named by SEARCHANYTHING_MILVUS__DATABASE"
            )
        return None
    if "://" in settings.uri:
        raise SettingsError(
            "SEARCHANYTHING_MILVUS__URI: expected a file name, http(s)://host:port or memory://, "
            f"got {shown_address(settings.uri)!r}"
        )
    if settings.index_type != "BIN_FLAT":
        raise SettingsError(f"an embedded index is BIN_FLAT; {settings.index_type} needs a Milvus server")
    return LiteHost(Path(settings.uri), idle_s=settings.lite_idle_s, timeout_s=settings.timeout_s)


def connection_arguments(settings: MilvusSettings) -> dict[str, Any]:
    """What pymilvus' client of a server is made with, besides its address."""
    return {
        "token": "" if settings.token is None else settings.token.get_secret_value(),
        "db_name": settings.database,
        "timeout": settings.timeout_s,
        "dedicated": True,
        "grpc_options": {"grpc.enable_http_proxy": 0} if is_loopback(host_of(settings.uri)) else {},
        **_tls_arguments(settings),
    }


def _tls_arguments(settings: MilvusSettings) -> dict[str, Any]:
    """pymilvus takes one certificate of the server, or for mutual TLS the authority's, the client's and its key."""
    if not settings.uri.lower().startswith("https://"):
        return {}
    arguments: dict[str, Any] = {"secure": True}
    if settings.client_cert_file is not None or settings.client_key_file is not None:
        files = (settings.ca_file, settings.client_cert_file, settings.client_key_file)
        if None in files:
            raise SettingsError("mutual TLS needs all of milvus.ca_file, client_cert_file and client_key_file")
        names = ("ca_pem_path", "client_pem_path", "client_key_path")
        return arguments | {name: str(file) for name, file in zip(names, files, strict=True)}
    return arguments | ({} if settings.ca_file is None else {"server_pem_path": str(settings.ca_file)})
