"""The flow `retry-failed`: try the images that failed once more, exhausted ones included."""

from __future__ import annotations

import asyncio

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled

from searchanything.service.reports import WaveReport, wave_markdown
from searchanything.service.work import worker_client

from .engine import workers
from .index import finished
from .many import index_in_waves
from .publish import publish_run, stop_if_cancelled


@flow(name="retry-failed", flow_run_name="retry failed images of {source}", persist_result=False)
async def retry_failed(source: str) -> State[WaveReport]:
    """Try all known failures of a source again, however often they have failed.

    Args:
        source: s3://bucket/prefix, or a folder.
    """
    failed = await asyncio.to_thread(worker_client().failures, source)
    keys = [one.image.key for one in failed]
    try:
        async with workers(source) as engine:
            wave = await stop_if_cancelled(
                index_in_waves(engine, source, keys, total=len(keys), said="named", force=True)
            )
    except CancelledRun as stopped:
        return Cancelled(message=str(stopped))
    await publish_run("retry-failed", source, wave_markdown(source, wave))
    return finished(wave)
