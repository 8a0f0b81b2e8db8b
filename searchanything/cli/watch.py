"""`searchanything watch` and `searchanything worker`: a bucket that indexes itself."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import CommonOptions, Format, Preset, Source, Uri, Verbose, expanded
from searchanything.cli.session import answer, plain, say

if TYPE_CHECKING:
    from searchanything.core.settings import Settings
    from searchanything.service.tree import ServiceTree

Once = Annotated[bool, typer.Option("--once", help="Bring the index up to date, as a sync does, and end.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Worker processes.", show_default=False)
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler, tcp://host:port, that has workers already.",
        show_default=False,
    ),
]
SchedulerOfWorker = Annotated[
    str, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler, tcp://host:port.", show_default=False)
]


@expanded
def watch(
    source: Source,
    once: Once = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    *,
    common: CommonOptions,
) -> None:
    """Keep the index up to date with a bucket: what is uploaded is found, what is overwritten or deleted is gone.

    One process tree: Prefect's server with its web page (unless PREFECT_API_URL names one), workers, watcher, syncs.
    Ctrl-C or SIGTERM ends it. Queries from other processes work meanwhile.

    Examples: [bold]searchanything watch s3://holiday --preset small[/bold]

    [bold]searchanything watch s3://holiday --once --format json[/bold]
    """
    from searchanything.service.tree import ServiceTree, check_watchable

    settings = _settings(common.uri, common.preset)
    settings.service.workers = workers or settings.service.workers
    settings.service.scheduler = scheduler or settings.service.scheduler
    check_watchable(source, settings)
    with ServiceTree(source, settings) as tree:
        if once:
            code, document = tree.once()
            page = f"; see {tree.lasting_ui_url}" if tree.lasting_ui_url else ""
            answer(document, common.format, lambda: plain(f"up to date{page}"))
            raise typer.Exit(code)
        with _stopped_by_signals(tree.stop):
            tree.start_watching()
            _tell(tree, source, common.format)
            tree.run()
            say("ending")


def worker(
    scheduler: SchedulerOfWorker,
    uri: Uri = None,
    preset: Preset = None,
    _verbose: Verbose = False,
) -> None:
    """Work for a scheduler, of `watch` or of one's own, on this or another machine; the models stay loaded.

    It needs the same settings for storage and index as the watcher. SIGTERM ends it.

    Example: [bold]searchanything worker --scheduler tcp://10.0.0.5:8786 --uri http://milvus:19530[/bold]
    """
    import asyncio
    import os

    from searchanything.service.tree import check_installed, child_settings

    check_installed()
    os.environ.update(child_settings(_settings(uri, preset)))  # its worker process starts with these
    from searchanything.service.cluster import run_worker

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_signal(run_worker(scheduler)))


def _settings(uri: str | None, preset: str | None) -> Settings:
    from searchanything.core.settings import load_settings

    settings = load_settings()
    settings.milvus.uri = uri or settings.milvus.uri
    settings.models.preset = preset or settings.models.preset
    return settings


def _tell(tree: ServiceTree, source: str, format: Format) -> None:
    """Where everything is."""
    notes = tree.notes
    document = {
        "source": source,
        "ui": tree.ui_url,
        "api": tree.api_url,
        "scheduler": notes.get("scheduler"),
        "webhook": notes.get("webhook"),
        "folder": str(tree.folder),
    }
    webhook = [f"webhook   {document['webhook']}"] if document["webhook"] else []
    lines = [
        f"watching  {source}",
        f"Prefect   {document['ui']}",
        f"scheduler {document['scheduler']}",
        *webhook,
        f"logs      {document['folder']}",
        "Ctrl-C ends it.",
    ]
    answer(document, format, lambda: plain("\n".join(lines)))


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and Ctrl-C for the length of a block."""

    def handle(_number: int, _frame: object) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _until_signal(work: Any) -> None:  # noqa: ANN401  a coroutine that never returns by itself
    import asyncio

    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await task
