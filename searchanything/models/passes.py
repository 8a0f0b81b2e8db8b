"""Inputs through a model, so many in each pass: as many as are fastest, and never more than there is memory for."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, TypeVar

import torch

from searchanything.core.types import RGBImage
from searchanything.models.climb import Climb
from searchanything.models.compute import Compute
from searchanything.models.cores import take_share
from searchanything.models.measurements import Measurements, ModelFacts, machine_facts

logger = logging.getLogger(__name__)

Inputs = TypeVar("Inputs", RGBImage, list[int], list[str])
Made = TypeVar("Made")
OnChoice = Callable[[int, float], None]  # how many at once, and how many in a second
TOO_FEW: Final = 8  # calls
# What devices say in errors of other types: cuBLAS and cuDNN, Apple's GPU, PyTorch on a CPU.
_OUT_OF_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|(?:ALLOC|NOT_ENOUGH_MEM)\w*_?FAILED", re.I)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a model failed for want of memory, itself or as the cause: fewer inputs at once may pass."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None:
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


class Passes:
    """How many of a model's inputs go through it at once. Thread-safe.

    With a share of a CPU's cores (`models.cores`) a pass has that share of the inputs: it takes as long, and the passes
    of all who share hold as many values as one with all cores.

    What runs out of memory is done in halves, and no pass is as large again: another one would fail as well. With a
    `climb`, passes of runs are timed at its sizes until it has chosen; `on_choice` is told. The `clock` is read by the
    thread that works; `in_turns` is for one that counts the passes of other threads as well: until there is a choice,
    runs' calls take turns.
    """

    def __init__(
        self,
        at_once: int | None,
        *,
        climb: Climb | None = None,
        on_choice: OnChoice = lambda _size, _rate: None,
        clock: Callable[[], float] = time.perf_counter,
        in_turns: bool = False,
    ) -> None:
        """`at_once`: of passes that are not timed, until there is a choice; None for all inputs."""
        self._at_once = at_once
        self._most: int | None = None  # that memory is left for, where it ran out
        self._climb, self._on_choice, self._clock = climb, on_choice, clock
        self._timing = threading.Lock()  # held by the one thread whose pass is timed
        self._in_turns, self._turn = in_turns, threading.Lock()
        self._too_few = 0  # calls in a row that brought less than is to be timed
        self._lock = threading.Lock()

    def over(self, inputs: Inputs, make: Callable[[Inputs], Made], *, timed: bool = False) -> list[Made]:
        """What `make` makes of the inputs, in order, by passes. `timed`: of a run, whose passes may be timed.

        Raises: what `make` raises, running out of memory for a single input among it.
        """
        undecided = timed and self._climb is not None and self._climb.choice is None
        with self._turn if undecided and self._in_turns else nullcontext():
            return self._over(inputs, make, timed=timed)

    def _over(self, inputs: Inputs, make: Callable[[Inputs], Made], *, timed: bool) -> list[Made]:
        if timed:
            self._see_amount(len(inputs))
        made: list[Made] = []
        start = 0
        while start < len(inputs):
            trial = self._begin_trial(len(inputs) - start) if timed else None
            size = trial or self.at_once or len(inputs)
            shared = size * take_share()
            part = inputs[start : start + max(1, round(shared))]
            found = self._attempt(part, make) if trial is None else self._attempt_timed(part, make, shared / len(part))
            if found is not None:
                made.append(found[0])
                start += len(part)
        return made

    @property
    def at_once(self) -> int | None:
        """How many inputs a pass takes that is not timed; None for all."""
        chosen = None if self._climb is None else self._climb.choice
        return min((one for one in (chosen or self._at_once, self._most) if one is not None), default=None)

    def _see_amount(self, inputs: int) -> None:
        """Do not wait for ever for a number that never comes."""
        climb = self._climb
        if climb is None or climb.size is None or not inputs or not self._timing.acquire(blocking=False):
            return
        try:
            self._too_few = self._too_few + 1 if inputs < (climb.size or 0) else 0
            if self._too_few == TOO_FEW:
                self._too_few = 0
                climb.give_up()
                self._hand_on(climb)
        finally:
            self._timing.release()

    def _hand_on(self, climb: Climb) -> None:
        """Hand on a choice; one that was never timed is none for others."""
        if climb.choice is not None and climb.speed:
            self._on_choice(climb.choice, climb.speed)

    def _begin_trial(self, left: int) -> int | None:
        """The size to time a pass at, with the right to do so; None where there is none to time, or too little work."""
        if self._climb is None or not self._timing.acquire(blocking=False):
            return None
        size = self._size_to_time(self._climb)
        if size is not None and size <= left:
            return size
        self._timing.release()
        return None

    def _size_to_time(self, climb: Climb) -> int | None:
        """The climb's next size; those that memory ran out for in any pass before, it does not try."""
        while (size := climb.size) is not None and self._most is not None and size > self._most:
            climb.run_out()
            self._hand_on(climb)
        return size

    def _attempt_timed(self, part: Inputs, make: Callable[[Inputs], Made], factor: float) -> tuple[Made] | None:
        """One pass with the right to time it, which ends here: with all cores the size takes `factor` times as long."""
        climb: Any = self._climb
        try:
            began = self._clock()
            found = self._attempt(part, make)
            took = factor * (self._clock() - began)
            if found is None:
                climb.run_out()
            else:
                climb.add(took)
            self._hand_on(climb)
            return found
        finally:
            self._timing.release()

    def _attempt(self, part: Inputs, make: Callable[[Inputs], Made]) -> tuple[Made] | None:
        """One pass; None where memory ran out, and fewer are to be tried."""
        try:
            return (make(part),)
        except Exception as error:
            if len(part) < 2 or not is_out_of_memory(error):
                raise
        with self._lock:  # after the block: the error's frames hold the pass's tensors
            self._most = min(len(part) // 2, self._most or len(part))
        logger.warning("out of memory with %d at a time: at most %d from now on", len(part), self._most)
        torch.cuda.empty_cache()  # nothing where CUDA was not used
        return None


def measured_passes(model: ModelFacts, compute: Compute, measurements: Measurements) -> Passes:
    """Passes of crops through an encoder: as many as were measured to be fastest here, or are to be measured.

    `model` describes what an embedding depends on, and how large crops are.
    """
    sizes = compute.crops_to_try()
    question = {"what": "crops at once", **machine_facts(compute.device), "precision": compute.precision, **model}
    known = measurements.find(question)
    size, rate = known.get("at_once"), known.get("per_s")
    if type(size) is int and size in sizes and isinstance(rate, float) and rate > 0:
        logger.info("encoder: %d crops at a time, %.0f crops/s undisturbed, measured before", size, rate)
        return Passes(size)

    def keep(size: int, rate: float) -> None:
        logger.info("encoder: %d crops at a time, %.0f crops/s undisturbed, measured now", size, rate)
        measurements.keep(question, {"at_once": size, "per_s": rate})

    usual = compute.crops_at_once()
    climb, in_turns = Climb(sizes, usual), compute.device.type != "cpu"
    return Passes(usual, climb=climb, on_choice=keep, clock=_clock_of(compute), in_turns=in_turns)


def _clock_of(compute: Compute) -> Callable[[], float]:
    """On a CPU the time that the calling thread had a core: its share of a pass is as large as that of torch's others,
    and what else works on the machine does not count. On a GPU the time when what the thread has queued is done.
    """
    if compute.device.type == "cpu":
        return time.thread_time
    if compute.device.type != "cuda":
        return time.perf_counter

    def when_done() -> float:
        torch.cuda.current_stream(compute.device).synchronize()
        return time.perf_counter()

    return when_done
