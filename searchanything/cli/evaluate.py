"""`searchanything eval`: how good a preset and a hash layer are on annotated images."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from searchanything.cli.evaluate_compare import compare
from searchanything.cli.evaluate_instances import Annotations, Images, instances
from searchanything.cli.evaluate_mine import mine
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
from searchanything.cli.options import OutputOptions, Preset, expanded, option
from searchanything.cli.progress import evaluation_progress
from searchanything.cli.session import answer, figure_table
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from searchanything.evaluation.running import EvaluationOptions
    from searchanything.evaluation.truth import Truth

app = typer.Typer(help="Measure models on annotated images, and your index without labels.", rich_markup_mode="rich")

Root = Annotated[Path, typer.Option("--root", metavar="DIR", exists=True, file_okay=False, help="The folder VOC2012.")]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="A list in ImageSets/Segmentation.")]
Category = Annotated[str | None, option("--category", "KEY", "The annotations' key that holds the category.")]
GroupBy = Annotated[list[str] | None, option("--group-by", "KEY", "Report by each value of this key; repeatable.")]
Other = Annotated[
    str | None,
    option("--other", "KEY", "Also report how well hits with another value of this key than the query's are found."),
]
Ablations = Annotated[
    bool, typer.Option("--ablations/--no-ablations", help="Also try other crops, features and region policies: slower.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit-images", metavar="N", min=1, help="Use N of the images, drawn by --seed.", show_default=False
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of draws, ties and the bootstrap.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        file_okay=False,
        help="Where report.json, queries.csv, figures.png and figures.svg go.",
        show_default=False,
    ),
]
Crops = Annotated[
    Literal["paper", "masked", "context", "box"] | None,
    typer.Option("--crops", help="Show regions by another policy than the preset's.", show_default=False),
]
_FIGURES = (
    ("recall at IoU 0.5", "segmentation.recall_iou50"),
    ("recall at IoU 0.75", "segmentation.recall_iou75"),
    ("box prompt", "prompts.box"),
    ("point prompt", "prompts.point"),
    ("… or its runner-up", "clicks.second"),
    ("text prompt", "prompts.text"),
    ("one of {words} words", "prompts.naming"),
    ("mAP@10 float", "retrieval.float.map_10"),
    ("mAP@10 float, weighted as the hash", "retrieval.float_weighted.map_10"),
    ("mAP@10 {bits} bit", "retrieval.bits_{bits}.map_10"),
    ("… of the median category", "retrieval.bits_{bits}.map_10_median_category"),
    ("mAP@10 {bits} bit rescored", "retrieval.bits_{bits}_rescored.map_10"),
    ("… over float", "retrieval.bits_{bits}_rescored_over_float"),
    ("… over weighted float", "retrieval.bits_{bits}_rescored_over_float_weighted"),
    ("mAP@10, other {other}, {bits} bit", "retrieval_other.bits_{bits}.map_10"),
    ("precision@1 {bits} bit", "retrieval.bits_{bits}.precision_1"),
    ("recall@10 {bits} bit", "retrieval.bits_{bits}.recall_10"),
)
_FUNNEL = {
    "not_segmented": "no region on the object",
    "not_kept": "region not kept",
    "float": "float ranking",
    "hash": "hash",
    "left": "left: mAP@10 by code",
}


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What to measure with what, and where the report goes."""

    category: Category = None
    group_by: GroupBy = None
    other: Other = None
    limit_images: Limit = None
    ablations: Ablations = True
    seed: Seed = 0
    out: Out = None
    crops: Crops = None
    hash_file: HashFile = None
    preset: Preset = None

    def evaluation(self) -> EvaluationOptions:
        """With the settings' batches and limits."""
        from searchanything.core.settings import load_settings
        from searchanything.evaluation.running import EvaluationOptions

        ingest = load_settings().ingest
        return EvaluationOptions(
            group_by=tuple(self.group_by or ()),
            other=self.other,
            ablations=self.ablations,
            seed=self.seed,
            reading=reading_of(ingest),
        )


@app.command("coco")
@expanded
def coco(
    images: Images,
    annotations: Annotations,
    *,
    wanted: EvaluateOptions,
    output: OutputOptions,
) -> None:
    """Evaluate on COCO instance annotations: every instance is a query by its box.

    Example: [bold]searchanything eval coco --images val2017 --annotations instances_val2017.json --preset small[/bold]
    """
    from searchanything.evaluation.coco import read_coco

    options = wanted.evaluation()
    truth = read_coco(annotations, category=wanted.category, attributes=options.attributes)
    _evaluate(truth, images, options, wanted, output)


