"""What a listing of objects leaves out, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from searchanything.core.skips import SkipCounts

MAX_EXAMPLES = 100  # of what a listing skips


@dataclass(frozen=True, slots=True)
class Omission:
    """Something that a listing came upon and did not list, and why: its key, or of a folder the key with a slash."""

    key: str
    reason: str


@dataclass(slots=True)
class Omissions:
    """What a listing leaves out, noted while it goes on, so that nothing is skipped silently.

    `skipped` counts what is no object (names that are no text, links that lead out, pipes), and `examples` holds the
    first of it. `unreadable` holds places that could not be looked at: what lies there is unknown, not gone. Only what
    `wanted` lets in is noted. A place is a key, or a folder: "" or ending in a slash. `devices` are the numbers of the
    devices of a folder and of the disks that are mounted in it, by place.
    """

    wanted: Callable[[str], bool] = lambda _: True
    skipped: int = 0
    skips: SkipCounts = field(default_factory=SkipCounts)
    examples: list[Omission] = field(default_factory=list)
    unreadable: list[Omission] = field(default_factory=list)
    devices: dict[str, int] = field(default_factory=dict)
    _hiding: tuple[int, frozenset[str]] = field(default=(0, frozenset()), repr=False, compare=False)

    def skip(self, key: str, reason: str, *, expected: bool = False) -> None:
        """Note what is no object. A key that is no text is stored with escapes. What is `expected` is counted alone."""
        stored = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if self.wanted(stored):
            self.skipped += 1
            self.skips.add(stored, reason)
            if len(self.examples) < MAX_EXAMPLES and not expected:
                self.examples.append(Omission(stored, reason))

    def miss(self, place: str, reason: str) -> None:
        """Note a place that cannot be looked at: a key, or a folder's with a slash."""
        if self.wanted(place):
            self.unreadable.append(Omission(place, reason))

    def hides(self, key: str) -> bool:
        """True if the listing could not tell whether there is this object: a look for it and each folder around it."""
        if self._hiding[0] != len(self.unreadable):
            self._hiding = len(self.unreadable), frozenset(one.key for one in self.unreadable)
        places = self._hiding[1]
        if not places:
            return False
        around = (key[: place + 1] for place, letter in enumerate(key) if letter == "/")
        return key in places or "" in places or any(folder in places for folder in around)
