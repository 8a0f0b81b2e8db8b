"""The evaluation itself: images are observed once, everything else is computed from what was seen."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from searchanything.core.counting import counted
from searchanything.core.digests import Numbers
from searchanything.core.errors import UsageError
from searchanything.encode.encoder import Encoder
from searchanything.encode.region_policy import RegionPolicy
from searchanything.evaluation.asking import WORDS, Vocabulary
from searchanything.evaluation.evaluated import Evaluated, Report
from searchanything.evaluation.evidence import Collector, Evidence
from searchanything.evaluation.figures import FigurePath, Figures, Judge
from searchanything.evaluation.measures import (
    category_median,
    figure_interval,
    mean,
    nested,
    resampled_category_medians,
    resampled_means,
    share,
)
from searchanything.evaluation.observing import Setup, observe
from searchanything.evaluation.provenance import provenance
from searchanything.evaluation.query_table import ATTRIBUTE, QueryTable
from searchanything.evaluation.reading import OnImagesDone, Reading, annotated, read_batches
from searchanything.evaluation.relevance import Relevance
from searchanything.evaluation.truth import Truth
from searchanything.ingest.reports import Failure

POLICIES: Final = tuple(RegionPolicy(name, count) for name in ("largest", "stratified") for count in (25, 50, 100))
FLOATS: Final = ("float", "float_weighted")  # spaces that those of codes are compared with
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What is reported, and how images are read.

    `group_by`: attributes by whose values figures are reported; `other`: an attribute in which hits must differ from
    the query to count, besides. Both must have been read with the annotations.
    """

    group_by: tuple[str, ...] = ()
    other: str | None = None
    ablations: bool = True
    seed: int = 0
    reading: Reading = field(default_factory=Reading)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that annotations must have."""
        return tuple(dict.fromkeys([*self.group_by, *([self.other] if self.other else [])]))


def evaluate(
    truth: Truth, folder: Path, encoder: Encoder, options: EvaluationOptions, *, progress: OnImagesDone | None = None
) -> Evaluated:
    """The figures on annotated images that lie below a folder. Images that cannot be read are left out and listed.

    Raises: UsageError where nothing can be evaluated, ModelError.
    """
    started = time.perf_counter()
    if not any(not one.crowd for image in truth.images for one in image.instances):
        raise UsageError(
            f"nothing to evaluate: {counted(len(truth.images), 'annotated image')}, and no instance on any of them"
        )
    first_group = options.group_by[0] if options.group_by else None
    vocabulary = Vocabulary.of(truth, encoder.embedder, group_by=first_group, seed=options.seed)
    policies = (encoder.policy, *(POLICIES if options.ablations else ()))
    setup = Setup(encoder, vocabulary, policies, options.ablations)
    failures: list[Failure] = []
    wanted = annotated(truth, folder)
    with Collector(vocabulary, options.attributes) as collector:
        for images, files in read_batches(wanted, options.reading, failures, progress):
            truths = [one.truth for one in files if one.truth is not None]
            for one, seen in zip(truths, observe(setup, images, truths), strict=True):
                collector.add(one, seen)
        if not collector.instances:
            first = f", the first: {failures[0].message}" if failures else ""
            raise UsageError(
                f"nothing to evaluate in {folder}: no instance on {counted(collector.images, 'readable image')}; "
                f"{counted(len(failures), 'image')} could not be read{first}"
            )
        evidence = collector.evidence()
        report, queries = _report(Judge(evidence, encoder, _queries(evidence), options.seed), policies, options)
    dataset = {
        "failed": len(failures),
        "empty_annotations": truth.empty_annotations,
        "categories": len(vocabulary.names),
    }
    whole = {
        "dataset": {**report.pop("dataset"), **dataset},
        "regions": encoder.policy.description,
        "crops": encoder.crops.value,
        **provenance(encoder, wanted),
        **report,
        "failures": [{"key": one.key, "error": one.error, "message": one.message} for one in failures],
        "seconds": round(time.perf_counter() - started, 1),
    }
    return Evaluated(whole, queries)


def _queries(evidence: Evidence) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.flatnonzero(~evidence.instances.crowd)


def _report(judge: Judge, policies: tuple[RegionPolicy, ...], options: EvaluationOptions) -> tuple[Report, QueryTable]:
    figures, sources = judge.main_figures(other=options.other)
    images = judge.evidence.instances.image[judge.queries]
    means, intervals = _summary((), figures, images, options.seed)
    categories = judge.evidence.instances.category[judge.queries]
    medians, median_intervals = _medians(figures, categories, images, options.seed)
    means, intervals = means | medians, intervals | median_intervals
    for path, members in judge.subsets(options.group_by).items():
        subset = {name: values[members] for name, values in figures.items()}
        part_means, part_intervals = _summary(path, subset, images[members], options.seed)
        means |= {(*path, "instances"): int(members.sum()), **part_means}
        intervals |= part_intervals
    ablations: Report = {}
    if options.ablations:
        ablated, ablated_intervals = _summary((), judge.ablations(policies), images, options.seed)
        intervals |= ablated_intervals
        ablations = nested(ablated)["ablations"]
        for name, costs in judge.policy_costs(policies).items():
            ablations["policies"][name] |= {cost: round(value, _DIGITS) for cost, value in costs.items()}
    rows, instances = judge.evidence.rows, judge.evidence.instances
    report = {
        "dataset": {
            "images": judge.evidence.images,
            "instances": len(judge.queries),
            "crowds": int(instances.crowd.sum()),
            "answerable": int((~np.isnan(figures["funnel", "left"])).sum()),
            "regions": int(rows.is_region.sum()),
            "indexed_regions": int(rows.kept[:, 0].sum()),
            "indexed_regions_on_instances": int((rows.kept[:, 0] & judge.on_instances).sum()),
        },
        "spaces": sources,
        "candidate_words": WORDS,
        "other_attribute": options.other,
        "group_by": list(options.group_by),
        "seed": options.seed,
        **nested(means),
        "ablations": ablations,
        "ci95": {".".join(path): ends for path, ends in intervals.items()},
    }
    return report, _table(judge, figures)


def _table(judge: Judge, figures: Figures) -> QueryTable:
    """All figures but the ablations', query by query.

    `selected`: what the box prompt selected, a region or, where none fits, the box. `to_find`: R of the protocol.
    """
    evidence, queries = judge.evidence, judge.queries
    instances = evidence.instances
    is_region = evidence.rows.is_region[instances.row[queries]]
    further = {
        "selected": np.where(is_region, "region", "box").tolist(),
        "to_find": Relevance.of(evidence, queries).possible.astype(str).tolist(),
        **{
            f"{ATTRIBUTE}{name}": np.array(instances.attribute_values[name])[numbers[queries]].tolist()
            for name, numbers in instances.attributes.items()
        },
    }
    asked = [evidence.asked[number] for number in queries.tolist()]
    return QueryTable(asked, further, {".".join(path): values for path, values in figures.items()})


def _summary(
    prefix: FigurePath, figures: Figures, images: Numbers, seed: int
) -> tuple[dict[FigurePath, Any], dict[FigurePath, list[float]]]:
    """Means and 95 % intervals of figures, and of what codes keep of both floats' map_10, all below a prefix."""
    named = {".".join(path): values for path, values in figures.items()}
    resampled = resampled_means(named, seed=seed, images=images)
    means: dict[FigurePath, Any] = {(*prefix, *path): _rounded(mean(values)) for path, values in figures.items()}
    ends = {
        (*prefix, *path): figure_interval(values, again, images, is_share=not _is_difference(path))
        for (path, values), again in zip(figures.items(), resampled.values(), strict=True)
    }
    for path, base in itertools.product(figures, FLOATS):
        of_float = (*path[:-2], base, path[-1])
        if path[-1] == "map_10" and path[-2].startswith("bits_") and of_float in figures:
            ratio = (*prefix, *path[:-2], f"{path[-2]}_over_{base}")
            whole, part = mean(figures[of_float]), mean(figures[path])
            means[ratio] = _rounded(part / whole) if whole and part is not None else None
            ratios = share(resampled[".".join(path)], resampled[".".join(of_float)])
            ends[ratio] = figure_interval(figures[path], ratios, images, is_share=False)
    rounded = {path: [round(end, _DIGITS) for end in pair] for path, pair in ends.items() if pair is not None}
    return means, rounded


def _is_difference(path: FigurePath) -> bool:
    """Whether a figure's values are losses, which may be gains: all but the end of the funnel."""
    return path[0] == "funnel" and path[-1] != "left"


def _medians(
    figures: Figures, categories: Numbers, images: Numbers, seed: int
) -> tuple[dict[FigurePath, Any], dict[FigurePath, list[float]]]:
    """Of each map_10 the median over categories, and its 95 % interval: what a category in the middle gets."""
    means: dict[FigurePath, Any] = {}
    ends: dict[FigurePath, list[float]] = {}
    for path, values in figures.items():
        if path[-1] == "map_10":
            name = (*path[:-1], "map_10_median_category")
            means[name] = _rounded(category_median(values, categories))
            again = resampled_category_medians(values, categories, seed=seed, images=images)
            pair = figure_interval(values, again, images, is_share=False)
            ends |= {} if pair is None else {name: [round(end, _DIGITS) for end in pair]}
    return means, ends


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
