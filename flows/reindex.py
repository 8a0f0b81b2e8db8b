"""The flow `reindex`: every image of a prefix again, changed or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled

from searchanything import wiring
from searchanything.service.reports import WaveReport, wave_markdown
from searchanything.service.work import worker_client
from searchanything.settings import load_settings

from .engine import workers
from .index import finished
from .many import index_in_waves
from .telling import stop_if_cancelled, tell_run


@flow(name="reindex", flow_run_name="reindex {source}", persist_result=False)
async def reindex(source: str) -> State[WaveReport]:
    """Index all images of a source again, whether they have changed or not; each is found by queries meanwhile.

    Args:
        source: s3://bucket/prefix, or a folder.
    """
    status = await asyncio.to_thread(worker_client().status)
    try:
        async with workers(source) as engine:
            work = index_in_waves(engine, source, _keys(source), total=status.counts.images, force=True)
            wave = await stop_if_cancelled(work)
    except CancelledRun as stopped:
        return Cancelled(message=str(stopped))
    await tell_run("reindex", source, wave_markdown(source, wave))
    return finished(wave)


def _keys(source: str) -> Iterator[str]:
    """The keys of a source's listing that are meant; what is no image is passed over by the work itself."""
    store, scope = wiring.open_scoped(source, load_settings())
    return (found.ref.key for found in store.list(scope.prefix) if scope.wants(found.ref.key))
