"""`searchanything index`: a bucket or folder into the index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.options import Exclude, FormatOption, Include, Preset, Source, Uri, Verbose, patterns_of
from searchanything.cli.progress import indexing_progress
from searchanything.cli.session import answer, session_of

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_FAILURES = 20
HashFile = Annotated[
    Path | None,
    typer.Option(
        "--hash",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Hash layer (safetensors) of a new index, instead of the preset's.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Index unchanged images too.")]


def index(
    context: typer.Context,
    source: Source,
    hash_file: HashFile = None,
    force: Force = False,
    include: Include = None,
    exclude: Exclude = None,
    uri: Uri = None,
    preset: Preset = None,
    format: FormatOption = "text",
    _verbose: Verbose = False,
) -> None:
    """Index the images of a bucket or folder; unchanged ones are passed over.

    One bad image never stops the run: it is reported, and the exit code is 3.

    Examples: [bold]searchanything index s3://holiday/2024/ --preset small[/bold]

    [bold]searchanything index ./images --preset pico --uri trial.db --format json[/bold]
    """
    patterns = patterns_of(include, exclude)
    with session_of(context).client(uri, preset) as client, indexing_progress() as show:
        report = client.index(source, hash_file=hash_file, force=force, patterns=patterns, progress=show)
    document = report.to_dict()
    answer(document, format, lambda: report_text(document))
    if report.failed:
        raise typer.Exit(SOME_IMAGES_FAILED)


def report_text(document: dict[str, Any]) -> RenderableType:
    """An `IndexReport`'s document for people."""
    from rich.text import Text

    images = ", ".join(f"{count:,} {outcome}" for outcome, count in document["images"].items())
    lines = [f"{images}; {document['regions']:,} regions in {document['seconds']:.1f} s"]
    failures = document["failures"]
    lines += [f"failed: {one['key']}: {one['error']}: {one['message']}" for one in failures[:SHOWN_FAILURES]]
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"… and {len(failures) - SHOWN_FAILURES:,} more failures; --format json lists all")
    return Text("\n".join(lines))
