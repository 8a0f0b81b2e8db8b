"""The flow `watch`: one period of turning notifications into waves, with a sync now and then."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Completed
from pydantic import Field

from searchanything.core.counting import counted
from searchanything.core.serve_settings import MOST_SECONDS
from searchanything.core.settings import load_settings
from searchanything.service.deliveries import Deliveries
from searchanything.service.figures import RunKind, WatchFigures
from searchanything.service.reports import WaveReport
from searchanything.service.watcher import Watcher, Work
from searchanything.service.work import worker_client

from .engine import workers
from .index import report_of, run_index
from .publish import last_state, stop_if_cancelled
from .sync import is_in_step, sync

_Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS, allow_inf_nan=False)]
_open: list[Watcher] = []


@flow(name="watch", flow_run_name="watch {source}", persist_result=False)
async def watch(source: str, period_s: _Seconds | None = None) -> State[None]:
    """Index what changes in a source, from the server's notifications and from syncs.

    A run ends after a period, or when it is cancelled, so that no run grows without bound; `searchanything watch`
    starts the next.

    Args:
        source: s3://bucket/prefix, or a folder.
        period_s: Length of the run in seconds; by default the setting `service.period_s`.
    """
    length_s = load_settings().service.period_s if period_s is None else period_s
    async with workers(source) as engine, watcher_of(source) as watcher:
        period = _Period(source, watcher.figures)
        try:
            await stop_if_cancelled(
                watcher.run(Work(period.index_wave, period.sync), until=time.monotonic() + length_s)
            )
        except CancelledRun as stopped:
            return Cancelled(message=str(stopped))
        engine.stopping = watcher.stopping
        did = {"wave": period.waves, "sync": period.syncs, "look": period.looks, "hint": watcher.queue.hints}
        done = [counted(number, what) for what, number in did.items()]
        return Completed(message=f"{', '.join(done)} so far")


@contextlib.asynccontextmanager
async def watcher_of(source: str) -> AsyncIterator[Watcher]:
    """The watcher of this process, with what sends matches: the outermost block opens and closes them."""
    if _open:
        yield _open[0]
        return
    settings = load_settings()
    watcher = Watcher(source, settings)
    deliveries = Deliveries(worker_client, settings.standing.every_s, watcher.figures)
    _open.append(watcher)
    deliveries.start()
    try:
        yield watcher
    finally:
        _open.clear()
        watcher.close()
        await asyncio.to_thread(deliveries.stop)


class _Period:
    """What the watcher's loop starts: flows, as children of this run."""

    def __init__(self, source: str, figures: WatchFigures) -> None:
        self._source, self._figures = source, figures
        self.waves = self.syncs = self.looks = 0
        self._synced = False

    async def index_wave(self, keys: Sequence[str]) -> Sequence[str]:
        """Keys to look at again. Raises: what the flow raised."""
        self.waves += 1
        report = await self._done("wave", await run_index(self._source, list(keys)))
        return () if report is None else report.total.left

    async def sync(self) -> bool:
        """A run of the flow `sync`: up to the first that ends in any case, then only where there is something to do.

        Returns: False if it was cancelled. Raises: what the flow raised.
        """
        if self._synced and await asyncio.to_thread(is_in_step, self._source):
            self.looks += 1
            return True
        self.syncs += 1
        report = await self._done("sync", await last_state(sync(self._source, return_state=True)))
        self._synced = self._synced or report is not None
        return report is not None

    async def _done(self, kind: RunKind, state: State[Any]) -> WaveReport | None:
        """None for a run that was cancelled in Prefect: it does not come back, the next regular sync does the rest."""
        if state.is_cancelled():
            self._figures.cancelled(kind)
            return None
        report = await report_of(state)
        self._figures.did(kind, report)
        return report
