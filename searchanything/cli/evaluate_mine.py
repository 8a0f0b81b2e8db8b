"""`searchanything eval mine`: does an index recognise its own regions in altered copies? No labels are needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.evaluate_tables import at, failures_shown, shown_ends, shown_number
from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.progress import evaluation_progress
from searchanything.cli.session import answer, client_of, figure_table
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

OptionalSource = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE]", help="s3://bucket/prefix, or a folder, that was indexed; default: all.", show_default=False
    ),
]
Regions = Annotated[int, typer.Option("--regions", metavar="N", min=1, help="How many regions to try, about.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw and of the bootstrap.")]


@expanded
def mine(
    context: typer.Context,
    source: OptionalSource = None,
    regions: Regions = 200,
    seed: Seed = 0,
    *,
    common: CommonOptions,
) -> None:
    """Measure how often altered copies of indexed regions find their own region: on your images, without labels.

    Regions are drawn from the index, their images read, altered, and asked about by box. `status` quotes the last
    measurement of everything.

    Example: [bold]searchanything eval mine s3://holiday --regions 500[/bold]
    """
    from searchanything import wiring
    from searchanything.core.settings import load_settings
    from searchanything.evaluation.mine import MineOptions, evaluate_mine

    bucket, prefix = (None, "") if source is None else wiring.place_of(source)
    rescore = load_settings().search.rescore
    options = MineOptions(regions=regions, seed=seed, bucket=bucket, key_prefix=prefix, rescore=rescore)
    with client_of(context, common) as client, evaluation_progress() as show:
        report = {"source": source, **evaluate_mine(client.operations.search_context(), options, progress=show)}
        if source is None:
            _keep(client, report)
    answer(report, common.format, lambda: _text(report))
    if report["failures"]:
        raise typer.Exit(SOME_IMAGES_FAILED)


def _keep(client: Any, report: Mapping[str, Any]) -> None:  # noqa: ANN401 - a Client, whose module is not loaded here
    from searchanything.client.consistency import Consistency

    kept = ("fingerprint", "recall_1", "recall_10", "regions", "among_regions")
    measured = Consistency(**{name: report[name] for name in kept}, measured_at_ms=time.time_ns() // 1_000_000)
    client.operations.keep_consistency(measured)


def _text(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    summary = (
        f"{counted(report['regions'], 'region')} of {counted(report['images'], 'image')} tried, among "
        f"{counted(report['among_regions'], 'indexed region')}"
    )
    table = figure_table(
        "copies", "found first", "95 % interval", "among 10", "95 % interval", "box selects it", "bits"
    )
    rows = {"all": "", **{f"{name} regions": f"by_size.{name}." for name in report["by_size"]}}
    rows |= {f"{name} copies": f"by_copy.{name}." for name in report["by_copy"]}
    for label, prefix in rows.items():
        first, ten, selected, bits = (
            at(report, f"{prefix}{name}") for name in ("recall_1", "recall_10", "selected", "median_bits")
        )
        if first is None:
            continue
        table.add_row(
            label,
            shown_number(first),
            shown_ends(report, f"{prefix}recall_1"),
            shown_number(ten),
            shown_ends(report, f"{prefix}recall_10"),
            shown_number(selected),
            "" if bits is None else f"{bits:g}",
        )
    return Group(Text(summary), table, *map(Text, failures_shown(report["failures"])))
