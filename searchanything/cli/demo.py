"""`searchanything demo`: the whole way, on generated scenes, on this machine alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import FormatOption, Verbose
from searchanything.cli.session import answer, say

if TYPE_CHECKING:
    from rich.console import RenderableType

OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", file_okay=False, help="Where index.html and report.json go.")
]


def demo(out: OutOption = Path("demo"), format: FormatOption = "text", _verbose: Verbose = False) -> None:
    """Index generated pictogram scenes from a local S3 server, query them by every kind of prompt, and measure.

    Example: [bold]searchanything demo --out demo[/bold]
    """
    from searchanything.demo.run import run_demo

    with contextlib.redirect_stdout(sys.stderr):
        report = run_demo(out, say=say)
    answer(report, format, lambda: _text(out, report))


def _text(out: Path, report: Mapping[str, Any]) -> RenderableType:
    from rich.text import Text

    lines = [f"{one['kind']:<10} hit@5 {one['hit_at_5']:.2f} of {one['n']}" for one in report["queries"]]
    return Text("\n".join([*lines, f"see {out / 'index.html'}"]))
