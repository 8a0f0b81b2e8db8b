"""Writers of Prefect's SQLite wait for each other; as Prefect begins its transactions, the second is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect.server.database import dependencies
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from searchanything_flows.busy_database import writers_wait, writing_in_turn

WRITERS = 4


def url_of(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'prefect.db'}"


async def count_up(config: Any, *, together: bool = False) -> int:
    """Have writers at once read a number and write the next one, two of them `together`; what it comes to."""
    engine, read_by, two_have_read = await config.engine(), [], asyncio.Event()

    async def do(statement: str, *, then: str = "") -> Any:
        async with await config.session(engine) as session, config.begin_transaction(session):
            done = await session.execute(text(statement))
            found = done.scalar() if then else None
            if then:
                read_by.append(session)
                if len(read_by) == 2:
                    two_have_read.set()
                await (asyncio.wait_for(two_have_read.wait(), 60) if together else asyncio.sleep(0.05))
                await session.execute(text(then.format(found + 1)))
            return found

    await do("CREATE TABLE counter (number INTEGER)")
    await do("INSERT INTO counter VALUES (0)")
    try:
        read, write = "SELECT number FROM counter", "UPDATE counter SET number = {}"
        done = await asyncio.gather(*(do(read, then=write) for _ in range(WRITERS)), return_exceptions=True)
        for error in filter(lambda one: isinstance(one, Exception), done):  # all are at their end by now, and closed
            raise error
        return int(await do(read, then=write))
    finally:
        await engine.dispose()


def test_they_wait_for_each_other(tmp_path: Path) -> None:
    assert asyncio.run(count_up(writing_in_turn(url_of(tmp_path)))) == WRITERS


def test_as_prefect_begins_them_one_is_refused(tmp_path: Path) -> None:
    """Should this fail, Prefect has repaired it, and `busy_database` can go."""
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(count_up(AioSqliteConfiguration(connection_url=url_of(tmp_path)), together=True))


@pytest.mark.parametrize(
    ("url", "is_ours"), [("sqlite+aiosqlite:///x.db", True), ("postgresql+asyncpg://u:p@h/prefect", False)]
)
def test_the_server_has_it_for_sqlite_alone(url: str, is_ours: bool) -> None:
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}), writers_wait():
        config = dependencies.MODELS_DEPENDENCIES["database_config"]
        assert (config is not None and type(config) is not AioSqliteConfiguration) == is_ours
