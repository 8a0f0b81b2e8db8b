"""The flow `watch`: one shift of turning notifications into waves, and of syncing now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Completed

from searchanything.core.settings import load_settings
from searchanything.service.reports import WaveReport
from searchanything.service.station import Station, Work

from .engine import workers
from .index import index, report_of
from .sync import sync
from .telling import stop_if_cancelled

_open: list[Station] = []


@flow(name="watch", flow_run_name="watch {source}", persist_result=False)
async def watch(source: str, shift_s: float | None = None) -> State[None]:
    """Index what changes in a source, as its server tells or as syncs find it.

    A shift ends after a while, or when it is cancelled, so that no run grows without end; `searchanything watch`
    starts the next.

    Args:
        source: s3://bucket/prefix, or a folder.
        shift_s: Length of the shift in seconds; by default as set.
    """
    length_s = shift_s or load_settings().service.shift_s
    async with workers(source) as engine, station_of(source) as station:
        shift = _Shift(source)
        try:
            await stop_if_cancelled(station.run(Work(shift.index_wave, shift.sync), until=time.monotonic() + length_s))
        except CancelledRun as stopped:
            return Cancelled(message=str(stopped))
        engine.stopping = station.stopping
        return Completed(message=f"{shift.waves} waves, {shift.syncs} syncs, {station.queue.hints} hints so far")


@contextlib.asynccontextmanager
async def station_of(source: str) -> AsyncIterator[Station]:
    """The station of this process; the first block that asks opens it, and closes it."""
    if _open:
        yield _open[0]
        return
    station = Station(source, load_settings())
    _open.append(station)
    try:
        yield station
    finally:
        _open.clear()
        station.close()


class _Shift:
    """What the station's loop starts: flows, as children of this one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.waves = self.syncs = 0

    async def index_wave(self, keys: Sequence[str]) -> Sequence[str]:
        """Keys to look at again. Raises: what the flow raised."""
        self.waves += 1
        report = await self._done(await index(self._source, list(keys), return_state=True))
        return report.total.left

    async def sync(self) -> None:
        """Raises: what the flow raised."""
        self.syncs += 1
        await self._done(await sync(self._source, return_state=True))

    async def _done(self, state: State[Any]) -> WaveReport:
        """What somebody has cancelled in Prefect is not begun again; the next sync finds what is left."""
        return WaveReport() if state.is_cancelled() else await report_of(state)
