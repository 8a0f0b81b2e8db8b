"""`searchanything query`: a region of an image, and the images that hold a similar one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import AskOptions, OptionalImage, Save, expanded, option
from searchanything.cli.prompting import PAGE, FilterOptions, PageOptions, PromptOptions
from searchanything.cli.questions import MARKS, LikeOption, MarkOptions, MaxFalseMatch, Question, words_alone
from searchanything.cli.session import answer, check_receipt, check_save, client_of, save_where_asked
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.escaping import printable
from searchanything.core.types import ImageRef

if TYPE_CHECKING:
    from rich.console import RenderableType


ReceiptOption = Annotated[
    Path | None, option("--receipt", "FILE.json", "Write all that `replay` needs to repeat the query.", panel=PAGE)
]


@dataclass(frozen=True, slots=True)
class SavedMarkOptions(MarkOptions):
    """Marks that may be saved."""

    save_probe: Annotated[Path | None, option("--save-probe", "FILE.json", "Save all marks.", panel=MARKS)] = None

    def __post_init__(self) -> None:
        check_receipt(self.save_probe)
        if self.save_probe is not None and not self.given:
            raise UsageError("--save-probe saves marks: give --right, --wrong or --probe too")


@expanded
def query(
    context: typer.Context,
    prompt: PromptOptions,
    page: PageOptions,
    filter: FilterOptions,
    marks: SavedMarkOptions,
    image: OptionalImage = None,
    like: LikeOption = None,
    save: Save = None,
    receipt: ReceiptOption = None,
    max_false_match: MaxFalseMatch = None,
    *,
    common: AskOptions,
) -> None:
    """Pick a region of an image by a prompt, and list the images that contain a similar region.

    IMAGE#REGION is a region of the index, for which no model is loaded. Without IMAGE, --text searches the whole index,
    if it has words codes (index --add-words).

    Boxes, points and a text can be combined: a point selects a thing inside a box, a text chooses among the rest.

    Examples: [bold]searchanything query street.jpg --point 320,240 --save hits.png[/bold]

    [bold]searchanything query street.jpg --text "a red bicycle" --group-by-image --format json[/bold]

    [bold]searchanything query --text "a red handbag"[/bold]

    [bold]searchanything query s3://holiday/7.jpg#3 --like s3://holiday/9.jpg#0[/bold]

    [bold]searchanything query street.jpg --box 10,20,200,180 --background 30,170[/bold]

    [bold]searchanything query s3://holiday/7.jpg --box 10,20,200,180 --metadata album=sea --metadata year:=2024[/bold]
    """
    asked_for, wanted = prompt.prompt(), filter.filter()
    check_save(save, image, prompt.mask, *(like or ()))
    check_receipt(receipt)
    if marks.given and receipt is not None:
        raise UsageError(NOT_WITH_MARKS)
    alone = words_alone(image, asked_for, like, context=context)
    question = Question(image, like, asked_for, alone, page, wanted, max_false_match, marks)
    with client_of(context, common) as client:
        results = question.ask(client)
        save_where_asked(marks.save_probe, results.save_probe)
        save_where_asked(save, results.save)
        save_where_asked(receipt, results.save_receipt)
    document = results.to_dict()
    answer(document, common.format, lambda: answer_text(document, first=page.offset + 1))


NOT_WITH_MARKS = "--receipt goes with a query without marks: ask once without --right, --wrong"


def answer_text(document: dict[str, Any], *, first: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    selection = document["selection"]
    lines = [f"selected: {_what(selection)}: {printable(selection['reason'])}"]
    if selection["text_match"] is not None:
        lines.append(_how_well(selection["text_match"]))
    total = sum(document["timings_ms"].values())
    exact = "exact" if document["exact"] else "approximate"
    tail = f"{counted(len(document['hits']), 'hit')}, {exact}, {total:,.0f} ms, fingerprint {document['fingerprint']}"
    if document["probe"] is not None:
        lines.append(_marks(document["probe"], selection["kind"]))
    if document["matching"] is not None and document["matching"]["verdict"]:
        lines.append(document["matching"]["verdict"])
    lines += _offers(selection)
    if not document["hits"]:
        return Text("\n".join([*lines, tail]))
    table = Table(box=None, pad_edge=False)
    match = ["match"] if any(hit["confidence"] for hit in document["hits"]) else []  # of words alone there is none
    for heading in ("#", *match, "bits", "similarity", "false match", "image", "region", "box x1,y1,x2,y2"):
        right = heading in ("#", "bits", "similarity", "false match", "region")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for number, hit in enumerate(document["hits"], start=first):
        region = "whole" if hit["region"] is None else str(hit["region"])
        image = Text(str(ImageRef(hit["bucket"], hit["key"])))
        similarity = "" if hit["similarity"] is None else f"{hit['similarity']:.3f}"
        chance = "" if hit["false_match"] is None else f"{hit['false_match']:.0e}"
        box = _numbers(hit["box_xyxy"])
        word = [hit["confidence"]["word"] if hit["confidence"] else ""] if match else []
        table.add_row(str(number), *word, str(hit["distance_bits"]), similarity, chance, image, region, box)
    return Group(Text("\n".join(lines)), table, Text(tail))


def _offers(selection: dict[str, Any]) -> list[str]:
    """Where a prompt met no region: the nearest ones, numbered as in the picture, ready to be pasted."""
    from searchanything.answers.results import OFFERED

    nearest = selection["runners_up"][:OFFERED] if selection["kind"] == "none" else []
    lines = [f"  {number}: --box {_numbers(one['box_xyxy'])}" for number, one in enumerate(nearest, start=1)]
    return ["the nearest regions, to be given in place of what met none:", *lines] if lines else []


def _marks(probe: dict[str, Any], kind: str) -> str:
    own = "" if kind == "words" else " (the query's own region is one)"
    said = f"refined by {probe['right']} right{own} and {probe['wrong']} wrong"
    if probe["precision"] is None:
        return said
    return f"{said}; precision {probe['precision']:.0%} on marks left out one at a time"


def _how_well(match: dict[str, Any]) -> str:
    verb = "names" if match["better"] == 1 else "name"
    better = (
        f"{match['better']} of {counted(match['words'], 'everyday word')} {verb} that region better than the text does"
    )
    notes = {"clear": "", "unsure": ": it may be something else", "weak": ": the image may not show it"}
    return f"text match {match['confidence']}, {better}{notes[match['confidence']]}"


def _what(selection: dict[str, Any]) -> str:
    if selection["kind"] == "region":
        return f"a region of {selection['area_px']:,} px in {_numbers(selection['box_xyxy'])}"
    return {"image": "the whole image", "words": "words alone"}.get(selection["kind"], "nothing")


def _numbers(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
