"""Importing the model libraries without their side effects: no network, no root logger, no compiler.

open_clip logs through the root logger, which configures it, and would ask a hub. torchvision and timm load torch's
compiler, 2.5 s of a first query, for what nobody here uses.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from types import ModuleType
from typing import Any

from searchanything.core.libraries import importing

_lock = threading.Lock()


def import_torchvision() -> Any:  # noqa: ANN401 - an untyped module
    """The module `torchvision`, imported without torch's compiler."""
    with _lock, importing(), _without_compiler():
        return importlib.import_module("torchvision")


def import_open_clip() -> Any:  # noqa: ANN401 - an untyped module
    """The module `open_clip`, imported without warnings and without torch's compiler."""
    with _lock, importing(), _without_compiler(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("open_clip")


@contextmanager
def _without_compiler() -> Iterator[None]:
    """While it lasts, what importing libraries ask of torch's compiler is put off until they use it.

    torchvision imports a question from it, timm marks a method as not to be compiled: both load it whole.
    """
    import torch

    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return
    stand_in, disable = ModuleType(name), torch.compiler.disable
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    torch.compiler.disable = partial(_put_off, disable)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _is_compile_supported(device: str) -> bool:
    return bool(importlib.import_module("torch._dynamo.utils").is_compile_supported(device))


def _put_off(disable: Callable[..., Any], function: Any = None, **options: Any) -> Any:  # noqa: ANN401 - any callable
    """`torch.compiler.disable`, as a decorator that begins to work at the first call."""
    if function is None:
        return partial(_put_off, disable, **options)
    disabled = cache(lambda: disable(function, **options))

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any callable
        return disabled()(*arguments, **named)

    return call


@contextmanager
def hub_offline() -> Iterator[None]:
    """While it lasts Hugging Face's client refuses to use the network, and the root logger is not configured."""
    from huggingface_hub import constants

    root, placeholder = logging.getLogger(), logging.NullHandler()
    with _lock:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        root.addHandler(placeholder)  # logging.info() on a bare root logger would call basicConfig()
        try:
            yield
        finally:
            root.removeHandler(placeholder)
            constants.HF_HUB_OFFLINE = before
