"""`searchanything features status|compact`: what is kept of the regions' features."""

from __future__ import annotations

from typing import Any

import typer

from searchanything.cli.options import CommonOptions, Source, expanded
from searchanything.cli.session import TwoColumns, answer_pairs, client_of

app = typer.Typer(help="Maintain the features that indexing keeps (ingest.keep_features).", no_args_is_help=True)


@app.command("status")
@expanded
def status(
    context: typer.Context,
    source: Source,
    *,
    common: CommonOptions,
) -> None:
    """Show where a bucket's features are, how many there are, and how many belong to images of the index.

    Example: [bold]searchanything features status s3://holiday --format json[/bold]
    """
    with client_of(context, common) as client:
        document = client.features.status(source).to_dict()
    answer_pairs(document, common.format, lambda: _pairs(document))


@app.command("compact")
@expanded
def compact(
    context: typer.Context,
    source: Source,
    *,
    common: CommonOptions,
) -> None:
    """Merge small feature files into large ones, and drop deleted and outdated rows.

    Indexing can continue meanwhile; a second compaction of the same features is refused.

    Example: [bold]searchanything features compact s3://holiday[/bold]
    """
    with client_of(context, common) as client:
        document = client.features.compact(source).to_dict()
    answer_pairs(document, common.format, lambda: _pairs(document))


def _pairs(document: dict[str, Any]) -> TwoColumns:
    pairs = []
    for name, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{number:,} {when}" for when, number in value.items())
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        pairs.append((name.replace("_", " "), "none" if value is None else str(value)))
    return pairs
