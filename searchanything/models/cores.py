"""The cores of a CPU, shared by the batches that models work on at the same time.

A layer that is spread over all cores ends when the slowest of them does, and between layers there is work for one core
alone. Batches that have a core each, or some, wait for none: `index` is 1.3 times as fast on two (docs/adr/0082).

OpenMP keeps a number of threads for every thread that begins parallel work. Its own function changes that of the caller
alone; torch's changes that of threads to come as well. Where that was called, MKL, which multiplies matrices, has a
number of its own in each thread, and heeds OpenMP's no more.
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
_sharers: list[int] = []  # identities of the threads that share
_mine = threading.local()


def sharers(threads: int | None) -> int:
    """How many batches should share so many threads, torch's where that is None; 1 where they cannot."""
    return max(1, min(MOST_SHARERS, threads or torch.get_num_threads())) if _setter() is not None else 1


def all_threads() -> int:
    """Torch's threads of this thread, also while it has but a share of them."""
    return getattr(_mine, "threads", None) or torch.get_num_threads()


@contextmanager
def sharing() -> Iterator[None]:
    """Meanwhile this thread takes its share of its threads in torch, as often as it asks for it; then all again."""
    set_threads = _setter()
    if set_threads is None or getattr(_mine, "threads", None) is not None:
        yield
        return
    _mine.threads, me = torch.get_num_threads(), threading.get_ident()
    of_mkl = _set_mkl(_mine.threads)
    with _lock:
        _sharers.append(me)
    try:
        take_share()
        yield
    finally:
        with _lock:
            _sharers.remove(me)
        set_threads(_mine.threads)
        _set_mkl(of_mkl)
        _mine.threads = None


def take_share() -> float:
    """Divide the threads among those who are sharing now. Returns this thread's part; 1 where it does not share."""
    threads, set_threads = getattr(_mine, "threads", None), _setter()
    if threads is None or set_threads is None:
        return 1.0
    with _lock:
        share = max(1, (threads + _sharers.index(threading.get_ident())) // len(_sharers))  # no thread is left over
    if torch.get_num_threads() != share:
        set_threads(share)
    _set_mkl(share)
    return float(share / threads)


def _set_mkl(threads: int) -> int:
    """Give this thread so many in MKL, 0 for OpenMP's number, where torch has MKL. Returns what it had before."""
    set_threads = _mkl()
    return 0 if set_threads is None else set_threads(threads)


@cache
def _mkl() -> Callable[[int], int] | None:
    """MKL's function for the calling thread alone; None where torch is made without MKL, or hides it."""
    for file in (*map(str, sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu*"))), None):
        try:
            found: Callable[[int], int] = ctypes.CDLL(file).MKL_Set_Num_Threads_Local
        except (OSError, AttributeError, TypeError):
            continue
        return found
    return None


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
