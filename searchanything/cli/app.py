"""`searchanything VERB …`: the application, and the way from an error to an exit code.

Libraries that take long to load are imported by the verbs when they run, so that `--help` is quick.
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

from searchanything.cli import (
    backup,
    combine,
    compare,
    delete,
    demo,
    deploy,
    doctor,
    duplicates,
    evaluate,
    explain,
    export,
    failed,
    features,
    find,
    index,
    keys,
    models,
    query,
    replay,
    segment,
    serve,
    status,
    sync,
    tune,
    watch,
)
from searchanything.cli import hash as hash_verbs
from searchanything.cli.failures import DONE, INTERRUPTED, WRONG_USAGE, asked_format, report
from searchanything.cli.session import Connect, Session, open_client, say
from searchanything.core.errors import SearchAnythingError
from searchanything.core.escaping import OneLineFormatter

_AGAIN_S = 0.05  # until a dropped Ctrl-C is sent again
logger = logging.getLogger(__name__)

app = typer.Typer(
    name="searchanything",
    help="Point at a thing in an image and find every image in a bucket that shows one like it.",
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 finished but some images failed, 130 interrupted.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("index")(index.index)
app.command("watch")(watch.watch)
app.command("worker")(watch.worker)
app.command("cluster-key")(watch.cluster_key)
app.command("deploy")(deploy.deploy)
app.add_typer(sync.app, name="sync")
app.add_typer(failed.app, name="failed")
app.add_typer(features.app, name="features")
app.command("query")(query.query)
app.command("find")(find.find)
app.command("combine")(combine.combine)
app.command("explain")(explain.explain)
app.command("compare")(compare.compare)
app.command("replay")(replay.replay)
app.command("segment")(segment.segment)
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.command("status")(status.status)
app.command("tune")(tune.tune)
app.command("duplicates")(duplicates.duplicates)
app.command("export")(export.export)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("delete")(delete.delete)
app.add_typer(evaluate.app, name="eval")
app.add_typer(models.app, name="models")
app.add_typer(hash_verbs.app, name="hash")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def next_steps() -> str:
    """What to type next, if no command was given; depends on what this user has."""
    from searchanything.core.settings import load_settings

    uri = load_settings().milvus.uri
    if "://" in uri:
        return f"Next: searchanything status, or searchanything doctor; the index is {uri}"
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
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"searchanything {version('searchanything')}")
        except PackageNotFoundError:
            typer.echo("searchanything, not installed as a package")
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
        typer.echo(next_steps())
        raise typer.Exit(WRONG_USAGE)


def run(arguments: Sequence[str], *, connect: Connect = open_client) -> int:
    """Run one command line and return its exit code; nothing is raised. `connect` makes the client."""
    debug = os.environ.get("SEARCHANYTHING_DEBUG") == "1" or "--verbose" in arguments
    with _logs_on_stderr(debug=debug), _interrupts_kept():
        try:
            code = app(list(arguments), prog_name="searchanything", standalone_mode=False, obj=Session(connect))
        except typer.Abort:
            code = INTERRUPTED
        except Exception as error:
            if debug:
                logger.exception("%s", type(error).__name__)
            return report(_ours(error), asked_format(arguments))
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
