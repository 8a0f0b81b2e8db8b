"""What a run skips, counted by reason with a few examples: nothing is skipped without a word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Skipped:
    """Objects that were skipped for one reason: how many, and the first keys of them."""

    reason: str
    count: int
    examples: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As the documents of the command line show it."""
        return {"reason": self.reason, "count": self.count, "examples": list(self.examples)}

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.count:,} {self.reason} ({', '.join(self.examples)}{more})"


@dataclass(slots=True)
class SkipCounts:
    """Counts while a run goes on."""

    _counts: dict[str, int] = field(default_factory=dict)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, key: str, reason: str) -> None:
        """One more object."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(key)

    def groups(self) -> tuple[Skipped, ...]:
        """The reasons, the most frequent first."""
        found = (Skipped(reason, count, tuple(self._examples[reason])) for reason, count in self._counts.items())
        return _ordered(found)


def sum_skips(*runs: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Several runs' skips as one's."""
    found: dict[str, Skipped] = {}
    for one in chain.from_iterable(runs):
        known = found.get(one.reason, Skipped(one.reason, 0, ()))
        examples = tuple(dict.fromkeys((*known.examples, *one.examples)))[:EXAMPLES]
        found[one.reason] = Skipped(one.reason, known.count + one.count, examples)
    return _ordered(found.values())


def _ordered(groups: Iterable[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(groups, key=lambda one: (-one.count, one.reason)))
