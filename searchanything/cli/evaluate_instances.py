"""`searchanything eval instances`: is the very same thing found again, and does that beat a grid of patches?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.evaluate_tables import (
    at,
    check_report_folder,
    failures_shown,
    reading_of,
    save_evaluated,
    shown_ends,
    shown_number,
)
from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.index import HashFile
from searchanything.cli.judged_encoder import judged_encoder
from searchanything.cli.options import OutputOptions, Preset, expanded
from searchanything.cli.progress import evaluation_progress
from searchanything.cli.session import answer, figure_table
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

Images = Annotated[
    Path, typer.Option("--images", metavar="DIR", exists=True, file_okay=False, help="The folder of the images.")
]
Annotations = Annotated[
    Path, typer.Option("--annotations", metavar="FILE", exists=True, dir_okay=False, help="COCO instances, JSON.")
]
Instance = Annotated[
    str, typer.Option("--instance", metavar="KEY", help="The annotations' key that says which thing it is.")
]
Distractors = Annotated[
    Path | None,
    typer.Option(
        "--distractors",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Further images that show none of the instances, searched among.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of ties and the bootstrap.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FOLDER", file_okay=False, help="Where report.json and queries.csv go.", show_default=False
    ),
]
_FIGURES = {
    "map_10": "mAP@10",
    "map_100": "mAP@100",
    "precision_1": "precision@1",
    "recall_10": "recall@10",
    "located_map_10": "mAP@10, region on the instance",
}


@expanded
def instances(
    images: Images,
    annotations: Annotations,
    instance: Instance = "instance_id",
    distractors: Distractors = None,
    seed: Seed = 0,
    out: Out = None,
    hash_file: HashFile = None,
    preset: Preset = None,
    *,
    output: OutputOptions,
) -> None:
    """Evaluate finding the very same thing again: by region, and by a grid of patches for comparison.

    Example: [bold]searchanything eval instances --images ilias --annotations ilias.json --distractors others[/bold]
    """
    from searchanything.core.settings import load_settings
    from searchanything.evaluation.coco import read_coco
    from searchanything.evaluation.instances import evaluate_instances

    settings = load_settings()
    check_report_folder(out)
    truth = read_coco(annotations, category=instance)
    with contextlib.redirect_stdout(sys.stderr), evaluation_progress() as show:
        encoder = judged_encoder(preset, hash_file, settings)
        reading = reading_of(settings.ingest)
        evaluated = evaluate_instances(truth, (images, distractors), encoder, reading=reading, seed=seed, progress=show)
        report = {"preset": preset or settings.models.preset, "instance": instance, **evaluated.report}
        save_evaluated(replace(evaluated, report=report), out)
    answer(report, output.format, lambda: _text(report))
    if report["failures"]:
        raise typer.Exit(SOME_IMAGES_FAILED)


def _text(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    counts = report["dataset"]
    summary = (
        f"{counted(counts['images'], 'image')}, {counted(counts['distractors'], 'distractor')}, "
        f"{counted(counts['queries'], 'query', 'queries')} for {counted(counts['instances'], 'instance')}, "
        f"{counts['answerable']:,} with another image to find; {counted(counts['indexed_regions'], 'region')} and "
        f"{counted(counts['indexed_grid'], 'patch', 'patches')} to search among"
    )
    table = figure_table("figure", "regions", "95 % interval", "grid of patches", "regions less grid", "95 % interval")
    bits = f"bits_{report['bits']}"
    for space in ("float", bits, f"{bits}_rescored"):
        for name, label in _FIGURES.items():
            paths = [f"{part}.{space}.{name}" for part in ("regions", "grid", "regions_less_grid")]
            regions, grid, less = (shown_number(at(report, path)) for path in paths)
            head = f"{label}, {space.replace('_', ' ')}"
            table.add_row(head, regions, shown_ends(report, paths[0]), grid, less, shown_ends(report, paths[2]))
    return Group(Text(summary), table, *map(Text, failures_shown(report["failures"])))
