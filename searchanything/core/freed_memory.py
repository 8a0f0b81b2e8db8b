"""Freed memory goes back to the system: a process that works for weeks must not grow by what it has freed.

Models allocate tensors of ever different sizes. glibc keeps what lies between those still in use: a worker of `pico`
holds 0.9 GB and grew to 1.7 GB within 450 images (`benchmarks/soak.py` over an hour: 1.6 to 2.7 GB), all of which
`malloc_trim` gives back. Asked after each batch it costs no throughput; a fixed MALLOC_TRIM_THRESHOLD_, the setting for
it, cost 38 %, as then every tensor is mapped anew.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def release_freed_memory() -> None:
    """Give freed memory back, where the C library can: glibc. Elsewhere nothing is done."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # no such library; none with it; Windows
        return None
