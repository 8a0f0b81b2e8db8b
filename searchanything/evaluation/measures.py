"""Average precision, precision and recall at k, and bootstrap intervals: figures as values per query, then means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.digests import Numbers
from searchanything.core.intervals import wilson_interval

Values: TypeAlias = NDArray[np.float64]  # (Q,), NaN where a figure does not apply

DEPTH: Final = 100  # of the rankings
LEAST_IMAGES: Final = 6  # of an interval: five that all differ in one direction are chance once in 16 times (sign test)
_ROUNDS: Final = 1000  # of the bootstrap
_ROUNDS_AT_ONCE: Final = 50


def average_precision(right: NDArray[np.bool_], possible: Numbers, *, depth: int) -> Values:
    """AP@depth of rankings (Q, K), K >= depth or the whole index: (Q,), NaN where nothing is to be found.

    The sum of the precisions at the ranks of the right hits, over min(depth, `possible`): 1 exactly for a ranking
    that could not be better.
    """
    hits = right[:, :depth]
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return share((precisions * hits).sum(axis=1), np.minimum(depth, possible))


def retrieval_values(right: NDArray[np.bool_], possible: Numbers) -> dict[str, Values]:
    """Every retrieval figure of rankings (Q, K) of right and wrong hits, per query; NaN where nothing is to be found.

    precision_k: right ones of the first k, over k. recall_k: right ones of the first k, over `possible`.
    """
    asked = np.where(possible > 0, 1.0, np.nan)
    values = {f"map_{depth}": average_precision(right, possible, depth=depth) for depth in (10, DEPTH)}
    values |= {f"precision_{k}": right[:, :k].sum(axis=1) / k * asked for k in (1, 5, 10)}
    return values | {f"recall_{k}": share(right[:, :k].sum(axis=1), possible) for k in (1, 10, DEPTH)}


def mean(values: Values) -> float | None:
    """The mean of the values that apply; None without any."""
    applying = values[~np.isnan(values)]
    return float(applying.mean()) if len(applying) else None


def resampled_means(values: Mapping[str, Values], *, seed: int, images: Numbers | None = None) -> dict[str, Values]:
    """Means of 1,000 resamples of the images, (1000,) by figure; each resample is the same for all figures.

    NaN where no query of a resample has a value. `images` (Q,) is the number of each query's image: an image is drawn
    with all of its queries, as queries about one image are not independent. Without it each has an image of its own.

    Bootstrap: Efron, Annals of Statistics 1979; of clusters: Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.8. Multiplicities of the images are drawn instead of the images.
    """
    if not values:
        return {}
    table = np.stack(list(values.values()), axis=1)
    if not len(table):
        return {name: np.full(_ROUNDS, np.nan) for name in values}
    applies = ~np.isnan(table)
    filled = np.where(applies, table, 0.0)
    drawn = _resamples(np.arange(len(table)) if images is None else images, seed)
    parts = [share(weights @ filled, weights @ applies) for weights in drawn]
    return dict(zip(values, np.concatenate(parts).T, strict=True))


def category_median(values: Values, categories: Numbers) -> float | None:
    """The median over categories of the mean of a category's values that apply; None without any."""
    medians = _category_medians(values, categories, np.ones((1, len(values))))
    return None if np.isnan(medians).all() else float(medians[0])


def resampled_category_medians(values: Values, categories: Numbers, *, seed: int, images: Numbers) -> Values:
    """The same of 1,000 resamples of the images, those of `resampled_means`: (1000,)."""
    if not len(values):
        return np.full(_ROUNDS, np.nan)
    return np.concatenate([_category_medians(values, categories, one) for one in _resamples(images, seed)])


def _category_medians(values: Values, categories: Numbers, weights: Values) -> Values:
    """(r,) of r resamples, given as how often each query is drawn (r, Q); NaN where no value applies."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(categories, kind="stable")
    starts = np.flatnonzero(np.diff(categories[order], prepend=-1))
    applies = ~np.isnan(values[order])
    filled, drawn = np.where(applies, values[order], 0.0), weights[:, order]
    means = share(np.add.reduceat(drawn * filled, starts, axis=1), np.add.reduceat(drawn * applies, starts, axis=1))
    some = ~np.isnan(means).all(axis=1)
    medians = np.full(len(weights), np.nan)
    medians[some] = np.nanmedian(means[some], axis=1)
    return medians


def _resamples(images: Numbers, seed: int) -> Iterator[Values]:
    """How often each query is drawn with its image, (rounds, Q) at a time, 1,000 rounds in all."""
    rng = np.random.default_rng((seed, 95))
    _, places = np.unique(images, return_inverse=True)
    count = int(places.max()) + 1
    for start in range(0, _ROUNDS, _ROUNDS_AT_ONCE):
        rounds = min(_ROUNDS_AT_ONCE, _ROUNDS - start)
        yield rng.multinomial(count, np.full(count, 1 / count), size=rounds).astype(np.float64)[:, places]


def interval(means: Values) -> tuple[float, float] | None:
    """The 95 % percentile interval of resampled means; None where no resample had a value."""
    means = means[~np.isnan(means)]
    if not len(means):
        return None
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


def figure_interval(
    values: Values, resampled: Values, images: Numbers, *, is_share: bool = True
) -> tuple[float, float] | None:
    """The 95 % interval of a figure of values (Q,) about `images` (Q,), by its resamples of these.

    None where the values that apply are about fewer than six images. Where all values are 0, or all 1, every resample
    is the same, as if nothing else could have come out: then Wilson's, of as many trials as there are images, since the
    queries of one may all have had one reason. Not so where `is_share` is false, as of differences, ratios and medians.
    """
    applies = ~np.isnan(values)
    count = len(np.unique(images[applies]))
    if count < LEAST_IMAGES:
        return None
    ends = values[applies].min(), values[applies].max()
    if is_share and ends in ((0, 0), (1, 1)):
        return wilson_interval(count * int(ends[0]), count)
    return interval(resampled)


def nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Values by path as a tree of dictionaries."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        place = tree
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return tree


def share(part: NDArray[Any], whole: NDArray[Any]) -> Values:
    """part / whole, NaN where whole is 0."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0), dtype=np.float64)
