"""Answers that are sequences: a slice of one is the same answer with fewer items, which know their places in the whole.

Only the standard library is imported here: the light client's answers are such ones, too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar, overload

from searchanything.core.pickling import PickledAlone

Item_co = TypeVar("Item_co", covariant=True)


class Sliced(PickledAlone, Sequence[Item_co]):
    """For dataclasses that hold their items in a tuple and can be made anew with some of them."""

    __slots__ = ()

    @property
    @abstractmethod
    def _items(self) -> tuple[Item_co, ...]: ...

    @abstractmethod
    def _sliced(self, index: slice) -> Self: ...

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Item_co: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Item_co | Self:
        """One item, or for a slice the same answer with those items alone."""
        return self._sliced(index) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[Item_co]:
        return iter(self._items)


def kept_places(places: tuple[int, ...] | None, index: slice, *, count: int) -> tuple[int, ...] | None:
    """The places in the whole of what a slice keeps of `count` items, None where these are the whole and stay so."""
    before = tuple(range(count)) if places is None else places
    kept = before[index]
    return places if kept == before else kept
