"""`searchanything delete`: images out of the index."""

from __future__ import annotations

import typer

from searchanything.cli.options import CommonOptions, Source, expanded
from searchanything.cli.progress import passing_progress
from searchanything.cli.session import answer, client_of, say
from searchanything.core.counting import counted


@expanded
def delete(
    context: typer.Context,
    source: Source,
    *,
    common: CommonOptions,
) -> None:
    """Forget the images of a bucket or folder. The images themselves are not touched.

    Write an object of a bucket as s3://bucket/key, as hits print it. Without s3:// it is taken for a folder's path.

    Example: [bold]searchanything delete s3://holiday/2024/[/bold]
    """
    with client_of(context, common) as client, passing_progress("forgetting") as show:
        deleted = client.delete(source, progress=show)
    if not deleted:
        say(f"no image under {source} is in the index: check how it is spelled")
    answer({"source": source, "deleted": deleted}, common.format, lambda: f"{counted(deleted, 'image')} forgotten")
