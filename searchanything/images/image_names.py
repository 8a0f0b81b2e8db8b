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

        The longest key that the name ends with counts, else all keys that end with the name.
        """
        spelt = [parts for parts in (_parts(name), _parts(unquote(name))) if parts]
        same = [(parts, *one) for parts in spelt for one in self._keys.get(parts[-1], ())]
        within = [(len(of_key), key) for parts, of_key, key in same if parts[-len(of_key) :] == of_key]
        ending = {key for parts, of_key, key in same if of_key[-len(parts) :] == parts}
        return [max(within)[1]] if within else sorted(ending)


def _parts(name: str) -> list[str]:
    """The folders and the file of a name, however its letters are composed."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return [part for part in plain.split("/") if part not in ("", ".")]
