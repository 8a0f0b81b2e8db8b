"""`searchanything compare`: what masking, mask features and hashing do to the ranking of a query's candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from searchanything.cli.options import AskOptions, ImageArgument, expanded, option
from searchanything.cli.prompting import FilterOptions, PromptOptions
from searchanything.cli.session import answer, check_image, client_of, files_read, plain, say

CandidatesOption = Annotated[
    int, typer.Option("--candidates", metavar="N", min=1, help="The nearest regions by code that are ranked.")
]
SavesOption = Annotated[
    list[Path] | None,
    option("--save", "FILE", "A contact sheet (.png) or a page with the whole rankings (.html); repeatable."),
]


@expanded
def compare(
    context: typer.Context,
    image: ImageArgument,
    prompt: PromptOptions,
    filter: FilterOptions,
    candidates: CandidatesOption = 50,
    save: SavesOption = None,
    *,
    common: AskOptions,
) -> None:
    """Rank the nearest regions in several ways: by CLIP, by masked CLIP, by each crop with mask features, by code.

    Example: [bold]searchanything compare street.jpg --point 320,240 --save five.png --save five.html[/bold]
    """
    asked_for, wanted = prompt.prompt(), filter.filter()
    paths = save or []
    _check_saves(paths, image)
    check_image(image)
    with client_of(context, common) as client:
        comparison = client.compare(image, asked_for, candidates=candidates, filter=wanted)
        for path in paths:
            comparison.save(path)
            say(f"saved {path}")
    answer(comparison.to_dict(), common.format, lambda: plain(comparison.to_text()))


def _check_saves(paths: list[Path], image: str) -> None:
    """Refuse names, that of the image as well, before anything is computed. Raises: UsageError."""
    from searchanything.answers.comparison import check_comparison_path

    for path in paths:
        check_comparison_path(path, inputs=files_read([image]))
