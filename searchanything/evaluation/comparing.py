"""Two evaluations of the same queries: the differences of their figures, query by query."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from searchanything.core.counting import counted
from searchanything.core.digests import Numbers
from searchanything.core.errors import UsageError
from searchanything.evaluation.evaluated import Evaluated, Report
from searchanything.evaluation.measures import LEAST_IMAGES, Values, interval, resampled_means
from searchanything.evaluation.spaces import space_name

_SETTINGS: Final = (
    *("preset", "hash", "bits", "regions", "crops", "feature_fingerprint", "box_min_iou"),
    *("other_attribute", "group_by", "instance", "dataset_digest", "seed"),
)
_OTHER: Final = "retrieval_other."
_LOSSES: Final = "funnel."  # less of them is better
_DIGITS: Final = 5
_DIGEST_SHOWN: Final = 12  # hex digits
_SPACES: Final = {
    "float": "float",
    "float_weighted": "float, weighted as the hash",
    "codes": "codes",
    "codes_rescored": "codes rescored",
}
_SHOWN: Final = {
    "segmentation.recall_iou50": "recall at IoU 0.5",
    "segmentation.recall_iou75": "recall at IoU 0.75",
    "prompts.box": "box prompt",
    "prompts.point": "point prompt",
    "prompts.text": "text prompt",
    "prompts.naming": "naming",
    **{f"retrieval.{space}.map_10": f"mAP@10 {label}" for space, label in _SPACES.items()},
    "retrieval.codes_rescored.precision_1": "precision@1 codes rescored",
    "retrieval.codes_rescored.recall_10": "recall@10 codes rescored",
    "retrieval_other.codes_rescored.map_10": "mAP@10 codes rescored, other",
    **{f"regions.{space}.map_10": f"mAP@10 {_SPACES[space]}" for space in ("float", "codes", "codes_rescored")},
    "regions.codes_rescored.precision_1": "precision@1 codes rescored",
    "regions.codes_rescored.located_map_10": "mAP@10 codes rescored, region on the instance",
    "grid.codes_rescored.map_10": "mAP@10 codes rescored, grid of patches",
}


def compare_evaluations(before: Evaluated, after: Evaluated, *, seed: int = 0) -> Report:
    """For each figure that both have: the two means, their difference, its 95 % interval, and how queries fared.

    Only queries to which a figure applies in both count for it. The codes of a run's own layer are called `codes`,
    whatever their length. Intervals are percentiles of 1,000 bootstrap resamples of the images: queries about one image
    are not independent, and are drawn together. There is none where fewer than six images differ. Losses (`funnel`) are
    better where they are less.

    Raises: UsageError where the two asked about other things, or have no figure in common.
    """
    places = _paired(before, after)
    old = _own_codes(before)
    new = {name: values[places] for name, values in _own_codes(after).items()}
    same_other = before.report.get("other_attribute") == after.report.get("other_attribute")
    common = [name for name in old if name in new and (same_other or not name.startswith(_OTHER))]
    if not common:
        raise UsageError("the two evaluations have no figure in common: compare two of one kind")
    _, images = np.unique([one.image for one in before.queries.asked], return_inverse=True)
    differences = {name: new[name] - old[name] for name in common}
    resampled = resampled_means(differences, seed=seed, images=images)
    return {
        **{name: _settings(one.report) for name, one in (("before", before), ("after", after))},
        "queries": len(places),
        "images": int(images.max(initial=-1)) + 1,
        "seed": seed,
        "figures": {
            name: _figure(old[name], new[name], resampled[name], images, loss=_is_loss(name)) for name in common
        },
    }


def shown_figures(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of a comparison that people look at first, by what they are called, if any query has them."""
    figures = report["figures"]
    return {label: figures[name] for name, label in _SHOWN.items() if name in figures and figures[name]["queries"]}


def differing(report: Mapping[str, Any]) -> str:
    """What the two evaluations did not have in common, as far as they say: `bits 64 → 256`."""
    before, after = report["before"], report["after"]
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    pairs = (f"{name.replace('_', ' ')} {_short(before.get(name))} → {_short(after.get(name))}" for name in names)
    return "; ".join(pairs) or "the same preset, hash layer, settings and annotated images"


def _short(setting: object) -> str:
    """A setting, of a digest the beginning."""
    text = str(setting)
    return f"{text[:_DIGEST_SHOWN]}…" if len(text) > 2 * _DIGEST_SHOWN and " " not in text else text


def _is_loss(name: str) -> bool:
    return name.startswith(_LOSSES) and name != f"{_LOSSES}left"


def _figure(old: Values, new: Values, resampled: Values, images: Numbers, *, loss: bool) -> dict[str, Any]:
    both = ~np.isnan(old) & ~np.isnan(new)
    change = (new - old)[both]
    differing_images = np.count_nonzero(np.bincount(images[both], weights=change))
    ends = interval(resampled) if differing_images >= LEAST_IMAGES else None
    gain = -change if loss else change
    return {
        "queries": int(both.sum()),
        "before": _mean(old[both]),
        "after": _mean(new[both]),
        "difference": _mean(change),
        "ci95": None if ends is None else [round(end, _DIGITS) for end in ends],
        "better": int((gain > 0).sum()),
        "worse": int((gain < 0).sum()),
    }


def _mean(values: Values) -> float | None:
    return round(float(values.mean()), _DIGITS) if len(values) else None


def _settings(report: Report) -> dict[str, Any]:
    """What was evaluated, as far as a report says it."""
    figures = {"regions"} if "grid" in report else set()  # `eval instances` has figures under this name, no policy
    said: Report = {name: report[name] for name in _SETTINGS if name in report and name not in figures}
    return {**said, "failed": len(report.get("failures", []))}


def _own_codes(evaluated: Evaluated) -> dict[str, Values]:
    """The figures by name, with `codes` for the space of the layer's own codes."""
    own = re.compile(rf"\b{space_name(evaluated.report['bits'])}(?=[._])")
    return {own.sub("codes", name): values for name, values in evaluated.queries.figures.items()}


def _paired(before: Evaluated, after: Evaluated) -> Numbers:
    """For each query of the first its place in the second. Raises: UsageError where they are not the same queries."""
    first, second = before.queries.asked, after.queries.asked
    places = {one: place for place, one in enumerate(second)}
    for table in (first, second):
        one, count = Counter(table).most_common(1)[0] if table else (None, 1)
        if one is not None and count > 1:
            raise UsageError(f"two queries are about annotation {one.annotation} of {one.image}: ids must be unique")
    alone = sum(one not in places for one in first)
    others = len(second) - (len(first) - alone)
    if alone or others:
        failed, also = (len(one.report.get("failures", [])) for one in (before, after))
        why = f"; {counted(failed, 'image')} failed in the first, {also:,} in the second" if failed or also else ""
        raise UsageError(
            f"the two evaluations asked about other things: {counted(alone, 'query', 'queries')} in the first alone, "
            f"{others:,} in the second{why}; evaluate the same annotated images"
        )
    return np.array([places[one] for one in first], dtype=np.int64)
