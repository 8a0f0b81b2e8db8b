"""Names that look like settings of ours and are none.

In the environment or a settings file they may be another version's, so they are warned of; in Python they are refused.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

from searchanything.core.errors import SettingsError
from searchanything.core.settings_files import ENV_PREFIX

logger = logging.getLogger(__name__)

# Kubernetes and Docker tell the address of a service whose name begins like ours in such variables.
_OF_CLUSTERS: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$")
_CLOSE: Final = 0.85
_reported: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class UnknownSetting:
    """A name that does nothing, where it stands, and the setting that may be meant, "" if none is near."""

    name: str
    place: str
    nearest: str

    def __str__(self) -> str:
        hint = f"did you mean {self.nearest}?" if self.nearest else "docs/settings.md lists all"
        return f"{self.name} ({self.place}) is no setting and does nothing; {hint}"


class KnownSettings(BaseSettings):
    """Settings by group, of which Python is given known names alone: `Settings(milvus={"url": …})` is refused.

    Raises: SettingsError, which names the nearest settings and no value.
    """

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Pydantic's own sources in its own order; the first is what Python is given."""
        _check_given(settings_cls, init_settings())
        return init_settings, env_settings, dotenv_settings, file_secret_settings


def unknown_settings(settings: type[BaseSettings], files: Iterable[Path]) -> list[UnknownSetting]:
    """Those of the environment and of these files, in this order."""
    known = _known(settings)
    found = list(_unknown(os.environ, "the environment", known))
    for path in files:
        found += _unknown(DotEnvSettingsSource(settings, env_file=path).env_vars, str(path), known)
    return found


def warn_of_unknown(found: Iterable[UnknownSetting]) -> None:
    """Say each once in a process."""
    for one in found:
        if (one.name, one.place) not in _reported:
            _reported.add((one.name, one.place))
            logger.warning("%s", one)


def _known(settings: type[BaseSettings]) -> set[str]:
    """The variables of all settings."""
    return {
        f"{ENV_PREFIX}{group}__{name}".upper()
        for group, outer in settings.model_fields.items()
        for name in getattr(outer.annotation, "model_fields", ())
    }


def _check_given(settings: type[BaseSettings], given: Mapping[str, object]) -> None:
    """Raises: SettingsError for groups, and names in them, that are none."""
    known = {_dotted(one): one for one in _known(settings)}
    wrong = [group for group in given if group not in settings.model_fields]
    wrong += [
        f"{group}.{name}"
        for group, values in given.items()
        if group in settings.model_fields and isinstance(values, Mapping)
        for name in values
        if f"{group}.{name}" not in known
    ]
    if wrong:
        hints = [f"{name} is no setting{_hint(name, settings, known)}" for name in wrong]
        raise SettingsError(f"{'; '.join(hints)}; docs/settings.md lists all")


def _hint(name: str, settings: type[BaseSettings], known: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    group, dot, _ = name.partition(".")
    if not dot and (near := get_close_matches(group, settings.model_fields, 1)):
        return f", did you mean {near[0]}?"
    nearest = _nearest(f"{ENV_PREFIX}{name.replace('.', '__')}".upper(), known.values())
    return f", did you mean {_dotted(nearest)}?" if nearest else ""


def _dotted(variable: str) -> str:
    """A setting as Python has it: `milvus.uri`."""
    return variable.removeprefix(ENV_PREFIX).replace("__", ".").lower()


def _unknown(names: Iterable[str], place: str, known: Collection[str]) -> Iterator[UnknownSetting]:
    """A name was meant to be a setting if it has a group (`__`), or is one but for underscores, its group or a letter.

    Others may be anybody's.
    """
    for name in map(str.upper, names):
        if not name.startswith(ENV_PREFIX) or name in known or _OF_CLUSTERS.search(name):
            continue
        nearest = _nearest(name, known)
        if nearest or "__" in name:
            yield UnknownSetting(name, place, nearest)


def _nearest(name: str, known: Collection[str]) -> str:
    """The setting that is nearest to a name, "" if none is near."""
    from difflib import get_close_matches

    whole = {_letters(one): one for one in sorted(known)}
    ends = {_letters(ENV_PREFIX + one.rpartition("__")[2]): one for one in sorted(known, reverse=True)}
    letters = _letters(name)
    if letters in ends:
        return ends[letters]
    return next((whole[one] for one in get_close_matches(letters, whole, 1, _CLOSE)), "")


def _letters(name: str) -> str:
    """A name without the prefix, which all share, and underscores."""
    return name.removeprefix(ENV_PREFIX).replace("_", "")
