"""Deployments of the flows on a given Prefect server; `prefect.yaml` is the same for Prefect's own command line."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from searchanything.core.settings import load_settings

from .automations import ensure_automations
from .engine import TAG
from .index import index
from .naming import source_slug
from .reindex import reindex
from .retry_failed import retry_failed
from .sync import sync
from .watch import watch

POOL: Final = "searchanything"
FLOWS: Final[dict[str, Flow[..., Any]]] = {
    f"searchanything_flows.{one.fn.__module__.rpartition('.')[2]}.{one.fn.__name__}": one
    for one in (watch, index, sync, reindex, retry_failed)
}


async def deploy(source: str, *, sync_every_s: float | None) -> list[str]:
    """Register pool, deployments and automations; idempotent. Returns the deployments' names.

    `sync_every_s` puts the sync on Prefect's own schedule; where `searchanything watch` runs, it syncs by itself.
    """
    settings = load_settings().service
    async with get_client() as client:
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    names = []
    for entrypoint, one in FLOWS.items():
        deployment = await one.ato_deployment(
            name=source_slug(source),
            parameters={"source": source},
            tags=[TAG],
            description=one.description,
            work_pool_name=POOL,
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},  # see automations
            interval=sync_every_s if one is sync else None,
            concurrency_limit=1 if one in (watch, sync) else None,
        )
        deployment.entrypoint = entrypoint
        await deployment.apply()  # type: ignore[misc]
        names.append(deployment.full_name)
    await ensure_automations(settings.alert_block)
    return names
