"""Annotations of public names can be resolved, as pydantic, FastAPI and makers of documentation do."""

from __future__ import annotations

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


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public name, and the public methods and properties of classes, those that are inherited of ours too."""
    for name in searchanything.__all__:
        value = getattr(searchanything, name)
        yield name, value
        for method in dir(value) if inspect.isclass(value) else ():
            function = function_of(inspect.getattr_static(value, method))
            ours = function is not None and str(function.__module__).startswith("searchanything.")
            if function is not None and ours and (method == "__init__" or not method.startswith("_")):
                yield f"{name}.{method}", function
        for overload in typing.get_overloads(value) if inspect.isfunction(value) else ():
            yield name, overload


def test_what_is_looked_at_are_the_public_methods() -> None:
    seen = {name for name, _ in public_callables()}
    assert seen > set(searchanything.__all__)
    assert seen > {"Client.query", "Client.operations", "Client.close", "SearchResults.to_pandas", "RemoteClient.query"}
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
