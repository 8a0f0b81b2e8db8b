"""What a key's scope means in the index: of a folder, the part of whatever folder was indexed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from searchanything.cli.options import CommonOptions
from searchanything.cli.session import Session, say
from searchanything.core.errors import SearchAnythingError
from searchanything.core.types import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from searchanything.client.client import Client
    from searchanything.core.types import Place


def resolved(texts: list[str], session: Session, common: CommonOptions) -> list[Place]:
    """The places that scopes name, with a warning for each that no indexed image is in. Raises: UsageError."""
    from searchanything.wiring import place_of

    places = [place_of(text) for text in texts]
    if not places:
        return []
    try:
        with session.client(common.uri, common.preset) as client:
            found = [_in_index(client, place) for place in places]
            _warn(client, found)
    except SearchAnythingError as error:
        say(f"the scope is kept as it is given, for the index cannot be read: {error}")
        return places
    return found


def warn(places: Iterable[Place], session: Session, common: CommonOptions) -> None:
    """Say which of these places no indexed image is in, as far as the index can be read."""
    wanted = list(dict.fromkeys(places))
    if wanted:
        try:
            with session.client(common.uri, common.preset) as client:
                _warn(client, wanted)
        except SearchAnythingError as error:
            say(f"whether the scopes match anything is not known, for the index cannot be read: {error}")


def _in_index(client: Client, place: Place) -> Place:
    """Of a folder in an indexed one, that one with the rest as prefix: the longest that was indexed; else as it is."""
    bucket, prefix = place
    if not bucket.startswith("/"):
        return place
    here = Path(bucket)
    for above in (here, *here.parents):
        if client.images(bucket=str(above), most=1)[0]:
            return str(above), "" if above == here else f"{here.relative_to(above).as_posix()}/{prefix}"
    return place


def _warn(client: Client, places: list[Place]) -> None:
    for bucket, prefix in places:
        if not client.images(bucket=bucket, key_prefix=prefix, most=1)[0]:
            said = f"{source_of(bucket)}/{prefix}" if prefix else source_of(bucket)
            say(f"warning: no indexed image is in the scope {said}; a key for it alone sees nothing")
