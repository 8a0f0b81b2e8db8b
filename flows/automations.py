"""Two automations: runs whose process died end as Crashed, and failures are announced."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import Automation
from prefect.exceptions import PrefectHTTPStatusError

from .engine import TAG
from .publish import FAILURES_EVENT

# Ours send heartbeats every 30 s, other runs of a shared server every 180 s by default: twice that is no slip.
_SILENCE: Final = timedelta(seconds=400)
_ENDS: Final = frozenset({"Completed", "Failed", "Crashed", "Cancelled", "Some failed", "Held back", "No image"})


def crashed_runs() -> AutomationCore:
    """A run of ours whose heartbeats stop before it has ended is Crashed; other teams' runs are not touched."""
    ends = {f"prefect.flow-run.{name}" for name in _ENDS}
    return AutomationCore(
        name="searchanything: runs without a heartbeat have crashed",
        description="The process of a run died, or its machine. The work is not lost: the next sync finds it.",
        tags=[TAG],
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat from its process")],
    )


def failures_alert(block_document_id: Any | None) -> AutomationCore:  # noqa: ANN401  a UUID as Prefect has it
    """Images of a wave failed: a notification where a block is named, else a line in Prefect's event feed."""
    body = "{{ event.payload.failed }} images failed: {{ event.resource.name }}. See `searchanything failed list`."
    announce: DoNothing | SendNotification = DoNothing()
    if block_document_id is not None:
        announce = SendNotification(block_document_id=block_document_id, subject="Images failed", body=body)
    return AutomationCore(
        name="searchanything: images failed",
        description="Fires once per source within five minutes.",
        tags=[TAG],
        trigger=EventTrigger(
            expect={FAILURES_EVENT},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(minutes=5),
        ),
        actions=[announce],
    )


async def ensure_automations(alert_block: str | None) -> None:
    """Register both, replacing older ones of the same names. `alert_block` is `type-slug/name`.

    What is registered as it should be is not touched: Prefect gives an automation's trigger a new identity with every
    update, and forgets the runs that the old one had heard of. Those are just the runs whose coordinator has died.
    Coordinators that begin together may each make one, as Prefect takes many of a name: all but one are removed.
    """
    async with get_client() as client:
        block_id = None
        if alert_block is not None:
            kind, _, name = alert_block.partition("/")
            block_id = (await client.read_block_document_by_name(name, kind)).id
        for wanted in (crashed_runs(), failures_alert(block_id)):
            known = await _named(client, wanted.name)
            if not known:
                await client.create_automation(wanted)
                known = await _named(client, wanted.name)
            elif not _same(known[0], wanted):
                await client.update_automation(known[0].id, wanted)
            for twin in known[1:]:
                await _delete(client, twin)


async def _named(client: PrefectClient, name: str) -> list[Automation]:
    """The automations of a name, in an order that is the same for all who ask."""
    return sorted(await client.read_automations_by_name(name), key=lambda one: one.id)


async def _delete(client: PrefectClient, twin: Automation) -> None:
    """Delete it, if another coordinator has not."""
    try:
        await client.delete_automation(twin.id)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise


def _same(known: AutomationCore, wanted: AutomationCore) -> bool:
    """Whether a registered automation is what we would register; the server adds identities of its own."""
    return AutomationCore.model_validate(known.model_dump(include=set(AutomationCore.model_fields))) == wanted
