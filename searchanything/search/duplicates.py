"""Codes that are nearly equal, among many: exact, without comparing all with all.

Two codes that differ in at most t bits agree in one of t + 1 parts (pigeonhole: Norouzi et al., Fast Exact Search in
Hamming Space with Multi-Index Hashing, TPAMI 2014). So codes are sorted by each part in turn, and only those that share
a part are compared. Bits are dealt to the parts in an order that evens out how often parts agree by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from searchanything.core.errors import UsageError
from searchanything.core.on_step import OnStep, unseen
from searchanything.core.types import Codes

MAX_BITS: Final = 31  # codes that far apart share one of 32 parts of 8 bits: beyond, nearly all would be compared
_PAIRS_AT_ONCE: Final = 1 << 21
_ROWS_AT_ONCE: Final = 1 << 14
Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Numbers of codes that are all within the asked distance of the first, and their distances to it."""

    members: tuple[int, ...]
    distances_bits: tuple[int, ...]


def duplicate_groups(codes: Codes, *, max_bits: int, on_step: OnStep = unseen) -> list[DuplicateGroup]:
    """Groups of codes (N, B) at most `max_bits` apart from their first, the largest group first.

    Each code is in one group at most. The first is the code with the most neighbours among those left, so that long
    chains of small changes are cut into groups whose members really are alike. `on_step` is given the parts compared.

    Raises: UsageError for another distance than 0 to 31.
    """
    check_bits(max_bits)
    if len(codes) < 2:
        return []
    unique, inverse = _unique(codes)
    pairs = near_pairs(unique, max_bits=max_bits, on_step=on_step)
    stars = _stars(len(unique), pairs, np.bincount(inverse, minlength=len(unique)))
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(unique)))

    def same(one: int) -> list[int]:
        """The numbers of all that have this code."""
        start = int(ends[one - 1]) if one else 0
        return [int(number) for number in order[start : int(ends[one])]]

    groups = []
    for star in stars:
        distances = np.bitwise_count(unique[star] ^ unique[star[0]]).sum(axis=1, dtype=np.int64)
        listed = [(same_one, int(bits)) for one, bits in zip(star, distances, strict=True) for same_one in same(one)]
        groups.append(DuplicateGroup(tuple(one for one, _ in listed), tuple(bits for _, bits in listed)))
    return sorted(
        (group for group in groups if len(group.members) > 1), key=lambda one: (-len(one.members), one.members)
    )


def check_bits(max_bits: int) -> None:
    """Raises: UsageError for another distance than 0 to 31 bits."""
    if isinstance(max_bits, bool) or not isinstance(max_bits, int) or not 0 <= max_bits <= MAX_BITS:
        raise UsageError(
            f"expected a distance from 0 to {MAX_BITS} bits, got {max_bits!r}: what is farther is no duplicate"
        )


def near_pairs(codes: Codes, *, max_bits: int, on_step: OnStep = unseen) -> Pairs:
    """All pairs (P, 2), the lower number first, of different codes (N, B) at most so far apart; each once."""
    found: list[Pairs] = [np.zeros((0, 2), dtype=np.int64)]
    for number, part in enumerate(_parts(codes, max_bits + 1)):
        on_step("comparing", number, max_bits + 1)
        for left, right in _agreeing(part):
            distances = np.bitwise_count(codes[left] ^ codes[right]).sum(axis=1, dtype=np.int64)
            near = distances <= max_bits
            found.append(np.stack([left[near], right[near]], axis=1))
    on_step("comparing", max_bits + 1, max_bits + 1)
    return np.asarray(np.unique(np.concatenate(found), axis=0), dtype=np.int64)


def _unique(codes: Codes) -> tuple[Codes, NDArray[np.intp]]:
    """Different codes, and of each code which of them it is."""
    keys = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1])))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return codes[first], inverse.reshape(-1)


def _parts(codes: Codes, count: int) -> Iterator[NDArray[Any]]:
    """The codes' bits dealt to so many parts, as values that can be sorted: (N,) each, numbers where 64 bits do.

    The bits whose values are most evenly spread are dealt first, one to each part, so that no part is all dull bits.
    """
    ones = sum(
        (_bits(codes, start).sum(axis=0) for start in range(0, len(codes), _ROWS_AT_ONCE)), np.zeros(8 * codes.shape[1])
    )
    order = np.argsort(np.abs(ones / max(1, len(codes)) - 0.5), kind="stable")
    for number in range(count):
        dealt = order[number::count]
        part = np.empty((len(codes), (len(dealt) + 7) // 8), dtype=np.uint8)
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            part[start : start + _ROWS_AT_ONCE] = np.packbits(_bits(codes, start)[:, dealt], axis=1)
        if part.shape[1] <= 8:
            part = np.pad(part, ((0, 0), (0, 8 - part.shape[1])))
        kind = np.dtype(np.uint64) if part.shape[1] == 8 else np.dtype((np.void, part.shape[1]))
        yield np.ascontiguousarray(part).view(kind)[:, 0]


def _bits(codes: Codes, start: int) -> NDArray[np.uint8]:
    """The bits of a portion of the codes, (n, 8 B): those of all would take eight times as much as the codes."""
    return np.unpackbits(codes[start : start + _ROWS_AT_ONCE], axis=1)


def _agreeing(part: NDArray[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of rows with the same value, the lower number first, in portions: rows that are `step` places apart in
    sorted order.
    """
    order = np.argsort(part, kind="stable").astype(np.int64)
    values = part[order]
    runs = np.concatenate([[0], np.cumsum(values[1:] != values[:-1])]) if len(values) else np.zeros(0, dtype=np.int64)
    places = np.arange(len(order))
    for step in range(1, len(order)):
        places = places[places + step < len(order)]
        places = places[runs[places] == runs[places + step]]
        if not len(places):
            return
        for start in range(0, len(places), _PAIRS_AT_ONCE):
            some = places[start : start + _PAIRS_AT_ONCE]
            yield order[some], order[some + step]


def _stars(count: int, pairs: Pairs, weights: NDArray[np.intp]) -> list[list[int]]:
    """Groups around the codes with the most neighbours, and codes alone that stand for several rows."""
    neighbours: dict[int, list[int]] = {}
    for left, right in pairs.tolist():
        neighbours.setdefault(left, []).append(right)
        neighbours.setdefault(right, []).append(left)
    size = weights.astype(np.int64)
    for one, several in neighbours.items():
        size[one] += int(weights[several].sum())
    taken = np.zeros(count, dtype=np.bool_)
    stars: list[list[int]] = []
    for one in sorted(neighbours, key=lambda one: (-int(size[one]), one)):
        if not taken[one]:
            star = [one, *(other for other in neighbours[one] if not taken[other])]
            taken[star] = True
            stars.append(star)
    return stars + [[int(one)] for one in np.flatnonzero(~taken & (weights > 1))]
