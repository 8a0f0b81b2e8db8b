"""What may be done to a library, each with what its answer must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.library_effects import Effects, failed_of, gone_of, is_few
from chaos.library_files import KEYS, Entry, picture

from searchanything.client.client import Client
from searchanything.core.rows import Outcome
from searchanything.ingest.reports import SyncReport

if TYPE_CHECKING:
    from chaos.library import Library

RED, IN_RED, RATE = picture("red", 0).data, (10, 20), 0.001


@dataclass
class Asked:
    """A standing query: what it must not give again, and what it need not. `preset` is that of when it was added."""

    preset: str
    dealt_with: set[tuple[str, str]]
    perhaps: set[tuple[str, str]] = field(default_factory=set)


def _index(library: Library, client: Client, how: str = "") -> object:
    flags = {how: True} if how else {}
    report = client.index(library.files.folder, **flags)  # type: ignore[arg-type]
    if library.is_exact:
        there = library.files.there
        outcomes = [one.picture.outcome for one in there.values()]
        done = report.indexed + report.empty + report.failed + report.unchanged
        assert done == len(there), report
        assert report.failed == outcomes.count(Outcome.FAILED), report
        same = [key for key, one in there.items() if _is_current(library.held.get(key), one)]
        assert report.unchanged == (0 if how == "force" else len(same)), (report, same)
    return report


def _is_current(held: Entry | None, there: Entry) -> bool:
    return held is not None and held.seen == there.seen and there.picture.outcome is not Outcome.FAILED


def _repair(library: Library, client: Client, forget: bool) -> object:
    report = client.sync(library.files.folder, repair=True, forget=forget)
    _check_report(library, report, always=forget)
    return report


def _check(library: Library, client: Client) -> object:
    report = client.sync(library.files.folder)
    _check_report(library, report, always=False)
    return report


def _check_report(library: Library, report: SyncReport, *, always: bool) -> None:
    if not library.is_exact:
        return
    held, there = library.held, library.files.there
    if library.is_first_layer:  # else what an index of before has is called stale
        assert report.missing == tuple(sorted(set(there) - set(held))), report
    assert report.orphaned == tuple(sorted(gone_of(library))), report
    failed = {
        key
        for key in there
        if key in held
        and held[key].picture.etag == there[key].picture.etag
        and held[key].picture.outcome is Outcome.FAILED
    }
    assert report.failed == tuple(sorted(failed)), report
    same = {key for key in there if _is_current(held.get(key), there[key])}
    assert {*report.missing, *report.stale} == set(there) - failed - same, report
    assert set(report.missing) <= set(there) - set(held), report
    few = always or is_few(library, gone_of(library))
    assert report.held == (() if few else tuple(sorted(gone_of(library)))), report
    assert report.lost == 0
    assert report.checked == len(there)


def _delete(library: Library, client: Client) -> object:
    number = client.delete(library.files.folder)
    assert not library.is_exact or number == len(library.held), number
    return number


def _drop_failed(library: Library, client: Client) -> object:
    number = client.drop_failed()
    assert not library.is_exact or number == len(failed_of(library)), number
    return number


def _backup(library: Library, client: Client) -> object:
    path = library.folder / f"{len(library.backups)}-{len(library.said)}.tar"
    entries: Effects = {key: {library.held.get(key)} for key in KEYS}
    if not library.is_exact:
        for key in KEYS:
            entries[key] |= {None, library.files.there.get(key)}
    report = client.backup(path)
    library.backups.append((path, entries))
    return report


def _restore(library: Library, client: Client, number: int) -> object:
    """Everything is deleted, and the index made of the backup."""
    client.delete(library.files.folder)
    client.delete(library.unlike)
    _drop_layers(library, client)
    for one in library.asked.values():
        one.perhaps |= {
            (key, entry.picture.etag)
            for _, saved in library.backups
            for key, may_be in saved.items()
            for entry in may_be
            if entry is not None
        }
    if not library.backups:
        return client.index(library.unlike)
    return client.restore(library.backups[number % len(library.backups)][0])


def _drop_layers(_: Library, client: Client) -> object:
    for one in client.hash_layers.list():
        if not one.live:
            client.hash_layers.drop(one.index)
    return None


def _hash_layer(library: Library, client: Client, number: int, encode: bool) -> object:
    return client.hash_layers.apply(library.layers[number], encode=encode)


def _other_settings(library: Library, _: Client) -> object:
    if not library.is_whole:
        return None  # an index that a killed restore left empty is made anew, with other settings
    with library.client(regions=3) as client:
        return client.index(library.files.folder)


def _add(library: Library, client: Client) -> object:
    before = {(key, one.picture.etag) for key, one in library.held.items()}
    preset = client.manifest.preset
    before |= {(key, one.picture.etag) for key, one in library.files.there.items()} if not library.is_exact else set()
    query = client.standing.add(f"q{len(library.said)}", RED, IN_RED, max_false_match=RATE)
    library.asked[query.id] = Asked(preset, set(before) if library.is_exact else set(), before)
    return query.name


def _remove(library: Library, client: Client) -> object:
    for one in client.standing.list()[:1]:
        library.asked.pop(one.query.id, None)
        client.standing.remove(one.query.id)
    return None


def _fetch(library: Library, client: Client) -> object:
    there = {query.id for query in client.standing.queries()}  # a restore brings those of the backup
    expected = _found_now(library, client) if library.is_whole else set()
    shown: dict[str, set[tuple[str, str]]] = {}
    with client.standing.new_matches() as found:
        assert found.complete
        assert not (library.is_exact and library.is_whole and found.failed), found.failed
        for one in found.matches:
            shown[one.query.id] = {(match.hit.image.key, match.hit.etag) for match in one.matches}
            assert len(shown[one.query.id]) == len(one.matches)
            library.asked.setdefault(one.query.id, Asked("", set())).perhaps |= shown[one.query.id]
    for name, asked in library.asked.items():
        got = shown.get(name, set())
        assert not got & asked.dealt_with, (name, got, asked)
        if library.is_exact and asked.preset == client.manifest.preset and name in there:
            assert expected - asked.dealt_with - asked.perhaps <= got, (name, expected, got, asked)
        if library.is_exact:
            asked.dealt_with |= got
    return shown


def _found_now(library: Library, client: Client) -> set[tuple[str, str]]:
    hits = client.query(RED, IN_RED, limit=1000, max_false_match=RATE, group_by_image=True).hits
    return {(hit.image.key, hit.etag) for hit in hits if hit.image.bucket == library.bucket}


ACTS: dict[str, Callable[..., object]] = {
    "index": _index,
    "repair": _repair,
    "check": _check,
    "refresh": lambda library, client, keys, force: client.refresh(library.files.folder, keys, force=force),
    "retry": lambda _, client: client.retry_failed(),
    "drop_failed": _drop_failed,
    "delete": _delete,
    "models": lambda _, client, preset: client.models.apply(preset),
    "hash_layer": _hash_layer,
    "drop_layers": _drop_layers,
    "backup": _backup,
    "restore": _restore,
    "compact": lambda library, client: client.features.compact(library.files.folder),
    "other_settings": _other_settings,
    "add": _add,
    "remove_query": _remove,
    "fetch": _fetch,
}
READS_FOLDER = ("index", "repair", "check", "refresh", "retry", "models", "hash_layer", "other_settings", "compact")
MAY_RAISE: dict[str, tuple[str, ...]] = {
    "other_settings": ("SettingsError",),
    "hash_layer": ("UsageError",),
    "models": ("UsageError",),
}
