"""How much models work on at the same time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class AtOnce:
    """`models` is how many work at once: 1 where they share a CPU. Each works on `batches`.

    `embedding` is how many batches the encoder has at once where it works by itself: a device goes on with the next one
    while the host hashes what it made of the last. `sharing` is entered for each batch, and gives it its part of the
    cores.
    """

    models: int = 1
    batches: int = 1
    embedding: int = 1
    sharing: Callable[[], AbstractContextManager[None]] = nullcontext
