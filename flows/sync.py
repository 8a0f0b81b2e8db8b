"""The flow `sync`: compare the listing with the index, and repair in waves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Completed

from searchanything.core.errors import IndexNotFoundError, SearchAnythingError
from searchanything.core.settings import load_settings, reading_settings
from searchanything.ingest.reports import IndexReport, SyncReport
from searchanything.service.reports import BatchReport, WaveReport, summary, sync_markdown
from searchanything.service.work import refresh_keys, tidy, worker_client

from .engine import Workers, in_prefect, workers
from .index import finished, finished_without_image, is_io, waves_logger
from .many import index_in_waves
from .publish import publish_failures, publish_held, publish_run, stop_if_cancelled

logger = logging.getLogger(__name__)

HELD_BACK: Final = "Held back"
_TIDY_S: Final = 24 * 3600.0  # more than a batch may take: a pass over the rows grows with the index
_tidied: set[str] = set()  # sources that this process has tidied: a new process may follow a crash


@task(
    task_run_name="{step} {source}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=is_io,
)
async def prepare(source: str, step: str, work: Callable[[], Awaitable[BatchReport]]) -> BatchReport:  # noqa: ARG001
    """Wait for a worker; the others are what Prefect shows."""
    return await work()


@flow(name="sync", flow_run_name="sync {source}", persist_result=False)
async def sync(source: str, repair: bool = True, forget: bool = False) -> State[WaveReport]:  # noqa: FBT001, FBT002
    """Compare the listing with the index: missing, stale and orphaned images, known failures; repair in waves.

    A folder that cannot be listed is a failure of the run, and nothing below it counts as deleted. If very many images
    are gone, or all of them, none is forgotten and the run ends as "Held back". Where neither listing nor index has an
    image it ends as "No image", as a mistyped prefix looks like this. An image that its server does not send is tried
    after pauses that grow to ten minutes.

    Args:
        source: s3://bucket/prefix, or a folder.
        repair: Make the index agree with the listing; without it, only report.
        forget: Forget all images that are gone, even where so many at once would be held back.
    """
    try:
        async with workers(source) as engine:
            found, wave = await stop_if_cancelled(_sync(engine, source, repair=repair, forget=forget))
    except CancelledRun as stopped:
        return Cancelled(message=str(stopped))
    await publish_run("sync", source, sync_markdown(source, found.to_dict(), wave))
    publish_failures(source, found.unlisted)  # the waves publish the images that failed
    done = replace(found, repaired=wave.total)
    if done.found_nothing or done.found_no_image:
        return finished_without_image(source, wave)
    if not found.held:
        return finished(wave)
    publish_held(source, found.held)
    message = summary(wave)
    waves_logger.info("sync, held back: %s", message)
    return Completed(name=HELD_BACK, message=message, data=wave)


async def _sync(engine: Workers, source: str, *, repair: bool, forget: bool = False) -> tuple[SyncReport, WaveReport]:
    found = await _checked(engine, source, repair=repair, forget=forget)
    listing = IndexReport(
        failed=len(found.unlisted),
        failures=found.unlisted,
        skipped=sum(one.count for one in found.skips),
        skips=found.skips,
        gone=len(found.held),
        held=found.held,
    )
    if not repair:
        return found, WaveReport(listing=replace(listing, failed=listing.failed + len(found.failed)))
    due, exhausted = await asyncio.to_thread(_worth_a_try, source, found.failed)
    waiting = len(found.failed) - len(due) - exhausted
    listing = replace(listing, failed=listing.failed + waiting, exhausted=exhausted)
    held = frozenset(found.held)
    keys = [*found.missing, *found.stale, *due]
    gone = [key for key in found.orphaned if key not in held]
    wave = WaveReport(listing=listing) + await index_in_waves(engine, source, keys, total=len(keys))
    if gone:
        wave += await index_in_waves(engine, source, gone, total=len(gone), said="gone")
    if keys or gone or found.lost or source not in _tidied:
        wave += WaveReport((await _step(engine, source, "tidy"),))
        _tidied.add(source)
    await asyncio.to_thread(worker_client().operations.sweep_tiles, source)
    return found, wave


def is_in_step(source: str) -> bool:
    """Whether a run of `sync` would find nothing to do or say: a look at the listing, without a run or an artifact.

    What cannot be looked at is left to the run, which reports it. A failed image that is not due yet makes no run.
    """
    try:
        found = worker_client().operations.plan_sync(source)
        due, _ = _worth_a_try(source, found.failed)
    except SearchAnythingError as error:
        logger.debug("a sync is needed, which will say: %s", error)
        return False
    return not any((found.missing, found.stale, found.orphaned, found.held, found.unlisted, found.lost, due))


def _worth_a_try(source: str, failed: Sequence[str]) -> tuple[list[str], int]:
    """The failures that are due for another try, and how many are exhausted."""
    if not failed:
        return [], 0
    now_ms = int(time.time() * 1000)
    known = {one.image.key: one for one in worker_client().failures(source)}
    due = [key for key in failed if key not in known or known[key].is_due(now_ms)]
    return due, sum(key in known and known[key].exhausted for key in failed)


async def _checked(engine: Workers, source: str, *, repair: bool, forget: bool) -> SyncReport:
    """What differs. An index that is not there yet is made by a worker, which has the models."""
    client = worker_client()
    compare = partial(client.operations.plan_sync, source, forget=forget) if repair else partial(client.sync, source)
    try:
        return await asyncio.to_thread(compare)
    except IndexNotFoundError:
        await _step(engine, source, "make index")
        return await asyncio.to_thread(compare)


async def _step(engine: Workers, source: str, step: str) -> BatchReport:
    """`make index`: an empty one; `tidy`: collect rows that belong to nobody. In a worker."""
    settings = load_settings()
    asked: dict[str, Any] = {"source": source, "reading": reading_settings(settings)}
    if step == "tidy":
        work = partial(engine.run, tidy, asked, urgent=False, timeout_s=_TIDY_S)
    else:
        timeout_s = settings.service.batch_timeout_s
        work = partial(engine.run, refresh_keys, {**asked, "keys": ()}, urgent=False, timeout_s=timeout_s)
    return await in_prefect(prepare, source, step, work)
