"""`searchanything doctor`: what works here, what does not, and how to fix it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.failures import FAILED
from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.session import answer, session_of
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

OptionalSource = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="Also list this bucket or folder.", show_default=False),
]
_STYLES = {"ok": "green", "warning": "yellow", "broken": "red"}


@expanded
def doctor(
    context: typer.Context,
    source: OptionalSource = None,
    *,
    common: CommonOptions,
) -> None:
    """Check versions, settings, models, store and index, and say how to fix each problem. Exit code 1 if one is broken.

    Example: [bold]searchanything doctor s3://holiday --preset small[/bold]
    """
    from searchanything.cli.checks import run_checks

    with contextlib.redirect_stdout(sys.stderr):
        found = run_checks(session_of(context), uri=common.uri, preset=common.preset, source=source)
        findings = [finding.to_dict() for finding in found]
    broken = any(finding["state"] == "broken" for finding in findings)
    answer({"ok": not broken, "checks": findings}, common.format, lambda: _text(findings))
    if broken:
        raise typer.Exit(FAILED)


def _text(findings: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        state = Text(finding["state"], style=_STYLES[finding["state"]])
        table.add_row(state, finding["name"], Text(printable(finding["message"])))
        if finding["cure"]:
            table.add_row("", "", Text(f"cure: {finding['cure']}", style="bold"))
    return table
