"""`searchanything eval compare`: is one preset, hash layer or setting better than another on the same queries?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.evaluate_tables import shown_number
from searchanything.cli.options import OutputOptions, expanded
from searchanything.cli.session import answer, figure_table
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


def _folder(metavar: str, help: str) -> Any:  # noqa: ANN401 - as `typer.Argument`
    return typer.Argument(metavar=metavar, exists=True, file_okay=False, help=help, show_default=False)


BeforeFolder = Annotated[Path, _folder("BEFORE", "What an evaluation wrote with --out.")]
AfterFolder = Annotated[Path, _folder("AFTER", "What another one wrote, of the same annotated images.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")]

_SPACES = {
    "float": "float",
    "float_weighted": "float, weighted as the hash",
    "codes": "codes",
    "codes_rescored": "codes rescored",
}
_FIGURES = {
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
    **{f"regions.{space}.map_10": f"mAP@10 {label}" for space, label in _SPACES.items()},
    "regions.codes_rescored.precision_1": "precision@1 codes rescored",
    "regions.codes_rescored.located_map_10": "mAP@10 codes rescored, region on the instance",
    "grid.codes_rescored.map_10": "mAP@10 codes rescored, grid of patches",
}


@expanded
def compare(before: BeforeFolder, after: AfterFolder, seed: Seed = 0, *, output: OutputOptions) -> None:
    """Compare two evaluations of the same annotated images, query by query.

    Each figure's difference has an interval of its own, which is narrower than those of the two figures suggest. The
    JSON document has every figure.

    Example: [bold]searchanything eval compare report-small report-base[/bold]
    """
    from searchanything.evaluation.comparing import compare_evaluations
    from searchanything.evaluation.evaluated import Evaluated

    report = compare_evaluations(Evaluated.read(before), Evaluated.read(after), seed=seed)
    answer(report, output.format, lambda: _text(report))


def _text(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    summary = f"{counted(report['queries'], 'query', 'queries')} on {counted(report['images'], 'image')}"
    table = figure_table("figure", "before", "after", "difference", "95 % interval", "better", "worse", "of queries")
    for name, label in _FIGURES.items():
        one = report["figures"].get(name)
        if one is not None and one["queries"]:
            counts = [f"{one[which]:,}" for which in ("better", "worse", "queries")]
            means = [shown_number(one["before"]), shown_number(one["after"])]
            table.add_row(label, *means, _signed(one["difference"]), _ends(one["ci95"]), *counts)
    return Group(Text(summary), Text(_differing(report)), table)


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _ends(ends: list[float] | None) -> str:
    return "" if ends is None else f"{_signed(ends[0])} … {_signed(ends[1])}"


def _differing(report: Mapping[str, Any]) -> str:
    """What the two evaluations did not have in common, as far as they say."""
    before, after = report["before"], report["after"]
    names = [name for name in before if before[name] != after.get(name)]
    differing = (f"{name.replace('_', ' ')} {before[name]} → {after.get(name)}" for name in names)
    return "; ".join(differing) or "the same preset, hash layer and regions"
