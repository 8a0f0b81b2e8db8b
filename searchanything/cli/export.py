"""`searchanything export`: regions, masks and codes into a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from searchanything.cli.options import CommonOptions, expanded, option
from searchanything.cli.progress import passing_progress
from searchanything.cli.session import answer, client_of, plain, say
from searchanything.core.counting import counted

Destination = Annotated[
    Path, typer.Argument(metavar="FILE", help="COCO instances (.json), or a row per region (.parquet).")
]
BucketOption = Annotated[str | None, option("--bucket", "NAME", "Only this bucket, or folder's absolute path.")]
KeyPrefixOption = Annotated[
    str, typer.Option("--key-prefix", metavar="TEXT", help="Only keys that begin with TEXT.", show_default=False)
]


@expanded
def export(
    context: typer.Context,
    destination: Destination,
    bucket: BucketOption = None,
    key_prefix: KeyPrefixOption = "",
    *,
    common: CommonOptions,
) -> None:
    """Write the index's regions, masks and codes as COCO JSON or Parquet.

    Example: [bold]searchanything export regions.parquet --bucket holiday --key-prefix 2024/[/bold]
    """
    from searchanything.search.export import check_export_path

    check_export_path(destination)
    with client_of(context, common) as client, passing_progress("exporting") as show:
        written = client.export(destination, bucket=bucket, key_prefix=key_prefix, progress=show)
    if not written and (bucket or key_prefix):
        say("no region in the index lies there; if there should be some, check --bucket and --key-prefix")
    document = {"file": str(destination), "regions": written}
    answer(document, common.format, lambda: plain(f"{counted(written, 'region')} written to {destination}"))
