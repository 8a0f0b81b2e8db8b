"""Publishes our work to Prefect (artifacts, events, progress) and obeys its cancellations. All of it O(batches)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from prefect import runtime
from prefect.artifacts import acreate_markdown_artifact, acreate_progress_artifact, aupdate_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import CancelledRun, ObjectNotFound
from prefect.states import Cancelled

from searchanything.core.counting import counted
from searchanything.ingest.reports import Failure
from searchanything.service.reports import BatchReport, WaveReport, wave_markdown

from .naming import source_slug

logger = logging.getLogger(__name__)

FAILURES_EVENT: Final = "searchanything.wave.failures"
HELD_EVENT: Final = "searchanything.sync.held"
FAILURES_PUBLISHED: Final = 10  # events per wave for single images
_CANCEL_POLL_S: Final = 5.0
_Result = TypeVar("_Result")


async def publish_run(kind: str, source: str, text: str) -> None:
    """The artifact of a run, in Markdown."""
    await acreate_markdown_artifact(text, key=artifact_key(kind, source))


async def publish_wave(source: str, wave: WaveReport) -> None:
    """The artifact of a wave, and its failures as events."""
    await publish_run("index", source, wave_markdown(source, wave))
    publish_failures(source, wave.total.failures)


def publish_failures(source: str, failures: Sequence[Failure]) -> None:
    """Events: one for all that failed, and one each for the first images or places; none without failures."""
    if not failures:
        return
    for one in failures[:FAILURES_PUBLISHED]:
        emit_event(
            "searchanything.image.failed",
            resource=_resource(source),
            payload={"key": one.key, "error": one.error, "message": one.message},
        )
    emit_event(FAILURES_EVENT, resource=_resource(source), payload={"failed": len(failures)})


def publish_held(source: str, keys: Sequence[str]) -> None:
    """One event for the images that are gone and were not forgotten, with the first of their keys."""
    payload = {"images": len(keys), "examples": list(keys[:FAILURES_PUBLISHED])}
    emit_event(HELD_EVENT, resource=_resource(source), payload=payload)


def publish_batch(source: str, batch: BatchReport) -> None:
    """One event per batch."""
    counts = {name: value for name, value in batch.report.to_dict()["images"].items() if value}
    payload = {**counts, "seconds": round(batch.seconds, 3), "worker": f"{batch.host}:{batch.pid}"}
    emit_event("searchanything.batch.done", resource=_resource(source), payload=payload)


class Progress:
    """A bar in Prefect's UI for a run of many waves."""

    def __init__(self, source: str, total: int) -> None:
        """`total` images are expected; if there are more, the bar stays at 100 %."""
        self._source, self._total = source, total
        self._artifact: Any = None

    async def show(self, images: int) -> None:
        """Show how many images are done."""
        percent = 100.0 if not self._total else min(100.0, 100 * images / self._total)
        text = f"{images:,} of {counted(self._total, 'image')}"
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(percent, key=artifact_key("progress", self._source))
        await aupdate_progress_artifact(self._artifact, progress=percent, description=text)


async def stop_if_cancelled(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`; if the run is cancelled or deleted in Prefect meanwhile, `work` is stopped.

    What is committed stays. Raises: CancelledRun.
    """
    task = asyncio.ensure_future(work)
    run_id = runtime.flow_run.id
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_CANCEL_POLL_S)
            if not task.done() and run_id is not None and await _is_cancelling(run_id):
                raise CancelledRun("cancelled; what has been committed stays")
        return await task
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def last_state(run: Awaitable[State[Any]]) -> State[Any]:
    """The last state of a run of ours; Cancelled if it was deleted in Prefect, which can keep no state of it then."""
    try:
        return await run
    except ObjectNotFound:
        return Cancelled(message="deleted in Prefect; what has been committed stays")


def artifact_key(kind: str, source: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes."""
    return f"{kind}-{source_slug(source)}"


def _resource(source: str) -> dict[str, str]:
    return {"prefect.resource.id": f"searchanything.source.{source}", "prefect.resource.name": source}


async def _is_cancelling(run_id: str) -> bool:
    async with get_client() as client:
        try:
            run = await client.read_flow_run(run_id)  # type: ignore[arg-type]
        except ObjectNotFound:
            return True
    return run.state is not None and (run.state.is_cancelling() or run.state.is_cancelled())
