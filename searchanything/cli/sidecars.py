"""`searchanything sidecars`: a COCO file's instances into the sidecars of its images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.options import OutputOptions, PatternOptions, Source, expanded
from searchanything.cli.progress import counting
from searchanything.cli.session import answer, first_lines, plain, say, settings_of
from searchanything.core.counting import counted
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.core.settings import Settings

Annotations = Annotated[
    Path, typer.Argument(metavar="COCO.json", help="COCO instances, or results with file names.", show_default=False)
]


@expanded
def sidecars(annotations: Annotations, source: Source, *, keys: PatternOptions, output: OutputOptions) -> None:
    """Write the instances of a COCO file as regions into the sidecars of a folder's or bucket's images.

    An image is found by its file_name, or by its end where that is a path or an address. Other names in a sidecar
    stay as they are; one that would not change is not written. The exit code is 3 if something was left out, or no
    image was found.

    Examples: [bold]searchanything sidecars instances.json images[/bold]

    [bold]searchanything sidecars labels.json s3://holiday/2024/[/bold]
    """
    from searchanything import wiring
    from searchanything.images.coco_regions import read_coco_regions

    settings = settings_of(None)
    found = read_coco_regions(annotations)
    with counting("writing sidecars") as show:
        files = wiring.open_sidecar_files(source, settings, keys.patterns())
        outcomes = files.write(found.images, threads=settings.ingest.transfer_threads, progress=show)
    counts = Counter(one.outcome for one in outcomes)
    said = [f"{one.name}: {one.problem}" for one in outcomes if one.problem]
    document = {
        "images": {name: counts[name] for name in ("written", "unchanged", "without regions", "not found")},
        "regions": sum(one.regions for one in outcomes),
        "not_found": [one.name for one in outcomes if one.outcome == "not found"],
        "problems": found.left_out + said,
    }
    answer(document, output.format, lambda: _text(document))
    if counts["written"] and (missing := _missing_settings(settings)):
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
    lines = [f"{counts}; {counted(document['regions'], 'region')} in sidecars"]
    lines += first_lines([f"left out: {printable(one)}" for one in document["problems"]], "problem")
    lines += first_lines([f"not found: {printable(one)}" for one in document["not_found"]], "image")
    return plain("\n".join(lines))
