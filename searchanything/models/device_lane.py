"""Work on a GPU in several queues: who waits for an answer does not wait for what others have queued.

Without them all threads of a process share one queue: the few numbers of a region's box would wait for the hundred
crops that are being embedded meanwhile. On other devices there is nothing to queue.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchanything.core.errors import ModelLoadError

_home: int | None = None  # the process in which models are


def check_process() -> None:
    """To be called before models are loaded or asked.

    Raises: ModelLoadError in a fork of a process that has loaded some: torch's threads and the GPU are not there, and
    whoever computes would wait for them forever.
    """
    global _home
    _home = _home or os.getpid()
    if os.getpid() != _home:
        raise ModelLoadError(
            f"process {_home} has loaded models, and this is a fork of it, in which none work: start processes with "
            "multiprocessing's 'spawn', or fork before models are loaded"
        )


class DeviceLane:
    """A queue (CUDA stream) of a device. An urgent one's kernels go first. Thread-safe.

    What is made in one lane may be read in another as soon as somebody has waited for it, and must be kept until that
    lane's answer is there: its memory goes back to the lane that it was made in.
    """

    __slots__ = ("_stream",)

    def __init__(self, device: torch.device, *, urgent: bool = False) -> None:
        check_process()
        self._stream = _stream(device, priority=-1 if urgent else 0) if device.type == "cuda" else None
        self.follow()

    def follow(self) -> None:
        """Let the lane wait for what the calling thread has queued so far: for weights that were just loaded."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def wait(self) -> None:
        """Wait until what is queued here is done: for answers that nobody will ask for."""
        if self._stream is not None:
            self._stream.synchronize()

    def open(self) -> AbstractContextManager[object]:
        """While it lasts, what the calling thread queues goes here. Raises: as `check_process`."""
        check_process()
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def _stream(device: torch.device, *, priority: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def uploaded(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device. To a GPU it travels while the host goes on, and while what was queued before computes."""
    tensor = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
