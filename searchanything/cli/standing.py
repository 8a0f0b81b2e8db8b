"""`searchanything standing add|list|check|test|remove`: questions that are asked of all that is indexed from now on."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.moments import utc_text
from searchanything.cli.options import CommonOptions, OptionalImage, expanded, option
from searchanything.cli.prompting import PAGE, FilterOptions, PromptOptions
from searchanything.cli.questions import indexed_question, words_alone
from searchanything.cli.session import answer, client_of, figure_table, plain
from searchanything.core.counting import counted
from searchanything.core.escaping import printable
from searchanything.core.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from searchanything.answers.standing_answers import StandingStatus

app = typer.Typer(
    help="Keep queries, and ask them of every image that is indexed from now on.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
SOME_QUERIES_FAILED = NOT_PRINTED = 1
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="What the standing query is called.", show_default=False)
]
KnownArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name, or its id.", show_default=False)]
RateOption = Annotated[
    float,
    typer.Option(
        "--max-false-match",
        metavar="RATE",
        help="An image matches if at most this share of unrelated regions is as near to the query.",
        rich_help_panel=PAGE,
    ),
]
WebhookOption = Annotated[
    str | None,
    option(
        "--webhook",
        "URL",
        "Where `watch` and `check` send new matches, as JSON; without it, `check` prints them.",
        panel=PAGE,
    ),
]


@app.command("add")
@expanded
def add(
    context: typer.Context,
    name: NameArgument,
    prompt: PromptOptions,
    filter: FilterOptions,
    image: OptionalImage = None,
    max_false_match: RateOption = 1e-4,
    webhook: WebhookOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Keep a question, and ask it of every image that is indexed from now on.

    IMAGE, prompt and filter are those of `query`. What is indexed already does not match: `query` finds it.

    Examples: [bold]searchanything standing add logo poster.jpg --box 10,20,200,180 --webhook https://ops.example.org/hits[/bold]

    [bold]searchanything standing add bags --text "a red handbag" --bucket catalogue[/bold]
    """
    asked_for, wanted = prompt.prompt(), filter.filter()
    alone = words_alone(image, asked_for, context=context)
    with client_of(context, common) as client:
        query = client.standing.add(
            name,
            indexed_question(client, image),
            None if alone is not None else asked_for,
            text=alone,
            filter=wanted,
            max_false_match=max_false_match,
            webhook=webhook,
        )
    document = query.to_dict()
    where = "`searchanything standing check` prints" if webhook is None else "`watch` and `standing check` send"
    answer(document, common.format, lambda: plain(f"{name} stands: {where} what matches from now on"))


@app.command("list")
@expanded
def list_standing(context: typer.Context, *, common: CommonOptions) -> None:
    """List the standing queries: up to when each has looked at new images, and what keeps it from looking.

    Example: [bold]searchanything standing list[/bold]
    """
    with client_of(context, common) as client:
        found = client.standing.list()
    answer({"queries": [one.to_dict() for one in found]}, common.format, lambda: _table(found))


@app.command("check")
@expanded
def check(context: typer.Context, *, common: CommonOptions) -> None:
    """Look once at what is new: print the matches of queries without a webhook, and send those of the others.

    Printed matches count as dealt with. Of one query some ten thousand are printed at once: the last line or `complete`
    says whether there may be more. Exit code 1 if a query could not be asked, or its matches not sent or printed.

    Example: [bold]searchanything standing check --format json[/bold]
    """
    stdout = sys.stdout
    with client_of(context, common) as client:
        delivery = client.standing.deliver()
        with client.standing.new_matches() as found, contextlib.redirect_stdout(stdout):  # printed, then dealt with
            failed = {**delivery.failed, **found.failed}
            document = {**found.to_dict(), **delivery.to_dict(), "failed": failed}
            if not answer(document, common.format, lambda: plain(_text(document))):
                raise typer.Exit(NOT_PRINTED)  # whoever was to read it went away: it is printed again
    if failed:
        raise typer.Exit(SOME_QUERIES_FAILED)


@app.command("test")
@expanded
def test(context: typer.Context, name: KnownArgument, *, common: CommonOptions) -> None:
    """Send a query's webhook a message without matches, to see that it answers.

    Example: [bold]searchanything standing test logo[/bold]
    """
    with client_of(context, common) as client:
        client.standing.test(name)
    answer({"sent": name}, common.format, lambda: plain(f"the webhook of {name} answers"))


@app.command("remove")
@expanded
def remove(context: typer.Context, name: KnownArgument, *, common: CommonOptions) -> None:
    """Remove a standing query: it is no longer asked, and is forgotten.

    Example: [bold]searchanything standing remove logo[/bold]
    """
    with client_of(context, common) as client:
        client.standing.remove(name)
    answer({"removed": name}, common.format, lambda: plain(f"{name} is gone"))


def _table(found: Sequence[StandingStatus]) -> RenderableType:
    if not found:
        return plain("no standing query: searchanything standing add NAME IMAGE")
    by_keys = any(one.query.added_by for one in found)
    table = figure_table("name", "asks", "false match", "webhook", "looked until", *(["key"] if by_keys else []), "")
    for one in found:
        query = one.query
        asked = query.text if query.text is not None else f"{query.prompt['kind']} of {query.image or 'a picture'}"
        until = utc_text(one.looked_until_ms)
        webhook = query.to_dict()["webhook"] or ""
        cells = [query.name, printable(asked), f"{query.max_false_match:g}", webhook, until]
        cells += [query.added_by or ""] if by_keys else []
        table.add_row(*map(plain, [*cells, printable(one.error)]))
    return table


def _text(document: dict[str, Any]) -> str:
    lines = []
    for one in document["matches"]:
        for hit in one["matches"]:
            image = ImageRef(hit["bucket"], hit["key"])
            region = "" if hit["region"] is None else f"#{hit['region']}"
            lines.append(f"{one['query']}: {image}{region} at {hit['distance_bits']} bits")
    lines += [f"{name}: {counted(number, 'match', 'matches')} sent" for name, number in document["sent"].items()]
    lines += [f"{name}: failed: {printable(reason)}" for name, reason in document["failed"].items()]
    if not document["complete"]:
        lines.append("there may be more: look once more")
    return "\n".join(lines) or "nothing new"
