"""`searchanything compare`: what masking, mask features and hashing do to the ranking of a query's candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from searchanything.cli.options import FormatOption, ImageArgument, Preset, Uri, Verbose
from searchanything.cli.prompting import PromptOptions
from searchanything.cli.query import (
    BackgroundOption,
    BoxOption,
    BucketOption,
    ExpressionOption,
    GranularityOption,
    KeyPrefixOption,
    MaskOption,
    MetadataOption,
    PointOption,
    SizeClassOption,
    TextOption,
    parse_filter,
)
from searchanything.cli.session import answer, check_image, plain, say, session_of

CandidatesOption = Annotated[
    int, typer.Option("--candidates", metavar="N", min=1, help="The nearest regions by code that are ranked.")
]
SavesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--save",
        metavar="FILE",
        help="A contact sheet (.png) or a page with the whole rankings (.html); repeatable.",
        show_default=False,
    ),
]


def compare(
    context: typer.Context,
    image: ImageArgument,
    point: PointOption = None,
    background: BackgroundOption = None,
    box: BoxOption = None,
    text: TextOption = None,
    mask: MaskOption = None,
    granularity: GranularityOption = None,
    candidates: CandidatesOption = 50,
    bucket: BucketOption = None,
    key_prefix: KeyPrefixOption = None,
    size_class: SizeClassOption = None,
    metadata: MetadataOption = None,
    expression: ExpressionOption = None,
    save: SavesOption = None,
    uri: Uri = None,
    preset: Preset = None,
    format: FormatOption = "text",
    _verbose: Verbose = False,
) -> None:
    """Rank the nearest regions by CLIP alone, masked CLIP, masked CLIP with mask features, and by code.

    Example: [bold]searchanything compare street.jpg --point 320,240 --save four.png --save four.html[/bold]
    """
    prompt = PromptOptions(point or (), background or (), box, text, mask, granularity).prompt()
    wanted = parse_filter(bucket, key_prefix, size_class, metadata or (), expression)
    paths = save or []
    _check_saves(paths)
    check_image(image)
    with session_of(context).client(uri, preset) as client:
        comparison = client.compare(image, prompt, candidates=candidates, filter=wanted)
        for path in paths:
            comparison.save(path)
            say(f"saved {path}")
    answer(comparison.to_dict(), format, lambda: plain(comparison.to_text()))


def _check_saves(paths: list[Path]) -> None:
    """Refuse names before anything is computed. Raises: UsageError."""
    from searchanything.comparisons import check_comparison_path

    for path in paths:
        check_comparison_path(path)