@app.command("voc")
@expanded
def voc(
    root: Root,
    split: Split = "val",
    *,
    wanted: EvaluateOptions,
    output: OutputOptions,
) -> None:
    """Evaluate on Pascal VOC 2012's segmentation annotations.

    Example: [bold]searchanything eval voc --root VOCdevkit/VOC2012 --preset small --out report[/bold]
    """
    from searchanything.evaluation.voc import read_voc

    options = wanted.evaluation()
    truth = read_voc(
        root,
        split=split,
        category=wanted.category,
        attributes=options.attributes,
        max_pixels=options.reading.max_pixels,
    )
    _evaluate(truth, root, options, wanted, output)


def _evaluate(
    truth: Truth, folder: Path, options: EvaluationOptions, wanted: EvaluateOptions, output: OutputOptions
) -> None:
    from searchanything.core.settings import load_settings
    from searchanything.evaluation.plots import draw
    from searchanything.evaluation.running import evaluate

    settings = load_settings()
    check_report_folder(wanted.out)
    sample = truth.sample(wanted.limit_images, seed=wanted.seed)
    with contextlib.redirect_stdout(sys.stderr), evaluation_progress() as show:
        encoder = judged_encoder(wanted.preset, wanted.hash_file, settings, wanted.crops)
        evaluated = evaluate(sample, folder, encoder, options, progress=show)
        report = {"preset": wanted.preset or settings.models.preset, **evaluated.report}
        save_evaluated(replace(evaluated, report=report), wanted.out, draw=draw)
    answer(report, output.format, lambda: _text(report))
    if report["failures"]:
        raise typer.Exit(SOME_IMAGES_FAILED)


def _text(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    counts, failures = report["dataset"], report["failures"]
    summary = (
        f"{counted(counts['images'], 'image')}, {counted(counts['instances'], 'instance')} of "
        f"{counted(counts['categories'], 'category', 'categories')}, "
        f"{counts['answerable']:,} with another one to find; {counted(counts['indexed_regions'], 'indexed region')}, "
        f"{counts['indexed_regions_on_instances']:,} on an instance"
    )
    tables = [_figures_table(report), _funnel_table(report)]
    if report["ablations"]:
        tables.append(_ablations_table(report))
    return Group(Text(summary), *tables, *map(Text, failures_shown(failures)))


def _figures_table(report: Mapping[str, Any]) -> Table:
    parts = [*report["by_size"].items()]
    parts += [(f"{name}={level}", part) for name, of in report.get("groups", {}).items() for level, part in of.items()]
    table = figure_table("figure", "all", "95 % interval", *(name for name, _ in parts))
    names = {"words": report["candidate_words"], "bits": report["bits"], "other": report["other_attribute"]}
    for label, template in _FIGURES:
        path = template.format(**names)
        if at(report, path) is not None:
            shown = [shown_number(at(part, path)) for _, part in parts]
            table.add_row(label.format(**names), shown_number(at(report, path)), shown_ends(report, path), *shown)
    return table


def _funnel_table(report: Mapping[str, Any]) -> Table:
    table = figure_table("where mAP@10 is lost", "mAP@10", "95 % interval")
    for name, label in _FUNNEL.items():
        path = f"funnel.{name}"
        table.add_row(label, shown_number(at(report, path)), shown_ends(report, path))
    return table


def _ablations_table(report: Mapping[str, Any]) -> Table:
    bits = f"bits_{report['bits']}"
    table = figure_table("ablation", "mAP@10 float", f"mAP@10 {report['bits']} bit", "bytes per image", "found per KiB")
    of_policies = {f"{name} regions": part for name, part in report["ablations"]["policies"].items()}
    others = {name: part for name, part in report["ablations"].items() if name != "policies"}
    for name, part in {"as shipped": report["retrieval"], **others, **of_policies}.items():
        shown = [shown_number(at(part, f"{space}.map_10")) for space in ("float", bits)]
        stored = part.get("stored_bytes_per_image")
        size = "–" if stored is None else f"{stored:,.0f}"
        table.add_row(name.replace("_", " "), *shown, size, shown_number(part.get("instances_indexed_per_kib")))
    return table


app.command("compare")(compare)
app.command("instances")(instances)
app.command("mine")(mine)
