"""`searchanything status`: what the index holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.session import answer, client_of
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


@expanded
def status(
    context: typer.Context,
    *,
    common: CommonOptions,
) -> None:
    """Show what the index contains and which models made it.

    Example: [bold]searchanything status --uri trial.db --format json[/bold]
    """
    with client_of(context, common) as client:
        document = client.status().to_dict()
    answer(document, common.format, lambda: _text(document))


def _text(document: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not document["exists"]:
        sentence = "there is no index; check --uri, or make one: searchanything index SOURCE"
        return Text(f"{document['uri']}: {sentence}")
    table = Table.grid(padding=(0, 2))
    for name, value in document.items():
        if name == "exists":
            continue
        if name == "consistency":
            value = _consistency(value)
        if isinstance(value, dict):
            value = ", ".join(f"{key} {one}" for key, one in value.items())
        if name == "words" and value is None:
            value = "none; searchanything index SOURCE --add-words adds them"
        shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name, Text(shown))
    return table


def _consistency(measured: dict[str, Any] | None) -> str:
    """What `eval mine` measured last, in words."""
    if measured is None:
        return "not measured; searchanything eval mine"
    day = datetime.fromtimestamp(measured["measured_at_ms"] / 1000, tz=UTC).date().isoformat()
    return (
        f"copies of {counted(measured['regions'], 'region')} find their own first in {measured['recall_1']:.0%}, among "
        f"ten in {measured['recall_10']:.0%} ({measured['among_regions']:,} regions, {day})"
    )
