"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import platform

import psutil
import pytest

from searchanything.core import freed_memory
from searchanything.core.freed_memory import release_freed_memory

BLOCK, BLOCKS = 100_000, 2000  # below what is mapped by itself


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_what_lies_between_blocks_in_use_goes_back() -> None:
    libc, process = ctypes.CDLL(None), psutil.Process()
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    full = process.memory_info().rss
    for block in blocks[::2]:
        libc.free(block)
    release_freed_memory()
    assert full - process.memory_info().rss > BLOCK * BLOCKS * 0.4
    for block in blocks[1::2]:
        libc.free(block)


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        def __getattr__(self, name: str) -> None:
            raise AttributeError(name)

    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: Bare())
    freed_memory._trim.cache_clear()
    release_freed_memory()
    freed_memory._trim.cache_clear()
