"""Signatures on the page of the Python API without the module in which a client looks types up: a griffe extension.

A client names `given.SearchResults`, so that the type is imported when somebody asks for it; `SearchResults` is enough
to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import griffe

LOOKED_UP_IN: Final = "given"


class BriefTypes(griffe.Extension):
    """Takes the module off the annotations of functions, methods and properties."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:  # noqa: ANN401 - griffe's
        for one in (func, *(func.overloads or ())):
            for annotation in (one.returns, *(parameter.annotation for parameter in one.parameters)):
                _shorten(annotation)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:  # noqa: ANN401 - griffe's
        _shorten(attr.annotation)


def _shorten(annotation: griffe.Expr | str | None) -> None:
    for part in _attributes(annotation):
        if str(part.values[0]) == LOOKED_UP_IN:
            part.values = part.values[1:]


def _attributes(annotation: griffe.Expr | str | None) -> Iterable[griffe.ExprAttribute]:
    """All dotted names of an annotation."""
    if isinstance(annotation, griffe.ExprAttribute):
        yield annotation
    elif isinstance(annotation, griffe.Expr) and not isinstance(annotation, griffe.ExprName):
        for part in annotation.iterate(flat=False):
            yield from _attributes(part)
