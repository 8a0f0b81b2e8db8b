"""A GPU that is none: its tensors lie on the host, and what its queues do without a wait for each other is a fault.

Everything is computed at once, so that answers are right even where the order is not: `fakes.queue_order` sees that.
The host waits for a queue when it asks for values, or for a number of values that only the device knows; not when it
gives some or asks for none. What it asks for without waiting is garbage until it waits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import pytest
import torch
from fakes.queue_order import GPU, Memory, Operation, QueueOrder
from torch.utils._pytree import tree_leaves, tree_map

from searchanything.models import device_cut, p3_map

_HOST = torch.device("cpu")
_ATEN: Any = torch.ops.aten
_INDEXING = (_ATEN.index, _ATEN.index_put_)
_COPIES = (_ATEN.copy_, _ATEN._to_copy)
_NOTHING: Mapping[int, Any] = MappingProxyType({})


class QueuedTensor(torch.Tensor):
    """A tensor that says it is on the GPU. `values` has what it will be when its queue has come so far."""

    values: torch.Tensor
    memory: Memory

    @staticmethod
    def __new__(cls, values: torch.Tensor, memory: Memory) -> QueuedTensor:
        made: QueuedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=GPU,
        )
        made.values, made.memory = values, memory
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket is _ATEN.to:
            return func.decompose(*args, **kwargs)
        return _run(func, args, kwargs)

    def record_stream(self, queue: Any) -> None:  # type: ignore[override]
        """Its memory is not given to others before the queue has done what it was asked for until it is free."""
        self.memory.recorded.add(queue)

    def tolist(self) -> Any:
        """As torch's, which refuses subclasses."""
        return self.cpu().tolist()


@contextmanager
def queued_device() -> Iterator[QueueOrder]:
    """Until the end torch has this device as `cuda`."""
    order, future = QueueOrder(), torch.__future__
    overwritten = future.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patched:
        if not torch.cuda.is_available():
            patched.setattr(torch.cuda, "_lazy_init", lambda: None)
            torch._C._ensureCUDADeviceGuardSet()
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda *_: "stand-in",
            "get_device_capability": lambda *_: (7, 0),
            "Stream": order.new_queue,
            "current_stream": order.current,
            "stream": order.entered,
            "empty_cache": lambda: None,
        }.items():
            patched.setattr(torch.cuda, name, value)
        patched.setattr(torch.backends.cudnn, "is_available", lambda: False)
        patched.setattr(torch.Tensor, "pin_memory", pinned)
        patched.setattr(ThreadPoolExecutor, "submit", order.submitted(ThreadPoolExecutor.submit))
        patched.setattr(Future, "result", order.waited(Future.result))
        library = _factories(order)
        future.set_overwrite_module_params_on_conversion(True)  # a parameter of the host cannot become one of ours
        torch._C._set_only_lift_cpu_tensors(True)  # lists of numbers become tensors on the host, then they are copied
        try:
            yield order
        finally:
            order.close()
            torch._C._set_only_lift_cpu_tensors(False)
            future.set_overwrite_module_params_on_conversion(overwritten)
            library._destroy()


