"""What a run skips, counted by reason with a few examples: nothing is skipped without a word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

EXAMPLES: Final = 3
_SUFFIXES: Final = 20  # that are told apart, for each reason
OTHER_SUFFIX: Final = "…"
_SUFFIX: Final = re.compile(r"(?<=[^/.])\.[A-Za-z0-9_]{1,8}$")


@dataclass(frozen=True, slots=True)
class Skipped:
    """Objects that were skipped for one reason: how many, and the first keys of them.

    `suffixes` are how their names end, the most frequent first, with counts: `.txt`, "" for none, `…` for all others.
    """

    reason: str
    count: int
    examples: tuple[str, ...]
    suffixes: tuple[tuple[str, int], ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As the documents of the command line show it."""
        return {
            "reason": self.reason,
            "count": self.count,
            "examples": list(self.examples),
            "suffixes": dict(self.suffixes),
        }

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.count:,} {self.reason} ({', '.join(self.examples)}{more})"


@dataclass(slots=True)
class SkipCounts:
    """Counts while a run goes on."""

    _counts: dict[str, int] = field(default_factory=dict)
    _examples: dict[str, list[str]] = field(default_factory=dict)
    _suffixes: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, key: str, reason: str) -> None:
        """One more object."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(key)
        suffixes, suffix = self._suffixes.setdefault(reason, Counter()), suffix_of(key)
        suffixes[suffix if suffix in suffixes or len(suffixes) < _SUFFIXES else OTHER_SUFFIX] += 1

    def groups(self) -> tuple[Skipped, ...]:
        """The reasons, the most frequent first."""
        found = (
            Skipped(reason, count, tuple(self._examples[reason]), _most_frequent(self._suffixes[reason]))
            for reason, count in self._counts.items()
        )
        return _ordered(found)


def sum_skips(*runs: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Several runs' skips as one's."""
    found: dict[str, Skipped] = {}
    for one in chain.from_iterable(runs):
        known = found.get(one.reason, Skipped(one.reason, 0, ()))
        examples = tuple(dict.fromkeys((*known.examples, *one.examples)))[:EXAMPLES]
        suffixes = Counter(dict(known.suffixes)) + Counter(dict(one.suffixes))
        found[one.reason] = Skipped(one.reason, known.count + one.count, examples, _most_frequent(suffixes))
    return _ordered(found.values())


def suffix_of(key: str) -> str:
    """How a key's name ends, in small letters (`.txt`); "" where it has no suffix that people would call one."""
    found = _SUFFIX.search(key)
    return found[0].lower() if found else ""


def _most_frequent(suffixes: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(suffixes.items(), key=lambda one: (-one[1], one[0])))


def _ordered(groups: Iterable[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(groups, key=lambda one: (-one.count, one.reason)))
