"""Where settings are read from, and how far each place is trusted.

Highest first: the environment, the file that `SEARCHANYTHING_ENV_FILE` names, this user's own file. A `.env` that
merely lies in the working directory is not read: whoever unpacks an archive and works in it would hand over the index's
token to whatever server the archive names.

A file that is asked for may belong to a project, so it is trusted less than the environment and the user's own file:
credentials of these never go to an address that it names (docs/adr/0041-credentials.md).
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from searchanything.core.errors import SettingsError
from searchanything.core.reading import kind_at

logger = logging.getLogger(__name__)

ENV_PREFIX: Final = "SEARCHANYTHING_"
ENV_FILE: Final = f"{ENV_PREFIX}ENV_FILE"
OWN: Final = 2  # the environment, and files that only this user writes
ASKED: Final = 1
# What decides where credentials go, and the credentials, by group.
_STEERING: Final[Mapping[str, tuple[str, ...]]] = {
    "milvus": ("uri", "ca_file", "allow_unencrypted"),
    "storage": ("endpoint", "secure", "ca_file", "proxy"),
}
_CREDENTIALS: Final[Mapping[str, tuple[str, ...]]] = {
    "milvus": ("token",),
    "storage": ("access_key", "secret_key", "session_token"),
}
_CHAIN: Final = "the AWS chain of this machine"
_TRUE: Final = ("true", "1", "yes", "on", "t", "y")  # of a boolean; no other value of the two is one of these
_warned: set[Path] = set()


@dataclass(frozen=True, slots=True)
class SettingsPlace:
    """A place of settings, what it says by group and name, and how far it is trusted."""

    name: str
    values: Mapping[str, Any]
    trust: int


def own_file() -> Path:
    """This user's settings: `~/.config/searchanything/settings.env` (or under `XDG_CONFIG_HOME`)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "searchanything" / "settings.env"


def settings_files() -> list[tuple[Path, int]]:
    """The files to be read and their trust; of two that name the same setting the later one counts.

    Raises: SettingsError for a file that was asked for and is not there, and for an own one that others may write.
    """
    files = []
    own = own_file()
    if kind_at(own, "settings", raised=SettingsError) == "file":
        _check_is_own(own)
        files.append((own, OWN))
    if asked := os.environ.get(ENV_FILE):
        path = Path(asked).expanduser()
        if kind_at(path, f"the settings that {ENV_FILE} names", raised=SettingsError) != "file":
            raise SettingsError(f"{ENV_FILE} names {path}, and there is no such file; correct or unset it")
        files.append((path, ASKED))
    _warn_of_neighbour({path.resolve() for path, _ in files})
    return files


def check_trust(places: list[SettingsPlace]) -> None:
    """Raises: SettingsError where a credential would go to an address from a less trusted place. Never shows values.

    `places` begin with the one whose word counts most.
    """
    _check_chain_is_kept_secret(places)
    for group, names in _CREDENTIALS.items():
        held = {name: place for name in names if (place := _place_of(group, name, places)) is not None}
        if group == "storage" and _chosen(places) == "aws":
            held["credentials"] = SettingsPlace(_CHAIN, {}, OWN)
        for steering in _STEERING[group]:
            source = _place_of(group, steering, places)
            for credential, place in held.items():
                if source is not None and source.trust < place.trust:
                    raise SettingsError(
                        f"{_variable(group, steering)} comes from {source.name}, and {_variable(group, credential)} "
                        f"from {place.name}, which is trusted more: credentials are not sent where such a file says; "
                        f"set both in the same place, or {_variable(group, steering)} in the environment"
                    )


def _check_chain_is_kept_secret(places: list[SettingsPlace]) -> None:
    """Where no server is named it is AWS, with the credentials of its chain: no such file may open that connection.

    Raises: SettingsError.
    """
    server = _place_of("storage", "endpoint", places)
    elsewhere = server is not None and "amazonaws.com" not in str(server.values["storage"]["endpoint"]).lower()
    has_keys = any(_place_of("storage", name, places) for name in _CREDENTIALS["storage"])
    if elsewhere or has_keys or _chosen(places) == "anonymous":
        return
    for name in ("secure", "ca_file"):
        source = _place_of("storage", name, places)
        if source is not None and source.trust < OWN and str(source.values["storage"][name]).lower() not in _TRUE:
            raise SettingsError(
                f"{_variable('storage', name)} comes from {source.name}, and credentials from {_CHAIN}, which is "
                "trusted more: others could read them on their way; set it in the environment, or "
                f"{_variable('storage', 'credentials')}=anonymous"
            )


def _place_of(group: str, name: str, places: list[SettingsPlace]) -> SettingsPlace | None:
    """The place whose word counts for a setting; None for the built-in value."""
    for place in places:
        table = place.values.get(group)
        if isinstance(table, Mapping) and table.get(name) not in (None, ""):
            return place
    return None


def _chosen(places: list[SettingsPlace]) -> str:
    """What `storage.credentials` says."""
    place = _place_of("storage", "credentials", places)
    return "auto" if place is None else str(place.values["storage"]["credentials"]).lower()


def _variable(group: str, name: str) -> str:
    return f"{ENV_PREFIX}{group}__{name}".upper()


def _check_is_own(path: Path) -> None:
    state = path.stat()
    strangers = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if strangers or state.st_uid not in (os.getuid(), 0):
        raise SettingsError(f"{path} may be written by other users; run: chmod 600 {path} (and own it)")


def _warn_of_neighbour(read: set[Path]) -> None:
    """Say once that a `.env` with settings of ours lies here and is not read."""
    path = Path(".env").absolute()
    if path in _warned or path.resolve() in read:
        return
    try:
        named = path.is_file() and ENV_PREFIX.encode() in path.read_bytes().upper()
    except OSError:
        return
    if named:
        _warned.add(path)
        logger.warning(
            "%s is not read: a folder's file may come from anybody. If it is yours: %s=%s, or move it to %s",
            path,
            ENV_FILE,
            path,
            own_file(),
        )
