"""Importing the model libraries without their side effects: no network, no root logger, no compiler.

open_clip logs through the root logger, which configures it, and would ask a hub. Loading them brings torch's compiler,
Hugging Face's transformers (where they are installed) and torchvision's models and data sets, half of a first query's
time, for what nobody here uses: all of that is put off until somebody does.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial, wraps
from types import ModuleType
from typing import Any, Final

from searchanything.core.libraries import importing
from searchanything.core.put_off import put_off, questions_only

_OF_TORCHVISION: Final = ("torchvision.datasets", "torchvision.models", "torchvision.models.feature_extraction")
_OF_OPEN_CLIP: Final = ("transformers", "transformers.generation", "transformers.modeling_outputs")
# A quarter of `import torch`. The first registers kernels of tensors without data, for torch's compiler, when it is
# imported, and nothing asks for it by name: where others may run as well, it must not be missing.
_OF_TORCH: Final = ("torch._meta_registrations", "torch.distributions")
_lock = threading.Lock()


def import_torch() -> None:
    """Import torch; without what only its compiler needs, in a process that answers questions and ends."""
    with _lock, importing(), _of_torch():
        importlib.import_module("torch")


def import_torchvision() -> Any:  # noqa: ANN401 - an untyped module
    """The module `torchvision`, imported without torch's compiler, models and data sets."""
    with _lock, importing(), _without_compiler(), _of_torch(), put_off(*_OF_TORCHVISION):
        return importlib.import_module("torchvision")


def import_open_clip() -> Any:  # noqa: ANN401 - an untyped module
    """The module `open_clip`, imported without warnings, torch's compiler and transformers."""
    others = put_off(*_OF_TORCHVISION, *_OF_OPEN_CLIP)
    with _lock, importing(), _without_compiler(), _of_torch(), others, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("open_clip")


def _of_torch() -> AbstractContextManager[None]:
    """Puts off what of torch can be, while other libraries are imported, too: torch 2.6 cannot load it after itself."""
    return put_off(*(_OF_TORCH if questions_only() else ()))


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
