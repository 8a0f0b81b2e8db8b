"""`searchanything tune`: which approximate index, with which parameters, suits the codes of this index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.progress import passing_progress
from searchanything.cli.session import answer, client_of

if TYPE_CHECKING:
    from rich.console import RenderableType

Recall = Annotated[
    float, typer.Option("--recall", metavar="SHARE", min=0.01, max=1, help="Share of the true hits to be found.")
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, max=1000, help="Hits per query.")]
MostCodes = Annotated[int, typer.Option("--codes", metavar="N", min=1000, help="How many of the index's codes to try.")]


@expanded
def tune(
    context: typer.Context,
    recall: Recall = 0.95,
    top: Top = 100,
    codes: MostCodes = 1_000_000,
    *,
    common: CommonOptions,
) -> None:
    """Find the parameters of an approximate index that reach a recall on the index's own codes.

    No model is loaded and nothing is changed. The milliseconds are those of faiss on this machine, without Milvus' own.

    Example: [bold]searchanything tune --recall 0.98[/bold]
    """
    with client_of(context, common) as client, passing_progress("tuning") as show:
        document = client.operations.tune(recall=recall, top=top, codes=codes, progress=show)
    answer(document, common.format, lambda: _text(document))


def _text(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("index type", "settings", "recall", "ms per query"):
        table.add_column(name)
    for one in document["trials"]:
        settings = ", ".join(f"{name} {value}" for name, value in one["settings"].items()) or "none"
        short = "" if one["reached"] else ", below the goal"
        table.add_row(one["kind"], settings, f"{one['recall']:.3f}{short}", f"{one['ms']:.2f}")
    first = f"{document['codes']:,} of {document['regions']:,} codes, top {document['top']}, goal {document['recall']}"
    return Group(Text(first), table, Text(f"for a new index on a Milvus server: {document['use']}"))
