"""`searchanything replay`: a receipt's query again, and what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from searchanything.cli.options import CommonOptions, expanded, option
from searchanything.cli.session import answer, check_image, client_of, plain
from searchanything.core.errors import UsageError
from searchanything.core.reading import read_file

DIFFERENT = 1
MAX_RECEIPT_BYTES = 64 << 20

ReceiptArgument = Annotated[
    Path,
    typer.Argument(metavar="RECEIPT", help="A file written by `query --receipt`.", show_default=False),
]
QueryImageOption = Annotated[
    str | None, option("--image", "FILE", "The query image, if it is not where the receipt says.")
]


@expanded
def replay(
    context: typer.Context,
    receipt: ReceiptArgument,
    image: QueryImageOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Repeat the query of a receipt and report what differs. Exit code 0 if nothing does, 1 otherwise.

    Example: [bold]searchanything query street.jpg --point 320,240 --receipt r.json[/bold], later
    [bold]searchanything replay r.json[/bold]
    """
    document = _read(receipt)
    if image is not None:
        check_image(image)
    with client_of(context, common) as client:
        replayed = client.replay(document, image, folder=receipt.parent)
    answer(replayed.to_dict(), common.format, lambda: plain(replayed.to_text()))
    if not replayed.same:
        raise typer.Exit(DIFFERENT)


def _read(path: Path) -> dict[str, object]:
    """A receipt's JSON object; what is in it is checked later. Raises: UsageError."""
    try:
        document = json.loads(read_file(path, most_bytes=MAX_RECEIPT_BYTES).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: expected a receipt written by `query --receipt`, this is not JSON ({error})"
        ) from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected a receipt written by `query --receipt`, got a {type(document).__name__}")
    return document
