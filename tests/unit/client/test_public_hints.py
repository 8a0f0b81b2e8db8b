"""Annotations of public names can be resolved, as pydantic, FastAPI and makers of documentation do."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import searchanything
from searchanything.answers.results import SearchResults
from searchanything.client.client import Client
from searchanything.images.inputs import ImageInput


def function_of(member: Any) -> Callable[..., Any] | None:
    """What a class holds under a name, as the function whose annotations count."""
    match member:
        case property(fget=getter):
            return getter
        case cached_property(func=getter):
            return getter
        case classmethod() | staticmethod():
            return member.__func__
        case _:
            return member if inspect.isfunction(member) else None


def is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("searchanything.")


def methods_of(value: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods and properties of a class, those that it inherits of ours too."""
    for method in dir(value):
        function = function_of(inspect.getattr_static(value, method))
        if function is not None and is_ours(function) and (method == "__init__" or not method.startswith("_")):
            yield f"{value.__name__}.{method}", function


def classes_in(hint: Any) -> Iterator[type]:
    """The classes of ours that an annotation names."""
    if inspect.isclass(hint) and is_ours(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from classes_in(part)


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public name, what it gives back, and the public methods and properties of all these classes."""
    waiting: list[Any] = [getattr(searchanything, name) for name in searchanything.__all__]
    seen: set[Any] = set()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        found = [(value.__name__, value), *(methods_of(value) if inspect.isclass(value) else ())]
        found += [(value.__name__, one) for one in typing.get_overloads(value)] if inspect.isfunction(value) else []
        yield from found
        for _, function in found:
            with contextlib.suppress(NameError):  # which is what the test is about
                waiting += classes_in(typing.get_type_hints(function).get("return"))


def test_what_is_looked_at_are_the_public_methods() -> None:
    seen = {name for name, _ in public_callables()}
    assert seen > set(searchanything.__all__)
    assert seen > {"Client.query", "Client.operations", "Client.close", "SearchResults.to_pandas", "RemoteClient.query"}
    assert seen > {"RemoteResults.plot", "Operations.plan_sync", "BackupReport", "ImageRow"}, (
        "what these give back, too"
    )
    assert "Settings.model_dump" not in seen, "pydantic's own"


def test_hints_are_resolved() -> None:
    unresolved = []
    for name, value in public_callables():
        try:
            assert set(typing.get_type_hints(value)) >= set(inspect.get_annotations(value)), name
            inspect.get_annotations(value, eval_str=True)
        except NameError as error:
            unresolved.append(f"{name}: {error}")
    assert unresolved == []


def test_they_are_the_types_themselves() -> None:
    assert typing.get_type_hints(Client.query)["return"] is SearchResults
    assert set(typing.get_args(ImageInput)) < set(typing.get_args(typing.get_type_hints(Client.query)["image"]))
    assert typing.get_type_hints(searchanything.query)["return"] is SearchResults
    assert Client in typing.get_args(typing.get_type_hints(searchanything.connect)["return"])


def test_nothing_is_imported_before_somebody_asks() -> None:
    code = (
        "import searchanything.client.opening, sys, typing\nlate = 'searchanything.answers.results'\n"
        "print(late in sys.modules)\n"
        "typing.get_type_hints(searchanything.client.opening.query)\nprint(late in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]
