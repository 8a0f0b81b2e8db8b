"""`searchanything watch` and `searchanything worker`: a bucket that indexes itself."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from searchanything.cli.index import held_lines
from searchanything.cli.no_images import no_images_text
from searchanything.cli.options import CommonOptions, Format, Preset, Source, Uri, Verbose, expanded, option
from searchanything.cli.session import answer, plain, say, settings_of

if TYPE_CHECKING:
    from searchanything.core.settings import Settings
    from searchanything.service.tree import ServiceTree

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it (PEM).", show_default=False)]
Once = Annotated[bool, typer.Option("--once", help="Bring the index up to date with one sync, and exit.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Worker processes.", show_default=False)
]
Scheduler = Annotated[
    str | None, option("--scheduler", "ADDRESS", "Dask scheduler that already has workers, tls://host:port.")
]
SchedulerOfWorker = Annotated[
    str, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler, tls://host:port.", show_default=False)
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
    """Keep the index in step with a bucket: uploaded images are found, deleted and overwritten ones are gone.

    It starts Prefect's server with its web page (unless PREFECT_API_URL names a server), workers and the watcher. It
    prints a line on stderr for each finished wave. Ctrl-C or SIGTERM stops it all. Other processes can query meanwhile.

    Examples: [bold]searchanything watch s3://holiday --preset small[/bold]

    [bold]searchanything watch s3://holiday --once --format json[/bold]
    """
    if once:
        _bring_up_to_date(source, workers, scheduler, common)
    try:
        with _stopped_by_signals(_interrupt), _tree(source, workers, scheduler, common) as tree:
            tree.start_watching()
            with _stopped_by_signals(tree.stop):
                _announce(tree, source, common.format)
                tree.run()
                say("stopping")
                tree.close()
    except KeyboardInterrupt:  # while it was starting: what was up by then has been ended
        say("stopped")


def worker(
    scheduler: SchedulerOfWorker,
    uri: Uri = None,
    preset: Preset = None,
    _verbose: Verbose = False,
) -> None:
    """Run a worker for the scheduler of `watch`, or for your own, on this or another machine; the models stay loaded.

    It needs the same settings for storage and index as the watcher, and the cluster's key. The key of a `watch` on this
    machine is found through its index; else SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE names it. SIGTERM stops it.

    Example: [bold]searchanything worker --scheduler tls://10.0.0.5:8786 --uri http://milvus:19530[/bold]
    """
    import asyncio
    import os

    from searchanything.core.proxies import loopback_without_proxy
    from searchanything.service.children import CHILDREN_FOLDER
    from searchanything.service.tree import check_installed, child_settings

    check_installed()
    settings = settings_of(uri, preset)
    settings.service.scheduler = scheduler
    key_file = settings.service.cluster_key_file or _key_of_watch(settings)
    settings.service.cluster_key_file = None if key_file is None else key_file.expanduser().absolute()
    _warn_of_open_cluster(settings)
    os.environ.update(loopback_without_proxy(os.environ | child_settings(settings)))  # its process starts with these,
    os.chdir(CHILDREN_FOLDER)  # and here
    from searchanything.service.cluster import cluster_security, run_worker

    cluster_security(settings.service)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_signal(run_worker(scheduler, settings.service)))


def cluster_key(file: KeyFile) -> None:
    """Make the key that scheduler, workers and watcher of your own Dask cluster share; an existing file is kept.

    Anyone who has it can run code in the cluster. Not needed for `watch` without --scheduler, which makes its own key.

    Example: [bold]searchanything cluster-key cluster.pem[/bold]

    [bold]dask scheduler --protocol tls --tls-ca-file cluster.pem --tls-cert cluster.pem --tls-key cluster.pem[/bold]
    """
    from searchanything.service.certificates import make_cluster_key

    made = make_cluster_key(file, replace=False)
    say(f"{file}: {'made' if made else 'already there, kept'}; readable only by you: copy it to the workers' machines")


def _key_of_watch(settings: Settings) -> Path | None:
    """The key that a `watch` of this user keeps beside the same index, where there is one and the scheduler asks."""
    from searchanything.core.state_folders import service_folder
    from searchanything.service.certificates import NAME

    file = service_folder(settings) / NAME
    return file if (settings.service.scheduler or "").startswith("tls://") and file.is_file() else None


def _warn_of_open_cluster(settings: Settings) -> None:
    """A scheduler without a key runs what anybody sends who reaches it."""
    if (settings.service.scheduler or "").startswith("tcp://"):
        say(
            f"warning: {settings.service.scheduler} asks for no key: anyone who can reach it or its workers can run "
            f"code "
            f"there; see `searchanything cluster-key --help`"
        )


def _tree(source: str, workers: int | None, scheduler: str | None, common: CommonOptions) -> ServiceTree:
    """What is to be entered, once it is looked at whether it can work."""
    from searchanything.service.tree import ServiceTree, check_watchable

    settings = settings_of(common.uri, common.preset)
    settings.service.workers = workers or settings.service.workers
    settings.service.scheduler = scheduler or settings.service.scheduler
    _warn_of_open_cluster(settings)
    check_watchable(source, settings)
    return ServiceTree(source, settings, on_wave=say)


def _bring_up_to_date(source: str, workers: int | None, scheduler: str | None, common: CommonOptions) -> NoReturn:
    """One sync: its report, and its exit code."""
    with _tree(source, workers, scheduler, common) as tree:
        code, document = tree.once()
        page = f"; see {tree.lasting_ui_url}" if tree.lasting_ui_url else ""
        lines = [*held_lines(document["held"]), _ended(document) + page]
        if document["no_image"]:
            say(no_images_text(source, document["skipped"], total=document["images"]["skipped"]))
        answer(document, common.format, lambda: plain("\n".join(lines)))
    raise typer.Exit(code)


def _announce(tree: ServiceTree, source: str, format: Format) -> None:
    """Where everything is, and what opens it."""
    notes = tree.notes
    document = {
        "source": source,
        "ui": tree.ui_url,
        "password_file": str(tree.password_file) if tree.password else None,
        "api": tree.api_url,
        "scheduler": notes.get("scheduler"),
        "webhook": notes.get("webhook"),
        "metrics": notes.get("metrics"),
        "folder": str(tree.folder),
    }
    login = [f"password  {_password(tree)}"] if tree.password else []
    listens = [f"{name:9} {document[name]}" for name in ("webhook", "metrics") if document[name]]
    lines = [
        f"watching  {source}",
        f"Prefect   {document['ui']}",
        *login,
        f"scheduler {document['scheduler']}",
        *listens,
        f"logs      {document['folder']}",
        "Ctrl-C stops it.",
    ]
    answer(document, format, lambda: plain("\n".join(lines)))


def _ended(document: Mapping[str, Any]) -> str:
    """The last line of `--once`: whether the index agrees with the source now, and what keeps it from that."""
    numbers = {
        "failed": document["images"]["failed"],
        "exhausted": document["exhausted"],
        "held back": len(document["held"]),
    }
    left = [f"{number:,} {what}" for what, number in numbers.items() if number]
    if not left:
        return "nothing to do: there is no image" if document["no_image"] else "up to date"
    listed = numbers["failed"] or numbers["exhausted"]
    return f"not all is up to date: {', '.join(left)}{' (searchanything failed list)' if listed else ''}"


def _password(tree: ServiceTree) -> str:
    """The password of Prefect's page; outside of a terminal, as in a journal, only the file that has it."""
    place = tree.password_file
    return f"{tree.password}  (kept in {place})" if sys.stdout.isatty() else f"in {place}"


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM, SIGHUP and Ctrl-C for the length of a block."""
    from searchanything.processes import ending_signals

    def handle(_number: int, _frame: object) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


async def _until_signal(work: Any) -> None:  # noqa: ANN401  a coroutine that never returns by itself
    import asyncio

    from searchanything.processes import ending_signals

    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, task.cancel)
    await task
