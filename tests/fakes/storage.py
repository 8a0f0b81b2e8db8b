"""A test's storage as the environment of a command or a service."""

from __future__ import annotations

from searchanything.core.settings import StorageSettings


def storage_variables(storage: StorageSettings) -> dict[str, str]:
    """What names a server on loopback, and its keys."""
    assert storage.access_key is not None
    assert storage.secret_key is not None
    return {
        "SEARCHANYTHING_STORAGE__ENDPOINT": str(storage.endpoint),
        "SEARCHANYTHING_STORAGE__ACCESS_KEY": storage.access_key.get_secret_value(),
        "SEARCHANYTHING_STORAGE__SECRET_KEY": storage.secret_key.get_secret_value(),
        "SEARCHANYTHING_STORAGE__SECURE": "false",
    }