@contextmanager
def queued_gpu() -> Iterator[QueueOrder]:
    """The same for the models. What the process keeps for its devices is put aside.

    One coverage is kept: that of an image of another size takes its place while it may be read.
    """
    with queued_device() as order, pytest.MonkeyPatch.context() as patched:
        kept = lru_cache(maxsize=1)(inspect.unwrap(p3_map._kept_coverage))
        patched.setattr(p3_map, "_kept_coverage", order.handing_on(kept))
        device_cut.cutter_of.cache_clear()
        try:
            yield order
        finally:
            device_cut.cutter_of.cache_clear()


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in memory of the host that the device reads by itself, later."""
    copy: Any = tensor.clone()
    copy.is_read_later = True
    return copy  # type: ignore[no-any-return]


def _factories(order: QueueOrder) -> torch.library.Library:
    """What makes tensors on `cuda`, in all threads. All others call these, or fail for want of a GPU."""
    library = torch.library.Library("aten", "IMPL")

    def making(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def make(*args: Any, dtype: Any = None, memory_format: Any = None, **_: object) -> torch.Tensor:
            how = {} if memory_format is None else {"memory_format": memory_format}
            operation = order.add("allocation", [], [])  # its queue may have had other work with the memory before
            return QueuedTensor(factory(*args, dtype=dtype, **how), Memory(operation.queue, operation))

        return make

    for name, factory in {
        "empty.memory_format": torch.empty,
        "empty_strided": torch.empty_strided,
        "arange": torch.arange,
        "arange.start": torch.arange,
        "arange.start_step": torch.arange,
    }.items():
        library.impl(name, making(factory), "CUDA", allow_override=True)
    return library


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """One of torch's operations in the calling thread's queue, by the host."""
    given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = {id(one.values): one for one in given if isinstance(one, QueuedTensor)}
    bases = {_storage_of(one.values): one for one in there.values()}
    if func.overloadpacket not in (*_COPIES, *_INDEXING) and any(
        one.dim() for one in given if not isinstance(one, QueuedTensor)
    ):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    made = func(*tree_map(_on_host, args), **tree_map(_on_host, kwargs))
    tensors = [one for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
    fresh = {_storage_of(one) for one in tensors} - bases.keys()
    changed = [one for one in _written(func, args, kwargs) if isinstance(one, QueuedTensor)]
    to_host, waits = _goes_to_host(func, args, kwargs), _tells_a_number(func, args) or not tensors
    if not (fresh or changed or to_host or waits):
        return tree_map(lambda one: _found(one, there, bases), made)  # a view: nothing is queued
    does_nothing = not waits and not any(one.numel() for one in tensors)
    read = [] if does_nothing else [one.memory for one in there.values() if one.numel()]
    order = next(iter(there.values())).memory.home.order
    operation = order.add(func.overloadpacket.__name__, read, [one.memory for one in changed if one.numel()])
    if to_host:
        return _downloaded(operation, made, is_queued=_is_queued(args, kwargs))
    if func is _ATEN.copy_.default and _is_queued(args, kwargs) and hasattr(args[1], "is_read_later"):
        order.send(operation, args[1])
    if waits:
        operation.queue.synchronize()
    memories = {storage: Memory(operation.queue, operation) for storage in fresh}
    return tree_map(lambda one: _found(one, there, bases, memories), made)


def _downloaded(operation: Operation, made: torch.Tensor, *, is_queued: bool) -> torch.Tensor:
    """Values in the host's memory, which waits for them if it is not asked not to."""
    if made.numel() and is_queued:
        operation.queue.order.fetch(operation, made)
    elif made.numel():
        operation.queue.synchronize()
    return made


def _found(
    one: Any, there: dict[int, QueuedTensor], bases: dict[int, QueuedTensor], fresh: Mapping[int, Memory] = _NOTHING
) -> Any:
    """What an operation gave back: one of its inputs, a view of one, or something new."""
    if not isinstance(one, torch.Tensor):
        return one
    known, base = there.get(id(one)), bases.get(_storage_of(one))
    if known is not None:
        if known.shape != one.shape:
            raise NotImplementedError("an operation that changes the size of what it is given")
        return known
    if base is None:
        return QueuedTensor(one, fresh[_storage_of(one)])
    with torch.inference_mode(base.is_inference()):  # a view is what its base is
        return QueuedTensor(one, base.memory)


def _on_host(one: Any) -> Any:
    if isinstance(one, QueuedTensor):
        return one.values
    return _HOST if isinstance(one, torch.device) else one


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Any]:
    """The inputs that an operation changes."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield args[place] if place < len(args) else kwargs.get(argument.name)


def _is_queued(args: Any, kwargs: Any) -> bool:
    """Whether a copy is asked for without waiting."""
    return bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))


def _goes_to_host(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether it is a copy into the host's memory."""
    if func.overloadpacket is _ATEN.copy_:
        return not isinstance(args[0], QueuedTensor)
    return func.overloadpacket is _ATEN._to_copy and kwargs.get("device") == _HOST


def _tells_a_number(func: Any, args: Any) -> bool:
    """Whether the host has to wait for the number of values: they are those where something is true, or of nms."""
    if func.overloadpacket in _INDEXING:
        return any(one is not None and one.dtype == torch.bool and one.numel() for one in args[1])
    is_open = torch.Tag.dynamic_output_shape in func.tags or func.name() == "torchvision::nms"
    return is_open and args[0].numel() > 0


def _storage_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
