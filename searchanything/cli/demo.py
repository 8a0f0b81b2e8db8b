"""`searchanything demo`: the whole way, on generated scenes, on this machine alone."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import OutputOptions, Uri, expanded
from searchanything.cli.progress import counting
from searchanything.cli.session import answer, figure_table, plain, say
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", file_okay=False, help="Where index.html and report.json go.")
]
ScenesOption = Annotated[
    Path | None,
    typer.Option(
        "--scenes",
        metavar="FOLDER",
        file_okay=False,
        help="Only write example images to this folder, to index and query yourself.",
        show_default=False,
    ),
]
CountOption = Annotated[
    int | None,
    typer.Option("--count", metavar="N", min=1, help="Number of example images; 120 by default.", show_default=False),
]


@expanded
def demo(
    out: OutOption = Path("demo"),
    uri: Uri = None,
    scenes: ScenesOption = None,
    count: CountOption = None,
    *,
    output: OutputOptions,
) -> None:
    """Index generated pictogram scenes from a local S3 server, query them with every kind of prompt, and measure.

    Nothing outside this machine is needed. Without --uri the index is in the folder, too; a second run is quick.

    With --scenes, only the images are written; no server is started.

    Examples: [bold]searchanything demo --out demo[/bold]

    [bold]searchanything demo --scenes images[/bold]
    """
    if count is not None and scenes is None:
        raise UsageError("--count works only with --scenes")
    if scenes is not None:
        _write_scenes(scenes, count, output)
        return
    from searchanything.demo.run import run_demo

    with contextlib.redirect_stdout(sys.stderr):
        report = run_demo(out, uri=uri, say=say)
    answer(report, output.format, lambda: _text(out, report))


def _write_scenes(folder: Path, count: int | None, output: OutputOptions) -> None:
    from searchanything.demo.example_images import COUNT, write_examples

    wanted = count or COUNT
    with counting("writing scenes") as show:
        written = write_examples(folder, wanted, done=show)
    document = {"folder": str(folder), "written": written, "kept": wanted - written}
    sentence = (
        f"{counted(written, 'image')} written to {folder}, {wanted - written:,} already there; "
        f"next: searchanything index {shlex.quote(str(folder))} --preset pico"
    )
    answer(document, output.format, lambda: plain(sentence))


def _text(out: Path, report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    table = figure_table("prompt", "hit@5", "shuffled weights", "chance", "questions")
    for one in report["queries"]:
        shares = (one[name] for name in ("hit_at_5", "shuffled_hit_at_5", "chance"))
        table.add_row(one["kind"], *("–" if share is None else f"{share:.2f}" for share in shares), str(one["n"]))
    return Group(table, Text(f"see {out / 'index.html'}"))
