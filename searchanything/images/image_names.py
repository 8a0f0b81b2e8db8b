"""Images of a listing by the names that other programs have for them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import unquote


class ImageNames:
    """Keys below a prefix, found by a name, a path or an address that ends as they do, or that they end with.

    `images/2024/cat.jpg`, `./cat.jpg`, `C:\\images\\cat.jpg` and `http://host/?d=images/cat%201.jpg` are such.
    """

    def __init__(self, keys: Iterable[str], prefix: str = "") -> None:
        self._keys: defaultdict[str, list[tuple[list[str], str]]] = defaultdict(list)
        for key in keys:
            parts = _parts(key.removeprefix(prefix))
            if parts:
                self._keys[parts[-1]].append((parts, key))

    def find(self, name: str) -> list[str]:
        """The keys that a name can mean: one where it is clear, none where it names nothing of the listing.

        The longest key that the name ends with counts, else all keys that end with the name. It is taken as it stands,
        as what an address says, and without what follows a question mark; of equal keys the first of these counts.
        """
        spelt = [_parts(one) for one in (name, unquote(name), unquote(name.partition("?")[0]))]
        same = [(-place, parts, *one) for place, parts in enumerate(spelt) for one in self._named_like(parts)]
        within = [(len(of_key), place, key) for place, parts, of_key, key in same if parts[-len(of_key) :] == of_key]
        ending = [(0, place, key) for place, parts, of_key, key in same if of_key[-len(parts) :] == parts]
        found = within or ending
        first = max((one[:2] for one in found), default=None)
        return sorted(key for *one, key in found if tuple(one) == first)

    def _named_like(self, parts: list[str]) -> list[tuple[list[str], str]]:
        return self._keys.get(parts[-1], []) if parts else []


def _parts(name: str) -> list[str]:
    """The folders and the file of a name, however its letters are composed."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return [part for part in plain.split("/") if part not in ("", ".")]
