"""`searchanything serve`: the web page and REST, in one warm process."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated, Final

import typer

from searchanything.cli.failures import DONE
from searchanything.cli.options import CommonOptions, expanded, option
from searchanything.cli.session import client_of, say, settings_of
from searchanything.core.addresses import shown_index
from searchanything.core.errors import IndexNotFoundError, SearchAnythingError, UsageError
from searchanything.core.extras import install_command

if TYPE_CHECKING:
    from searchanything.client.client import Client

_CLOSING_S: Final = 5.0  # for the index, where work is left
_SERVER: Final = ("fastapi", "starlette", "uvicorn", "prometheus_client")
HostOption = Annotated[
    str | None,
    option("--host", "ADDRESS", "Address to listen on; default 127.0.0.1. Beyond this machine, keys are required."),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port", metavar="N", min=0, max=65535, help="Port; default 8600, 0 for any free one.", show_default=False
    ),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")]


def _open(url: str) -> None:
    if not webbrowser.open(url):
        say(f"there is no browser here: open {url} yourself")


@expanded
def serve(
    context: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    open_page: OpenOption = False,
    *,
    common: CommonOptions,
) -> None:
    """Serve a web page on which to point at things, and a REST API for programs. Ctrl-C or SIGTERM ends it.

    Examples: [bold]searchanything serve --uri index.db[/bold], then open http://127.0.0.1:8600

    [bold]searchanything serve --open[/bold]
    """
    try:
        from searchanything.serve.run import serve as run_server
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _SERVER:  # another cause, another cure
            raise
        raise UsageError(f"the server needs more packages ({error.name}): {install_command('serve')}") from error
    settings = settings_of(common.uri, common.preset)
    settings.serve.host = host or settings.serve.host
    settings.serve.port = settings.serve.port if port is None else port

    def started(url: str) -> None:
        say(f"serving {shown_index(settings.milvus.uri)}{empty} at {url}")
        if open_page:  # in a thread: a browser may run for as long as this call
            threading.Thread(target=_open, args=(url,), daemon=True).start()

    with client_of(context, common) as client:
        empty = "" if _has_index(client) else " (nothing is indexed there yet)"
        finished = run_server(client, settings, started=started)
        if not finished:
            last = threading.Timer(_CLOSING_S, _end)  # to close the index may take as long as the work that is left
            last.daemon = True
            last.start()
    if not finished:
        _end()


def _has_index(client: Client) -> bool:
    """False where nothing is indexed. What cannot be reached now may be later: the server's answers say so."""
    try:
        return bool(client.manifest)
    except IndexNotFoundError:
        return False
    except SearchAnythingError:
        return True


def _end() -> None:
    """End the process now: the interpreter would wait for threads of work that may never end."""
    say("ended before all work was done")
    sys.stdout.flush()
    os._exit(DONE)
