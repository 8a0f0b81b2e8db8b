"""`searchanything find`: a query in a folder, which is indexed first where nobody has done so yet."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from searchanything.cli.no_images import no_images_text
from searchanything.cli.options import CommonOptions, OptionalImage, Save, expanded
from searchanything.cli.progress import indexing_progress
from searchanything.cli.prompting import FilterOptions, PageOptions, PromptOptions
from searchanything.cli.query import answer_text
from searchanything.cli.questions import MarkOptions, Question, words_alone
from searchanything.cli.session import answer, check_save, save_where_asked, say, session_of
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.types import Filter, Place

if TYPE_CHECKING:
    from searchanything.client.client import Client

BUNDLED: Final = "pico"  # needs no download
BETTER: Final = "small"

FolderOption = Annotated[
    Path,
    typer.Option("--in", metavar="FOLDER", exists=True, file_okay=False, help="The folder to search; default: here."),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Index the folder without asking, if it is not indexed yet.")
]


@expanded
def find(
    context: typer.Context,
    prompt: PromptOptions,
    page: PageOptions,
    filter: FilterOptions,
    image: OptionalImage = None,
    folder: FolderOption = Path(),
    yes: YesOption = False,
    save: Save = None,
    *,
    common: CommonOptions,
) -> None:
    """Query the images of a folder. If the folder is not indexed yet, it is indexed first, if you agree.

    It asks on a terminal; elsewhere, agree with --yes. To add new images later: searchanything index FOLDER.

    Examples: [bold]searchanything find photo.jpg --text "a red bag"[/bold]

    [bold]searchanything find ~/photo.jpg --point 320,240 --in ~/Pictures --yes --save hits.png[/bold]
    """
    asked_for, wanted = prompt.prompt(), filter.filter() or Filter()
    if wanted.bucket is not None or wanted.key_prefix:
        raise UsageError(
            "find looks in a folder: --in FOLDER; with --bucket and --key-prefix, use searchanything query"
        )
    question = Question(image, None, asked_for, words_alone(image, asked_for), page, wanted, None, MarkOptions())
    check_save(save, image, prompt.mask)
    session, preset = session_of(context), common.preset
    with session.client(common.uri, preset) as client:
        place, is_new = _indexed_place(client, folder), not client.status().exists
    if place is None:
        preset = preset or (_preset_of_new() if is_new else None)
        _ask_for(folder, preset, yes=yes)
    with session.client(common.uri, preset) as client:
        place = place or _index(client, folder, words=image is None)
        here = replace(wanted, bucket=place[0], key_prefix=place[1])
        document = _answer(client, replace(question, filter=here), save=save)
    answer(document, common.format, lambda: answer_text(document, first=page.offset + 1))


def _answer(client: Client, question: Question, *, save: Path | None) -> dict[str, Any]:
    results = question.ask(client)
    save_where_asked(save, results.save)
    return results.to_dict()


def _indexed_place(client: Client, folder: Path) -> Place | None:
    """Where the index has images of a folder: under its own name, or as a part of one above it."""
    from searchanything.core.errors import IndexNotFoundError

    here = folder.expanduser().absolute()
    try:
        for above in (here, *here.parents):
            prefix = "" if above == here else f"{here.relative_to(above).as_posix()}/"
            if client.images(bucket=str(above), key_prefix=prefix, most=1)[0]:
                return str(above), prefix
    except IndexNotFoundError:
        return None
    return None


def _preset_of_new() -> str | None:
    """The preset for a new index: None where the settings name one; else `small` if it is here."""
    from searchanything.core.errors import SearchAnythingError
    from searchanything.core.settings import load_settings
    from searchanything.models.presets import describe

    settings = load_settings()
    if settings.models.preset:
        return None
    try:
        describe(BETTER, settings.models)
    except SearchAnythingError:
        return BUNDLED
    return BETTER


def _ask_for(folder: Path, preset: str | None, *, yes: bool) -> None:
    """Whether the folder may be indexed now. Raises: UsageError where nobody can be asked; typer.Abort for a no."""
    name = shlex.quote(str(folder))
    if preset == BUNDLED:
        say(
            f"the bundled models ({BUNDLED}) are small; for photographs, run once: "
            f"searchanything models fetch {BETTER}, then: searchanything index {name} --preset {BETTER}"
        )
    if yes:
        return
    if not sys.stdin.isatty():
        chosen = f" --preset {preset}" if preset else ""
        raise UsageError(f"{folder.absolute()} is not indexed: add --yes, or: searchanything index {name}{chosen}")
    say(f"{folder.absolute()} is not indexed. Index it now? [Y/n]")
    typed = sys.stdin.readline()  # typer's question would write to stdout, which is the answer's
    if not typed or typed.strip().lower() not in ("", "y", "yes"):
        raise typer.Abort


def _index(client: Client, folder: Path, *, words: bool) -> Place:
    """Index the folder, and say where its images are then. Raises: UsageError where there are none."""
    with indexing_progress("indexing") as show:
        report = client.index(folder, progress=show, add_words=words)
    if report.found_no_image:
        there = no_images_text(str(folder), report.to_dict()["skipped"], total=report.skipped)
        raise UsageError(there if report.skipped else f"{folder}: there is no image here that could be indexed")
    say(f"indexed {counted(report.indexed, 'image')}, {counted(report.failed, 'failure')}")
    place = _indexed_place(client, folder)
    if place is None:
        raise UsageError(f"{folder}: none of its images could be indexed: searchanything failed list")
    return place
