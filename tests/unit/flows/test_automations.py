"""Whose runs the crash automation ends: by Prefect's own machinery, on heartbeats as its engine sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.automations import Automation as KnownAutomation
from prefect.flow_engine import FlowRunEngine
from prefect.flows import Flow
from prefect.server.database import provide_database_interface
from prefect.server.events import triggers
from prefect.server.events.models.automations import automations_session, create_automation
from prefect.server.events.schemas.automations import Automation
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME, temporary_settings

from searchanything_flows import automations
from searchanything_flows.automations import crashed_runs, ensure_automations, failures_alert
from searchanything_flows.engine import TAG

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about Prefect's own types


def heartbeat(run: UUID, tags: list[str]) -> tuple[dict[str, str], list[Any]]:
    """What Prefect's engine sends of a run."""
    engine: FlowRunEngine[Any] = FlowRunEngine(flow=Flow(lambda: None, name="any"))
    engine.flow_run = FlowRun(id=run, flow_id=uuid4(), name="a run", tags=tags)
    return engine._build_heartbeat_event_template()


def event(name: str, run: UUID, tags: list[str], *, at: datetime) -> ReceivedEvent:
    resource, related = heartbeat(run, tags)
    return ReceivedEvent(
        id=uuid4(),
        occurred=at,
        event=name,
        resource=resource,
        related=[dict(one) for one in related],
        payload={},
    )


@pytest.fixture
def fired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The runs for which the automation acts."""
    found: list[str] = []

    async def act(firing: Any) -> None:
        found.extend(firing.triggering_labels.values())

    async def unchanged(*_: object) -> None:
        """When the creation gets about, Prefect would load the automation anew and forget what was heard before."""

    monkeypatch.setattr(triggers, "act", act)
    monkeypatch.setattr(triggers, "automation_changed", unchanged)
    database = f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    with temporary_settings({PREFECT_HOME: tmp_path, PREFECT_API_DATABASE_CONNECTION_URL: database}):
        yield found
        triggers.clear_loaded_automations()


async def load() -> None:
    """Make the automation known, in a database with the tables that it needs."""
    database = provide_database_interface()
    engine = await database.engine()
    tables = [table for name, table in database.Base.metadata.tables.items() if "automation" in name]
    async with engine.begin() as connection:
        await connection.run_sync(lambda bound: [table.create(bound) for table in tables])
    document = crashed_runs().model_dump(mode="json") | {"id": str(uuid4())}
    async with automations_session(begin_transaction=True) as session:
        automation = await create_automation(session, Automation.model_validate(document))
    triggers.load_automation(automation)


def test_runs_of_ours_that_fall_silent_are_crashed_and_nobody_elses(fired: list[str]) -> None:
    # Prefect drops what is older than its windows by the real clock: not the time of the module's import
    begin = datetime.now(UTC)
    ours, theirs, untagged, ended = uuid4(), uuid4(), uuid4(), uuid4()
    tags = {ours: ["nightly", TAG], theirs: [f"{TAG}-other", "team"], untagged: [], ended: [TAG]}

    async def live() -> None:
        await load()
        for after_s in (0, 30):
            at = begin + timedelta(seconds=after_s)
            for run, given in tags.items():
                await triggers.reactive_evaluation(event("prefect.flow-run.heartbeat", run, given, at=at))
        at = begin + timedelta(seconds=31)
        await triggers.reactive_evaluation(event("prefect.flow-run.Completed", ended, tags[ended], at=at))
        for after_s in (100, 420, 440, 900):
            [automation] = triggers.automations_by_id.values()
            [trigger] = triggers.triggers.values()
            assert trigger.automation is automation  # which the trigger knows by a weak reference alone
            await triggers.proactive_evaluation(trigger, begin + timedelta(seconds=after_s))
            assert fired == ([f"prefect.flow-run.{ours}"] if after_s > 430 else [])

    asyncio.run(live())


class FakePrefect:
    """What a Prefect server knows of automations; an update makes a new trigger, as the real one does."""

    def __init__(self) -> None:
        self.known: dict[str, KnownAutomation] = {}
        self.updates: list[str] = []

    async def read_automations_by_name(self, name: str) -> list[KnownAutomation]:
        return [self.known[name]] if name in self.known else []

    async def create_automation(self, wanted: Any) -> None:
        stored = Automation.model_validate(wanted.model_dump(mode="json") | {"id": str(uuid4())})
        self.known[wanted.name] = KnownAutomation.model_validate(stored.model_dump(mode="json"))

    async def update_automation(self, _id: UUID, wanted: Any) -> None:
        self.updates.append(wanted.name)
        await self.create_automation(wanted)


def test_an_automation_that_is_as_it_should_be_keeps_the_runs_it_has_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakePrefect()

    @asynccontextmanager
    async def client() -> Any:
        yield server

    monkeypatch.setattr(automations, "get_client", client)
    asyncio.run(ensure_automations(None))
    assert set(server.known) == {crashed_runs().name, failures_alert(None).name}
    asyncio.run(ensure_automations(None))
    assert server.updates == []
    older = crashed_runs()
    older.trigger.match_related = {}
    asyncio.run(server.create_automation(older))
    asyncio.run(ensure_automations(None))
    assert server.updates == [older.name]
    assert server.known[older.name].trigger.match_related == crashed_runs().trigger.match_related
