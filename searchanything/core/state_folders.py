"""Where programs keep their state."""

from __future__ import annotations

from pathlib import Path

from searchanything.core.settings import Settings, default_index_uri


def service_folder(settings: Settings) -> Path:
    """Where the service keeps its state: as set, beside the index as `.index.db.service`, or in the user's folder."""
    return _folder_beside_index(settings, settings.service.folder, "service")


def serve_folder(settings: Settings) -> Path:
    """Where `searchanything serve` keeps keys and uploads: as set, beside the index, or in the user's folder."""
    return _folder_beside_index(settings, settings.serve.folder, "serve")


def _folder_beside_index(settings: Settings, chosen: Path | None, name: str) -> Path:
    if chosen is not None:
        return chosen.expanduser().resolve()
    uri = settings.milvus.uri
    if "://" in uri:
        return Path(default_index_uri()).with_name(name)
    file = Path(uri).expanduser().resolve()
    return file.with_name(f".{file.name}.{name}")
