"""`searchanything status`: what the index holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from searchanything.cli.options import FormatOption, Preset, Uri, Verbose
from searchanything.cli.session import answer, session_of

if TYPE_CHECKING:
    from rich.console import RenderableType


def status(
    context: typer.Context,
    uri: Uri = None,
    preset: Preset = None,
    format: FormatOption = "text",
    _verbose: Verbose = False,
) -> None:
    """Say what the index holds and with which models it was made.

    Example: [bold]searchanything status --uri trial.db --format json[/bold]
    """
    with session_of(context).client(uri, preset) as client:
        document = client.status().to_dict()
    answer(document, format, lambda: _text(document))


def _text(document: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {one}" for key, one in value.items())
        shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name, Text(shown))
    return table
