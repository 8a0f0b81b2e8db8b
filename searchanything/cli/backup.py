"""`searchanything backup` and `restore`: an index into a file or a bucket, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.progress import passing_progress
from searchanything.cli.session import answer, client_of, plain, say
from searchanything.core.counting import counted

Target = Annotated[
    str, typer.Argument(metavar="FILE|s3://…", help="A new tar file, or s3://bucket/prefix where nothing lies yet.")
]
Source = Annotated[str, typer.Argument(metavar="FILE|s3://…", help="What `searchanything backup` wrote.")]


@expanded
def backup(context: typer.Context, target: Target, *, common: CommonOptions) -> None:
    """Write the index with its hash layer to a file or a bucket; it can stay in use meanwhile.

    Example: [bold]searchanything backup holiday.tar --uri http://milvus:19530[/bold]
    """
    with client_of(context, common) as client, passing_progress("backing up") as show:
        report = client.backup(target, progress=show)
    if report.left_out:
        images = counted(report.left_out, "image")
        say(f"{images} left out: some regions are missing; run sync repair, and back up again")
    text = f"{counted(report.images, 'image')} and {counted(report.regions, 'region')} written to {report.location}"
    answer(asdict(report), common.format, lambda: plain(text))


@expanded
def restore(context: typer.Context, source: Source, *, common: CommonOptions) -> None:
    """Make a new index from a backup, in a file or on a server, no matter where the backup was taken.

    Example: [bold]searchanything restore holiday.tar --uri new.db[/bold]
    """
    with client_of(context, common) as client, passing_progress("restoring") as show:
        report, uri = client.restore(source, progress=show), client.uri
    text = f"{counted(report.images, 'image')} and {counted(report.regions, 'region')} restored to {uri}"
    answer(asdict(report) | {"uri": uri}, common.format, lambda: plain(text))
