"""`searchanything index`: a bucket or folder into the index."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.failures import SOME_IMAGES_FAILED
from searchanything.cli.no_images import no_images_text
from searchanything.cli.options import CommonOptions, PatternOptions, Source, expanded, option
from searchanything.cli.progress import indexing_progress
from searchanything.cli.session import TwoColumns, answer, answer_pairs, client_of, first_lines, plain, say
from searchanything.core.addresses import split_s3
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.escaping import printable
from searchanything.core.reading import kind_at
from searchanything.core.skips import Skipped

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.wiring import HashChoice

HashFile = Annotated[
    str | None,
    option(
        "--hash",
        "FILE|untrained",
        "Hash layer (safetensors) of a new index, or `untrained`. By default the preset's; if the preset has none that "
        "is trained, one is trained first on a sample of the images.",
    ),
]
EstimateOnly = Annotated[
    bool,
    typer.Option(
        "--estimate", help="Index only a sample, and estimate what all images would take. Nothing is written."
    ),
]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Forget images that are gone from SOURCE, unless very many are gone at once."),
]
AddWords = Annotated[
    bool,
    typer.Option(
        "--add-words",
        help="Make SOURCE searchable by words alone. Images that lack words codes are indexed again, unless their "
        "features are kept.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Index unchanged images too.")]


@expanded
def index(
    context: typer.Context,
    source: Source,
    hash_file: HashFile = None,
    force: Force = False,
    *,
    keys: PatternOptions,
    estimate: EstimateOnly = False,
    prune: Prune = False,
    add_words: AddWords = False,
    common: CommonOptions,
) -> None:
    """Index the images of a bucket or folder; unchanged ones are skipped.

    One bad image never stops the run: it is reported, and the exit code is 3. Images that are gone from SOURCE
    stay in the index, and can still be hits: the report counts them, and --prune forgets them.

    Examples: [bold]searchanything index s3://holiday/2024/ --preset small[/bold]

    [bold]searchanything index ./images --preset pico --uri trial.db --format json[/bold]

    [bold]searchanything index s3://archive --preset small --estimate[/bold]
    """
    patterns = keys.patterns()
    layer = hash_choice(hash_file)
    if common.preset is not None:
        _warn_of_limits(common.preset, source)
    if estimate:
        if hash_file is not None or force or prune or add_words:
            raise UsageError(
                "--estimate cannot be combined with --hash, --force, --prune or --add-words: it keeps nothing"
            )
        with client_of(context, common) as client, indexing_progress("estimating") as show:
            foreseen = client.estimate(source, patterns=patterns, progress=show).to_dict()
        answer_pairs(foreseen, common.format, lambda: _estimate_pairs(foreseen))
        return
    with client_of(context, common) as client, indexing_progress() as show:
        report = client.index(
            source,
            hash_file=layer,
            force=force,
            prune=prune,
            patterns=patterns,
            progress=show,
            add_words=add_words,
        )
    document = report.to_dict()
    if report.found_no_image:
        say(no_images_text(source, document["skipped"], total=report.skipped))
    answer(document, common.format, lambda: report_text(document, pruned=prune))
    if report.found_no_image or report.failed or report.held:
        raise typer.Exit(SOME_IMAGES_FAILED)


def _warn_of_limits(preset: str, source: str) -> None:
    """Before hours of work, what the preset does not know; of the demo's own bucket it knows all."""
    from searchanything.demo.bucket import BUCKET
    from searchanything.models.limits import state_limits

    if (split_s3(source) or ("", ""))[0] != BUCKET:
        state_limits(preset)


def hash_choice(text: str | None) -> HashChoice:
    """What `--hash` names. Raises: UsageError for a file that is not there."""
    if text is None:
        return None
    if text == "untrained":
        return "untrained"
    if kind_at(Path(text), "a hash layer, or untrained") != "file":
        raise UsageError(f"--hash {text}: no such file; expected a hash layer, or untrained")
    return Path(text)


def report_text(document: dict[str, Any], *, pruned: bool = False) -> RenderableType:
    """An `IndexReport`'s document for people; `pruned` if the run was one that forgets what is gone."""
    images = ", ".join(f"{count:,} {outcome}" for outcome, count in document["images"].items())
    lines = [f"{images}; {counted(document['regions'], 'region')} in {document['seconds']:.1f} s"]
    if empty := document["images"]["empty"]:
        lines.append(
            f"empty: in {counted(empty, 'image')} no region was found, so only a query for whole images finds "
            f"{'it' if empty == 1 else 'them'}; to list: searchanything failed list --empty"
        )
    failures = document["failures"]
    lines += first_lines(["failed: " + failure_line(one) for one in failures], "more failure")
    lines += skipped_lines(document["skipped"]) + warning_lines(document["warnings"])
    if document["deleted"]:
        lines.append(f"forgotten: {counted(document['deleted'], 'image')} that SOURCE no longer holds")
    if document["gone"] and not document["held"]:
        lines.append(_gone_line(document["gone"], pruned=pruned))
    lines += held_lines(document["held"])
    return plain("\n".join(lines))


def _gone_line(count: int, *, pruned: bool) -> str:
    """What to do about images that are gone; those that a run with --prune leaves went after it had listed them."""
    from searchanything.ingest.reports import images_are

    if pruned:
        return f"gone: {images_are(count)} no longer there since the listing; the next run decides on them"
    return (
        f"gone: {images_are(count, 'indexed')} no longer there, but can still be hits; to forget them: "
        "searchanything sync repair SOURCE, or index --prune"
    )


def held_lines(keys: list[str]) -> list[str]:
    """The images that were not forgotten because they were so many, for people, and what to do about it."""
    from searchanything.ingest.reports import images_are

    if not keys:
        return []
    said = "more held back"
    lines = first_lines([f"held back: {printable(key)}" for key in keys], said, said)
    lines.append(
        f"held back: {images_are(len(keys))} gone from the listing, too many at once to forget automatically. Is a "
        f"disk "
        "or a part of the bucket missing? If they were deleted: searchanything sync repair SOURCE --forget"
    )
    return lines


def skipped_lines(groups: list[dict[str, Any]]) -> list[str]:
    """Why objects were skipped, with examples, for people."""
    return [printable(f"skipped: {Skipped(one['reason'], one['count'], tuple(one['examples']))}") for one in groups]


def failure_line(failure: dict[str, str]) -> str:
    """A failure or a warning on one line, whatever its key holds."""
    return printable(f"{failure['key']}: {failure['error']}: {failure['message']}")


def warning_lines(warnings: list[dict[str, str]]) -> list[str]:
    """The first warnings of a report, for people."""
    return first_lines(["warning: " + failure_line(one) for one in warnings], "more warning")


def _estimate_pairs(document: dict[str, Any]) -> TwoColumns:
    sample = document["sample"]
    free = document["disk_free_bytes"]
    rows = {
        "images": f"{document['images']:,}, {_size_text(document['bytes'])}",
        "regions": f"{document['regions']:,}",
        "time": f"{timedelta(seconds=round(document['seconds']))} at {document['images_per_s']:.2f} images/s",
        "index on disk": _size_text(document["disk_bytes"]) + ("" if free is None else f" of {_size_text(free)} free"),
        "index in memory": _size_text(document["memory_bytes"]["index"]),
        "this process": _size_text(document["memory_bytes"]["worker"]),
        "sample": f"{counted(sum(sample['images'].values()), 'object')}, {sample['images']['failed']:,} failed",
    }
    if not document["fits"]:
        rows[""] = "the index would not fit on the disk"
    return list(rows.items())


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"
