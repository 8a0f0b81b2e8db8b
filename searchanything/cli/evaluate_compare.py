"""`searchanything eval compare`: is one preset, hash layer or setting better than another on the same queries?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.evaluate_tables import shown_number
from searchanything.cli.options import OutputOptions, expanded, option
from searchanything.cli.session import answer, figure_table, save_where_asked
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


def _folder(metavar: str, help: str) -> Any:  # noqa: ANN401 - as `typer.Argument`
    return typer.Argument(metavar=metavar, exists=True, file_okay=False, help=help, show_default=False)


BeforeFolder = Annotated[Path, _folder("BEFORE", "What an evaluation wrote with --out.")]
AfterFolder = Annotated[Path, _folder("AFTER", "What another one wrote, of the same annotated images.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")]
SavePlot = Annotated[Path | None, option("--save", "FILE", "Draw the differences: FILE.png or FILE.svg.")]


@expanded
def compare(
    before: BeforeFolder, after: AfterFolder, seed: Seed = 0, save: SavePlot = None, *, output: OutputOptions
) -> None:
    """Compare two evaluations of the same annotated images, query by query.

    Each figure's difference has an interval of its own, often narrower than those of the two figures suggest. The
    JSON document has every figure.

    Example: [bold]searchanything eval compare report-small report-base[/bold]
    """
    from searchanything.evaluation.comparing import compare_evaluations
    from searchanything.evaluation.difference_plot import check_plot_path, save_differences
    from searchanything.evaluation.evaluated import Evaluated

    check_plot_path(save)
    report = compare_evaluations(Evaluated.read(before), Evaluated.read(after), seed=seed)
    save_where_asked(save, lambda path: save_differences(report, path))
    answer(report, output.format, lambda: _text(report))


def _text(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from searchanything.evaluation.comparing import differing, shown_figures

    summary = f"{counted(report['queries'], 'query', 'queries')} on {counted(report['images'], 'image')}"
    table = figure_table("figure", "before", "after", "difference", "95 % interval", "better", "worse", "of queries")
    for label, one in shown_figures(report).items():
        counts = [f"{one[which]:,}" for which in ("better", "worse", "queries")]
        means = [shown_number(one["before"]), shown_number(one["after"])]
        same = not one["better"] and not one["worse"]
        difference = ("same", "") if same else (_signed(one["difference"]), _ends(one["ci95"]))
        table.add_row(label, *means, *difference, *counts)
    return Group(Text(summary), Text(differing(report)), table)


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _ends(ends: list[float] | None) -> str:
    return "few images" if ends is None else f"{_signed(ends[0])} … {_signed(ends[1])}"
