"""`searchanything query`: a region of an image, and the images that hold a similar one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from searchanything.cli.options import FormatOption, ImageArgument, Preset, Save, Uri, Verbose
from searchanything.cli.prompting import Granularity, PromptOptions, parse_metadata
from searchanything.cli.session import answer, check_image, check_receipt, check_save, say, session_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.types import Filter

PROMPT = "Prompt (pixels of the EXIF-corrected image); default: the whole image"
PAGE = "Answer"
FILTER = "Filter"

PointOption = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="X,Y", help="A point on the thing; repeatable.", rich_help_panel=PROMPT),
]
BackgroundOption = Annotated[
    list[str] | None,
    typer.Option("--background", metavar="X,Y", help="A point beside the thing; repeatable.", rich_help_panel=PROMPT),
]
BoxOption = Annotated[
    str | None, typer.Option("--box", metavar="X1,Y1,X2,Y2", help="A box around the thing.", rich_help_panel=PROMPT)
]
TextOption = Annotated[
    str | None, typer.Option("--text", metavar="TEXT", help="Words for the thing.", rich_help_panel=PROMPT)
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="An image of the same size, bright on the thing.",
        rich_help_panel=PROMPT,
    ),
]
GranularityOption = Annotated[
    Granularity | None,
    typer.Option("--granularity", help="Which of several masks under a point.", rich_help_panel=PROMPT),
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most hits.", rich_help_panel=PAGE)]
OffsetOption = Annotated[
    int, typer.Option("--offset", metavar="N", min=0, help="Hits to pass over.", rich_help_panel=PAGE)
]
GroupOption = Annotated[
    bool, typer.Option("--group-by-image", help="The best region of each image alone.", rich_help_panel=PAGE)
]
BucketOption = Annotated[
    str | None, typer.Option("--bucket", metavar="NAME", help="Hits of this bucket or folder.", rich_help_panel=FILTER)
]
KeyPrefixOption = Annotated[
    str | None,
    typer.Option("--key-prefix", metavar="PREFIX", help="Hits whose key begins so.", rich_help_panel=FILTER),
]
SizeClassOption = Annotated[
    Literal["small", "medium", "large"] | None,
    typer.Option("--size-class", help="By the area of the region's box: up to 32², 96² px.", rich_help_panel=FILTER),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata",
        metavar="NAME=TEXT",
        help="Equality of metadata; NAME:=VALUE for a number, true or false; repeatable.",
        rich_help_panel=FILTER,
    ),
]
ExpressionOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="EXPR", help="A Milvus expression, passed on.", rich_help_panel=FILTER),
]

ReceiptOption = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        metavar="FILE.json",
        help="Write all that `replay` needs to repeat the query.",
        show_default=False,
        rich_help_panel=PAGE,
    ),
]


def query(
    context: typer.Context,
    image: ImageArgument,
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
    receipt: ReceiptOption = None,
    uri: Uri = None,
    preset: Preset = None,
    format: FormatOption = "text",
    _verbose: Verbose = False,
) -> None:
    """Pick a region of an image by a prompt, and list the images that hold a similar region.

    Examples: [bold]searchanything query street.jpg --point 320,240 --save hits.png[/bold]

    [bold]searchanything query street.jpg --text "a red bicycle" --group-by-image --format json[/bold]

    [bold]searchanything query s3://holiday/7.jpg --box 10,20,200,180 --metadata album=sea --metadata year:=2024[/bold]
    """
    prompt = PromptOptions(point or (), background or (), box, text, mask, granularity).prompt()
    wanted = parse_filter(bucket, key_prefix, size_class, metadata or (), expression)
    check_save(save)
    check_receipt(receipt)
    check_image(image)
    with session_of(context).client(uri, preset) as client:
        results = client.query(image, prompt, limit=limit, offset=offset, filter=wanted, group_by_image=group_by_image)
        if save is not None:
            results.save(save)
            say(f"saved {save}")
        if receipt is not None:
            results.save_receipt(receipt)
            say(f"saved {receipt}")
    document = results.to_dict()
    answer(document, format, lambda: _text(document, first=offset + 1))


def parse_filter(
    bucket: str | None,
    key_prefix: str | None,
    size_class: str | None,
    metadata: Sequence[str],
    expression: str | None,
) -> Filter | None:
    """None where no part is given."""
    from searchanything.types import Filter, SizeClass

    wanted = Filter(
        bucket=bucket,
        key_prefix=key_prefix,
        size_class=None if size_class is None else SizeClass(size_class),
        metadata=parse_metadata(metadata),
        expression=expression,
    )
    return None if wanted == Filter() else wanted


def _text(document: dict[str, Any], *, first: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    selection = document["selection"]
    lines = [f"selected: {_what(selection)}: {selection['reason']}"]
    total = sum(document["timings_ms"].values())
    exact = "exact" if document["exact"] else "approximate"
    tail = f"{len(document['hits'])} hits, {exact}, {total:,.0f} ms, fingerprint {document['fingerprint']}"
    if not document["hits"]:
        return Text("\n".join([*lines, tail]))
    table = Table(box=None, pad_edge=False)
    for heading in ("#", "bits", "image", "region", "box x1,y1,x2,y2"):
        table.add_column(heading, justify="right" if heading in ("#", "bits", "region") else "left", overflow="fold")
    for number, hit in enumerate(document["hits"], start=first):
        region = "whole" if hit["region"] is None else str(hit["region"])
        image = Text(f"{hit['bucket']}/{hit['key']}")
        table.add_row(str(number), str(hit["distance_bits"]), image, region, _numbers(hit["box_xyxy"]))
    return Group(Text("\n".join(lines)), table, Text(tail))


def _what(selection: dict[str, Any]) -> str:
    if selection["kind"] == "region":
        return f"a region of {selection['area_px']:,} px in {_numbers(selection['box_xyxy'])}"
    return "the whole image" if selection["kind"] == "image" else "nothing"


def _numbers(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
