"""`searchanything combine`: images that hold several things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import CommonOptions, Save, expanded, option
from searchanything.cli.prompting import FilterOptions, parse_numbers
from searchanything.cli.regions import named_region
from searchanything.cli.session import answer, check_save, client_of, plain, save_where_asked
from searchanything.core.errors import PromptError, UsageError
from searchanything.core.escaping import printable
from searchanything.core.types import ImageRef

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.client.client import Client
    from searchanything.client.combining import PartInput

_FORM = "IMAGE@X,Y (a click), IMAGE@X1,Y1,X2,Y2 (a box), IMAGE#REGION (an indexed region) or text=WORDS"
_WORDS = "text="
AllOf = Annotated[list[str] | None, option("--all", "PART", f"A thing that must be there: {_FORM}; repeatable.")]
AnyOf = Annotated[list[str] | None, option("--any", "PART", "At least one of these must be there; repeatable.")]
NoneOf = Annotated[list[str] | None, option("--none", "PART", "A thing that must not be there; repeatable.")]
NoneRate = Annotated[
    float,
    typer.Option(
        "--none-rate",
        metavar="RATE",
        help="A --none thing counts as there if a region has at most this false-match rate.",
    ),
]
MaxFalseMatch = Annotated[
    float | None,
    option(
        "--max-false-match",
        "RATE",
        "Only images in which every part has at most this false-match rate, such as 1e-3.",
    ),
]
ExpectOption = Annotated[
    str | None,
    option(
        "--expect",
        "IMAGE",
        "In place of the answer, say part by part why this image is in it or not: s3://bucket/key, a path that was "
        "indexed, or a key.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Maximum number of images.")]


@expanded
def combine(
    context: typer.Context,
    all_of: AllOf = None,
    any_of: AnyOf = None,
    none_of: NoneOf = None,
    none_rate: NoneRate = 1e-3,
    max_false_match: MaxFalseMatch = None,
    limit: Limit = 10,
    expect: ExpectOption = None,
    *,
    filter: FilterOptions,
    save: Save = None,
    common: CommonOptions,
) -> None:
    """Find the images that show several things at once, and the region that stands for each thing.

    Examples: [bold]searchanything combine --all street.jpg@320,240 --all shop.jpg@10,20,90,80 --none s3://a/b.jpg#3[/bold]

    [bold]searchanything combine --all street.jpg@320,240 --all shop.jpg@50,60 --expect s3://a/c.jpg[/bold]
    """
    if not all_of and not any_of:
        raise UsageError(
            f"expected at least one --all or --any, each {_FORM}; --none alone would find nearly everything"
        )
    wanted = filter.filter()
    typed = [text for texts in (all_of, any_of, none_of) for text in texts or ()]
    check_save(save, expect, *typed, *(text.rpartition("@")[0] for text in typed))
    with client_of(context, common) as client:
        parts = [[_part(client, text) for text in texts or ()] for texts in (all_of, any_of, none_of)]
        results = client.combine(
            all_of=parts[0],
            any_of=parts[1],
            none_of=parts[2],
            none_rate=none_rate,
            max_false_match=max_false_match,
            limit=limit,
            filter=wanted,
        )
        why = None if expect is None else results.explain(expect)
        save_where_asked(save, (why or results).save)
    document = (why or results).to_dict()
    answer(document, common.format, lambda: _text(document) if why is None else plain(why.to_text()))


def _part(client: Client, text: str) -> PartInput:
    if text.startswith(_WORDS):
        return text.removeprefix(_WORDS)
    region = named_region(client, text)
    if region is not None:
        return region
    image, separator, place = text.rpartition("@")
    if not separator or not image or place.count(",") not in (1, 3):
        raise PromptError(f"part {text}: expected {_FORM}")
    form = "X,Y" if place.count(",") == 1 else "X1,Y1,X2,Y2"
    return image, tuple(parse_numbers(place, "part", form))


def _text(document: dict[str, Any]) -> RenderableType:
    lines = []
    for number, hit in enumerate(document["hits"], start=1):
        lines.append(f"{number}: {ImageRef(hit['bucket'], hit['key'])}")
        for one in hit["parts"]:
            chance = "" if one["false_match"] is None else f", false match {one['false_match']:.0e}"
            weak = ", weak" if one["weak"] else ""
            where = f"region {one['region']} at {one['distance_bits']} bits"
            lines.append(f"   {printable(one['part'])}: {where}{chance}{weak}")
    return plain("\n".join([*lines, document["sentence"]]))
