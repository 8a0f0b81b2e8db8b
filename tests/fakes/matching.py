"""What a predicate means, row by row: what indexes do with it at once must come to the same."""

from __future__ import annotations

from collections.abc import Callable

from searchanything.stores.columns import Row, field_reader
from searchanything.stores.predicates import (
    All,
    Among,
    Compare,
    OfImages,
    Predicate,
    Prefix,
    Some,
    value_test,
)


def matcher(predicate: Predicate) -> Callable[[Row], bool]:
    """The predicate as a function of rows in memory."""
    match predicate:
        case All(parts):
            every = tuple(matcher(part) for part in parts)
            return lambda row: all(part(row) for part in every)
        case Some(parts):
            some = tuple(matcher(part) for part in parts)
            return lambda row: any(part(row) for part in some)
        case OfImages(images, excluded):
            return lambda row: (row.image in images) is not excluded
        case Prefix() | Among() | Compare():
            read, test = field_reader(predicate.field), value_test(predicate)
            return lambda row: test(read(row))
