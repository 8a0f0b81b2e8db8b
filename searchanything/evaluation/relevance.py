"""Which hits are right, which count neither way, and how many there are to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from searchanything.core.digests import Numbers
from searchanything.evaluation.evidence import Evidence
from searchanything.evaluation.ranking import NOBODY


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """The answers to Q queries, instances given by their numbers in the evidence.

    A row answers a query if it lies on an instance of the query's category in another image: `key` (sorted) is row x
    categories + category, `instance` the one it lies on best. Barred rows are in no ranking of the query: those of its
    own image, those on a crowd of its category, and, where an attribute is `other`, those on an instance of its
    category with the query's own value.
    """

    evidence: Evidence
    queries: Numbers
    categories: int
    key: Numbers
    instance: Numbers
    crowd_key: Numbers
    other: str | None

    @classmethod
    def of(cls, evidence: Evidence, queries: Numbers, *, other: str | None = None) -> Self:
        """The answers to queries by their categories; `other` names an attribute in which hits must differ."""
        rows, instances, ious = evidence.matches
        category = evidence.instances.category
        categories = int(category.max(initial=0)) + 1
        keys = rows * categories + category[instances]
        crowd = evidence.instances.crowd[instances]
        order = np.lexsort((-ious, keys))
        order = order[~crowd[order]]
        unique, first = np.unique(keys[order], return_index=True)
        crowds = np.setdiff1d(keys[crowd], unique)
        return cls(evidence, queries, categories, unique, instances[order][first], crowds, other)

    @property
    def possible(self) -> Numbers:
        """(Q,) how many instances there are to find."""
        return self.countable(np.ones(len(self.evidence.instances.category), dtype=np.bool_))

    def countable(self, wanted: NDArray[np.bool_]) -> Numbers:
        """(Q,) how many of the `wanted` (M,) instances each query could find."""
        instances = self.evidence.instances
        counted = np.flatnonzero(wanted & ~instances.crowd)
        keys = instances.category
        found = _occurrences(keys, counted, self.queries)
        own_image = keys * self.evidence.images + instances.image
        found = found - _occurrences(own_image, counted, self.queries)
        if self.other is not None:
            values = instances.attributes[self.other]
            levels = len(instances.attribute_values[self.other])
            alike = _occurrences(keys * levels + values, counted, self.queries)
            found = found - alike + _occurrences(own_image * levels + values, counted, self.queries)
        return found

    def barred(self, places: Numbers, rows: Numbers) -> NDArray[np.bool_]:
        """(q, b) bool: which rows are left out of the rankings of the queries at these places."""
        instances = self.evidence.instances
        asked = self.queries[places]
        out: NDArray[np.bool_] = instances.image[asked][:, None] == self.evidence.rows.image[rows][None, :]
        self._bar(out, asked, rows, self.crowd_key)
        if self.other is not None:
            values, levels = instances.attributes[self.other], len(instances.attribute_values[self.other])
            row, category = np.divmod(self.key, self.categories)
            own = instances.category[asked] * levels + values[asked]
            _mark(out, own, rows, row, category * levels + values[self.instance])
        return out

    def found(self, ranked: Numbers) -> Numbers:
        """(Q, K) rows -> the instance that each newly finds, `NOBODY` for wrong hits and for a second one on it."""
        if not len(self.key):
            return np.full(ranked.shape, NOBODY)
        category = self.evidence.instances.category[self.queries]
        wanted = ranked * self.categories + category[:, None]
        place = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        hit = (self.key[place] == wanted) & (ranked != NOBODY)
        found = np.where(hit, self.instance[place], NOBODY)
        return np.where(_repeated(found), NOBODY, found)

    def _bar(self, out: NDArray[np.bool_], asked: Numbers, rows: Numbers, keys: Numbers) -> None:
        row, category = np.divmod(keys, self.categories)
        _mark(out, self.evidence.instances.category[asked], rows, row, category)


def _mark(out: NDArray[np.bool_], query_keys: Numbers, rows: Numbers, row: Numbers, row_keys: Numbers) -> None:
    """Set out[q, b] where a pair (row, row key) names row b with the key of query q."""
    order = np.argsort(rows)
    place = np.minimum(np.searchsorted(rows, row, sorter=order), len(rows) - 1)
    columns = order[place]
    here = np.flatnonzero(rows[columns] == row)
    queries, pairs = np.nonzero(query_keys[:, None] == row_keys[here][None, :])
    out[queries, columns[here[pairs]]] = True


def _occurrences(keys: Numbers, counted: Numbers, asked: Numbers) -> Numbers:
    """(Q,) how many of the counted instances have the key of each instance asked about."""
    _, numbers = np.unique(keys, return_inverse=True)
    counts = np.bincount(numbers[counted], minlength=int(numbers.max(initial=-1)) + 1)
    return np.asarray(counts[numbers[asked]], dtype=np.int64)


def _repeated(found: Numbers) -> NDArray[np.bool_]:
    """(Q, K) bool: whether an earlier place of the row holds the same instance."""
    order = np.argsort(found, axis=1, kind="stable")
    ordered = np.take_along_axis(found, order, axis=1)
    again = np.zeros(found.shape, dtype=np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated
