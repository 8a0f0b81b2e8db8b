"""Errors as the command line shows them: one line, a cure where one is known, and an exit code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import typer

from searchanything.cli.options import Format
from searchanything.cli.session import one_line, say, write_stdout
from searchanything.cli.wrong_usage import verb_of, wrong_usage
from searchanything.core.addresses import unmarked
from searchanything.core.errors import (
    ImageError,
    IndexNotFoundError,
    IndexUnavailableError,
    LibraryError,
    ObjectNotFoundError,
    SearchAnythingError,
    StoreUnavailableError,
    UsageError,
    WeightsMissingError,
)
from searchanything.core.escaping import printable

DONE = 0
FAILED = 1
WRONG_USAGE = 2
SOME_IMAGES_FAILED = 3

_CURES: tuple[tuple[type[SearchAnythingError], str], ...] = (
    (IndexNotFoundError, "searchanything index SOURCE"),
    (IndexUnavailableError, "check --uri, then: searchanything doctor"),
    (StoreUnavailableError, "check SEARCHANYTHING_STORAGE__ENDPOINT, then: searchanything doctor"),
    (WeightsMissingError, "searchanything models list"),
    (ImageError, "give a JPEG, PNG or WebP file that other programs open"),
)
_LIMIT = re.compile(r"SEARCHANYTHING_\w+(?= allows\b)")  # as an ImageError's reason names it


def asked_format(arguments: Sequence[str]) -> Format:
    """The format that raw arguments ask for: errors follow it even where the arguments cannot be parsed."""
    asked: Format = "text"
    for position, argument in enumerate(arguments):
        value = argument.removeprefix("--format=") if argument.startswith("--format=") else ""
        if argument == "--format" and position + 1 < len(arguments):
            value = arguments[position + 1]
        if value:
            asked = "json" if value == "json" else "text"
    return asked


def report(error: Exception, format: Format, arguments: Sequence[str] = ()) -> int:
    """Print an error of a command line where it belongs and return the exit code."""
    message = printable(" ".join(message_of(error).split()))
    cure = cure_of(error, arguments)
    if format == "json":
        document = {"error": {"type": type_of(error), "message": message} | ({"cure": cure} if cure else {})}
        write_stdout(one_line(document))
        return exit_code_of(error)
    say(f"error: {message}")
    if cure:
        say(f"cure:  {cure}")
    return exit_code_of(error)


def exit_code_of(error: Exception) -> int:
    """2 for wrong usage, ours or typer's; 1 for anything else."""
    if isinstance(error, typer.TyperException):
        return error.exit_code
    return WRONG_USAGE if isinstance(error, UsageError) else FAILED


def type_of(error: Exception) -> str:
    """The class that a script may branch on; typer's own wrong usages count as ours."""
    return UsageError.__name__ if isinstance(error, typer.TyperException) else type(error).__name__


def message_of(error: Exception) -> str:
    """What happened. An error that is not ours is a bug, and shows its type."""
    if isinstance(error, typer.TyperException):
        return wrong_usage(error)
    if isinstance(error, LibraryError):
        return f"{error.library} cannot be loaded: {error.reason}"
    if isinstance(error, SearchAnythingError):
        return "; ".join((str(error), *getattr(error, "__notes__", ())))
    return f"unexpected {type(error).__name__}: {error}"


def cure_of(error: Exception, arguments: Sequence[str] = ()) -> str | None:
    """A command or a step that fixes the error, if one is known and the message does not name it already."""
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        return f"{verb_of(arguments) if context is None else context.command_path} --help"
    if not isinstance(error, SearchAnythingError):
        return "set SEARCHANYTHING_DEBUG=1 for the traceback, and report it"
    if isinstance(error, LibraryError):
        return error.cure
    if "searchanything " in str(error) or "raise SEARCHANYTHING_" in str(error):
        return None
    if isinstance(error, ObjectNotFoundError) and (bucket := _bucket_for_folder(str(error), arguments)):
        return f"if a bucket is meant: {bucket}"
    if isinstance(error, ImageError) and (limit := _LIMIT.search(error.reason)):
        return f"give a smaller image, or raise {limit.group()} if you trust this one"
    return next((cure for kind, cure in _CURES if isinstance(error, kind)), None)


def _bucket_for_folder(message: str, arguments: Sequence[str]) -> str | None:
    """The argument that was taken for a folder, which is not there, as a bucket; None where it can be none."""
    for one in arguments:
        with contextlib.suppress(OSError, ValueError):  # too long, a zero byte
            is_missing = message.startswith(f"{printable(str(Path(one).resolve()))}: no such folder")
            if is_missing and unmarked(f"{one.rstrip('/')}/x") is not None:
                return f"s3://{one}"
    return None
