"""`searchanything sync check|repair`: where listing and index differ, and making them agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.index import held_lines, skipped_lines, warning_lines
from searchanything.cli.no_images import no_images_text
from searchanything.cli.options import CommonOptions, PatternOptions, Source, expanded
from searchanything.cli.progress import indexing_progress
from searchanything.cli.session import answer, client_of, first_lines, plain, say
from searchanything.core.counting import counted
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.ingest.reports import SyncReport

HEADINGS = ("missing", "stale", "orphaned", "failed")
Forget = Annotated[
    bool,
    typer.Option("--forget", help="Forget all images that are gone, even if they would be held back."),
]
app = typer.Typer(help="Compare a bucket's listing with the index, and repair what differs.", no_args_is_help=True)


@app.command("check")
@expanded
def check(
    context: typer.Context,
    source: Source,
    *,
    keys: PatternOptions,
    common: CommonOptions,
) -> None:
    """List the images that are missing in the index, stale, orphaned or known to fail. Changes nothing.

    The exit code is 0 whether or not they differ, and 3 if there are known failures, a place cannot be listed, so
    many images are gone that a repair would hold them back, or there is no image under the source at all.

    Example: [bold]searchanything sync check s3://holiday/2024/ --format json[/bold]
    """
    with client_of(context, common) as client, indexing_progress("checking") as show:
        report = client.sync(source, patterns=keys.patterns(), progress=show)
    document = report.to_dict()
    answer(document, common.format, lambda: _text(document))
    if nothing := _says_nothing(source, report):
        say(nothing)
    if report.failed or report.unlisted or report.held or nothing:
        raise typer.Exit(SOME_IMAGES_FAILED)


@app.command("repair")
@expanded
def repair(
    context: typer.Context,
    source: Source,
    keys: PatternOptions,
    forget: Forget = False,
    *,
    common: CommonOptions,
) -> None:
    """Index what is missing or stale, forget what is orphaned, try failures again, and delete leftover rows.

    If very many images are gone, or all of them, none is forgotten: an unmounted disk looks the same. They are held
    back until --forget confirms the deletion, or a later repair still misses them (ingest.forget_after_s).

    The answer lists what differed before. The exit code is 3 if images failed or were held back, a place could not be
    listed, or there is no image under the source.

    Examples: [bold]searchanything sync repair s3://holiday/2024/[/bold]

    [bold]searchanything sync repair s3://holiday/2024/ --forget[/bold]
    """
    with client_of(context, common) as client, indexing_progress("repairing") as show:
        report = client.sync(source, repair=True, forget=forget, patterns=keys.patterns(), progress=show)
    document = report.to_dict()
    answer(document, common.format, lambda: _text(document))
    repaired = report.repaired
    if nothing := _says_nothing(source, report):
        say(nothing)
    if nothing or report.unlisted or report.held or (repaired is not None and (repaired.failed or repaired.exhausted)):
        raise typer.Exit(SOME_IMAGES_FAILED)


def _says_nothing(source: str, report: SyncReport) -> str:
    """What to say where neither the listing nor the index has an image there; empty where one has."""
    if report.found_nothing:
        return f"nothing under {source}, neither in the listing nor in the index; check how it is spelled"
    if report.found_no_image:
        skipped = [one.to_dict() for one in report.skips]
        return no_images_text(source, skipped, total=sum(one.count for one in report.skips))
    return ""


def _text(document: dict[str, Any]) -> RenderableType:
    from searchanything.ingest.reports import images_are

    counts = ", ".join(f"{len(document[heading]):,} {heading}" for heading in HEADINGS)
    held = frozenset(document["held"])  # they are orphaned, too, and have lines of their own below
    counts += f", {len(held):,} of the orphaned held back" if held else ""
    lines = [f"{counted(document['checked'], 'image')} checked in {document['seconds']:.1f} s: {counts}"]
    for heading in HEADINGS:
        keys = [key for key in document[heading] if heading != "orphaned" or key not in held]
        said = f"more {heading}"
        lines += first_lines([f"{heading}: {printable(key)}" for key in keys], said, said)
    unlisted = document["unlisted"]
    lines += first_lines([printable(f"not listed: {one['key']}: {one['message']}") for one in unlisted], "more place")
    lines += held_lines(document["held"])
    if lost := document["lost"]:
        cure = "their images were indexed again" if "repaired" in document else "sync repair indexes their images again"
        lines.append(f"lost: {counted(lost, 'region')} had no row in the index; {cure}")
    lines += skipped_lines(document["skipped"]) + warning_lines(document["warnings"])
    if "repaired" in document:
        images = document["repaired"]["images"]
        lines.append(
            f"repaired: {images['indexed'] + images['empty']:,} indexed, {document['repaired']['deleted']:,} "
            f"forgotten, {images['failed']:,} failed; garbage of {counted(document['garbage'], 'image')} deleted"
        )
        if gone := document["repaired"]["gone"]:
            lines.append(f"gone: {images_are(gone)} no longer there since the listing; the next sync decides on them")
    return plain("\n".join(lines))
