"""`searchanything explain`: why an image is not among the hits of a query, or where it is."""

from __future__ import annotations

from typing import Annotated

import typer

from searchanything.cli.options import FormatOption, ImageArgument, Preset, Save, Uri, Verbose
from searchanything.cli.prompting import PromptOptions, parse_numbers
from searchanything.cli.query import (
    BackgroundOption,
    BoxOption,
    BucketOption,
    ExpressionOption,
    GranularityOption,
    GroupOption,
    KeyPrefixOption,
    LimitOption,
    MaskOption,
    MetadataOption,
    OffsetOption,
    PointOption,
    SizeClassOption,
    TextOption,
    parse_filter,
)
from searchanything.cli.session import answer, check_image, check_save, plain, say, session_of

EXPECTED = "What was expected"

ExpectOption = Annotated[
    str,
    typer.Option(
        "--expect",
        metavar="IMAGE",
        help="s3://bucket/key, the path of a file that was indexed, or a key.",
        rich_help_panel=EXPECTED,
    ),
]
ExpectBoxOption = Annotated[
    str | None,
    typer.Option(
        "--expect-box",
        metavar="X1,Y1,X2,Y2",
        help="Where the thing is in that image; default: its region most similar to the query.",
        rich_help_panel=EXPECTED,
    ),
]


def explain(
    context: typer.Context,
    image: ImageArgument,
    expect: ExpectOption,
    expect_box: ExpectBoxOption = None,
    point: PointOption = None,
    background: BackgroundOption = None,
    box: BoxOption = None,
    text: TextOption = None,
    mask: MaskOption = None,
    granularity: GranularityOption = None,
    limit: LimitOption = 10,
    offset: OffsetOption = 0,
    group_by_image: GroupOption = False,
    bucket: BucketOption = None,
    key_prefix: KeyPrefixOption = None,
    size_class: SizeClassOption = None,
    metadata: MetadataOption = None,
    expression: ExpressionOption = None,
    save: Save = None,
    uri: Uri = None,
    preset: Preset = None,
    format: FormatOption = "text",
    _verbose: Verbose = False,
) -> None:
    """Why is an image not among the hits of a query? Step by step, with figures, up to the step that explains.

    Example: [bold]searchanything explain street.jpg --point 320,240 --expect s3://holiday/7.jpg --save why.png[/bold]
    """
    prompt = PromptOptions(point or (), background or (), box, text, mask, granularity).prompt()
    wanted = parse_filter(bucket, key_prefix, size_class, metadata or (), expression)
    check_save(save)
    check_image(image)
    expected_box = None
    if expect_box is not None:
        x1, y1, x2, y2 = parse_numbers(expect_box, "--expect-box", "X1,Y1,X2,Y2")
        expected_box = x1, y1, x2, y2
    with session_of(context).client(uri, preset) as client:
        explanation = client.explain(
            image,
            prompt,
            expect=expect,
            expect_box=expected_box,
            limit=limit,
            offset=offset,
            filter=wanted,
            group_by_image=group_by_image,
        )
        if save is not None:
            explanation.save(save)
            say(f"saved {save}")
    answer(explanation.to_dict(), format, lambda: plain(explanation.to_text()))
