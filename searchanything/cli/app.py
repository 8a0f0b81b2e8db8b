"""`searchanything VERB …`: the application, and the way from an error to an exit code.

A verb is imported when it is asked for (`verbs`), and imports what takes long to load when it runs.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from searchanything.cli.entry import INTERRUPTED
from searchanything.cli.failures import DONE, WRONG_USAGE, asked_format, report
from searchanything.cli.helping import asks_help, prepare_help
from searchanything.cli.session import Connect, Session, open_client, say, write_stdout
from searchanything.cli.verbs import MARKUP, Verbs, is_of_broken_pipe
from searchanything.core.errors import SearchAnythingError
from searchanything.core.escaping import OneLineFormatter
from searchanything.core.extras import DISTRIBUTION, package_version

_AGAIN_S = 0.05  # until a dropped Ctrl-C is sent again
logger = logging.getLogger(__name__)

app = typer.Typer(
    name="searchanything",
    cls=Verbs,
    help="Point at a thing in an image and find every image in a bucket that shows one like it.",
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 finished but some images failed, 130 interrupted.",
    rich_markup_mode=MARKUP,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def next_steps() -> str:
    """What to type next, if no command was given; depends on what this user has."""
    from searchanything.core.addresses import shown_address
    from searchanything.core.settings import load_settings

    uri = load_settings().milvus.uri
    if "://" in uri:
        return f"Next: searchanything status, or searchanything doctor; the index is {shown_address(uri)}"
    if Path(uri).expanduser().exists():
        return "Next: searchanything query IMAGE --point X,Y; searchanything status says what is indexed"
    return (
        "Nothing is indexed yet. To try it on example images:\n"
        "  searchanything demo --scenes images\n"
        "  searchanything index images --preset pico\n"
        "  searchanything query images/scene-0007.jpg --point 142,436\n"
        "With your own photographs:\n"
        "  searchanything models fetch small\n"
        "  searchanything index FOLDER --preset small\n"
        "  searchanything serve --open"
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{DISTRIBUTION} {package_version()}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        write_stdout(f"{next_steps()}\n")
        raise typer.Exit(WRONG_USAGE)


def run(arguments: Sequence[str], *, connect: Connect = open_client) -> int:
    """Run one command line and return its exit code; nothing is raised. `connect` makes the client."""
    debug = os.environ.get("SEARCHANYTHING_DEBUG") == "1" or "--verbose" in arguments
    with _logs_on_stderr(debug=debug), _interrupts_kept():
        try:
            prepare_help(arguments)
            code = app(list(arguments), prog_name="searchanything", standalone_mode=False, obj=Session(connect))
        except typer.Abort:
            code = INTERRUPTED
        except SystemExit as ended:  # of the help, whose reader went away, or of a shell's completions
            code = DONE if is_of_broken_pipe(ended) else ended.code
        except Exception as error:
            if isinstance(error.__cause__, BrokenPipeError) and asks_help(arguments):
                write_stdout("")  # the reader of a verb's help went away before the last line, which is not Rich's
                return DONE
            if debug:
                logger.exception("%s", type(error).__name__)
            return report(_ours(error), asked_format(arguments), arguments)
    if code == INTERRUPTED:
        say("interrupted")
    return code if isinstance(code, int) else DONE


def _ours(error: Exception) -> Exception:
    """An error as it is, or what it means where a library could not be loaded."""
    if isinstance(error, SearchAnythingError | typer.TyperException):
        return error
    from searchanything.core.libraries import library_error, raised_by_import

    return library_error(error) if raised_by_import(error) else error


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Send a Ctrl-C again that came where Python drops exceptions: in a finaliser, or in the lock of an import."""
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


class _StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: a progress bar takes its place while it is shown."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self.setFormatter(OneLineFormatter("%(levelname)s %(name)s: %(message)s"))
        self._tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        shown = copy.copy(record)
        if not self._tracebacks:
            shown.exc_info = shown.exc_text = None
        say(self.format(shown))


@contextlib.contextmanager
def _logs_on_stderr(*, debug: bool) -> Iterator[None]:
    """Send this package's log to stderr for the length of a block."""
    package = logging.getLogger("searchanything")
    handler = _StderrHandler(tracebacks=debug)
    before = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO if debug else logging.WARNING)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
