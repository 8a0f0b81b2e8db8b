"""The cores of a CPU, shared by the batches that models work on at the same time.

A layer that is spread over all cores ends when the slowest of them does, and between layers there is work for one core
alone. Batches that have a core each, or some, wait for none: `index` is 1.5 times as fast on two (docs/adr/0082).

OpenMP keeps a number of threads for every thread that begins parallel work. Its own function changes that of the caller
alone; torch's changes the process's as well.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import torch

MOST_SHARERS: Final = 4  # batches hold memory, and the threads of one share caches

_lock = threading.Lock()
_sharers = 0
_mine = threading.local()


def sharers(threads: int | None) -> int:
    """How many batches should share so many threads, torch's where that is None; 1 where they cannot."""
    return max(1, min(MOST_SHARERS, threads or torch.get_num_threads())) if _setter() is not None else 1


@contextmanager
def sharing() -> Iterator[None]:
    """Meanwhile this thread takes its share of its threads in torch, as often as it asks for it; then all again."""
    global _sharers
    set_threads = _setter()
    if set_threads is None or getattr(_mine, "threads", None) is not None:
        yield
        return
    _mine.threads = torch.get_num_threads()
    with _lock:
        _sharers += 1
    try:
        take_share()
        yield
    finally:
        with _lock:
            _sharers -= 1
        set_threads(_mine.threads)
        _mine.threads = None


def take_share() -> float:
    """Divide the threads among those who are sharing now. Returns this thread's part; 1 where it does not share."""
    threads, set_threads = getattr(_mine, "threads", None), _setter()
    if threads is None or set_threads is None:
        return 1.0
    share = max(1, threads // _sharers)
    if torch.get_num_threads() != share:
        set_threads(share)
    return float(share / threads)


@cache
def _setter() -> Callable[[int], object] | None:
    """OpenMP's function, of the library that torch computes with; None where there is none, as with other pools."""
    folder = Path(torch.__file__).parent
    files = [*sorted(folder.glob("lib/*omp*")), *sorted(folder.parent.glob("torch.libs/*omp*"))]
    for file in (None, *map(str, files)):
        try:
            found: Callable[[int], object] = ctypes.CDLL(file).omp_set_num_threads
        except (OSError, AttributeError, TypeError):
            continue
        if _is_torchs(found):
            return found
    return None


def _is_torchs(set_threads: Callable[[int], object]) -> bool:
    """Whether torch heeds it, tried in a thread of its own."""
    seen = []

    def look() -> None:
        before = torch.get_num_threads()
        set_threads(before + 1)
        seen.append(torch.get_num_threads() == before + 1)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return seen == [True]
