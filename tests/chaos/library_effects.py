"""What each act does to an index, if nothing comes between: of which key it then holds what, or one of what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from chaos.library_files import KEYS, Entry

from searchanything.core.rows import Outcome

if TYPE_CHECKING:
    from chaos.library import Library

FORGET_IMAGES = 2
Effects: TypeAlias = "dict[str, set[Entry | None]]"


@dataclass(frozen=True)
class Act:
    """What somebody does, as plain data: a name among `ACTS` or `FILES`, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}{self.arguments}"


def _there(library: Library, keys: Iterable[str] = KEYS) -> Effects:
    return {key: {library.files.there[key]} for key in keys if key in library.files.there}


def gone_of(library: Library) -> list[str]:
    return [key for key in library.held if key not in library.files.there]


def is_few(library: Library, gone: list[str]) -> bool:
    return bool(library.files.there) and (len(gone) <= FORGET_IMAGES or len(gone) <= 0.1 * len(library.held))


def _index_effects(library: Library, act: Act) -> Effects:
    effects, gone = _there(library), gone_of(library)
    if "prune" in act.arguments and is_few(library, gone):
        effects |= {key: {None} for key in gone}
    return effects


def _repair_effects(library: Library, act: Act) -> Effects:
    effects, gone = _there(library), gone_of(library)
    if (act.arguments[0] and library.files.folder.exists()) or is_few(library, gone):
        effects |= {key: {None} for key in gone}
    return effects


def _refresh_effects(library: Library, act: Act) -> Effects:
    keys = act.arguments[0]
    effects = _there(library, keys)
    if library.files.there:
        effects |= {key: {None} for key in keys if key not in library.files.there}
    return effects


def _retry_effects(library: Library, _: Act) -> Effects:
    return _refresh_effects(library, Act("refresh", (failed_of(library),)))


def failed_of(library: Library) -> list[str]:
    return [key for key, one in library.held.items() if one.picture.outcome is Outcome.FAILED]


def _drop_effects(library: Library, _: Act) -> Effects:
    failed = failed_of(library)
    if not library.is_exact:  # what another one finds to be damaged meanwhile
        failed += [key for key, one in library.files.there.items() if one.picture.outcome is Outcome.FAILED]
    return {key: {None} for key in failed}


def _change_effects(library: Library, _: Act) -> Effects:
    """Other models look at each image again: it is as it was, or as it is in the folder by now."""
    return {key: {one, library.files.there.get(key)} for key, one in library.held.items()}


def _restore_effects(library: Library, act: Act) -> Effects:
    if not library.backups:
        return {key: {None} for key in KEYS}
    saved = library.backups[act.arguments[0] % len(library.backups)][1]
    if library.is_exact:
        return saved
    return {key: {None, *saved[key]} for key in KEYS}


EFFECTS: dict[str, Callable[[Library, Act], Effects]] = {
    "index": _index_effects,
    "repair": _repair_effects,
    "refresh": _refresh_effects,
    "retry": _retry_effects,
    "drop_failed": _drop_effects,
    "delete": lambda _, __: {key: {None} for key in KEYS},
    "models": _change_effects,
    "hash_layer": _change_effects,
    "restore": _restore_effects,
}
