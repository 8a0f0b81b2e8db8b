"""The service's processes: `python -m searchanything_flows watch|once|deploy SOURCE`, and `serve` for Prefect's server.

`searchanything watch` starts it, keeps it alive, and ends it by closing its standard input; so it also ends when
`watch` itself is killed. It writes its addresses to a JSON file and a line for each wave to another; its answer, if
any, is one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from searchanything.core.escaping import OneLineFormatter
from searchanything.core.files import whole_file
from searchanything.core.settings import load_settings
from searchanything.service.deliveries import Deliveries
from searchanything.service.figures import WatchFigures
from searchanything.service.wave_lines import write_lines_to
from searchanything.service.work import worker_client

from .automations import ensure_automations
from .deployments import deploy
from .engine import Workers, workers
from .index import NO_IMAGE, report_of
from .publish import last_state
from .server import serve_prefect
from .sync import sync
from .watch import watch, watcher_of

logger = logging.getLogger("searchanything.flows")

_LONGEST_END_S: Final = 25.0
_POLL_S: Final = 2.0


async def keep_watch(source: str, notes: Path | None) -> int:
    """Run `watch` again and again until standard input ends; 1 if the scheduler went away: then this is restarted."""
    settings = load_settings().service
    async with workers(source) as engine, watcher_of(source) as watcher:
        await ensure_automations(settings.alert_block)

        def stop() -> None:
            engine.stopping = True
            watcher.stop()

        _when_stdin_ends(stop)
        listens = {"webhook": watcher.webhook_url, "metrics": watcher.metrics_url}
        _write(notes, {"pid": os.getpid(), "scheduler": engine.address, **listens})
        guard = asyncio.create_task(_stop_when_lost(engine, stop))
        while not watcher.stopping:
            run = await last_state(watch(source, return_state=True))
            if not run.is_cancelled():  # a cancelled run is followed by the next
                await run.aresult()
        guard.cancel()
        return int(engine.lost)


async def _stop_when_lost(engine: Workers, stop: Callable[[], None]) -> None:
    while not engine.lost:
        await asyncio.sleep(_POLL_S)
    logger.error("the scheduler at %s went away for good; stopping", engine.address)
    stop()


async def bring_up_to_date(source: str) -> int:
    """One sync; 3 if images failed, are exhausted or were held back, or there is none at all, as of `sync repair`."""
    deliveries = Deliveries(worker_client, load_settings().standing.every_s, WatchFigures())
    async with workers(source) as engine:

        def stop() -> None:
            engine.stopping = True
            deliveries.end()

        _when_stdin_ends(stop)
        state = await sync(source, return_state=True)
        report = (await report_of(state)).total
        await asyncio.to_thread(deliveries.once)
    no_image = state.name == NO_IMAGE
    sys.stdout.write(json.dumps({**report.to_dict(), "no_image": no_image}) + "\n")
    return 3 if report.failed or report.exhausted or report.held or no_image else 0


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="searchanything_flows")
    parser.add_argument("command", choices=("watch", "once", "deploy", "serve"))
    parser.add_argument("source", nargs="?", default="")
    parser.add_argument("--listener", type=int, help="descriptor of the socket on which Prefect's server listens")
    parser.add_argument("--notes", type=Path, help="file to write addresses to")
    parser.add_argument("--waves", type=Path, help="file to add a line to for each finished wave")
    parser.add_argument("--sync-every", type=float, help="schedule of the deployed sync, in seconds")
    given = parser.parse_args()
    if given.command == "serve":
        serve_prefect(given.listener)
        return 0
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[shown])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if given.waves is not None:
        write_lines_to(given.waves)
    if given.command == "deploy":
        names = asyncio.run(deploy(given.source, sync_every_s=given.sync_every))
        sys.stdout.write(json.dumps({"deployments": names}) + "\n")
        return 0
    if given.command == "once":
        return asyncio.run(bring_up_to_date(given.source))
    return asyncio.run(keep_watch(given.source, given.notes))


def _when_stdin_ends(stop: Callable[[], None]) -> None:
    """Call `stop` when nobody holds the other end of standard input any more."""

    def read() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        logger.info("standard input has ended; stopping")
        stop()
        time.sleep(_LONGEST_END_S)
        logger.warning("not everything ended in time; what has been committed stays")
        os._exit(1)  # Prefect's client waits for minutes for a server that is gone; workers end with this process

    threading.Thread(target=read, name="stdin", daemon=True).start()


def _write(path: Path | None, notes: dict[str, object]) -> None:
    if path is not None:
        with whole_file(path, private=True) as out:
            out.write(json.dumps(notes).encode())


if __name__ == "__main__":
    sys.exit(main())
