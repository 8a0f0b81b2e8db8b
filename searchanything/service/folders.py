"""Where the service keeps its state: beside the index it fills."""

from __future__ import annotations

from pathlib import Path

from searchanything.settings import Settings, default_index_uri


def service_folder(settings: Settings) -> Path:
    """As set, or `.index.db.service` beside `index.db`; for a Milvus server, a folder of this user."""
    if settings.service.folder is not None:
        return settings.service.folder.expanduser().resolve()
    uri = settings.milvus.uri
    if "://" in uri:
        return Path(default_index_uri()).with_name("service")
    file = Path(uri).expanduser().resolve()
    return file.with_name(f".{file.name}.service")
