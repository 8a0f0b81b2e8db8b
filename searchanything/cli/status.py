"""`searchanything status`: what the index holds."""

from __future__ import annotations

from typing import Any

import typer

from searchanything.cli.moments import utc_text
from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.session import TwoColumns, answer, answer_pairs, client_of, plain
from searchanything.core.counting import counted


@expanded
def status(
    context: typer.Context,
    *,
    common: CommonOptions,
) -> None:
    """Show what the index contains and which models made it.

    Example: [bold]searchanything status --uri trial.db --format json[/bold]
    """
    with client_of(context, common) as client:
        document = client.status().to_dict()
    if document["exists"]:
        answer_pairs(document, common.format, lambda: _pairs(document))
    else:
        sentence = "there is no index; check --uri, or make one: searchanything index SOURCE"
        answer(document, common.format, lambda: plain(f"{document['uri']}: {sentence}"))


def _pairs(document: dict[str, Any]) -> TwoColumns:
    pairs = []
    for name, value in document.items():
        if name == "exists" or (name == "lost" and not value):
            continue
        if name == "lost":
            value = f"{counted(value, 'region')}, whose rows are gone; to restore: searchanything sync repair SOURCE"
        if name == "consistency":
            value = _consistency(value)
        if isinstance(value, dict):
            value = ", ".join(f"{key} {one}" for key, one in value.items())
        if name == "garbage" and value is None:
            value = "not looked for; the other numbers are of all rows"
        if name == "words" and value is None:
            value = "none; searchanything index SOURCE --add-words adds them"
        shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        pairs.append((name, shown))
    return pairs


def _consistency(measured: dict[str, Any] | None) -> str:
    """What `eval mine` measured last, in words."""
    if measured is None:
        return "not measured; searchanything eval mine"
    day = utc_text(measured["measured_at_ms"], "%Y-%m-%d")
    return (
        f"copies of {counted(measured['regions'], 'region')} find their own first in {measured['recall_1']:.0%}, among "
        f"ten in {measured['recall_10']:.0%} ({measured['among_regions']:,} regions, {day})"
    )
