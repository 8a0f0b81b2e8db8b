"""Work ahead of whoever waits for it, by a bounded number of items and a bounded cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    *,
    most: int,
    cost: Callable[[_In], int] = lambda _: 0,
    budget: int = 0,
) -> Generator[_Out, None, None]:
    """Results of `function` in order, up to `most` items of at most `budget` total cost being worked on ahead.

    An item that costs more than the budget waits until it is alone. Closing the generator cancels what has not begun.
    """
    waiting: deque[tuple[Future[_Out], int]] = deque()
    held = 0
    try:
        for item in items:
            price = cost(item)
            while waiting and (len(waiting) >= most or held + price > budget > 0):
                future, paid = waiting.popleft()
                held -= paid
                yield future.result()
            waiting.append((pool.submit(function, item), price))
            held += price
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        for future, _ in waiting:
            future.cancel()
