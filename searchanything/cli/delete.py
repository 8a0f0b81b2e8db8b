"""`searchanything delete`: images out of the index."""

from __future__ import annotations

import typer

from searchanything.cli.options import FormatOption, Preset, Source, Uri, Verbose
from searchanything.cli.session import answer, session_of


def delete(
    context: typer.Context,
    source: Source,
    uri: Uri = None,
    preset: Preset = None,
    format: FormatOption = "text",
    _verbose: Verbose = False,
) -> None:
    """Forget the images of a bucket or folder. The images themselves are not touched.

    Example: [bold]searchanything delete s3://holiday/2024/[/bold]
    """
    with session_of(context).client(uri, preset) as client:
        deleted = client.delete(source)
    noun = "image" if deleted == 1 else "images"
    answer({"source": source, "deleted": deleted}, format, lambda: f"{deleted:,} {noun} forgotten")
