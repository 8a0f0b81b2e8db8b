"""Cutting a stream into lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items, none of them empty."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def bounded_batches(
    items: Iterable[Item], most: int, *, size_of: Callable[[Item], int], items_at_most: int | None = None
) -> Iterator[list[Item]]:
    """Lists whose sizes add up to `most` at most, none of them empty: an item that is larger is alone."""
    batch: list[Item] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (len(batch) == items_at_most or total + size > most):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
