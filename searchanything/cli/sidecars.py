"""`searchanything sidecars`: a COCO file's instances into the sidecars of its images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.options import OutputOptions, PatternOptions, Source, expanded, option
from searchanything.cli.progress import counting
from searchanything.cli.session import answer, first_lines, plain, say, settings_of
from searchanything.core.counting import counted
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.core.settings import Settings

_COUNTED: Final = "written", "unchanged", "regions removed", "without regions", "not found"
Annotations = Annotated[
    Path, typer.Argument(metavar="COCO.json", help="COCO instances, or results of a detector.", show_default=False)
]
ImagesFile = Annotated[
    Path | None,
    option("--annotations", "FILE", "The COCO file that has the images which results name by their ids."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]


@expanded
def sidecars(
    annotations: Annotations,
    source: Source,
    dry_run: DryRun = False,
    *,
    images_file: ImagesFile = None,
    keys: PatternOptions,
    output: OutputOptions,
) -> None:
    """Write the instances of a COCO file as regions into the sidecars of a folder's or bucket's images.

    An image is found by its file_name, or by its end where that is a path or an address. The regions that a sidecar
    has are replaced, those of an image without instances removed; other names in it stay as they are, and one that
    would not change is not written. Results say nothing of images that they do not name. The exit code is 3 if
    something was left out, or no region is in a sidecar in the end.

    Examples: [bold]searchanything sidecars instances.json images --dry-run[/bold]

    [bold]searchanything sidecars labels.json s3://holiday/2024/[/bold]

    [bold]searchanything sidecars results.json val2017 --annotations instances_val2017.json[/bold]
    """
    from searchanything import wiring
    from searchanything.images.coco_regions import read_coco_regions

    settings = settings_of(None)
    with counting("reading annotations") as show:
        found = read_coco_regions(annotations, show, images_file=images_file)
    with counting("comparing sidecars" if dry_run else "writing sidecars") as show:
        files = replace(wiring.open_sidecar_files(source, settings, keys.patterns()), dry_run=dry_run)
        outcomes = files.write(found.images, threads=settings.ingest.transfer_threads, progress=show)
    counts = Counter(one.outcome for one in outcomes)
    said = [f"{one.name}: {one.problem}" for one in outcomes if one.problem]
    document = {
        "dry_run": dry_run,
        "images": {name: counts[name] for name in _COUNTED},
        "regions": sum(one.regions for one in outcomes),
        "not_found": [one.name for one in outcomes if one.outcome == "not found"],
        "problems": found.left_out + said,
    }
    answer(document, output.format, lambda: _text(document))
    if counts["written"] and not dry_run and (missing := _missing_settings(settings)):
        say(f"they count with: export {missing}")
    if found.left_out or said or not any(one.regions for one in outcomes):
        raise typer.Exit(SOME_IMAGES_FAILED)


def _missing_settings(settings: Settings) -> str:
    """What is still to be set so that `index` takes regions from sidecars."""
    from searchanything.core.settings import ENV_PREFIX

    wanted = []
    if settings.ingest.sidecar_suffix is None:
        wanted.append(f"{ENV_PREFIX}INGEST__SIDECAR_SUFFIX=.json")
    if settings.ingest.regions_from != "sidecar":
        wanted.append(f"{ENV_PREFIX}INGEST__REGIONS_FROM=sidecar")
    return " ".join(wanted)


def _text(document: dict[str, Any]) -> RenderableType:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in document["images"].items())
    before = "nothing is written; would be: " if document["dry_run"] else ""
    lines = [f"{before}{counts}; {counted(document['regions'], 'region')} in sidecars"]
    lines += first_lines([f"left out: {printable(one)}" for one in document["problems"]], "problem")
    lines += first_lines([f"not found: {printable(one)}" for one in document["not_found"]], "image")
    return plain("\n".join(lines))
