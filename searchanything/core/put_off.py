"""Parts of other people's libraries that are imported when they are used, and not because something imports them.

pymilvus imports pandas, open_clip transformers and all of torchvision, typer's help a parser of Markdown: seconds for
what nobody here uses. While `put_off` lasts, modules of given names are stood in for; what was taken from a stand-in
finds the real thing at its first use, so nothing is missing for anybody else in the process.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_questions_only = False


def answer_questions_only() -> None:
    """Say that this process answers questions of the command line and ends: nobody else imports libraries in it."""
    global _questions_only
    _questions_only = True


def questions_only() -> bool:
    """Whether `answer_questions_only` was said: parts of libraries may then be left out for good."""
    return _questions_only


@contextmanager
def put_off(*names: str) -> Iterator[None]:
    """While it lasts, imports of these modules give stand-ins. Parents of a module that is named are named, too.

    A library that is imported already, or that is not installed, is left alone: an `except ImportError` works as ever.
    """
    stand_ins = [StandIn(name) for name in names if _may_be_put_off(name)]
    sys.modules.update({one.__name__: one for one in stand_ins})
    try:
        yield
    finally:
        for one in stand_ins:
            one.leave()


def _may_be_put_off(name: str) -> bool:
    """Whether the module is not there yet, and its library is installed."""
    return name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is not None


class StandIn(ModuleType):
    """A module that is imported when one of its names is used; until `leave`, to ask for a name is no use of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def leave(self) -> None:
        """Let the next import find the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401 - whatever the module holds
        if attribute.startswith("__"):  # what inspection looks for is no use of the module
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            return PutOff(attribute, (), {"__module__": self.__name__, "_stand_in": self})
        return getattr(importlib.import_module(self.__name__), attribute)


class PutOff(type):
    """The type of a class that stands for a class or a function of a module, which is imported at its first use.

    It is a class itself, so that annotations may name it.
    """

    _stand_in: StandIn

    def __call__(cls, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the real one gives
        return cls._real()(*arguments, **named)

    def __getattr__(cls, name: str) -> Any:  # noqa: ANN401 - whatever the real one has
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(cls._real(), name)

    def __instancecheck__(cls, instance: object) -> bool:
        """Without an import: an instance cannot be there before its class is."""
        return cls.__module__ in sys.modules and isinstance(instance, cls._real())

    def __subclasscheck__(cls, subclass: type) -> bool:
        return cls.__module__ in sys.modules and issubclass(subclass, cls._real())

    def _real(cls) -> Any:  # noqa: ANN401 - whatever it stands for
        cls._stand_in.leave()
        return getattr(importlib.import_module(cls.__module__), cls.__name__)
