"""The order that CUDA promises, and what would go wrong without it ("happens before", by vector clocks).

Each queue and each thread of the host has a clock, which says up to where it has waited for each queue. An operation
must come after what wrote its inputs, and after what read or wrote its outputs. Memory goes back to the queue that it
was made in: what others do with it must be waited for, or recorded, until then. Threads know what those know that
handed them work or results through a pool; a cache hands on nothing by itself, see `handing_on`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import torch

GPU = torch.device("cuda", 0)
Clock: TypeAlias = "dict[Queue, int]"


@dataclass(eq=False)
class Queue:
    """Stands in for a `torch.cuda.Stream`. `clock` says up to which operation it comes after those of each queue."""

    order: QueueOrder
    name: str
    device: torch.device = GPU
    clock: Clock = field(default_factory=dict)

    def wait_stream(self, other: Queue) -> None:
        """What is queued from now on comes after all that is queued there."""
        _advance(self.clock, other.clock)

    def synchronize(self) -> None:
        """The calling thread waits for all that is queued."""
        self.order.learn(self.clock)


@dataclass(frozen=True)
class Operation:
    """The `number`th operation of a queue, and where in the package it was asked for."""

    queue: Queue
    number: int
    name: str

    def comes_before(self, *clocks: Clock) -> bool:
        """Whether any of the clocks has seen it."""
        return any(clock.get(self.queue, 0) >= self.number for clock in clocks)

    def __str__(self) -> str:
        return f"{self.name} in {self.queue.name}"


@dataclass(eq=False)
class Memory:
    """What a tensor and its views share, made in the queue `home`; `recorded` are those that torch was told of."""

    home: Queue
    writer: Operation
    readers: dict[Queue, Operation] = field(default_factory=dict)
    recorded: set[Queue] = field(default_factory=set)

    def users(self) -> list[Operation]:
        """The last ones."""
        return [*self.readers.values(), self.writer]

    def __del__(self) -> None:
        self.home.order.check_free(self)


class QueueOrder:
    """Queues, and what is done in them. `faults` says what would go wrong on a GPU, each as a sentence."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._thread = threading.local()
        self._lock = threading.RLock()
        self._main = Queue(self, "the main queue")
        self._queues = [self._main]
        self._waited_for: Clock = {}  # by any thread
        self._uploads: list[tuple[Operation, torch.Tensor, torch.Tensor]] = []
        self._downloads: list[tuple[Operation, torch.Tensor, torch.Tensor]] = []
        self._is_open = True

    def close(self) -> None:
        """Wait for everything. What is freed from now on is no fault."""
        for queue in self._queues:
            queue.synchronize()
        self._is_open = False

    def new_queue(self, *_: object, **__: object) -> Queue:
        with self._lock:
            self._queues.append(Queue(self, f"queue {len(self._queues)}"))
            return self._queues[-1]

    def current(self, *_: object) -> Queue:
        """The calling thread's."""
        return getattr(self._thread, "queue", self._main)

    @contextmanager
    def entered(self, queue: Queue) -> Iterator[None]:
        before = self.current()
        self._thread.queue = queue
        try:
            yield
        finally:
            self._thread.queue = before

    def add(self, name: str, read: list[Memory], written: list[Memory]) -> Operation:
        """An operation behind all others of the calling thread's queue. What is written counts as read as well."""
        with self._lock:
            queue = self.current()
            _advance(queue.clock, self._known())
            queue.clock[queue] = queue.clock.get(queue, 0) + 1
            operation = Operation(queue, queue.clock[queue], f"{name} ({_caller()})")
            for memory in [*read, *written]:
                changes = memory in written
                for other in memory.users() if changes else [memory.writer]:
                    if not other.comes_before(queue.clock):
                        does = "overwrites" if changes else "reads"
                        self.faults.append(f"{operation} {does} what {other} may not be done with")
                if changes:
                    memory.writer, memory.readers = operation, {}
                else:
                    memory.readers[queue] = operation
            return operation

    def send(self, operation: Operation, source: torch.Tensor) -> None:
        """The operation reads memory of the host by itself: nobody may write there until it is done."""
        self._uploads.append((operation, source, source.clone()))

    def fetch(self, operation: Operation, target: torch.Tensor) -> None:
        """The operation writes memory of the host, which has garbage until a thread has waited."""
        self._downloads.append((operation, target, target.clone()))
        target.untyped_storage().fill_(1)

    def check_free(self, memory: Memory) -> None:
        """Memory that nobody holds any more: its queue may give it to the next who asks there.

        Whoever drops it last does so after all who have dropped it before, so what any thread knows counts.
        """
        if not self._is_open:
            return
        with self._lock:
            for user in memory.users():
                known = user.comes_before(memory.home.clock, self._waited_for)
                if not known and user.queue not in memory.recorded:
                    self.faults.append(f"memory of {memory.home.name} is freed while {user} may not be done with it")

    def learn(self, clock: Clock) -> None:
        """The calling thread knows that all this is done: values that it asked for are there by now."""
        with self._lock:
            known = self._known()
            _advance(known, clock)
            _advance(self._waited_for, clock)
            for operation, source, sent in [one for one in self._uploads if one[0].comes_before(known)]:
                if source.numpy().tobytes() != sent.numpy().tobytes():
                    self.faults.append(f"{operation} sends memory that the host has changed meanwhile")
            with torch.inference_mode():
                for _, target, values in [one for one in self._downloads if one[0].comes_before(known)]:
                    target.copy_(values)
            self._uploads = [one for one in self._uploads if not one[0].comes_before(known)]
            self._downloads = [one for one in self._downloads if not one[0].comes_before(known)]

    def handing_on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A cache's function: whoever gets something knows what those know who got something before."""
        clock: Clock = {}

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.learn(clock)
                found = function(*args, **kwargs)
                _advance(clock, self._known())
                return found

        return call

    def submitted(self, submit: Callable[..., Any]) -> Callable[..., Any]:
        """`ThreadPoolExecutor.submit`: work begins with what the thread knows that asked for it."""

        def call(pool: object, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            asked = dict(self._known())
            ended: Clock = {}

            def work() -> Any:
                self.learn(asked)
                try:
                    return function(*args, **kwargs)
                finally:
                    _advance(ended, self._known())

            future = submit(pool, work)
            future.known_at_its_end = ended
            return future

        return call

    def waited(self, result: Callable[..., Any]) -> Callable[..., Any]:
        """`Future.result`: whoever gets it knows what the thread knew that made it."""

        def call(future: Any, timeout: float | None = None) -> Any:
            try:
                return result(future, timeout)
            finally:
                self.learn(getattr(future, "known_at_its_end", {}))

        return call

    def _known(self) -> Clock:
        """The calling thread's clock."""
        if not hasattr(self._thread, "clock"):
            self._thread.clock = {}
        clock: Clock = self._thread.clock
        return clock


def _advance(clock: Clock, other: Clock) -> None:
    """Let a clock know what another one knows."""
    for queue, number in list(other.items()):
        clock[queue] = max(number, clock.get(queue, 0))


def _caller() -> str:
    """The line of the package, or of a test, that asks for an operation."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals["__name__"].startswith(("searchanything.", "test_")):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
