"""`searchanything failed list|retry|drop`: the images that could not be indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.index import report_text
from searchanything.cli.moments import utc_text
from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.progress import indexing_progress, passing_progress
from searchanything.cli.session import answer, client_of, plain
from searchanything.core.counting import counted
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.ingest.reports import FailedImage

OptionalSource = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE]", help="s3://bucket/prefix, or a folder; by default all sources.", show_default=False
    ),
]
EmptyOnes = Annotated[
    bool, typer.Option("--empty", help="List instead the images that were indexed, but have no region.")
]
app = typer.Typer(help="List, try again or forget the images that could not be indexed.", no_args_is_help=True)


@app.command("list")
@expanded
def list_failed(
    context: typer.Context,
    source: OptionalSource = None,
    empty: EmptyOnes = False,
    *,
    common: CommonOptions,
) -> None:
    """List the images that failed, why, how often, and when first and last.

    Examples: [bold]searchanything failed list s3://holiday/ --format json[/bold]

    [bold]searchanything failed list --empty[/bold]
    """
    with client_of(context, common) as client:
        images = client.empty_images(source) if empty else []
        failed = [] if empty else client.failures(source)
    if empty:
        document = {"empty": [{"bucket": one.bucket, "key": one.key} for one in images]}
        answer(document, common.format, lambda: plain("\n".join(map(str, images)) or "no empty images"))
        return
    answer({"failed": [one.to_dict() for one in failed]}, common.format, lambda: _text(failed))


@app.command("retry")
@expanded
def retry(
    context: typer.Context,
    source: OptionalSource = None,
    *,
    common: CommonOptions,
) -> None:
    """Try the failed images again, including those that are no longer retried automatically.

    Example: [bold]searchanything failed retry s3://holiday/[/bold]
    """
    with client_of(context, common) as client, indexing_progress("retrying") as show:
        report = client.retry_failed(source, progress=show)
    document = report.to_dict()
    answer(document, common.format, lambda: report_text(document))
    if report.failed:
        raise typer.Exit(SOME_IMAGES_FAILED)


@app.command("drop")
@expanded
def drop(
    context: typer.Context,
    source: OptionalSource = None,
    *,
    common: CommonOptions,
) -> None:
    """Forget the failures. The images are not touched: as long as they exist, a sync reports them as missing.

    Example: [bold]searchanything failed drop s3://holiday/[/bold]
    """
    with client_of(context, common) as client, passing_progress("forgetting") as show:
        dropped = client.drop_failed(source, progress=show)
    answer({"source": source, "dropped": dropped}, common.format, lambda: f"{counted(dropped, 'failure')} forgotten")


def _text(failed: list[FailedImage]) -> RenderableType:
    lines = [
        f"{one.image}: {one.error}: {printable(one.message)} ({counted(one.attempts, 'attempt')}, "
        f"{_time(one.first_at_ms)} to {_time(one.last_at_ms)}{'; exhausted' if one.exhausted else ''})"
        for one in failed
    ]
    return plain("\n".join(lines) or "no failures")


def _time(at_ms: int) -> str:
    return utc_text(at_ms, "%Y-%m-%d %H:%M:%S+00:00")
