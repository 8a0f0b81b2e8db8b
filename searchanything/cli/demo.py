"""`searchanything demo`: the whole way, on generated scenes, on this machine alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import OutputOptions, Uri, expanded
from searchanything.cli.session import answer, say

if TYPE_CHECKING:
    from rich.console import RenderableType

OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", file_okay=False, help="Where index.html and report.json go.")
]


@expanded
def demo(
    out: OutOption = Path("demo"),
    uri: Uri = None,
    *,
    output: OutputOptions,
) -> None:
    """Index generated pictogram scenes from a local S3 server, query them by every kind of prompt, and measure.

    Nothing outside this machine is needed. Without --uri the index lies in the folder too; a second run is quick.

    Example: [bold]searchanything demo --out demo[/bold]
    """
    from searchanything.demo.run import run_demo

    with contextlib.redirect_stdout(sys.stderr):
        report = run_demo(out, uri=uri, say=say)
    answer(report, output.format, lambda: _text(out, report))


def _text(out: Path, report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("prompt", "hit@5", "shuffled weights", "chance", "questions"):
        table.add_column(heading, justify="left" if heading == "prompt" else "right")
    for one in report["queries"]:
        shares = (one[name] for name in ("hit_at_5", "shuffled_hit_at_5", "chance"))
        table.add_row(one["kind"], *("–" if share is None else f"{share:.2f}" for share in shares), str(one["n"]))
    return Group(table, Text(f"see {out / 'index.html'}"))
