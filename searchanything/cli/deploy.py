"""`searchanything deploy`: the flows as deployments on a Prefect server."""

from __future__ import annotations

from typing import Annotated

import typer

from searchanything.cli.options import OutputOptions, Source, expanded
from searchanything.cli.session import answer, plain

SyncEvery = Annotated[
    float | None,
    typer.Option(
        "--sync-every",
        min=1,
        metavar="SECONDS",
        help="Let Prefect run the sync on a schedule; not needed where `watch` runs.",
        show_default=False,
    ),
]


@expanded
def deploy(source: Source, sync_every: SyncEvery = None, *, output: OutputOptions) -> None:
    """Register the flows for a source on the Prefect server that PREFECT_API_URL names; repeating it does no harm.

    Makes the work pool `searchanything`, deployments of watch, index, sync, reindex and retry-failed, and two
    automations: dead runs end as Crashed, failures are announced. To run them: `prefect worker start --pool
    searchanything`.

    Example: [bold]PREFECT_API_URL=http://prefect:4200/api searchanything deploy s3://holiday[/bold]
    """
    from searchanything.service.tree import deploy_flows

    document = deploy_flows(source, sync_every_s=sync_every)
    answer(document, output.format, lambda: plain("\n".join(document["deployments"])))
