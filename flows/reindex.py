"""The flow `reindex`: index every image of a source again, changed or not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled

from searchanything import wiring
from searchanything.core.omissions import Omissions
from searchanything.core.settings import load_settings
from searchanything.ingest.reports import omissions_report
from searchanything.service.reports import WaveReport, wave_markdown
from searchanything.service.work import worker_client

from .engine import Workers, workers
from .index import finished, finished_without_image
from .many import index_in_waves
from .publish import publish_failures, publish_run, stop_if_cancelled


@flow(name="reindex", flow_run_name="reindex {source}", persist_result=False)
async def reindex(source: str) -> State[WaveReport]:
    """Index all images of a source again, whether they have changed or not; each is found by queries meanwhile.

    Args:
        source: s3://bucket/prefix, or a folder.
    """
    try:
        async with workers(source) as engine:
            wave = await stop_if_cancelled(_reindex(engine, source))
    except CancelledRun as stopped:
        return Cancelled(message=str(stopped))
    await publish_run("reindex", source, wave_markdown(source, wave))
    publish_failures(source, wave.listing.failures)  # the waves publish the images that failed
    return finished_without_image(source, wave) if wave.total.found_no_image else finished(wave)


async def _reindex(engine: Workers, source: str) -> WaveReport:
    """All waves, with what the listing skipped. The workers skip what is not an image."""
    status = await asyncio.to_thread(worker_client().status)
    store, scope = wiring.open_scoped(source, load_settings())
    omissions = Omissions(wanted=scope.concerns)
    keys = (found.ref.key for found in store.list(scope.prefix, omissions) if scope.wants(found.ref.key))
    wave = await index_in_waves(engine, source, keys, total=status.images, force=True)
    return replace(wave, listing=omissions_report(omissions))
