"""`searchanything tune`: which approximate index, with which parameters, suits the codes of this index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import CommonOptions, expanded, option
from searchanything.cli.progress import passing_progress
from searchanything.cli.session import answer, client_of, say
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.answers.question_lists import ListedQuestion
    from searchanything.client.client import Client

Recall = Annotated[
    float, typer.Option("--recall", metavar="SHARE", min=0.01, max=1, help="Share of the true hits to be found.")
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, max=1000, help="Hits per query.")]
MostCodes = Annotated[int, typer.Option("--codes", metavar="N", min=1000, help="How many of the index's codes to try.")]

QuestionsOption = Annotated[
    Path | None,
    option("--questions", "FILE", "A list of your questions, as of query-many, to ask in place of the index's codes."),
]


@expanded
def tune(
    context: typer.Context,
    recall: Recall = 0.95,
    top: Top = 100,
    codes: MostCodes = 1_000_000,
    questions: QuestionsOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Find the parameters of an approximate index that reach a recall on the index's own codes.

    Nothing is changed, and no model is loaded but for questions of your own. The milliseconds are those of faiss on
    this machine, without Milvus' own.

    Examples: [bold]searchanything tune --recall 0.98[/bold]

    [bold]searchanything tune --questions questions.csv[/bold]
    """
    listed = None
    if questions is not None:
        from searchanything.answers.question_lists import read_questions

        listed, _ = read_questions(questions)
    with client_of(context, common) as client, passing_progress("tuning") as show:
        asked = None if listed is None else _asked(client, listed)
        document = client.operations.tune(recall=recall, top=top, codes=codes, questions=asked, progress=show)
    answer(document, common.format, lambda: _text(document))


def _asked(client: Client, listed: Iterable[ListedQuestion]) -> Iterator[Any]:
    """The questions of a list; one that is wrong in itself is said, and left out."""
    from searchanything.cli.questions import listed_question

    for question in listed:
        try:
            yield listed_question(client, question)
        except UsageError as error:
            say(f"question {question.id} is left out: {error}")


def _text(document: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("index type", "settings", "recall", "ms per query"):
        table.add_column(name)
    for one in document["trials"]:
        settings = ", ".join(f"{name} {value}" for name, value in one["settings"].items()) or "none"
        short = "" if one["reached"] else ", below the goal"
        table.add_row(one["kind"], settings, f"{one['recall']:.3f}{short}", f"{one['ms']:.2f}")
    first = f"{document['codes']:,} of {document['regions']:,} codes, top {document['top']}, goal {document['recall']}"
    if document["questions"] is not None:
        first += f", asked by {counted(document['questions'], 'question')}"
    hint = [Text(document["hint"])] if document["hint"] else []
    return Group(Text(first), table, *hint, Text(f"for a new index on a Milvus server: {document['use']}"))
