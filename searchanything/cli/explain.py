"""`searchanything explain`: why an image is not among the hits of a query, or where it is."""

from __future__ import annotations

from typing import Annotated

import typer

from searchanything.cli.options import AskOptions, ImageArgument, Save, expanded
from searchanything.cli.prompting import FilterOptions, PageOptions, PromptOptions, parse_numbers
from searchanything.cli.session import answer, check_image, check_save, client_of, plain, save_where_asked

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


@expanded
def explain(
    context: typer.Context,
    image: ImageArgument,
    expect: ExpectOption,
    prompt: PromptOptions,
    page: PageOptions,
    filter: FilterOptions,
    expect_box: ExpectBoxOption = None,
    save: Save = None,
    *,
    common: AskOptions,
) -> None:
    """Why is an image not among the hits of a query? Step by step, with figures, up to the step that explains.

    Example: [bold]searchanything explain street.jpg --point 320,240 --expect s3://holiday/7.jpg --save why.png[/bold]
    """
    meant, wanted = prompt.prompt(), filter.filter()
    check_save(save)
    check_image(image)
    expected_box = None
    if expect_box is not None:
        from searchanything.prompts.prompt import as_box

        expected_box = as_box(parse_numbers(expect_box, "--expect-box", "X1,Y1,X2,Y2")).xyxy
    with client_of(context, common) as client:
        results = client.query(
            image,
            meant,
            limit=page.limit,
            offset=page.offset,
            filter=wanted,
            group_by_image=page.group_by_image,
            rescore=page.rescore,
        )
        explanation = results.explain(expect, expected_box)
        save_where_asked(save, explanation.save)
    answer(explanation.to_dict(), common.format, lambda: plain(explanation.to_text()))
