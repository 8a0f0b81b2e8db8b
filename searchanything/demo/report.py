"""The figures of the demo: trials → `report.json`."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from statistics import fmean, median
from typing import Any, Final

from searchanything.core.settings import Settings
from searchanything.core.types import SizeClass, size_class_of
from searchanything.demo.examiner import Examiner
from searchanything.demo.judging import AMONG_FIRST, RIGHT_IOU, Share, TrueScene
from searchanything.demo.questions import KINDS, QuestionKind
from searchanything.demo.trials import Trial
from searchanything.ingest.reports import IndexReport

_DIGITS: Final = 4
_PACKAGES: Final = ("torch", "torchvision", "open_clip_torch", "pymilvus", "milvus-lite")


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """All trials, and the control's outcomes in the same order: one per shuffle."""

    scenes: Sequence[TrueScene]
    examiner: Examiner
    trials: Sequence[Trial]
    shuffled: Sequence[Sequence[bool]]

    @property
    def kinds(self) -> list[KindFigures]:
        """The figures of each kind that was asked."""
        pairs = list(zip(self.trials, self.shuffled, strict=True))
        figures = []
        for kind in KINDS:
            of_kind = [pair for pair in pairs if pair[0].question.kind == kind]
            if of_kind:
                figures.append(_figures(kind, [one for one, _ in of_kind], [outcomes for _, outcomes in of_kind]))
        return figures


@dataclass(frozen=True, slots=True, eq=False)
class KindFigures:
    """How the questions of one kind came out.

    `hits` counts questions with a right hit among the first five; `seen` and `zero_shot` are its parts by whether the
    models were trained on the concept. `selected` counts prompts that chose what was meant, `hits_if_selected` the hits
    among those. `first` counts questions whose nearest hit is right. `chance` is what blind drawing would give,
    `shuffled` what the control gave.
    """

    kind: QuestionKind
    hits: Share
    seen: Share
    zero_shot: Share
    first: Share
    selected: Share
    hits_if_selected: Share
    chance: float
    shuffled: Share
    example: Trial

    def to_dict(self) -> dict[str, Any]:
        """The kind's entry in `report.json`."""
        low, high = self.hits.interval
        return {
            "kind": self.kind,
            "hit_at_5": _rounded(self.hits.value),
            "n": self.hits.count,
            "ci95": [round(low, _DIGITS), round(high, _DIGITS)],
            "chance": round(self.chance, _DIGITS),
            "shuffled_hit_at_5": _rounded(self.shuffled.value),
            "shuffled_n": self.shuffled.count,
            "hit_at_5_seen": _rounded(self.seen.value),
            "n_seen": self.seen.count,
            "hit_at_5_zero_shot": _rounded(self.zero_shot.value),
            "n_zero_shot": self.zero_shot.count,
            "hit_at_1": _rounded(self.first.value),
            "selected_as_meant": _rounded(self.selected.value),
            "hit_at_5_if_selected": _rounded(self.hits_if_selected.value),
            "example": example_of(self.example),
        }


def document_of(answers: Answers, settings: Settings, drawings: Sequence[str], inputs: str) -> dict[str, Any]:
    """`report.json`, but for what one run alone did.

    `drawings` are files beside the report; `inputs` is the digest of what the answers follow from.
    """
    recall = answers.examiner.recall
    return {
        "queries": [one.to_dict() for one in answers.kinds],
        "by_size": _hits_by_size(answers.trials),
        "scenes": {
            "count": len(answers.scenes),
            "objects": recall.count,
            "objects_indexed": recall.right,
            "regions": answers.examiner.regions,
        },
        "judging": {
            "right": "a region of another image that covers an object of the wanted concept with mask IoU ≥ "
            f"{RIGHT_IOU}",
            "right_image": "another image on a crop of the same photograph",
            "chance": f"probability that {AMONG_FIRST} regions (images) drawn blindly from the index hold a right one",
            "shuffled": "the same questions hashed with the columns of the hash layer's weights in random order",
        },
        "timings": {"query_ms": _stage_milliseconds(answers.trials)},
        "environment": _environment(settings),
        "answers": "asked in this run",
        "drawings": list(drawings),
        "inputs": inputs,
    }


def with_run(document: Mapping[str, Any], indexed: IndexReport, seconds: Mapping[str, float]) -> dict[str, Any]:
    """A report with what this run did: its index document, and the seconds of its steps."""
    rest = {name: value for name, value in document.items() if name != "index"}
    return {"index": indexed.to_dict(), **rest, "timings": {**document["timings"], "seconds": dict(seconds)}}


def _hits_by_size(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """hit@5 of the questions about objects, by the size class of the object's box."""
    table = {}
    for size in SizeClass:
        of_size = [one for one in trials if one.question.wanted and size_class_of(one.question.wanted.box_xyxy) is size]
        share = Share.of([one.found for one in of_size])
        selected = Share.of([one.selected for one in of_size])
        table[size.value] = {
            "hit_at_5": _rounded(share.value),
            "n": share.count,
            "selected_as_meant": _rounded(selected.value),
        }
    return table


def examples_of(trials: Sequence[Trial], kind: QuestionKind) -> list[Trial]:
    """Trials of a kind to show: one that found a seen concept, one that found a zero-shot one, one that failed."""
    of_kind = [one for one in trials if one.question.kind == kind]
    found = [one for one in of_kind if one.found and one.selected]
    zero_shot = [one for one in found if one.question.wanted and one.question.wanted.zero_shot]
    groups = [
        [one for one in found if one not in zero_shot],
        zero_shot,
        [one for one in of_kind if not one.found],
    ]
    # The kinds ask about the same objects: each takes another one, so that they don't all show the same.
    place = KINDS.index(kind)
    return [group[place * len(group) // len(KINDS)] for group in groups if group] or of_kind[:1]


def example_of(trial: Trial) -> dict[str, Any]:
    """A trial as `report.json` shows it."""
    wanted = trial.question.wanted
    hits = [dict(hit) | {"right": right} for hit, right in zip(trial.document["hits"], trial.right, strict=True)]
    return {
        "image": trial.question.scene.key,
        "prompt": trial.document["prompt"],
        "concept": wanted.concept if wanted else None,
        "selection": trial.document["selection"],
        "hits": hits,
    }


def _stage_milliseconds(trials: Sequence[Trial]) -> dict[str, float]:
    """Median milliseconds of each stage of a query; loading the models is none."""
    spent: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        for stage, value in trial.document["timings_ms"].items():
            spent[stage].append(value)
    return {stage: round(median(values), 2) for stage, values in spent.items() if stage != "load_models"}


def _environment(settings: Settings) -> dict[str, str | int]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "device": settings.models.device,
        "preset": settings.models.preset or "",
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _figures(kind: QuestionKind, trials: Sequence[Trial], shuffled: Sequence[Sequence[bool]]) -> KindFigures:
    by_training: dict[bool, list[bool]] = {False: [], True: []}
    for trial in trials:
        if trial.question.wanted is not None:
            by_training[trial.question.wanted.zero_shot].append(trial.found)
    return KindFigures(
        kind=kind,
        hits=Share.of([one.found for one in trials]),
        seen=Share.of(by_training[False]),
        zero_shot=Share.of(by_training[True]),
        first=Share.of([any(one.right[:1]) for one in trials]),
        selected=Share.of([one.selected for one in trials]),
        hits_if_selected=Share.of([one.found for one in trials if one.selected]),
        chance=fmean(one.chance for one in trials),
        shuffled=Share.of([outcome for outcomes in shuffled for outcome in outcomes]),
        example=examples_of(trials, kind)[0],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
