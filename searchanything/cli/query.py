"""`searchanything query`: a region of an image, and the images that hold a similar one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import CommonOptions, OptionalImage, Save, expanded
from searchanything.cli.prompting import PAGE, FilterOptions, PageOptions, PromptOptions
from searchanything.cli.session import answer, check_image, check_receipt, check_save, client_of, say
from searchanything.core.errors import UsageError
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

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


@expanded
def query(
    context: typer.Context,
    prompt: PromptOptions,
    page: PageOptions,
    filter: FilterOptions,
    image: OptionalImage = None,
    save: Save = None,
    receipt: ReceiptOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Pick a region of an image by a prompt, and list the images that hold a similar region.

    Without IMAGE, --text asks the whole index, if it has words codes (index --add-words).

    Boxes, points and a text may be given together: a point says which thing of a box, a text which thing at the places.

    Examples: [bold]searchanything query street.jpg --point 320,240 --save hits.png[/bold]

    [bold]searchanything query street.jpg --text "a red bicycle" --group-by-image --format json[/bold]

    [bold]searchanything query --text "a red handbag"[/bold]

    [bold]searchanything query street.jpg --box 10,20,200,180 --background 30,170[/bold]

    [bold]searchanything query s3://holiday/7.jpg --box 10,20,200,180 --metadata album=sea --metadata year:=2024[/bold]
    """
    meant, wanted = prompt.prompt(), filter.filter()
    check_save(save)
    check_receipt(receipt)
    alone = _words_alone(image, meant)
    with client_of(context, common) as client:
        results = client.query(
            image,
            None if alone is not None else meant,
            text=alone,
            limit=page.limit,
            offset=page.offset,
            filter=wanted,
            group_by_image=page.group_by_image,
            rescore=page.rescore,
        )
        if save is not None:
            results.save(save)
            say(f"saved {save}")
        if receipt is not None:
            results.save_receipt(receipt)
            say(f"saved {receipt}")
    document = results.to_dict()
    answer(document, common.format, lambda: _text(document, first=page.offset + 1))


def _words_alone(image: str | None, meant: object) -> str | None:
    """The text where there is no image; else the image is looked for. Raises: UsageError."""
    from searchanything.prompts.prompt import Text

    if image is not None:
        check_image(image)
        return None
    if not isinstance(meant, Text):
        raise UsageError("expected an IMAGE, or --text T alone, which asks the whole index")
    return meant.text


def _text(document: dict[str, Any], *, first: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    selection = document["selection"]
    lines = [f"selected: {_what(selection)}: {printable(selection['reason'])}"]
    if selection["text_match"] is not None:
        lines.append(_how_well(selection["text_match"]))
    total = sum(document["timings_ms"].values())
    exact = "exact" if document["exact"] else "approximate"
    tail = f"{len(document['hits'])} hits, {exact}, {total:,.0f} ms, fingerprint {document['fingerprint']}"
    if not document["hits"]:
        return Text("\n".join([*lines, tail]))
    table = Table(box=None, pad_edge=False)
    for heading in ("#", "bits", "similarity", "image", "region", "box x1,y1,x2,y2"):
        table.add_column(
            heading, justify="right" if heading in ("#", "bits", "similarity", "region") else "left", overflow="fold"
        )
    for number, hit in enumerate(document["hits"], start=first):
        region = "whole" if hit["region"] is None else str(hit["region"])
        image = Text(printable(f"{hit['bucket']}/{hit['key']}"))
        similarity = "" if hit["similarity"] is None else f"{hit['similarity']:.3f}"
        table.add_row(str(number), str(hit["distance_bits"]), similarity, image, region, _numbers(hit["box_xyxy"]))
    return Group(Text("\n".join(lines)), table, Text(tail))


def _how_well(match: dict[str, Any]) -> str:
    better = f"{match['better']} of {match['words']} everyday words name that region better than the text does"
    notes = {"clear": "", "unsure": ": it may be something else", "weak": ": perhaps there is no such thing here"}
    return f"text match {match['confidence']}, {better}{notes[match['confidence']]}"


def _what(selection: dict[str, Any]) -> str:
    if selection["kind"] == "region":
        return f"a region of {selection['area_px']:,} px in {_numbers(selection['box_xyxy'])}"
    return {"image": "the whole image", "words": "words alone"}.get(selection["kind"], "nothing")


def _numbers(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
