"""`searchanything explain`: why an image is not among the hits of a query, or where it is."""

from __future__ import annotations

from typing import Annotated

import typer

from searchanything.cli.options import AskOptions, OptionalImage, Save, expanded, option
from searchanything.cli.prompting import FilterOptions, PageOptions, PromptOptions, parse_numbers
from searchanything.cli.questions import LikeOption, MarkOptions, MaxFalseMatch, Question, words_alone
from searchanything.cli.session import answer, check_save, client_of, plain, save_where_asked

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
    option(
        "--expect-box",
        "X1,Y1,X2,Y2",
        "Where the thing is in that image; default: its region most similar to the query.",
        panel=EXPECTED,
    ),
]


@expanded
def explain(
    context: typer.Context,
    expect: ExpectOption,
    prompt: PromptOptions,
    page: PageOptions,
    filter: FilterOptions,
    marks: MarkOptions,
    image: OptionalImage = None,
    like: LikeOption = None,
    expect_box: ExpectBoxOption = None,
    max_false_match: MaxFalseMatch = None,
    save: Save = None,
    *,
    common: AskOptions,
) -> None:
    """Say why an image is not among the hits of a query, step by step and with figures.

    The query is typed as for `query`: an image with its prompt, regions of the index, or --text alone, with or without
    marks.

    Examples: [bold]searchanything explain street.jpg --point 320,240 --expect s3://holiday/7.jpg --save why.png[/bold]

    [bold]searchanything explain --text "a red handbag" --expect s3://holiday/7.jpg[/bold]
    """
    asked_for, wanted = prompt.prompt(), filter.filter()
    check_save(save, image, prompt.mask, expect, *(like or ()))
    alone = words_alone(image, asked_for, like, context=context)
    expected_box = None
    if expect_box is not None:
        from searchanything.prompts.prompt import as_box

        expected_box = as_box(parse_numbers(expect_box, "--expect-box", "X1,Y1,X2,Y2")).xyxy
    question = Question(image, like, asked_for, alone, page, wanted, max_false_match, marks)
    with client_of(context, common) as client:
        explanation = question.ask(client).explain(expect, expected_box)
        save_where_asked(save, explanation.save)
    answer(explanation.to_dict(), common.format, lambda: plain(explanation.to_text()))
